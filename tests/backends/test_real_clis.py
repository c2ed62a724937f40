"""The commands against the pinned real CLIs: what a mode promises is what the CLI does.

The model is the stand-in, and it always asks for the forbidden thing.
"""

import base64
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from clinvk.backends import registry
from clinvk.backends.base import Turn
from clinvk.backends.locate import locate
from clinvk.events import Ending, Event, Outcome, TextDelta, TokenUsage
from standin.environment import MODELS, cli_environment
from standin.script import Answer, Call, Recorded, Script, Shell, WriteFile
from standin.server import serving, texts_sent

CLIS = ("claude", "codex", "gemini")
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SHELL = {"claude": "Bash", "codex": "shell", "gemini": "run_shell_command"}
WRITE = {"claude": "Write", "codex": "apply_patch", "gemini": "write_file"}
# Set by our commands or by the executor; the CLIs must not get them from the stand-in's environment.
OURS = ("GEMINI_CLI_NO_RELAUNCH", "GEMINI_CLI_TRUST_WORKSPACE")

Make = Callable[..., Turn]


@dataclass(frozen=True)
class Ran:
    """One run of a real CLI."""

    events: list[Event]
    outcome: Outcome
    questions: list[Recorded]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def sent(self) -> str:
        """The last request's body."""
        return json.dumps(self.questions[-1].body, ensure_ascii=False)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Ran]:
    """Runs one turn on a real CLI; `prepare` may change its home first."""
    home = tmp_path / "cli-home"

    def ran(name: str, turn: Turn, *replies: Answer, prepare: Callable[[Path], None] | None = None) -> Ran:
        backend = registry.get(name)
        with serving(Script(Answer("Done."), replies)) as standin:
            environ = cli_environment(name, home, standin.url)
            environ = {key: value for key, value in environ.items() if key not in OURS} | {"IS_SANDBOX": "1"}
            if prepare:
                prepare(home)
            installation = locate(backend, environ, home)
            assert installation is not None
            command = backend.command(turn, installation)
            for path, data in command.files.items():
                path.write_bytes(data)
            done = subprocess.run(
                command.argv,
                cwd=command.cwd,
                input=command.stdin,
                env={**dict.fromkeys(command.blanked, ""), **environ, **command.env},
                capture_output=True,
                timeout=90,
                check=False,
            )
        reader = backend.reader(turn)
        events = [event for line in done.stdout.splitlines() for event in reader.feed(line)]
        code = done.returncode if done.returncode >= 0 else 128 - done.returncode
        ending = Ending(reason="exited", exit_code=code, stderr_tail=done.stderr.decode()[-4_000:])
        return Ran(events, reader.outcome(ending), standin.questions)

    return ran


def asking_for(*calls: Call) -> list[Answer]:
    """A model that asks for one thing after another."""
    return [Answer("Trying.", calls=(call,)) for call in calls]


