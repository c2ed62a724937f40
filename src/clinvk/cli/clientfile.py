"""Reads and changes the configuration file of an MCP client: copied first, replaced as a whole, checked before that."""

import copy
import json
import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clinvk.cli import jsonc, tomltext
from clinvk.cli.clients import NAME, Client, merged
from clinvk.errors import ClinvkError


def shown(client: Client, entry: dict[str, Any]) -> str:
    """The entry as it stands in an otherwise empty file."""
    return _edited(client, "", entry).rstrip("\n")


def change(client: Client, path: Path, entry: dict[str, Any] | None) -> tuple[bool, Path | None]:
    """Put the entry into the file, None takes it out; whether something changed, and the copy made before.

    What somebody added to an entry that is there stays.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        text = None
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(client, path, f"cannot be read: {error}") from error
    if entry is None and text is None:
        return False, None
    try:
        before = _parsed(client, text or "")
        own = before.get(client.container, {}).get(NAME)
        if entry is not None and isinstance(own, dict):
            entry = merged(own, entry)  # pyright: ignore[reportUnknownArgumentType]
        after = _edited(client, text or "", entry)
        wanted = _wanted(client, before, entry)
        if before == wanted and text is not None:
            return False, None
        if _parsed(client, after) != wanted:
            raise jsonc.EditError("it holds the entry in a form that cannot be changed safely")
    except jsonc.EditError as error:
        raise _refused(client, path, str(error)) from None
    try:
        return True, _replace(path, after)
    except OSError as error:
        raise _refused(client, path, f"cannot be written: {error.strerror}") from error


def _parsed(client: Client, text: str) -> dict[str, Any]:
    value = tomltext.parse(text) if client.kind == "toml" else jsonc.parse(text)
    if not isinstance(value, dict) or not isinstance(value.get(client.container, {}), dict):  # pyright: ignore[reportUnknownMemberType]
        raise jsonc.EditError(f"an object with {client.container!r} is expected")
    return value  # pyright: ignore[reportUnknownVariableType]


def _edited(client: Client, text: str, entry: dict[str, Any] | None) -> str:
    if client.kind == "toml":
        if entry is None:
            return tomltext.without_table(text, client.container, NAME)
        return tomltext.with_table(text, client.container, NAME, entry)
    if entry is None:
        return jsonc.without_member(text, client.container, NAME)
    return jsonc.with_member(text, client.container, NAME, entry)


def _wanted(client: Client, before: dict[str, Any], entry: dict[str, Any] | None) -> dict[str, Any]:
    """What the file is to say."""
    wanted = copy.deepcopy(before)
    if entry is not None:
        wanted.setdefault(client.container, {})[NAME] = json.loads(json.dumps(entry))
    elif NAME in wanted.get(client.container, {}):
        del wanted[client.container][NAME]
        if client.kind == "toml" and not wanted[client.container]:
            del wanted[client.container]  # a table is gone with the last one in it
    return wanted


def _replace(path: Path, text: str) -> Path | None:
    """Write beside and rename; a link stays one. Returns the copy that was made of the old file."""
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    backup: Path | None = None
    mode = 0o600
    if target.exists():
        mode = target.stat().st_mode & 0o7777
        backup = target.with_name(f"{target.name}.clinvk-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.bak")
        shutil.copy2(target, backup)
    fd, beside = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(text.encode("utf-8"))
        Path(beside).chmod(mode)
        Path(beside).replace(target)
    except OSError:
        Path(beside).unlink(missing_ok=True)
        raise
    return backup


def _refused(client: Client, path: Path, why: str) -> ClinvkError:
    return ClinvkError(
        "invalid_request",
        f"{path}: {why}",
        hint=f"it was left as it is; clinvk install --print shows what to put into it for {client.title}",
        details={"path": str(path)},
    )
