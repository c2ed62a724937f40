"""What the tests of the backends share."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clinvk.backends.base import Installation, Turn

NEW_ID = "0f0d5ad9-3a4c-4a5b-9d6e-8f7a6b5c4d3e"
OLD_ID = "a5d0f1c7-1b67-58f2-984d-a1f85b7384c8"


@pytest.fixture
def turn(tmp_path: Path) -> Callable[..., Turn]:
    """Makes turns in a fresh workdir."""
    workdir, scratch = tmp_path / "work", tmp_path / "scratch"
    workdir.mkdir()
    scratch.mkdir()
    plain = Turn(prompt="What is the answer?", workdir=workdir, scratch=scratch, new_id=NEW_ID)

    def make(**changes: Any) -> Turn:
        return replace(plain, **changes)

    return make


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """An installation without settings."""
    settings = tmp_path / "settings"
    settings.mkdir()
    return Installation(program=("the-cli",), path=Path("/bin/the-cli"), found_by="test", settings=settings)
