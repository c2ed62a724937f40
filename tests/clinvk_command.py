"""The command `clinvk` as a process of its own: of this checkout, or the one that CLINVK_TEST_COMMAND names."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COMMAND = (
    (os.environ["CLINVK_TEST_COMMAND"],) if "CLINVK_TEST_COMMAND" in os.environ else (sys.executable, "-m", "clinvk")
)
MOST_SECS = 120.0  # far more than anything takes
AGENTS = ("claude", "codex", "gemini")
# A developer's own CLIs, wherever they are installed, have no say in what a test finds.
NO_AGENTS = {f"CLINVK_BACKENDS__{name.upper()}__ENABLED": "false" for name in AGENTS}


def environment(**more: str) -> dict[str, str]:
    """Little more than a desktop gives to what it starts; HOME is the test's."""
    return {"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"], "LANG": "C.UTF-8", **more}


def clinvk(
    *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it to its end, with nothing on standard input."""
    return subprocess.run(
        [*COMMAND, *words],
        env=environment(**NO_AGENTS) if env is None else env,
        cwd=cwd or os.environ["HOME"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=MOST_SECS,
        check=False,
    )


def answered(done: subprocess.CompletedProcess[str]) -> Any:
    """The JSON on standard output."""
    return json.loads(done.stdout)
