"""Task files: JSON or YAML into requests. Whatever is wrong is told with file, line, key and the nearest valid one."""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from clinvk.cli.asking import UNTIL_THE_END
from clinvk.cli.call import Call
from clinvk.config import nodes
from clinvk.config.leaves import Document
from clinvk.errors import ClinvkError
from clinvk.tools.faults import validated

MAX_BYTES = 64 << 20
MAX_DEPTH = 64  # an output_schema may be deep; PyYAML's C loader ends the process at some thousands
MAX_NODES = 200_000  # of a file whose aliases are written out
STDIN = 0

Place = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


class TaskFile:
    """What a file says, and on which line."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.value: Any = None
        self.lines: dict[Place, int] = {}
        self.text = ""  # of JSON, whose parser does not tell lines

    def wrong(self, message: str, *lines: int | None) -> ClinvkError:
        """The error for something on these lines."""
        known = sorted({line for line in lines if line is not None})
        where = self.name if not known else f"{self.name}:{', '.join(map(str, known))}"
        return ClinvkError(
            "invalid_request",
            f"{where}: {message}",
            hint="correct it there; the help of parallel and of chain shows a file",
            details={"file": self.name, "lines": known},
        )

    def request(self, model: type[Model], key: str, defaults: Mapping[str, Any]) -> Model:
        """The request: its list is under `key`, or the whole file. `defaults` are for what a task leaves out."""
        whole: Any = self.value
        bare = isinstance(whole, list)
        if not (bare or isinstance(whole, dict)):
            raise self.wrong(f"a mapping with {key!r}, or a list, is expected", self._line(""))
        value: dict[str, Any] = {key: whole} if bare else {**whole}
        if "wait_secs" in value:
            raise self.wrong("wait_secs has no meaning here; see --background", self._line("wait_secs"))
        tasks: Any = value.get(key)
        for task in tasks if isinstance(tasks, list) else ():  # pyright: ignore[reportUnknownVariableType]
            if isinstance(task, dict):
                for name, default in defaults.items():
                    task.setdefault(name, default)  # pyright: ignore[reportUnknownMemberType]
        try:
            return validated(model, value)
        except ClinvkError as error:
            fields: list[str] = error.failure.details.get("fields", [])
            if bare:
                fields = [field.removeprefix(key) for field in fields]
            raise self.wrong(str(error), *map(self._line, fields)) from None

    def _line(self, field: str) -> int | None:
        """The line of a field, or of what it should be in."""
        if self.text:
            seen = TaskFile(self.name)
            with suppress(ClinvkError):  # JSON that is no YAML
                _read_yaml(seen, self.text)
            self.lines, self.text = seen.lines, ""
        place: Place = tuple(int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", field))
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place)


def read(name: str) -> TaskFile:
    """The file of this name; `-` is standard input. Raises ClinvkError(invalid_request)."""
    file = TaskFile("standard input" if name == "-" else name)
    try:
        data = _standard_input() if name == "-" else _file(Path(name))
    except OSError as error:
        raise file.wrong(f"cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise file.wrong(f"is larger than {MAX_BYTES:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise file.wrong("is not valid UTF-8", data.count(b"\n", 0, error.start) + 1) from None
    if not (text.lstrip()[:1] in ("{", "[") and _read_json(file, text, strict=name.endswith(".json"))):
        _read_yaml(file, text)
    return file


def _standard_input() -> bytes:
    data = bytearray()
    while len(data) <= MAX_BYTES and (piece := os.read(STDIN, 1 << 16)):
        data += piece
    return bytes(data)


def _file(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _read_json(file: TaskFile, text: str, *, strict: bool) -> bool:
    """Read it as JSON; False where it is none, and may be YAML. Lines are looked for only when they are needed."""
    twice: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice.extend(key for key in found if keys.count(key) > 1)
        return found

    try:
        file.value = json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        if strict:
            raise file.wrong(f"is not valid JSON: {error.msg}", error.lineno) from None
        return False
    except RecursionError:
        raise file.wrong("is nested too deeply") from None
    if twice:
        _read_yaml(TaskFile(file.name), text)  # knows the lines, and complains of them
        raise file.wrong(f"key {twice[0]!r} appears twice in one place")
    file.text = text
    return True


def _read_yaml(file: TaskFile, text: str) -> None:
    document = Document(Path(file.name))
    root = nodes.compose(text, document, max_depth=MAX_DEPTH)
    for problem in document.problems:
        raise file.wrong(problem.message, problem.source.line)
    if root is None:
        raise file.wrong("is empty")
    file.value = _Builder(file).value(root, ())


class _Builder:
    """Makes values of YAML nodes."""

    def __init__(self, file: TaskFile) -> None:
        self._file = file
        self._count = 0

    def value(self, node: Node, place: Place) -> Any:
        line = int(node.start_mark.line) + 1
        self._file.lines.setdefault(place, line)
        self._count += 1
        if self._count > MAX_NODES or len(place) > MAX_DEPTH:
            raise self._file.wrong("is too large when its aliases are written out", line)
        match node:
            case ScalarNode():
                return nodes.scalar(node)
            case SequenceNode():
                return [self.value(item, (*place, number)) for number, item in enumerate(node.value)]
            case MappingNode():
                return self._mapping(node, place)
            case _:
                raise self._file.wrong("holds something that is no value", line)

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = int(key_node.start_mark.line) + 1
            if not isinstance(key_node, ScalarNode):
                raise self._file.wrong("a key must be text", line)
            key: str = key_node.value
            if key in found:
                first = self._file.lines.get((*place, key))
                raise self._file.wrong(f"key {key!r} appears twice; first on line {first}", line)
            self._file.lines[*place, key] = line
            found[key] = self.value(value_node, (*place, key))
        return found


def completed(model: type[Model], file: BaseModel, update: Mapping[str, Any], call: Call) -> Model:
    """The request that a file and the flags make together; flags win."""
    given = file.model_dump(exclude={"output_dir"}, exclude_unset=True)
    given |= {name: value for name, value in update.items() if value is not None}
    given["wait_secs"] = 0 if call.args.background else UNTIL_THE_END
    if call.args.fresh:
        given["fresh"] = True
    return validated(model, given, hint=f"see clinvk {call.args.verb} --help")
