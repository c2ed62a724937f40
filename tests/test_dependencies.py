"""What is imported is declared, and what is declared is pinned."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = [Requirement(text) for text in PROJECT["dependencies"]]
DEV = [Requirement(text) for text in PROJECT["optional-dependencies"]["dev"]]
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def imported(folder: Path) -> Iterator[str]:
    """The top-level names that the files import."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.split(".")[0]


def required(name: str) -> list[str]:
    """What a distribution asks for; nothing where it is not installed."""
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def closure(requirements: Iterable[Requirement]) -> set[str]:
    """The distributions that these bring along here."""
    found: set[str] = set()
    todo = [(requirement, "") for requirement in requirements]
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        extras = {"", *requirement.extras}
        if name in found and extras == {""}:
            continue
        found.add(name)
        todo += [(Requirement(text), one) for text in required(name) for one in extras]
    return found


def test_every_library_that_is_imported_is_declared() -> None:
    providers = metadata.packages_distributions()
    declared = {canonicalize_name(requirement.name) for requirement in DECLARED}
    names = set(imported(ROOT / "src")) - set(sys.stdlib_module_names) - {"clinvk"}
    undeclared = {
        name for name in names if not {canonicalize_name(one) for one in providers.get(name, [name])} & declared
    }
    assert undeclared - {"mcp_types", "pydantic_core"} == set()  # parts of the SDK and of pydantic


def test_everything_that_is_installed_is_pinned() -> None:
    pinned = {canonicalize_name(line.partition("==")[0]) for line in LINES}
    assert closure([*DECLARED, *DEV]) - pinned == set()


def test_the_pins_are_exact_and_name_no_hosts() -> None:
    assert [line for line in LINES if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []
