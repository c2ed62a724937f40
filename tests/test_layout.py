"""The layout that everybody relies on: one package, links to it, imports in one direction, no circles."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
VOCABULARY = ("__init__", "awaiting", "derived", "errors", "events", "files", "request", "response")
# What each part may import, besides itself and the vocabulary.
BELOW: dict[str, tuple[str, ...]] = {
    "config": (),
    "backends": ("config",),
    "sessions": ("config",),
    "executor": ("config", "backends"),
    "tools": ("config", "backends", "sessions", "executor"),
    "web": ("config", "backends", "sessions", "executor", "tools"),
    "mcp_server": ("config", "backends", "sessions", "executor", "tools", "web"),
    "gateway": ("config", "backends", "sessions", "executor", "tools", "web"),
    "cli": ("config", "backends", "sessions", "executor", "tools", "web"),
    "__main__": ("cli",),
}
# A verb that starts another door imports how to start it, and nothing else of it.
STARTS = {
    "clinvk.cli.mcp": {"clinvk.mcp_server.run"},
    "clinvk.cli.demo": {"clinvk.mcp_server.demo"},
    "clinvk.cli.serve": {"clinvk.gateway.run", "clinvk.mcp_server.mounted"},
}


def modules() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted((SOURCE / "clinvk").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of ours that a file imports, wherever in it the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            module = node.module or ""
            below = {f"{module}.{alias.name}" for alias in node.names} & set(known)
            names |= below or {module}
    return names & set(known)


def part(module: str) -> str:
    """The folder below clinvk, or the name of a module that stands beside the folders."""
    return module.split(".")[1] if "." in module else "__init__"


MODULES = modules()
GRAPH = {module: imports(path, MODULES) for module, path in MODULES.items()}


def wrong() -> Iterator[str]:
    for module, imported in GRAPH.items():
        mine = part(module)
        allowed = {mine, *VOCABULARY, *BELOW.get(mine, ())}
        for other in imported:
            if part(other) not in allowed and other not in STARTS.get(module, ()):
                yield f"{module} imports {other}"


def test_imports_go_in_one_direction() -> None:
    assert list(wrong()) == []


def test_every_part_is_known_to_this_test() -> None:
    assert {part(module) for module in MODULES} <= {*BELOW, *VOCABULARY}


def test_imports_make_no_circle() -> None:
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_executor_knows_no_backend_by_name() -> None:
    backends = {f"clinvk.backends.{name}" for name in ("claude", "codex", "gemini", "offline", "registry")}
    assert {module for module in GRAPH if part(module) == "executor" and GRAPH[module] & backends} == set()


def test_only_the_server_and_its_demo_import_the_sdk() -> None:
    users = {
        part(module)
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mcp")
        or (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "mcp" for alias in node.names))
    }
    assert users == {"mcp_server"}


def test_packages_hold_nothing_but_modules() -> None:
    packages = [path for module, path in MODULES.items() if path.name == "__init__.py" and module != "clinvk"]
    assert [str(path) for path in packages if path.read_bytes()] == []


@pytest.mark.parametrize("name", ["mcp_server", "tools", "sessions"])
def test_the_links_at_the_top_lead_home(name: str) -> None:
    link = ROOT / name
    if not link.is_symlink() and (not link.exists() or link.is_file()):
        pytest.skip("this checkout has no symbolic links")
    assert link.resolve() == SOURCE / "clinvk" / name


def test_nothing_imports_the_folders_by_their_names_at_the_top() -> None:
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {"mcp_server", "tools", "sessions"} & {name.split(".")[0] for name in names}, module
