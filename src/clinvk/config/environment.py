"""Reads `CLINVK_*` variables into leaves. The parsed value of a variable is decided by what its key takes."""

from collections.abc import Iterator, Mapping

from clinvk.config.keys import leaves as tree_leaves
from clinvk.config.leaves import Leaf, Tree
from clinvk.config.problems import Problem, Source

PREFIX = "CLINVK_"
# Read by other parts of clinvk, or before the configuration.
_ELSEWHERE = ("CLINVK_HOME", "CLINVK_CONFIG", "CLINVK_API_KEYS", "CLINVK_DEPTH", "CLINVK_CHAIN_ID", "CLINVK_RUN_ID")
_ELSEWHERE_PREFIXES = ("CLINVK_OFFLINE", "CLINVK_TEST_")
# clinvoker's; whoever sets it believes that the server asks for keys
_GOPASS = "CLINVK_API_KEYS_GOPASS_PATH"


def read(environ: Mapping[str, str], tree: Tree) -> tuple[list[Leaf], list[Problem]]:
    """The leaves that variables set, the short names first, and what is wrong with the names.

    Empty variables count as not set.
    """
    long = {_long_name(key): key for key in tree_leaves(tree)}
    short = dict(_short_names(tree))
    found: list[Leaf] = []
    problems: list[Problem] = []
    for name in sorted(environ, key=lambda name: ("__" in name, name)):
        if not name.startswith(PREFIX) or name in _ELSEWHERE or name.startswith(_ELSEWHERE_PREFIXES):
            continue
        source = Source(kind="environment", name=name)
        key = short.get(name) or long.get(name)
        if key is None:
            problems.append(_unknown(name, source, [*short, *long]))
        elif environ[name]:
            found.append(Leaf(key, environ[name], source))
    return found, problems + _contradictions(found)


def _short_names(tree: Tree) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "CLINVK_BACKEND", ("default_backend",)
    backends: Tree = tree["backends"] or {}
    for backend in backends:
        yield f"{PREFIX}{_shout(backend)}_MODEL", ("backends", backend, "model")


def _long_name(key: tuple[str, ...]) -> str:
    return PREFIX + "__".join(_shout(part) for part in key)


def _shout(part: str) -> str:
    return part.upper().replace("-", "_")


def _unknown(name: str, source: Source, names: list[str]) -> Problem:
    """A name with `__` can only be meant for the configuration: an error; another may be somebody else's: a warning."""
    if name == _GOPASS:
        return Problem(message="is not supported; put the keys into CLINVK_API_KEYS", source=source)
    from difflib import get_close_matches  # only for who mistyped

    close = get_close_matches(name, names, n=1)
    advice = f"; did you mean {close[0]}?" if close else ""
    if "__" in name:
        return Problem(message=f"names no configuration key{advice}", source=source)
    return Problem(message=f"means nothing to clinvk{advice}", source=source, severity="warning")


def _contradictions(found: list[Leaf]) -> list[Problem]:
    first: dict[tuple[str, ...], Leaf] = {}
    problems: list[Problem] = []
    for leaf in found:
        other = first.setdefault(leaf.key, leaf)
        if other.value != leaf.value:
            message = f"says something else than {other.source}; set only one of them"
            problems.append(Problem(message=message, source=leaf.source, key=leaf.dotted))
    return problems
