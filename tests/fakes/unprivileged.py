"""Permissions, where the tests are run by root."""

import os
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def unprivileged() -> Generator[None]:
    """Permissions hold also where the tests are run by root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)
