"""Schemathesis makes requests from /openapi.json, good and bad; no answer may break the document or be clinvk's fault.

Most prompts find no backend (503), which is honest; the events of runs, streams without an end, are left out.
"""

import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from fakes.world import World
from gateway_fakes.server import served

pytestmark = pytest.mark.anyio

CHECKS = "status_code_conformance,content_type_conformance,response_schema_conformance"
SECS = 240


async def test_the_api_keeps_to_its_document(world: World, tmp_path: Path) -> None:
    flags = [f"backends.{name}.enabled=false" for name in ("claude", "codex", "gemini")]
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", "--checks", CHECKS, "--seed", "1",
        "--max-examples", "15", "--phases", "examples,coverage,fuzzing", "--generation-deterministic",
        "--exclude-path-regex", "/events$", "--request-timeout", "60", "--no-color",
    ]  # fmt: skip
    with anyio.fail_after(SECS):
        async with served(world, *flags, "server.request_timeout_secs=30") as server:
            ended = await anyio.run_process(
                [*command, f"{server.url}/openapi.json"],
                stderr=subprocess.STDOUT,
                check=False,
                cwd=tmp_path,
                env={**os.environ, "HOME": str(tmp_path)},
            )
    assert ended.returncode == 0, ended.stdout.decode()[-6000:]
    assert server.log.count(b'"level": "info"') > 500
    assert b" 500" not in server.log
    assert b'"level": "error"' not in server.log
