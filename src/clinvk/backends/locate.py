"""Where agent CLIs are installed: the configured command, then PATH, then the known install roots.

Programs started by a desktop or a service manager do not have the shell's PATH, so the places where npm, nvm,
brew, pipx and others put executables are looked through as well. Relative PATH entries are ignored: what stands
there is whatever the current directory holds.
"""

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clinvk.backends.base import Backend, Installation
from clinvk.errors import ClinvkError


@dataclass(frozen=True, slots=True)
class _Place:
    found_by: str
    folder: Path


def locate(
    backend: Backend, environ: Mapping[str, str], home: Path, command: str | Sequence[str] | None = None
) -> Installation | None:
    """The installation of `backend`, None when there is none.

    Raises: ClinvkError(backend_unavailable) for a configured `command` that is not there: another one is not
    taken in its stead.
    """
    places = list(_places(environ, home))
    found = _configured(backend, command, places, home) if command else _searched(backend, places)
    return replace(found, settings=backend.settings_folder(environ, home)) if found else None


def _searched(backend: Backend, places: list[_Place]) -> Installation | None:
    built_in = Path(backend.EXECUTABLE)
    if built_in.is_absolute():
        return Installation(program=backend.program(built_in), path=built_in, found_by="built in")
    for place in places:
        path = place.folder / backend.EXECUTABLE
        if _executable(path):
            return Installation(program=backend.program(path), path=path, found_by=place.found_by)
    return None


def search_path(environ: Mapping[str, str], home: Path) -> str:
    """PATH for children: the caller's own, then the install roots there are, so that `env node` works."""
    folders: dict[str, None] = {}
    for place in _places(environ, home):
        if place.folder.is_dir():
            folders[str(place.folder)] = None
    return os.pathsep.join(folders)


def _configured(backend: Backend, command: str | Sequence[str], places: list[_Place], home: Path) -> Installation:
    try:
        words = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise _not_there(backend, str(command), f"cannot be split into words: {error}") from None
    if not words:
        raise _not_there(backend, str(command), "is empty")
    first = words[0]
    if first.startswith("~/"):
        first = str(home / first[2:])
    if "/" in first and not Path(first).is_absolute():
        raise _not_there(backend, first, "is relative; write it as an absolute path")
    candidates = [Path(first)] if "/" in first else [place.folder / first for place in places]
    for path in candidates:
        if _executable(path):
            # A wrapper with arguments of its own is started as it is written.
            program = (str(path), *words[1:]) if len(words) > 1 else backend.program(path)
            return Installation(program=program, path=path, found_by="config")
    raise _not_there(backend, first, "is no executable file")


def _not_there(backend: Backend, command: str, why: str) -> ClinvkError:
    return ClinvkError(
        "backend_unavailable",
        f"backends.{backend.NAME}.command {command!r} {why}",
        hint=f"correct backends.{backend.NAME}.command, or remove it to search PATH; "
        f"to install: {backend.INSTALL_HINT}",
        backend=backend.NAME,
    )


def _executable(path: Path) -> bool:
    try:
        return path.is_file() and os.access(path, os.X_OK)
    except OSError:
        return False


def _places(environ: Mapping[str, str], home: Path) -> Iterator[_Place]:
    for entry in environ.get("PATH", "").split(os.pathsep):
        if entry and Path(entry).is_absolute():
            yield _Place("PATH", Path(entry))
    yield from _variable_roots(environ)
    yield from _home_roots(home)
    yield from _versioned_roots(environ, home)
    for name, folder in _SYSTEM_ROOTS:
        yield _Place(name, Path(folder))


def _variable_roots(environ: Mapping[str, str]) -> Iterator[_Place]:
    for variable, below in _VARIABLES:
        value = environ.get(variable, "")
        if value and Path(value).is_absolute():
            yield _Place(variable, Path(value) / below)


def _home_roots(home: Path) -> Iterator[_Place]:
    prefix = _npm_prefix(home)
    if prefix:
        yield _Place("npm prefix", prefix / "bin")
    for name, folder in _HOME_ROOTS:
        yield _Place(name, home / folder)


def _npm_prefix(home: Path) -> Path | None:
    try:
        text = (home / ".npmrc").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^\s*prefix\s*=\s*(.+?)\s*$", text, re.MULTILINE)
    if not found:
        return None
    value = found[1].strip("\"'").replace("${HOME}", str(home))
    value = str(home / value[2:]) if value.startswith("~/") else value
    return Path(value) if Path(value).is_absolute() else None


def _versioned_roots(environ: Mapping[str, str], home: Path) -> Iterator[_Place]:
    """Node version managers keep one folder per version; the newest that has the program is taken."""
    nvm = environ.get("NVM_DIR", "")
    for name, base, below in (
        ("nvm", Path(nvm) if Path(nvm).is_absolute() else home / ".nvm", "versions/node"),
        ("fnm", home / ".local/share/fnm", "node-versions"),
        ("fnm", home / ".fnm", "node-versions"),
        ("fnm", home / "Library/Application Support/fnm", "node-versions"),
        ("asdf", home / ".asdf", "installs/nodejs"),
        ("mise", home / ".local/share/mise", "installs/node"),
    ):
        for version in _newest_first(base / below):
            yield _Place(name, version / "installation/bin" if name == "fnm" else version / "bin")


def _newest_first(folder: Path) -> list[Path]:
    try:
        versions = list(folder.iterdir())
    except OSError:
        return []
    return sorted(versions, key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)], reverse=True)


_VARIABLES = (
    ("npm_config_prefix", "bin"),
    ("NPM_CONFIG_PREFIX", "bin"),
    ("PNPM_HOME", ""),
    ("VOLTA_HOME", "bin"),
    ("BUN_INSTALL", "bin"),
    ("CARGO_HOME", "bin"),
    ("N_PREFIX", "bin"),
    ("PIPX_BIN_DIR", ""),
    ("HOMEBREW_PREFIX", "bin"),
)
_HOME_ROOTS = (
    ("~/.local/bin", ".local/bin"),
    ("claude local", ".claude/local"),
    ("npm global", ".npm-global/bin"),
    ("npm global", ".npm-packages/bin"),
    ("npm global", ".npm/bin"),
    ("npm global", "node_modules/.bin"),
    ("volta", ".volta/bin"),
    ("asdf", ".asdf/shims"),
    ("mise", ".local/share/mise/shims"),
    ("nodenv", ".nodenv/shims"),
    ("n", "n/bin"),
    ("pnpm", ".local/share/pnpm"),
    ("pnpm", "Library/pnpm"),
    ("yarn", ".yarn/bin"),
    ("yarn", ".config/yarn/global/node_modules/.bin"),
    ("bun", ".bun/bin"),
    ("cargo", ".cargo/bin"),
    ("nix", ".nix-profile/bin"),
    ("~/bin", "bin"),
)
_SYSTEM_ROOTS = (
    ("homebrew", "/opt/homebrew/bin"),
    ("homebrew", "/home/linuxbrew/.linuxbrew/bin"),
    ("/usr/local/bin", "/usr/local/bin"),
    ("nix", "/run/current-system/sw/bin"),
    ("snap", "/snap/bin"),
    ("/usr/bin", "/usr/bin"),
    ("/bin", "/bin"),
)
