"""What a run may change: the model asks for it, and the file system says what came of it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from real.clients import BACKENDS, Clinvk, Mode, Transport
from standin.script import Answer, Call, Recorded, Reply, Shell, WriteFile
from standin.server import tool_results

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def transport() -> tuple[Transport, Mode]:
    return "stdio", "legacy"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def made(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def asks_for(*calls: Call) -> Callable[[Recorded], Reply]:
    """A model that asks for these one after another and then says so."""

    def reply(request: Recorded) -> Reply:
        done = len(tool_results(request))
        return Answer("Now this.", calls=(calls[done],)) if done < len(calls) else Answer("I tried it all.")

    return reply


def refused(warnings: list[str]) -> list[str]:
    """The tools that warnings say were denied; each names what it was to do, and the last how to allow it."""
    *denied, last = warnings
    last, _, advice = last.partition("\n")
    assert advice.startswith("to allow what was denied: "), warnings
    denied.append(last)
    found = [re.match(r"permission denied: (\w+): (.+)", warning) for warning in denied]
    assert all(match and match[2] for match in found), warnings
    return [match[1] for match in found if match]


# Codex tells nothing of a command that its sandbox ends within 150 ms (0.169.0); the model is told all the same.
SLOWLY = "sleep 0.4; "
SHELL = {"claude": "Bash", "codex": "shell", "gemini": "run_shell_command"}
WRITE = {"claude": "Write", "codex": "apply_patch", "gemini": "write_file"}


@pytest.mark.parametrize("backend", BACKENDS)
async def test_read_only_changes_nothing_and_says_what_was_refused_also_on_resume(
    clinvk: Clinvk, backend: str, work: Path
) -> None:
    clinvk.plays(Answer("At your service."))
    first = await clinvk.prompt("Hello.", backend, sandbox_mode="read-only", workdir=str(work))
    shell = work / "by-shell.txt"
    clinvk.plays(
        reply_to=asks_for(Shell(f"{SLOWLY}printf made > {shell}"), WriteFile(str(work / "written.txt"), "text\n"))
    )
    answer = await clinvk.prompt("Write.", backend, session_id=first.result["session_id"])

    assert made(work) == []
    result = answer.result
    assert (result["status"], result["output"], result["error"]) == ("completed", "I tried it all.", None)
    assert sorted(refused(result["warnings"])) == sorted([SHELL[backend], WRITE[backend]])
    assert str(shell) in str(result["warnings"])
    assert all(f"Warning: {warning}" in answer.text for warning in result["warnings"])
    assert len(tool_results(clinvk.standin.questions[-1])) == 2


@pytest.mark.parametrize("backend", BACKENDS)
async def test_workspace_writes_in_the_workdir_and_nowhere_else(clinvk: Clinvk, backend: str, work: Path) -> None:
    outside = work.parent / "outside"
    outside.mkdir()
    inside, beyond, above = work / "in.txt", outside / "out.txt", work / ".." / "outside" / "up.txt"
    clinvk.plays(
        reply_to=asks_for(
            WriteFile(str(inside), "text\n"),
            WriteFile(str(beyond), "text\n"),
            WriteFile(str(above), "text\n"),
            Shell(f"{SLOWLY}printf made > {outside}/by-shell.txt"),
        )
    )
    answer = await clinvk.prompt("Write.", backend, sandbox_mode="workspace", workdir=str(work))

    assert inside.read_text(encoding="utf-8") == "text\n"
    assert made(work) == ["in.txt"]
    assert made(outside) == []
    result = answer.result
    assert (result["status"], result["output"], result["error"]) == ("completed", "I tried it all.", None)
    assert set(refused(result["warnings"])) == {SHELL[backend], WRITE[backend]}
