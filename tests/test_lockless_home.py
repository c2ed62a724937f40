"""A home on a file system without file locks: every door says so, with the path and what to do."""

import errno
import fcntl
import json
import os
import re
import subprocess
from typing import Any

import pytest

from clinvk_command import MOST_SECS
from fakes import lockless
from fakes.fixtures import world
from fakes.world import World
from gateway_fakes.server import gateway
from mcp_fakes.raw_client import started

__all__ = ["world"]


def run(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*lockless.COMMAND, *words],
        env=world.environ,
        cwd=world.workdir,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=MOST_SECS,
        check=False,
    )


def check(world: World, error: dict[str, Any]) -> None:
    """It is the error that is meant, and nothing was begun."""
    assert error["code"] == "internal"
    assert re.fullmatch(f"cannot lock {world.home}/\\S+\\.lock: No locks available", error["message"])
    assert "CLINVK_HOME" in error["hint"]
    assert "file locks" in error["hint"]
    for name in ("runs", "sessions"):
        assert not (world.home / name).exists() or list((world.home / name).iterdir()) == []
    assert world.calls() == []


@pytest.mark.parametrize(
    "words",
    [
        ("hello", "-b", "claude"),
        ("compare", "hello", "--backends", "claude,codex"),
        ("keys", "create", "laptop"),
        ("config", "set", "default_backend", "claude"),
    ],
)
def test_the_command_says_so(world: World, words: tuple[str, ...]) -> None:
    done = run(world, *words)
    assert (done.returncode, done.stdout) == (3 if words[0] == "config" else 1, "")
    assert f"{world.home}/" in done.stderr
    assert "No locks available" in done.stderr
    assert "its file system seems to have no file locks" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(world.home.glob("*.json"))


def test_the_doctor_says_so(world: World) -> None:
    report = json.loads(run(world, "doctor", "-o", "json").stdout)
    (storage,) = [each for each in report["checks"] if each["name"] == "storage"]
    assert (report["status"], storage["state"]) == ("storage", "error")
    check(world, {"code": "internal", "message": storage["detail"], "hint": storage["fix"]})


@pytest.mark.anyio
async def test_the_mcp_server_says_so(world: World) -> None:
    async with started((*lockless.COMMAND, "mcp"), env=world.environ, cwd=world.workdir) as client:
        await client.initialize()
        await client.call(1, "prompt", {"prompt": "hello", "backend": "claude"})
        result = (await client.answer(1))["result"]
        await client.close_stdin()
    assert result["isError"] is True
    check(world, result["structuredContent"]["error"])


@pytest.mark.anyio
async def test_the_gateway_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    async with gateway(world) as server:
        answer = await server.post("/api/v1/prompt", {"prompt": "hello", "backend": "claude"})
        chain = await server.post("/api/v1/chain", {"steps": [{"prompt": "hello", "backend": "claude"}]})
        health = await server.client.get("/health")
    assert (answer.status_code, chain.status_code, health.status_code) == (500, 500, 503)
    check(world, answer.json()["error"])
    check(world, chain.json()["error"])
    assert health.json()["reason"].startswith("the session store cannot be read and written")
