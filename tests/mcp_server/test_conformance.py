"""The official conformance suites against the product's server with the fixtures that they need."""

import json
import re
import sys
from pathlib import Path

import anyio
import pytest

from mcp_fakes.http_server import serving
from mcp_fakes.raw_client import SOURCE, TESTS, environment
from standin.clis import cli_path

pytestmark = pytest.mark.anyio

DEADLINE = 240  # a run takes seconds; the machine may be busy
SERVER = (sys.executable, str(Path(__file__).with_name("conformance_server.py")), "mcp.transport=http", "mcp.port=0")
TOTAL = re.compile(r"^Total: (\d+) passed, (\d+) failed", re.MULTILINE)
# How many checks the pinned suites have; fewer would mean that some were not run.
CHECKS = {"2025-06-18": 56, "2025-11-25": 84, "2026-07-28": 152}
CHECKS_WITH_EXTENSIONS = 234
TASKS = {
    "tasks-capability-negotiation": 5,
    "tasks-dispatch-and-envelope": 9,
    "tasks-lifecycle": 9,
    "tasks-mrtr-composition": 2,
    "tasks-mrtr-input": 4,
    "tasks-request-headers": 5,
    "tasks-request-state-removal": 3,
    "tasks-required-task-error": 3,
    "tasks-status-notifications": 0,  # this suite skips it
    "tasks-wire-fields": 4,
}


async def run_suite(script: Path, url: str, *more: str) -> tuple[int, str]:
    command = [str(cli_path("node")), str(script), "server", "--url", url, "--suite", "all", *more]
    done = await anyio.run_process(command, env=environment(), check=False)
    output = done.stdout.decode()
    total = TOTAL.search(output)
    assert total is not None, output + done.stderr.decode()
    failures = [line for line in output.splitlines() if line.startswith("✗")]
    assert (failures, total[2]) == ([], "0"), output
    return int(total[1]), output


@pytest.mark.parametrize("version", list(CHECKS))
async def test_every_check_of_the_newest_suite_passes(version: str, tmp_path: Path) -> None:
    with anyio.fail_after(DEADLINE):
        async with serving(SERVER, env=environment(PYTHONPATH=f"{SOURCE}:{TESTS}")) as server:
            passed, _ = await run_suite(
                cli_path("conformance"), server.url, "--spec-version", version, "-o", str(tmp_path)
            )
    assert passed == CHECKS[version]
    assert warnings(tmp_path) == []


def warnings(folder: Path) -> list[str]:
    """The checks that passed with a warning."""
    checks = [check for path in folder.glob("*/checks.json") for check in json.loads(path.read_text(encoding="utf-8"))]
    return [check["id"] for check in checks if check["status"] == "WARNING"]


async def test_every_check_of_the_newest_suite_passes_those_of_extensions_included(tmp_path: Path) -> None:
    with anyio.fail_after(DEADLINE):
        async with serving(SERVER, env=environment(PYTHONPATH=f"{SOURCE}:{TESTS}")) as server:
            passed, output = await run_suite(cli_path("conformance"), server.url, "-o", str(tmp_path))
    assert passed == CHECKS_WITH_EXTENSIONS
    tasks = re.findall(r"^✓ (tasks-[a-z-]+): (\d+) passed", output, re.MULTILINE)
    assert {name: int(number) for name, number in tasks} == TASKS


async def test_every_check_of_the_released_suite_passes() -> None:
    with anyio.fail_after(DEADLINE):
        async with serving(SERVER, env=environment(PYTHONPATH=f"{SOURCE}:{TESTS}")) as server:
            passed, _ = await run_suite(cli_path("conformance-v0"), server.url)
    assert passed == 44
