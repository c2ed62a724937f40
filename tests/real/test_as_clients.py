"""The real CLIs as clients: set up by `clinvk install`, each calls a tool of `clinvk mcp` and tells its model."""

import json
import subprocess
from pathlib import Path

import pytest

from clinvk_command import COMMAND
from standin.clis import cli_path
from standin.environment import MODELS, cli_environment
from standin.script import Answer, CallTool, Script
from standin.server import serving, tool_results

PATIENCE_SECS = 120
# The client's name for `clinvk install`, the tool's name as its model sees it, and what a headless run needs to use it.
CLIENTS = {
    "claude": ("claude-code", "mcp__clinvk__prompt", ["-p", "--allowedTools=mcp__clinvk__prompt"]),
    "codex": (
        "codex",
        "mcp__clinvk__prompt",
        ["-c", 'mcp_servers.clinvk.default_tools_approval_mode="approve"', "exec", "--skip-git-repo-check", "-"],
    ),
    "gemini": ("gemini", "mcp_clinvk_prompt", ["--approval-mode=yolo"]),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_cli_calls_clinvk_as_it_was_installed(name: str, tmp_path: Path) -> None:
    client, tool, words = CLIENTS[name]
    work = tmp_path / "work"
    work.mkdir()
    asked = CallTool(tool, {"prompt": "Are you there?", "backend": "offline", "workdir": str(work)})
    script = Script(queue=[Answer("", calls=(asked,)), Answer("It is there.")])
    with serving(script) as standin:
        environ = cli_environment(name, tmp_path / "home", standin.url)

        def run(*argv: str, stdin: str = "") -> str:
            done = subprocess.run(
                argv,
                env=environ,
                cwd=work,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=PATIENCE_SECS,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        run(*COMMAND, "install", client)
        said = run(str(cli_path(name)), f"--model={MODELS[name]}", *words, stdin="Ask the other agent.")
        answered = standin.questions[-1]
    assert "It is there." in said
    assert "You said: Are you there?" in json.dumps(tool_results(answered))
