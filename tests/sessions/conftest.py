"""A store in a fresh home."""

from pathlib import Path

import pytest

from clinvk.sessions.store import SessionStore


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "clinvk-home"


@pytest.fixture
def store(home: Path) -> SessionStore:
    return SessionStore(home)
