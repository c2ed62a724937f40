"""An IDE starts the server inside a user's repository with PYTHONPATH set to it; nothing there may be imported.

`scripts/check` runs these tests against the installed wheel.
"""

import json
import subprocess
from pathlib import Path

import pytest

from clinvk import __version__
from clinvk_command import COMMAND, MOST_SECS, NO_AGENTS, clinvk, environment

# Ours, and those of the libraries that we use.
FOLDERS = (
    "tools",
    "config",
    "sessions",
    "mcp_server",
    "cli",
    "backends",
    "mcp",
    "yaml",
    "anyio",
    "pydantic",
    "filelock",
)
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A user's repository whose every folder shouts on standard output when it is imported."""
    repository = tmp_path / "repository"
    for name in FOLDERS:
        folder = repository / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(f"print('the user\\'s {name} was imported')\n", encoding="utf-8")
    return repository


def inside(repository: Path) -> dict[str, str]:
    return environment(**NO_AGENTS, PYTHONPATH=str(repository))


def test_version_is_ours(hostile: Path) -> None:
    done = clinvk("version", env=inside(hostile), cwd=hostile)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"clinvk {__version__}\n", "")


def test_backends_are_ours(hostile: Path) -> None:
    done = clinvk("backends", "-o", "json", env=inside(hostile), cwd=hostile)
    assert [info["name"] for info in json.loads(done.stdout)["backends"]] == ["claude", "codex", "gemini", "offline"]
    assert done.stderr == ""


def test_the_server_speaks_nothing_but_the_protocol(hostile: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "mcp"],
        input=json.dumps(INITIALIZE) + "\n",
        env=inside(hostile),
        cwd=hostile,
        capture_output=True,
        encoding="utf-8",
        timeout=MOST_SECS,
        check=False,
    )
    (line,) = done.stdout.splitlines()
    answer = json.loads(line)
    assert (answer["id"], answer["result"]["serverInfo"]["name"]) == (1, "clinvk")
    assert (done.returncode, done.stderr) == (0, "")
