"""Loads the configuration: flags > environment > file > defaults.

`load` gives a configuration in which every value is valid and has a known source, or raises `ConfigError`
with everything that is wrong. Nothing is read but the one file and the given environment; project directories have
no say.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from clinvk.config import document, environment, keys, relics
from clinvk.config.leaves import Document, Leaf, Tree
from clinvk.config.problems import DEFAULT, ConfigError, Problem, Source
from clinvk.config.settings import Config

_NO_FLAGS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, where each of its values came from, and what in it has no effect."""

    config: Config
    sources: Mapping[str, Source]
    home: Path
    path: Path
    warnings: tuple[Problem, ...] = ()


@dataclass(slots=True)
class _Gathering:
    """The valid leaves so far, later ones winning, and the problems of all layers."""

    known_backends: Collection[str]
    user_home: Path
    whole: Tree
    leaves: dict[tuple[str, ...], Leaf] = field(default_factory=dict[tuple[str, ...], Leaf])
    problems: list[Problem] = field(default_factory=list[Problem])

    def add(self, leaf: Leaf, readings: Sequence[object]) -> None:
        """Take the first reading of a leaf's value that its key accepts, or complain of the first."""
        faults: list[list[str]] = []
        for value in readings:
            faults.append(keys.faults(leaf.key, value, self.known_backends, self.user_home))
            if not faults[-1]:
                self.leaves[leaf.key] = Leaf(leaf.key, value, leaf.source)
                return
        told = clearest(readings, faults)
        self.problems += [Problem(message=fault, source=leaf.source, key=leaf.dotted) for fault in told]


def load(
    environ: Mapping[str, str],
    *,
    known_backends: Collection[str],
    flags: Mapping[str, object] = _NO_FLAGS,
    path: Path | None = None,
) -> Loaded:
    """The configuration of this call. `path` is `--config`.

    `flags` maps dotted keys to values, None for a flag that was not given.

    Raises:
        ConfigError: for everything that is wrong, at once.
    """
    explicit = path is not None or bool(environ.get("CLINVK_CONFIG"))
    where = config_file(environ, path)
    gathering = _gathering(environ, known_backends)
    _add_file(gathering, document.read(where, gathering.whole, required=explicit))
    found, problems = environment.read(environ, gathering.whole)
    gathering.problems += problems
    for leaf in found:
        gathering.add(leaf, readings(str(leaf.value)))
    for dotted, value in flags.items():
        if value is not None:
            _add_flag(gathering, dotted, value)
    config = _config(gathering)
    sources = {".".join(key): DEFAULT for key in keys.leaves(gathering.whole)}
    sources |= {leaf.dotted: leaf.source for leaf in gathering.leaves.values()}
    gathering.problems += _contradictions(config, sources)
    errors = [problem for problem in gathering.problems if problem.severity == "error"]
    if errors:
        raise ConfigError(errors)
    return Loaded(config, sources, home_directory(environ), where, tuple(gathering.problems))


def lint(path: Path, *, known_backends: Collection[str], environ: Mapping[str, str]) -> list[Problem]:
    """Everything that is wrong with a file, or has no effect in it."""
    gathering = _gathering(environ, known_backends)
    return _linted(gathering, document.read(path, gathering.whole, required=True))


def lint_text(text: str, path: Path, *, known_backends: Collection[str], environ: Mapping[str, str]) -> list[Problem]:
    """The same of a text that would stand at `path`."""
    gathering = _gathering(environ, known_backends)
    return _linted(gathering, document.parse(text, path, gathering.whole))


def home_directory(environ: Mapping[str, str]) -> Path:
    """`CLINVK_HOME`, by default `~/.clinvk`."""
    return _absolute(_path_in(environ, "CLINVK_HOME") or user_home(environ) / ".clinvk")


def config_file(environ: Mapping[str, str], path: Path | None = None) -> Path:
    """The file that is read: `path` (`--config`), `CLINVK_CONFIG`, or config.yaml in the home directory."""
    return _absolute(path or _path_in(environ, "CLINVK_CONFIG") or home_directory(environ) / "config.yaml")


def readings(text: str) -> list[object]:
    """What a text given for a value may mean, in the order of preference: itself, YAML, a list with commas."""
    return [text, document.value_of(text), [part.strip() for part in text.split(",")]]


def clearest(read: Sequence[object], faults: Sequence[list[str]]) -> list[str]:
    """Of the faults of all readings of a text those to tell: of a number, that it is too small, not that it is text."""
    numbers = (place for place, value in enumerate(read) if type(value) in (int, float))
    return faults[next(numbers, 0)]


def _gathering(environ: Mapping[str, str], known_backends: Collection[str]) -> _Gathering:
    return _Gathering(known_backends, user_home(environ), keys.tree(known_backends))


def _linted(gathering: _Gathering, read: Document) -> list[Problem]:
    _add_file(gathering, read)
    sources = {leaf.dotted: leaf.source for leaf in gathering.leaves.values()}
    return [*gathering.problems, *_contradictions(_config(gathering), sources)]


def _add_file(gathering: _Gathering, read: Document) -> None:
    gathering.problems += read.problems
    for stranger in read.strangers:
        judged = relics.judged(stranger)
        if judged is None:
            message = keys.unknown_key(stranger.key, gathering.whole)
            gathering.problems.append(Problem(message=message, source=stranger.source, key=stranger.dotted))
            continue
        leaf, told = judged
        gathering.problems.append(told)
        if leaf is not None:
            gathering.add(leaf, [leaf.value])
    for leaf in read.leaves:
        gathering.add(leaf, [leaf.value])
    gathering.problems.sort(key=lambda problem: problem.source.line or 0)


def _add_flag(gathering: _Gathering, dotted: str, value: object) -> None:
    leaf = Leaf(tuple(dotted.split(".")), value, Source(kind="flag"))
    if leaf.key in set(keys.leaves(gathering.whole)):
        gathering.add(leaf, [value])
    else:
        message = keys.unknown_key(leaf.key, gathering.whole)
        gathering.problems.append(Problem(message=message, source=leaf.source, key=dotted))


def _config(gathering: _Gathering) -> Config:
    given = {key: leaf.value for key, leaf in gathering.leaves.items()}
    return keys.assembled(given, gathering.known_backends, gathering.user_home)


def _contradictions(config: Config, sources: Mapping[str, Source]) -> Iterable[Problem]:
    chosen = config.default_backend
    if chosen is not None and not config.backend(chosen).enabled:
        yield Problem(
            message=f"default_backend is '{chosen}', which backends.{chosen}.enabled switches off",
            source=sources["default_backend"],
            key="default_backend",
        )
    if config.server.cors_allow_credentials and "*" in config.server.cors_allowed_origins:
        yield Problem(
            message="server.cors_allowed_origins is '*' while server.cors_allow_credentials is true; name the origins",
            source=sources["server.cors_allowed_origins"],
            key="server.cors_allowed_origins",
        )


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except OSError as error:
        source = Source(kind="file", path=path)
        message = f"the current folder, in which it would be, cannot be used: {error.strerror}"
        raise ConfigError([Problem(message=message, source=source)]) from error


def _path_in(environ: Mapping[str, str], name: str) -> Path | None:
    value = environ.get(name)
    if not value:
        return None
    if value == "~" or value.startswith("~/"):
        return Path(str(user_home(environ)) + value[1:])
    return Path(value)


def user_home(environ: Mapping[str, str]) -> Path:
    """What `~` stands for."""
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()
