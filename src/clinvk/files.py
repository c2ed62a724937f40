"""Files as clinvk keeps them: private to the user, whole or not there at all, and errors that name the path.

Locks are the kernel's (flock), on files of their own that are never unlinked; they are gone with their holder.
"""

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from clinvk.errors import ClinvkError

TEMPORARY_SUFFIX = ".tmp"
ANOTHER_HOME = "set CLINVK_HOME to a folder that can be written to"
# `is_held` holds a shared lock for a few microseconds; a taker that meets it looks again before it gives up.
TAKE_TRIES = 5
TAKE_PAUSE_SECS = 0.002


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Map an OSError of the block to `internal: cannot write to PATH: REASON`."""
    try:
        yield
    except OSError as error:
        hint = f"free disk space, or {ANOTHER_HOME}"
        raise _failed(f"cannot write to {path}", path, error, hint) from error


@contextmanager
def reading(path: Path) -> Generator[None]:
    """Map an OSError of the block to `internal: cannot read PATH: REASON`."""
    try:
        yield
    except OSError as error:
        hint = "check the permissions of the folder that CLINVK_HOME names"
        raise _failed(f"cannot read {path}", path, error, hint) from error


def obstacle(path: Path, error: OSError, instead: str = ANOTHER_HOME) -> tuple[str, str | None]:
    """What keeps `path` from being used, and what to do about it where that is known, `instead` among it."""
    there = next((each for each in (path, *path.parents) if os.path.lexists(each)), path)
    reason = error.strerror or str(error)
    match error.errno:
        case errno.ENOTDIR | errno.EEXIST if not there.is_dir():
            return f"{there} is not a folder", f"move it away, or {instead}"
        case errno.EISDIR:
            return reason, f"move the folder {path} away, or {instead}"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return reason, f"correct owner and mode of {there}, or {instead}"
        case errno.EMFILE | errno.ENFILE:
            return reason, "try again when less is running, or allow more open files (ulimit -n)"
        case errno.ENOLCK | errno.EOPNOTSUPP | errno.ENOSYS:
            return reason, f"its file system seems to have no file locks: {instead}, on another file system"
        case _:
            return reason, None


def exists(path: Path) -> bool:
    """Whether there is such a file. Raises ClinvkError where that may not be known."""
    with reading(path):
        return path.exists()


def private(path: str, flags: int) -> int:
    """An `opener` for `open`: what it creates has mode 0600, whatever the umask says."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def private_folder(path: Path) -> None:
    """Make `path` and what is missing above it, for this user alone."""
    with writing(path):
        if path.is_dir():
            return
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
        if not path.is_dir():
            raise NotADirectoryError(20, "is not a folder", str(path))


def opened(path: Path, flags: int) -> int:
    """A descriptor of a file that is made where it is missing, with its folder, for this user alone."""
    flags |= os.O_CREAT | os.O_CLOEXEC
    with writing(path):
        try:
            fd = os.open(path, flags, 0o600)
        except FileNotFoundError:
            private_folder(path.parent)
            fd = os.open(path, flags, 0o600)
    return fd


def write_whole(path: Path, data: bytes, *, sync: bool = False, sync_folder: bool = False) -> None:
    """Replace `path` by `data`, written beside: readers see the old bytes or the new ones, and a failure the old ones.

    With `sync` the bytes survive power loss, with `sync_folder` the name does too.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    with writing(path):
        try:
            fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _write_all(fd, data)
                if sync:
                    os.fsync(fd)
            finally:
                os.close(fd)
            beside.replace(path)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise
        if sync_folder:
            to_disk(path.parent)


def write_unread(path: Path, data: bytes) -> None:
    """Write a file that nobody reads before this returns; a failure leaves none."""
    with writing(path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(fd, data)
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise
        finally:
            os.close(fd)


def append_line(path: Path, line: bytes) -> int:
    """Append `line` (without newline), synced; returns the length of the file then.

    A torn last line is left as a line of its own. A write that fails is taken back. The caller excludes other writers.
    """
    with writing(path):
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
            data = (b"\n" if torn else b"") + line + b"\n"
            try:
                _write_all(fd, data)
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)
    return size + len(data)


def locked(lock: int, path: Path, *, shared: bool = False) -> bool:
    """Take the lock of a file, open as `lock`, unless somebody holds it this very moment.

    Raises ClinvkError(internal) where the file system has no locks.
    """
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise unlockable(path, error) from error
    return True


def unlockable(path: Path, error: OSError) -> ClinvkError:
    """The error for a file of which the system gives no lock."""
    return _failed(f"cannot lock {path}", path, error, ANOTHER_HOME)


def taken(lock: int, path: Path) -> bool:
    """Take the lock of a file, open as `lock`, now or not at all, past those who only look whether it is held."""
    for attempt in range(TAKE_TRIES):
        if attempt:
            time.sleep(TAKE_PAUSE_SECS)
        if locked(lock, path):
            return True
    return False


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock of a file; not when there is none. Raises ClinvkError where nobody can know."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # a shared lock, so that two who look at once do not take each other for the holder
        return not locked(lock, path, shared=True)
    finally:
        os.close(lock)


def _failed(what: str, path: Path, error: OSError, hint: str) -> ClinvkError:
    reason, known = obstacle(path, error)
    details = {"path": str(path), "errno": error.errno}
    return ClinvkError("internal", f"{what}: {reason}", hint=known or hint, details=details)


def to_disk(path: Path) -> None:
    """Have a file, or the names in a folder, outlast a loss of power. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
