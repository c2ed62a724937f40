"""Changes one value in config.yaml and not a byte besides: comments, order, quoting and spacing stay as they were.

The text is edited at the place that the YAML parser reports. Before anything is written, the new text is read again:
it must be valid, hold the new value, and say the same as before for every other key; otherwise the file stays as it is.
"""

import json
import os
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import yaml
from filelock import FileLock, Timeout
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from clinvk.config import cascade, document, keys
from clinvk.config.leaves import Tree
from clinvk.config.problems import COMMAND_LINE, ConfigError, Problem, Source
from clinvk.errors import ClinvkError
from clinvk.files import ANOTHER_HOME, obstacle

LOCK_SECS = 5.0  # another `config set` takes milliseconds


def set_value(
    path: Path, dotted: str, text: str, *, known_backends: Collection[str], environ: Mapping[str, str]
) -> None:
    """Set a key in the file at `path` (made if need be) to what `text` means for it.

    Raises:
        ConfigError: for an unknown key, a wrong value, or a file that would not be valid afterwards; then nothing
            is written.
    """
    key = tuple(dotted.split("."))
    whole = keys.tree(known_backends)
    value = meant(dotted, text, known_backends=known_backends, environ=environ)
    try:
        target = path.resolve()  # a link to a file kept elsewhere stays a link
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(f"{target}.lock", timeout=LOCK_SECS, mode=0o600):
            before = _text(target)
            after = edited(before, key, value)
            _require_only_change(before, after, key, value, whole)
            errors = [
                problem
                for problem in cascade.lint_text(after, path, known_backends=known_backends, environ=environ)
                if problem.severity == "error"
            ]
            if errors:
                raise ConfigError(errors)
            _replace(target, after)
    except Timeout:
        raise _refused(path, "another process is changing it", "try again") from None
    except OSError as error:
        instead = document.ANOTHER_FILE if path.parent.is_dir() else ANOTHER_HOME
        raise _refused(path, *obstacle(path, error, instead)) from None


def meant(dotted: str, text: str, *, known_backends: Collection[str], environ: Mapping[str, str]) -> object:
    """The value that a text is for a key. Raises ConfigError for an unknown key and a value that it does not take."""
    key = tuple(dotted.split("."))
    whole = keys.tree(known_backends)
    if key not in set(keys.leaves(whole)):
        raise ConfigError([Problem(message=keys.unknown_key(key, whole), source=COMMAND_LINE, key=dotted)])
    user_home = cascade.user_home(environ)
    faults: list[list[str]] = []
    read = cascade.readings(text)
    for value in read:
        faults.append(keys.faults(key, value, known_backends, user_home))
        if not faults[-1]:
            return value
    told = cascade.clearest(read, faults)
    raise ConfigError([Problem(message=fault, source=COMMAND_LINE, key=dotted) for fault in told])


def edited(text: str, key: tuple[str, ...], value: object) -> str:
    """The text with one value set. Raises ConfigError where the text is not YAML."""
    found = document.parse(text, Path("config.yaml"), {})
    if found.problems:
        raise ConfigError(found.problems)
    # The C loader counts positions differently for text beyond ASCII.
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    depth = 0
    while isinstance(node, MappingNode) and depth < len(key):
        below = _below(node, key[depth])
        if below is None:
            return _inserted(text, node, key[depth:], value, root=depth == 0)
        depth, node, name = depth + 1, below[1], below[0]
        if depth == len(key) or node.tag.endswith(":null"):
            return _with_value(text, name, node, key[depth:], value)
    return text + _separator(text) + _block(key, value, 0)


def _below(node: MappingNode, name: str) -> tuple[Node, Node] | None:
    return next((pair for pair in node.value if pair[0].value == name), None)


