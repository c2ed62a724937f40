"""The backends there are."""

from clinvk.backends import claude, codex, gemini, offline
from clinvk.backends.base import Backend
from clinvk.errors import ClinvkError

BACKENDS: dict[str, Backend] = {
    claude.NAME: claude,
    codex.NAME: codex,
    gemini.NAME: gemini,
    offline.NAME: offline,
}
BUILT_IN = offline.NAME  # no agent: only what a caller names expressly is sent to it


def get(name: str, field: str = "backend") -> Backend:
    """The backend called `name`, which stands in that field of a request. Raises ClinvkError(backend_unknown)."""
    if name in BACKENDS:
        return BACKENDS[name]
    from difflib import get_close_matches  # only for who mistyped

    near = get_close_matches(name.strip().lower(), BACKENDS, n=1)
    nearest = f"did you mean {near[0]!r}? " if near else ""
    raise ClinvkError(
        "backend_unknown",
        f"no backend named {name!r}",
        hint=f"{nearest}backends: {', '.join(BACKENDS)}",
        details={"field": field, "value": name, "accepted": list(BACKENDS)},
    )