def files(*folders: Path) -> set[str]:
    return {path.name for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    return folder


@pytest.fixture
def attempts(turn: Make, outside: Path) -> list[Answer]:
    """Writes inside and outside of the workdir, by shell and by file tool, also around corners."""
    inside = turn().workdir
    (inside / "link").symlink_to(outside)
    return asking_for(
        Shell(f"echo x > {inside}/shell-inside"),
        Shell(f"echo x > {outside}/shell-outside"),
        WriteFile(str(inside / "tool-inside"), "x"),
        WriteFile(str(outside / "tool-outside"), "x"),
        WriteFile(f"{inside}/../outside/tool-dots", "x"),
        WriteFile(str(inside / "link" / "tool-link"), "x"),
    )


@pytest.mark.parametrize("approval", ["default", "auto", "none"])
@pytest.mark.parametrize("name", CLIS)
def test_read_only_changes_nothing(
    name: str, approval: Any, turn: Make, run: Callable[..., Ran], attempts: list[Answer], outside: Path
) -> None:
    ran = run(name, turn(model=MODELS[name], sandbox="read-only", approval=approval), *attempts)
    assert ran.outcome.failure is None
    assert len(ran.questions) == len(attempts) + 1
    assert files(turn().workdir, outside) == set()
    refused = [warning.split(": ")[1] for warning in ran.outcome.warnings]
    assert {SHELL[name], WRITE[name]} <= set(refused)


@pytest.mark.parametrize("name", CLIS)
def test_workspace_changes_the_workdir_and_nothing_else(
    name: str, turn: Make, run: Callable[..., Ran], attempts: list[Answer], outside: Path
) -> None:
    ran = run(name, turn(model=MODELS[name], sandbox="workspace"), *attempts)
    assert ran.outcome.failure is None
    assert files(outside) == set()
    # Only codex has a sandbox that also holds a shell.
    assert files(turn().workdir) == {"tool-inside"} | ({"shell-inside"} if name == "codex" else set())


@pytest.mark.parametrize("name", CLIS)
def test_workspace_lets_nothing_be_prepared_for_a_later_run(name: str, turn: Make, run: Callable[..., Ran]) -> None:
    """Hooks and settings are files of the workdir, but what stands in them is run without limits."""
    work = turn().workdir
    subprocess.run(["git", "init", "--quiet", "--template=", str(work)], check=True)
    own = {"claude": ".claude/settings.json", "codex": ".codex/config.toml", "gemini": ".gemini/settings.json"}[name]
    before = files(work)
    attempts = [WriteFile(str(work / path), "x") for path in (".git/hooks/pre-commit", own, "sub.git", ".github/a.yml")]
    ran = run(name, turn(model=MODELS[name], sandbox="workspace"), *asking_for(*attempts))
    assert ran.outcome.failure is None
    assert files(work) - before == {"sub.git", "a.yml"}


@pytest.mark.parametrize("name", CLIS)
def test_full_has_no_limits(
    name: str, turn: Make, run: Callable[..., Ran], attempts: list[Answer], outside: Path
) -> None:
    run(name, turn(model=MODELS[name], sandbox="full"), *attempts)
    assert {"shell-inside", "tool-inside"} <= files(turn().workdir)
    assert "shell-outside" in files(outside)


@pytest.mark.parametrize("name", CLIS)
def test_a_limit_is_kept_on_resume(
    name: str, turn: Make, run: Callable[..., Ran], attempts: list[Answer], outside: Path
) -> None:
    first = run(name, turn(model=MODELS[name], sandbox="full"))
    assert first.outcome.failure is None
    asked = turn(model=MODELS[name], sandbox="read-only", resume_id=first.outcome.backend_session_id)
    second = run(name, asked, *attempts)
    assert second.outcome.failure is None
    assert files(turn().workdir, outside) == set()


def _loosen_claude(home: Path, mark: str) -> None:
    path = home / ".claude" / "settings.json"
    loose = {
        "permissions": {"allow": ["Bash", "Write", "Edit"], "additionalDirectories": ["/"]},
        "hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": mark}]}]},
    }
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | loose), encoding="utf-8")
    server = {"x": {"command": "sh", "args": ["-c", mark]}}
    (home / ".claude.json").write_text(json.dumps({"mcpServers": server}), encoding="utf-8")


def _loosen_codex(home: Path, mark: str) -> None:
    path = home / ".codex" / "config.toml"
    text = (
        'sandbox_mode = "danger-full-access"\napproval_policy = "on-request"\n'
        f"notify = {json.dumps(['sh', '-c', mark])}\n"
        f"{path.read_text(encoding='utf-8')}\n"
        '[sandbox_workspace_write]\nwritable_roots = ["/"]\nnetwork_access = true\n'
        f'[mcp_servers.x]\ncommand = "sh"\nargs = ["-c", {json.dumps(mark)}]\n'
    )
    path.write_text(text, encoding="utf-8")
    (home / ".codex" / "rules").mkdir()
    rule = 'prefix_rule(pattern=["touch"], decision="allow")\n'
    (home / ".codex" / "rules" / "default.rules").write_text(rule, encoding="utf-8")


