"""Decides where a run may work. Every workdir passes here: one that a caller named, and the default when none was.

Paths are compared after symlinks and `..` are resolved, by whole components, and by identity of the directories
where they exist (file systems that ignore case, bind mounts). Blocked directories win over allowed ones.
"""

from collections.abc import Iterable
from pathlib import Path

from clinvk.config.settings import Config
from clinvk.errors import ClinvkError


def check_workdir(path: str | None, config: Config, default: Path) -> Path:
    """The resolved directory to work in; `default` if `path` is None or empty, and the base of a relative path.

    Raises:
        ClinvkError: workdir_denied by policy, invalid_request if there is no such directory. The policy is asked
            first, so that the answer for a place outside of it does not tell what exists there.
    """
    asked = path or str(default)
    resolved = _resolve(path, default)
    _require_allowed(asked, resolved, config)
    try:
        if resolved.is_dir():
            return resolved
        trouble = "is not a directory" if resolved.exists() else "does not exist"
    except OSError as error:
        trouble = f"cannot be used: {error.strerror}"
    raise _invalid(asked, trouble)


def _resolve(path: str | None, default: Path) -> Path:
    try:
        return (default / Path(path).expanduser() if path else default).resolve()
    except ValueError:
        raise _invalid(path or str(default), "is not a valid path") from None
    except (OSError, RuntimeError) as error:  # name too long; a symlink loop, or `~nobody`
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _invalid(path or str(default), f"cannot be used: {reason}") from None


def _require_allowed(asked: str, resolved: Path, config: Config) -> None:
    allowed = config.server.allowed_workdir_prefixes
    if _is_under(resolved, config.server.blocked_workdir_prefixes):
        reason = "is in a blocked directory"
    elif allowed and not _is_under(resolved, allowed):
        reason = "is outside of the allowed directories"
    else:
        return
    names = [str(prefix) for prefix in allowed]
    raise ClinvkError(
        "workdir_denied",
        f"workdir {asked!r} {reason}" + (f"; allowed: {', '.join(names)}" if names else ""),
        hint="see server.allowed_workdir_prefixes and server.blocked_workdir_prefixes",
        details={"field": "workdir", "value": asked, "allowed": names},
    )


def _is_under(path: Path, prefixes: Iterable[Path]) -> bool:
    return any(_contains(prefix, path) for prefix in prefixes)


def _contains(prefix: Path, path: Path) -> bool:
    try:
        if path.is_relative_to(prefix.resolve()):
            return True
        identity = prefix.stat()
    except (OSError, RuntimeError):
        return False
    return any(_is_same(place, (identity.st_dev, identity.st_ino)) for place in (path, *path.parents))


def _is_same(place: Path, identity: tuple[int, int]) -> bool:
    try:
        found = place.stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == identity


def _invalid(asked: str, trouble: str) -> ClinvkError:
    return ClinvkError(
        "invalid_request",
        f"workdir {asked!r} {trouble}",
        hint="name an existing directory",
        details={"field": "workdir", "value": asked},
    )
