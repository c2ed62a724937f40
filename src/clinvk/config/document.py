"""Reads a configuration file into leaves: key, value, line. Knows the tree of keys, not what values mean.

Every fault of the text is a `Problem` with its line; nothing that a file can contain raises anything else.
"""

from pathlib import Path

from clinvk.config.leaves import Document, Tree
from clinvk.files import ANOTHER_HOME, obstacle

MAX_BYTES = 1024 * 1024
ANOTHER_FILE = "name another file with CLINVK_CONFIG or --config"


def read(path: Path, tree: Tree, *, required: bool) -> Document:
    """The document at `path`; an empty one when there is no such file and none is required."""
    document = Document(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)  # a device, or a pipe, has no size to look at
    except FileNotFoundError:
        if required:
            document.give_up("there is no such file", f"make it, or {ANOTHER_FILE}")
        return document
    except OSError as error:
        reason, fix = obstacle(path, error, ANOTHER_FILE if required or path.parent.is_dir() else ANOTHER_HOME)
        document.give_up(f"cannot be read: {reason}", fix or ANOTHER_FILE)
        return document
    except ValueError as error:  # a NUL in its name
        document.give_up(f"cannot be read: {error}", ANOTHER_FILE)
        return document
    if len(data) > MAX_BYTES:
        document.complain(f"is larger than {MAX_BYTES} bytes", None)
        return document
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        document.complain("is not valid UTF-8", data.count(b"\n", 0, error.start) + 1)
        return document
    return parse(text, path, tree)


def parse(text: str, path: Path, tree: Tree) -> Document:
    """The document that a text is."""
    from clinvk.config import nodes  # without a file nothing needs yaml

    document = Document(path)
    nodes.walk(text, tree, document)
    return document


def value_of(text: str) -> object:
    """The value that a text is in YAML, the text itself where it is none. For environment variables."""
    from clinvk.config import nodes

    document = Document(Path())
    value = nodes.value(text, document)
    return text if document.problems else value
