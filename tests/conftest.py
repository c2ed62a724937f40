"""Shared fixtures: every test gets its own home, and the default one is out of reach."""

import signal
from pathlib import Path

import pytest

# A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Each takes about a minute by itself: begun last, one worker would be at it when the others have ended.
LONGEST = ("test_benchmarks.py", "test_schemathesis.py", "test_shared_home.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh HOME and CLINVK_HOME, so that nothing of the developer's is read or written."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CLINVK_HOME", str(home / ".clinvk"))
    return home
