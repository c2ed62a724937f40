"""Walks the nodes of YAML text: the only part of loading that imports yaml.

Values are read as people mean them: where YAML 1.1 surprises (12:30 as a number, dates), a value is its text.
"""

from collections.abc import Iterator

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from clinvk.config.leaves import Document, Leaf, Tree
from clinvk.config.problems import Source, nearest

_TAG = "tag:yaml.org,2002:"
_SCALARS = ("null", "bool", "int", "float", "str", "timestamp", "merge", "value")
MAX_DEPTH = 16  # the keys need 4; PyYAML's C loader ends the process (SIGSEGV) on 100,000 open brackets


def walk(text: str, tree: Tree, document: Document) -> None:
    """Put the leaves of a text into `document`, and what is wrong with it."""
    root = compose(text, document)
    if root is not None:
        _walk(root, tree, (), document)


def value(text: str, document: Document) -> object:
    """The one value that a text is; what is wrong with it goes into `document`."""
    node = compose(text, document)
    return None if node is None else _plain(node, (), document)


def compose(text: str, document: Document, *, max_depth: int = MAX_DEPTH) -> Node | None:
    """The root node of a text, None where it is empty or not YAML that can be used."""
    loader: type[yaml.CSafeLoader | yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > max_depth:
                line = event.start_mark.line + 1 if event.start_mark else None
                document.complain("is nested too deeply", line)
                return None
        return yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        document.complain(f"is not valid YAML: {said}", mark.line + 1 if mark else None)
    except yaml.YAMLError as error:
        document.complain(f"is not valid YAML: {str(error).splitlines()[0]}", None)
    except ValueError as error:  # lone surrogates cannot be given to the C loader
        document.complain(f"is not valid Unicode text: {error}", None)
    return None


def _walk(node: Node, tree: Tree, prefix: tuple[str, ...], document: Document) -> None:
    if node.tag == f"{_TAG}null":
        return
    if not isinstance(node, MappingNode):
        what = f"'{'.'.join(prefix)}'" if prefix else "the file"
        document.complain(f"{what} must be a mapping of keys to values", _line(node), prefix)
        return
    for name, value_node, line in _items(node, prefix, document):
        key = (*prefix, name)
        source = Source(kind="file", path=document.path, line=line)
        if name not in tree:
            if prefix == ("backends",):
                document.complain(f"unknown backend 'backends.{name}'; {nearest(name, tree)}", line, key)
            else:
                _stranger(value_node, key, source, document)
            continue
        below = tree[name]
        if below is None:
            before = len(document.problems)
            value = _plain(value_node, key, document)
            if len(document.problems) == before:
                document.leaves.append(Leaf(key, value, source))
        else:
            _walk(value_node, below, key, document)


def _stranger(node: Node, key: tuple[str, ...], source: Source, document: Document) -> None:
    """A key that is not in the tree: kept with its value, whatever that is, for who judges it."""
    value = scalar(node) if isinstance(node, ScalarNode) else _kind(node)
    document.strangers.append(Leaf(key, value, source))


def _items(node: Node, prefix: tuple[str, ...], document: Document) -> Iterator[tuple[str, Node, int]]:
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = _line(key_node)
        if not isinstance(key_node, ScalarNode):
            document.complain("a key must be text", line, prefix)
            continue
        name: str = key_node.value
        if name in seen:
            where = ".".join((*prefix, name))
            document.complain(f"key '{where}' appears twice; first on line {seen[name]}", line, (*prefix, name))
            continue
        seen[name] = line
        yield name, value_node, line


def _plain(node: Node, key: tuple[str, ...], document: Document) -> object:
    """A scalar, or a list or mapping of scalars; no key takes anything deeper."""
    if isinstance(node, ScalarNode):
        return _checked(node, key, document)
    if isinstance(node, SequenceNode):
        return [_checked(item, key, document) for item in node.value]
    return {name: _checked(item, (*key, name), document) for name, item, _ in _items(node, key, document)}


def _checked(node: Node, key: tuple[str, ...], document: Document) -> object:
    if not isinstance(node, ScalarNode):
        document.complain(f"'{'.'.join(key)}' takes no {_kind(node)} inside its value", _line(node), key)
        return None
    if node.tag.removeprefix(_TAG) not in _SCALARS:
        document.complain(f"'{'.'.join(key)}' has the tag {node.tag}, which means nothing here", _line(node), key)
        return None
    return scalar(node)


def scalar(node: Node) -> object:
    """The value of a scalar; where YAML 1.1 surprises (12:30 as a number, dates), its text."""
    text: str = node.value
    try:
        match node.tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool":
                return text.lower() in ("yes", "true", "on")
            case "int":
                return int(text.replace("_", ""), 0)
            case "float":
                return float(text.replace("_", ""))
            case _:
                return text
    except ValueError:
        return text


def _kind(node: Node) -> str:
    return "mapping" if isinstance(node, MappingNode) else "list"


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1
