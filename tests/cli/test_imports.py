"""What a command costs before it does anything: the modules that it imports."""

import json
import subprocess
import sys

import pytest

from clinvk.cli import clients, install
from clinvk_command import MOST_SECS, NO_AGENTS, environment

HEAVY = ("anyio", "asyncio", "dataclasses", "inspect", "mcp", "pydantic", "yaml")
SCRIPT = """
import json, sys
from clinvk.__main__ import main
sys.argv = ["clinvk", *sys.argv[1:]]
try:
    main()
except SystemExit:
    pass
sys.stderr.write("\\n" + json.dumps(sorted(sys.modules)))
"""


def imported(*words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        env=environment(**NO_AGENTS),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=MOST_SECS,
        check=True,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("words", [("version",), ("--help",), ("doctor", "--help"), ("mcp", "--help"), ("doctr",)])
def test_version_help_and_refusals_import_nothing_heavy(words: tuple[str, ...]) -> None:
    assert imported(*words).isdisjoint(HEAVY)


@pytest.mark.parametrize("words", [("backends",), ("doctor",), ("config", "show"), ("config", "lint")])
def test_no_command_but_the_server_and_the_demo_imports_the_sdk(words: tuple[str, ...]) -> None:
    modules = imported(*words)
    assert "pydantic" in modules  # it did something
    assert "mcp" not in modules


def test_the_names_in_the_help_of_install_are_those_of_the_clients() -> None:
    assert tuple(clients.CLIENTS) == install.CHOICES


@pytest.mark.parametrize(
    "words",
    [
        ("-b", "offline", "hello"),
        ("compare", "-b", "offline", "hello"),
        ("sessions", "list"),
        ("runs", "list"),
        ("keys", "list"),
        ("install", "codex", "--print"),
        ("completion", "bash"),
    ],
)
def test_nor_does_any_other_that_works_here(words: tuple[str, ...]) -> None:
    assert "mcp" not in imported(*words)


def test_listing_sessions_starts_no_event_loop_and_draws_no_table_for_a_program() -> None:
    assert imported("sessions", "list").isdisjoint({"asyncio", "rich", "argcomplete", "clinvk.tools.prompt"})
