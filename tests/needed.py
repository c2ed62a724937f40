"""What tests need of the system beyond Python and npm.

Where it is missing they fail, so that nobody takes a check that was not made for one that passed, unless its name
stands in CLINVK_TEST_WITHOUT (`scripts/check` sets it, outside of CI).
"""

import os
import shutil
from typing import NoReturn

import pytest

ALLOWED = "CLINVK_TEST_WITHOUT"


def program(name: str, *others: str, package: str) -> str:
    """The path of a program, or of another that is as good; `package` is Debian's."""
    found = next(filter(None, map(shutil.which, (name, *others))), None)
    return found or absent(name, f"{name} is not installed: apt install {package}")


def absent(name: str, why: str) -> NoReturn:
    """End the test: a failure, or a skip where that is allowed."""
    if name in os.environ.get(ALLOWED, "").split():
        pytest.skip(f"{why} ({ALLOWED} allows that)")
    pytest.fail(f"{why}; or set {ALLOWED}={name} to go without")