def _with_value(text: str, name: Node, node: Node, rest: tuple[str, ...], value: object) -> str:
    """Replace a value, or fill an empty section."""
    colon = text.index(":", name.end_mark.index) + 1
    end = max(_end(text, node), colon)
    if not rest:
        start = node.start_mark.index if node.start_mark.line == name.start_mark.line else colon
        start = max(start, colon)
        return text[:start] + ("" if text[start - 1 : start].isspace() else " ") + _flow(value) + text[end:]
    line_end = _line_end(text, colon)
    indent = name.start_mark.column + 2
    return _line_inserted(text[:colon] + text[end:] if end > colon else text, line_end, _block(rest, value, indent))


def _inserted(text: str, node: MappingNode, rest: tuple[str, ...], value: object, *, root: bool) -> str:
    """Add a key to a mapping, after its last one."""
    if node.flow_style:
        end = node.end_mark.index - 1
        comma = "" if not node.value or text[:end].rstrip().endswith(",") else ", "
        for part in reversed(rest[1:]):
            value = {part: value}
        return f"{text[:end]}{comma}{json.dumps(rest[0])}: {_flow(value)}{text[end:]}"
    if root:
        return text + _separator(text) + _block(rest, value, node.start_mark.column)
    line_end = _line_end(text, _end(text, node))
    return _line_inserted(text, line_end, _block(rest, value, node.value[0][0].start_mark.column))


def _line_inserted(text: str, line_end: int, block: str) -> str:
    return text[:line_end] + _separator(text[:line_end]) + block + text[line_end:]


def _separator(text: str) -> str:
    return "" if not text or text.endswith("\n") else "\n"


def _line_end(text: str, index: int) -> int:
    """The position after the line break of the line that `index` stands in."""
    found = text.find("\n", index)
    return len(text) if found < 0 else found + 1


def _end(text: str, node: Node) -> int:
    """Where a node's text ends; a block's own mark stands after the blank lines and comments that follow."""
    end = int(node.end_mark.index)
    if isinstance(node, ScalarNode):
        return len(text[:end].rstrip("\r\n")) if node.style in ("|", ">") else end
    if not isinstance(node, MappingNode | SequenceNode) or node.flow_style:
        return end
    if isinstance(node, MappingNode):
        return max(_end(text, item) for _, item in node.value)
    return max(_end(text, item) for item in node.value)


def _block(rest: tuple[str, ...], value: object, indent: int) -> str:
    """Lines that set a key, sections above it included."""
    lines = [f"{' ' * (indent + 2 * depth)}{part}:" for depth, part in enumerate(rest)]
    return "\n".join(lines) + f" {_flow(value)}\n"


def _flow(value: object) -> str:
    """The value as YAML on one line; JSON is YAML, and a plain word is left plain where it reads back as itself."""
    if isinstance(value, str) and value.replace("-", "").replace("_", "").isalnum() and value.isascii():
        return value if document.value_of(value) == value and not value.startswith("-") else json.dumps(value)
    text = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in text)


def _require_only_change(before: str, after: str, key: tuple[str, ...], value: object, whole: Tree) -> None:
    path = Path("config.yaml")
    was, now = document.parse(before, path, whole), document.parse(after, path, whole)
    old = {leaf.key: leaf.value for leaf in was.leaves + was.strangers}
    new = {leaf.key: leaf.value for leaf in now.leaves + now.strangers}
    if new != {**old, key: value}:
        raise _refused(path, f"'{'.'.join(key)}' cannot be changed without changing more")


def _text(path: Path) -> str:
    try:
        # Bytes first: reading as text would turn CRLF into LF.
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise _refused(path, "it is not valid UTF-8", "save it as UTF-8") from None


def _replace(path: Path, text: str) -> None:
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".config.", suffix=".tmp")
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(mode)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _refused(path: Path, reason: str, fix: str | None = None) -> ClinvkError:
    source = Source(kind="file", path=path)
    return ConfigError(
        [Problem(message=f"was not changed: {reason}", source=source, fix=fix or "edit the file by hand")]
    )
