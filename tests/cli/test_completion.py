"""The completion scripts, run by the shells they are for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import needed
from cli_terminal import PATIENCE_SECS
from clinvk_command import COMMAND
from fakes.world import World

BASH = """
eval "$(clinvk completion bash)"
COMP_LINE="$1" COMP_POINT=${#1}
COMP_WORDS=($1); [[ "$1" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_python_argcomplete clinvk "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
autoload -Uz compinit && compinit -u -D
eval "$(clinvk completion zsh)"
compadd() { :; }
_describe() { printf '%s\\n' "${(@P)2}" }
words=(${(z)1}); [[ "$1" == *" " ]] && words+=("")
CURRENT=$#words BUFFER="$1" CURSOR=$#1
_python_argcomplete clinvk
"""
FISH = 'clinvk completion fish | source; complete --do-complete "$argv[1]"'


@pytest.fixture
def shell(world: World) -> dict[str, str]:
    """The environment of a shell that has `clinvk` on its PATH."""
    launcher = world.bin / "clinvk"
    command = " ".join(f"'{word}'" for word in COMMAND)
    launcher.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    launcher.chmod(0o755)
    return world.environ


def completed(shell: str, script: str, line: str, env: dict[str, str], cwd: Path) -> list[str]:
    """What a shell offers at the end of a command line, without descriptions."""
    path = needed.program(shell, package=shell)
    flags = {
        "bash": ["--norc", "-c", script, "bash"],
        "zsh": ["-f", "-c", script, "zsh"],
        "fish": ["-N", "-c", script, "--"],
    }
    done = subprocess.run(
        [path, *flags[shell], line],
        env=env,
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_SECS,
        check=False,
    )
    assert "Traceback" not in done.stderr
    offered = [entry.split("\t")[0].split(":")[0].strip() for entry in done.stdout.splitlines()]
    return [entry for entry in offered if entry]


SHELLS = pytest.mark.parametrize(("name", "script"), [("bash", BASH), ("zsh", ZSH), ("fish", FISH)])


@SHELLS
def test_verbs_flags_backends_and_ids_are_completed(
    name: str, script: str, shell: dict[str, str], world: World
) -> None:
    begun = subprocess.run(
        [*COMMAND, "-o", "json", "hello"],
        env=world.environ,
        cwd=world.workdir,
        capture_output=True,
        timeout=PATIENCE_SECS,
        check=True,
    )
    result = json.loads(begun.stdout)

    def offered(line: str) -> list[str]:
        return completed(name, script, line, shell, world.workdir)

    assert offered("clinvk sess") == ["sessions"]
    assert {"list", "show", "fork"} <= set(offered("clinvk sessions "))
    assert "--sandbox-mode" in offered("clinvk prompt --sand")
    assert offered("clinvk prompt --backend cl") == ["claude"]
    assert offered("clinvk -b cod") == ["codex"]
    assert offered("clinvk prompt --sandbox-mode read") == ["read-only"]
    assert offered(f"clinvk resume {result['session_id'][:4]}") == [result["session_id"]]
    assert offered(f"clinvk sessions show {result['session_id'][:4]}") == [result["session_id"]]
    assert offered(f"clinvk runs wait {result['run_id'][:4]}") == [result["run_id"]]
    assert offered("clinvk runs list --status unr") == ["unread"]
    assert offered("clinvk sessions list --status ru") == ["running"]
    assert offered("clinvk config get limits.max_d") == ["limits.max_depth"]


@SHELLS
def test_flags_of_a_prompt_are_completed_also_where_its_verb_is_left_out(
    name: str, script: str, shell: dict[str, str], world: World
) -> None:
    def offered(line: str) -> list[str]:
        return completed(name, script, line, shell, world.workdir)

    modes = ["default", "full", "read-only", "workspace"]
    assert sorted(offered("clinvk --sandbox-mode ")) == modes
    assert offered("clinvk --sandbox-mode read-only --approval-mode al") == ["always"]
    assert offered("clinvk hello --sandbox-mode wo") == ["workspace"]
    assert offered("clinvk --sand") == ["--sandbox-mode"]
    assert offered("clinvk hello --max-t") == ["--max-turns"]
    assert {"prompt", "sessions", "runs"} <= set(offered("clinvk --sandbox-mode read-only "))
    assert "show" in offered("clinvk --sandbox-mode read-only sessions ")
    assert offered("clinvk hello ") == []


def test_completing_changes_nothing(world: World) -> None:
    env = {
        **world.environ, "_ARGCOMPLETE": "1", "COMP_LINE": "clinvk resume ", "COMP_POINT": "14",
        "_ARGCOMPLETE_STDOUT_FILENAME": os.devnull,
    }  # fmt: skip
    done = subprocess.run(
        [*COMMAND], env=env, cwd=world.workdir, capture_output=True, timeout=PATIENCE_SECS, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert not (world.home / "runs").exists()


def test_an_unknown_shell_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "clinvk", "completion", "tcsh"], capture_output=True, timeout=PATIENCE_SECS, check=False
    )
    assert done.returncode == 1
    assert b"'tcsh'" in done.stderr