def _loosen_gemini(home: Path, mark: str) -> None:
    path = home / ".gemini" / "settings.json"
    loose = {
        "tools": {"allowed": ["run_shell_command", "write_file"]},
        "mcpServers": {"x": {"command": "sh", "args": ["-c", mark], "trust": True}},
    }
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | loose), encoding="utf-8")
    (home / ".gemini" / "policies").mkdir()
    allow = '[[rule]]\ntoolName = "*"\ndecision = "allow"\npriority = 999\n'
    (home / ".gemini" / "policies" / "loose.toml").write_text(allow, encoding="utf-8")


LOOSEN = {"claude": _loosen_claude, "codex": _loosen_codex, "gemini": _loosen_gemini}


@pytest.mark.parametrize("sandbox", ["read-only", "workspace"])
@pytest.mark.parametrize("name", CLIS)
def test_loose_settings_of_the_user_do_not_loosen_a_limit(
    name: str, sandbox: Any, turn: Make, run: Callable[..., Ran], outside: Path
) -> None:
    attempts = asking_for(Shell(f"touch {outside}/shell-outside"), WriteFile(str(outside / "tool-outside"), "x"))
    mark = f"touch {outside}/started-by-itself"
    asked = turn(model=MODELS[name], sandbox=sandbox)
    ran = run(name, asked, *attempts, prepare=partial(LOOSEN[name], mark=mark))
    assert ran.outcome.failure is None
    assert files(outside) == set()


@pytest.mark.parametrize("name", ["claude", "codex"])
def test_a_projects_own_settings_do_not_loosen_a_limit(
    name: str, turn: Make, run: Callable[..., Ran], outside: Path
) -> None:
    work = turn().workdir
    mark = f"touch {outside}/started-by-itself"
    hooks = {"SessionStart": [{"hooks": [{"type": "command", "command": mark}]}]}
    server = {"x": {"command": "sh", "args": ["-c", mark]}}
    for folder in (".git", ".claude", ".codex"):
        (work / folder).mkdir()
    (work / ".claude" / "settings.json").write_text(
        json.dumps({"permissions": {"allow": ["Bash"]}, "hooks": hooks, "enableAllProjectMcpServers": True}),
        encoding="utf-8",
    )
    (work / ".mcp.json").write_text(json.dumps({"mcpServers": server}), encoding="utf-8")
    (work / ".codex" / "config.toml").write_text(
        f'sandbox_mode = "danger-full-access"\n[mcp_servers.x]\ncommand = "sh"\nargs = ["-c", {json.dumps(mark)}]\n',
        encoding="utf-8",
    )

    def trust(home: Path) -> None:
        if name == "codex":
            path = home / ".codex" / "config.toml"
            trusted = f'\n[projects."{work}"]\ntrust_level = "trusted"\n'
            path.write_text(path.read_text(encoding="utf-8") + trusted, encoding="utf-8")

    asked = turn(model=MODELS[name], sandbox="read-only")
    ran = run(name, asked, *asking_for(Shell(f"touch {outside}/shell-outside")), prepare=trust)
    assert ran.outcome.failure is None
    assert files(outside) == set()


def test_what_codex_runs_does_not_log_as_codex_itself_does(turn: Make, run: Callable[..., Ran]) -> None:
    told = turn().workdir / "told"
    command = Shell(f'printf "<$RUST_LOG>" >{told}')
    ran = run("codex", turn(model=MODELS["codex"], sandbox="workspace"), *asking_for(command))
    assert ran.outcome.failure is None
    assert told.read_text(encoding="utf-8") == "<>"


def test_a_projects_env_file_makes_gemini_write_nowhere(turn: Make, run: Callable[..., Ran], outside: Path) -> None:
    work = turn().workdir
    (work / ".env").write_text(
        f"GEMINI_WRITE_SYSTEM_MD={outside}/system.md\n"
        f"export GEMINI_DEBUG_LOG_FILE='{outside}/debug.log'\n"
        f"GEMINI_TELEMETRY_ENABLED=true\nGEMINI_TELEMETRY_TARGET=local\nGEMINI_TELEMETRY_OUTFILE={outside}/telemetry\n",
        encoding="utf-8",
    )
    ran = run("gemini", turn(model=MODELS["gemini"], sandbox="read-only"))
    assert ran.outcome.failure is None
    assert files(outside) == set()


