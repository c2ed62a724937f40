"""Files that only their owner may read, whatever the umask says."""

import os


def private(path: str, flags: int) -> int:
    """An `opener` for `open`: what it creates has mode 0600."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
