"""What a command costs before it does anything: the modules that it imports."""

import json
import subprocess
import sys

import pytest

from clinvk.cli import clients, install
from clinvk_command import MOST_SECS, NO_AGENTS, environment

HEAVY = ("anyio", "asyncio", "dataclasses", "inspect", "mcp", "pydantic", "yaml")
STORED = {"clinvk.executor.runs", "clinvk.executor.finished"}  # of the executor: what is on disk
BUILT = """
import json, os, sys
from clinvk.backends.registry import BACKENDS
from clinvk.config import cascade, settings
cascade.load(os.environ, known_backends=BACKENDS, flags={})
sections = [each for each in vars(settings).values() if isinstance(each, type) and issubclass(each, settings.BaseModel)]
sys.stdout.write(json.dumps([each.__name__ for each in sections if each.__pydantic_complete__]))
"""
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


def built(variables: dict[str, str]) -> list[str]:
    """The sections of the configuration whose validators are built when it is read with these variables."""
    done = subprocess.run(
        [sys.executable, "-c", BUILT],
        env=environment(**variables),
        capture_output=True,
        encoding="utf-8",
        timeout=MOST_SECS,
        check=True,
    )
    return [name for name in json.loads(done.stdout) if name != "BaseModel"]


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


@pytest.mark.parametrize("words", [("sessions", "list"), ("runs", "list"), ("config", "show")])
def test_what_only_reads_pays_for_no_event_loop_and_nothing_that_runs_agents(words: tuple[str, ...]) -> None:
    modules = imported(*words)
    assert modules.isdisjoint({"anyio", "asyncio", "ssl", "subprocess", "difflib", "tomllib"})
    assert {module for module in modules if module.startswith("clinvk.executor.")} <= STORED
    assert modules.isdisjoint({"rich", "argcomplete", "clinvk.tools.prompt", "clinvk.tools.settle"})


def test_no_validator_is_built_for_a_configuration_in_which_nothing_is_set() -> None:
    assert built({}) == []


def test_of_a_configuration_only_the_sections_that_say_something_get_a_validator() -> None:
    assert built({"CLINVK_MCP__PORT": "4000"}) == ["McpConfig"]
