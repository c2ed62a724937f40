"""Whatever clinvk imports, its own metadata asks for: what another package happens to bring may be gone tomorrow."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Parts of another distribution that are installed as one of their own, at a version that it prescribes.
PARTS = {"mcp-types": "mcp", "pydantic-core": "pydantic"}
BY_NAME = {"httptools": "uvicorn imports it, because web/listener.py names it"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported() -> set[str]:
    names: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"clinvk"}


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {normal(re.split(r"[<>=!~;\[ ]", line)[0]) for line in project["dependencies"]}


def needed() -> set[str]:
    known = packages_distributions()
    owners = {normal(known[name][0]) for name in imported() - {"opentelemetry"}}
    return {PARTS.get(owner, owner) for owner in owners} | set(BY_NAME) | {"opentelemetry-api"}


def test_what_is_imported_is_declared_and_nothing_else() -> None:
    assert needed() == declared()
