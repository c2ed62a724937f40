"""The fixtures of tests that run prompts; a folder's conftest imports them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.world import World, create


@pytest.fixture
def world(tmp_path: Path, private_home: Path) -> Iterator[World]:
    made = create(tmp_path / "world", private_home)
    yield made
    made.processes.kill()
