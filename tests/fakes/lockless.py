"""`clinvk` without file locks, as on a network file system that has none: `lockless.py WORD...`.

The kernel refuses flock(2) to the process and to all that it starts (seccomp); where it cannot be told to, Python does,
in the one process.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable
from pathlib import Path

FLOCK = {"x86_64": 73, "aarch64": 32}  # the number of the system call
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ERRNO, ALLOW = 0x00050000, 0x7FFF0000
COMMAND = (sys.executable, str(Path(__file__)))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def forbid() -> bool:
    """Refuse locks from now on; whether the kernel does it."""
    number = FLOCK.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return False
    steps = (
        (LOAD, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 1, number),
        (RETURN, 0, 0, ERRNO | errno.ENOLCK),
        (RETURN, 0, 0, ALLOW),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = _Program(len(steps), ctypes.cast(code, ctypes.c_void_p))
    prctl: Callable[..., int] = ctypes.CDLL(None).prctl
    return (
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 == prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program))
    )


def main() -> int:
    """Do what `python -m clinvk` does."""
    if not forbid():
        import fcntl

        def refused(*_: object) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        fcntl.flock = refused
    from clinvk.__main__ import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