@pytest.mark.parametrize("name", CLIS)
def test_a_resumed_turn_knows_the_first_and_counts_only_itself(name: str, turn: Make, run: Callable[..., Ran]) -> None:
    first = run(name, turn(model=MODELS[name], prompt="Remember the colour blue."), Answer("I will."))
    assert (first.outcome.failure, first.text) == (None, "I will.")
    asked = turn(
        model=MODELS[name],
        prompt="Which colour?",
        resume_id=first.outcome.backend_session_id,
        usage_before=first.outcome.native_usage,
    )
    second = run(name, asked, Answer("Blue."))
    assert (second.outcome.failure, second.text) == (None, "Blue.")
    assert second.outcome.backend_session_id == first.outcome.backend_session_id
    assert "Remember the colour blue." in second.sent
    assert second.outcome.usage == first.outcome.usage != TokenUsage()


@pytest.mark.parametrize("name", CLIS)
def test_a_structured_answer_is_given_and_parsed(name: str, turn: Make, run: Callable[..., Ran]) -> None:
    ran = run(name, turn(model=MODELS[name], output_schema=SCHEMA), Answer(structured={"answer": 42}))
    assert ran.outcome.failure is None
    assert ran.outcome.structured_output == {"answer": 42}


@pytest.mark.parametrize("name", CLIS)
def test_the_model_sees_the_image_and_the_system_prompt(name: str, turn: Make, run: Callable[..., Ran]) -> None:
    picture = turn().workdir / "a, picture.png"
    picture.write_bytes(PNG)
    for ignore in (".gitignore", ".geminiignore"):
        (turn().workdir / ignore).write_text("*.png\n", encoding="utf-8")
    (turn().workdir / ".git").mkdir()
    system = 'Speak like "a" pirate \\ ünï\nalways.'
    ran = run(name, turn(model=MODELS[name], images=(picture,), system_prompt=system), Answer("I see."))
    assert (ran.outcome.failure, ran.text) == (None, "I see.")
    assert base64.b64encode(PNG).decode() in ran.sent  # also where a list of what to ignore names it
    assert json.dumps(system, ensure_ascii=False)[1:-1] in ran.sent


@pytest.mark.parametrize(
    "prompt", ["--version", "/help", "/init", "resume", "see @secret.txt", "@Secret", "me@secret.txt"]
)
@pytest.mark.parametrize("name", CLIS)
def test_a_prompt_is_text_whatever_it_looks_like(name: str, prompt: str, turn: Make, run: Callable[..., Ran]) -> None:
    (turn().workdir / "secret.txt").write_text("TOP SECRET CONTENT", encoding="utf-8")
    ran = run(name, turn(model=MODELS[name], prompt=prompt), Answer("Fine."))
    assert (ran.outcome.failure, ran.text) == (None, "Fine.")
    assert "TOP SECRET CONTENT" not in ran.sent
    assert texts_sent(ran.questions[-1])[-1].strip().replace("\\@", "@") == prompt


@pytest.mark.parametrize("name", ["claude", "codex"])
def test_an_ephemeral_conversation_cannot_be_continued(name: str, turn: Make, run: Callable[..., Ran]) -> None:
    first = run(name, turn(model=MODELS[name], ephemeral=True))
    assert first.outcome.failure is None
    again = run(name, turn(model=MODELS[name], resume_id=first.outcome.backend_session_id))
    assert again.outcome.failure is not None
    assert again.outcome.failure.code == "session_lost"


@pytest.mark.parametrize("name", CLIS)
def test_the_installed_version_is_recognised(name: str, tmp_path: Path) -> None:
    backend = registry.get(name)
    environ = cli_environment(name, tmp_path, "http://127.0.0.1:9")
    installation = locate(backend, environ, tmp_path)
    assert installation is not None
    done = subprocess.run(
        [*installation.program, "--version"], env=environ, capture_output=True, timeout=60, check=False, text=True
    )
    assert backend.parse_version(done.stdout)
    others = [other for other in registry.BACKENDS.values() if name != other.NAME]
    assert not [other.NAME for other in others if other.parse_version(done.stdout)]
