"""API keys, of which only the SHA-256 is kept (keys.json, 0600), or from the environment; their owners go by name.

A key is 256 random bits, so a fast hash is enough: there is nothing to guess. Keys that are configured but cannot be
read never mean "no keys": starting fails, and a running server refuses everybody.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clinvk.errors import ClinvkError
from clinvk.files import private_folder, unlockable, write_whole

VARIABLE = "CLINVK_API_KEYS"
FILE = "keys.json"
PREFIX = "clinvk_"
SHOWN_CHARS = len(PREFIX) + 4  # of a key, so that its owner can tell it from others
LOCK_SECS = 10.0
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")


class ApiKey(BaseModel):
    """One key as it is kept; the key itself is nowhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    begins: str
    created_at: str


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    keys: list[ApiKey]


def create(home: Path, name: str) -> str:
    """Make a key for `name`; the answer is the only copy of it. Raises ClinvkError(invalid_request)."""
    if not _NAME.fullmatch(name):
        raise _bad_name(name, "may hold letters, digits and ._@- only, at most 64")
    key = PREFIX + secrets.token_urlsafe(32)
    with _locked(home):
        keys = listed(home)
        if any(known.name == name for known in keys):
            raise _bad_name(name, "has a key already; revoke it first, or choose another name")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        keys.append(ApiKey(name=name, sha256=_digest(key).hex(), begins=key[:SHOWN_CHARS], created_at=now))
        _save(home, keys)
    return key


def listed(home: Path) -> list[ApiKey]:
    """The keys of the keys file, oldest first. Raises ClinvkError(policy_denied) when it cannot be read."""
    path = home / FILE
    try:
        return _File.model_validate_json(path.read_bytes()).keys
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(path, error.strerror or "I/O error") from error
    except ValidationError as error:
        raise _unreadable(path, f"it is damaged ({error.error_count()} faults)") from error


def revoke(home: Path, name: str) -> None:
    """Forget the key of `name`; servers notice at once. Raises ClinvkError(invalid_request) when there is none."""
    with _locked(home):
        keys = listed(home)
        left = [key for key in keys if key.name != name]
        if len(left) == len(keys):
            raise _bad_name(name, f"has no key; there are keys of: {', '.join(key.name for key in keys) or 'nobody'}")
        _save(home, left)


class Keyring:
    """The keys that a server accepts; those of the file are read again whenever the file changes."""

    def __init__(self, home: Path, environ: Mapping[str, str]) -> None:
        """Raises ClinvkError(policy_denied) when keys are configured and there are none that can be used."""
        self._home = home
        self._given = [(_digest(key), f"key {number}") for number, key in enumerate(_of_variable(environ), 1)]
        self._stamp = _stamp(home / FILE)
        self._kept = _kept(home)
        self._required = bool(self._given) or self._stamp is not None
        if self._required and not (self._given or self._kept):
            raise ClinvkError(
                "policy_denied",
                f"{home / FILE} holds no key",
                hint="make one with `clinvk keys create NAME`, or delete the file to serve without keys on loopback",
            )

    @property
    def required(self) -> bool:
        """Whether callers need a key: from the first key on, also one that is made while the server runs."""
        try:
            self._required = self._required or _stamp(self._home / FILE) is not None
        except ClinvkError:  # nobody can tell, and `owner` will say so
            return True
        return self._required

    def why_nobody(self) -> str | None:
        """Why nobody at all is let in; None while somebody may be."""
        try:
            self._refresh()
        except ClinvkError:
            return "the API keys cannot be read"
        return "no API key is left" if self.required and not (self._given or self._kept) else None

    def owner(self, key: str) -> str | None:
        """Whose key it is. Every key is compared, so that the time taken tells nothing.

        Raises ClinvkError(policy_denied) when the keys file can no longer be read.
        """
        self._refresh()
        digest = _digest(key)
        owners = [name for known, name in (*self._given, *self._kept) if hmac.compare_digest(known, digest)]
        return owners[0] if owners else None

    def _refresh(self) -> None:
        stamp = _stamp(self._home / FILE)
        if stamp != self._stamp:
            self._kept, self._stamp = _kept(self._home), stamp


def _of_variable(environ: Mapping[str, str]) -> list[str]:
    text = environ.get(VARIABLE)
    if text is None:
        return []
    keys = [key for key in (part.strip() for part in text.split(",")) if key]
    if not keys:
        raise ClinvkError(
            "policy_denied",
            f"{VARIABLE} is set but holds no key",
            hint="put keys into it, separated by commas, or unset it to serve without keys on loopback",
        )
    return keys


def _kept(home: Path) -> list[tuple[bytes, str]]:
    return [(bytes.fromhex(key.sha256), key.name) for key in listed(home)]


def _stamp(path: Path) -> tuple[int, int, int, int] | None:
    """Changes whenever the file, its owner or its mode does; None when there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error.strerror or "I/O error") from error
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


@contextmanager
def _locked(home: Path) -> Generator[None]:
    """Nobody else changes the keys meanwhile. Raises ClinvkError where that cannot be had."""
    private_folder(home)
    path = home / "keys.lock"
    lock = FileLock(path, timeout=LOCK_SECS, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        message = f"another process is changing the API keys for more than {LOCK_SECS:g} s"
        hint = f"look for a stopped process that holds {path}, then try again"
        raise ClinvkError("internal", message, hint=hint) from None
    except OSError as error:
        raise unlockable(path, error) from error
    try:
        yield
    finally:
        lock.release()


def _save(home: Path, keys: list[ApiKey]) -> None:
    write_whole(home / FILE, _File(keys=keys).model_dump_json(indent=1).encode() + os.linesep.encode(), sync=True)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _bad_name(name: str, why: str) -> ClinvkError:
    return ClinvkError(
        "invalid_request",
        f"name {name!r} {why}",
        hint="`clinvk keys list` shows the names",
        details={"field": "name", "value": name},
    )


def _unreadable(path: Path, why: str) -> ClinvkError:
    return ClinvkError(
        "policy_denied",
        f"the API keys in {path} cannot be read: {why}",
        hint="repair the file or its permissions; nobody is let in until it can be read",
    )
