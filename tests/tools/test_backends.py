"""What the tool `backends` says of this machine."""

import os

import anyio
import pytest

from clinvk.request import PromptRequest
from clinvk.response import BackendInfo, PromptResult
from clinvk.tools import backends, prompt
from clinvk.tools.app import App
from fakes import agent
from fakes.world import World

pytestmark = pytest.mark.anyio


async def by_name(app: App) -> dict[str, BackendInfo]:
    return {info.name: info for info in (await backends.backends(app)).backends}


async def test_each_backend_is_shown_with_its_version_path_and_what_it_can_enforce(world: World) -> None:
    async with world.app() as app:
        result = await backends.backends(app)
    infos = {info.name: info for info in result.backends}
    assert list(infos) == ["claude", "codex", "gemini", "offline"]
    versions = {name: infos[name].version for name in agent.VERSIONS}
    assert versions == {"claude": "2.1.329", "codex": "0.169.0", "gemini": "0.61.0"}
    for name in agent.VERSIONS:
        info = infos[name]
        assert (info.available, info.path, info.found_by) == (True, str(world.bin / name), "PATH")
        assert {"default", "read-only"} <= set(info.sandbox_modes)
        assert "always" not in info.approval_modes or name == "claude"
    assert result.default_backend == "claude"
    assert (result.limits["running"], result.limits["waiting"]) == (0, 0)


async def test_a_version_is_asked_again_only_when_the_program_changed(world: World) -> None:
    async with world.app() as app:
        await by_name(app)
    program = world.bin / "claude"
    counted = world.root / "asked"
    program.write_text(f"#!/bin/sh\necho asked >>{counted}\necho '3.0.0 (Claude Code)'\n", encoding="utf-8")
    for _ in range(2):
        async with world.app() as app:
            assert (await by_name(app))["claude"].version == "3.0.0"
    assert counted.read_text(encoding="utf-8") == "asked\n"


@pytest.mark.parametrize("script", ["exit 1", "echo something else", "kill -9 $$", "echo '\\377\\376'", ": >&1"])
async def test_a_program_that_is_not_what_its_name_says_is_told_apart(world: World, script: str) -> None:
    (world.bin / "codex").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    async with world.app() as app:
        info = (await by_name(app))["codex"]
    assert info.version is None
    assert str(world.bin / "codex") in (info.hint or "")


async def test_a_program_that_does_not_answer_is_stopped_and_named_and_holds_up_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    up, never = world.fifo("up"), world.fifo("never")
    hanging = f"#!/bin/sh\ntrap '' TERM\necho '{{\"pid\": '$$'}}' >{up}\nread x <{never}\n"
    (world.bin / "codex").write_text(hanging, encoding="utf-8")
    infos: dict[str, BackendInfo] = {}

    async def look(app: App) -> None:
        infos.update(await by_name(app))

    async with world.app() as app, anyio.create_task_group() as tasks:
        tasks.start_soon(look, app)
        world.processes.watch("codex", (await up.reached())["pid"])
        result = await prompt.prompt(app, PromptRequest(prompt="hi", backend="claude"), world.caller())
        assert isinstance(result, PromptResult)
        assert (result.status, infos) == ("completed", {})
        tasks.cancel_scope.cancel()
    await world.processes.ended()
    monkeypatch.setattr("clinvk.tools.backends.VERSION_SECS", 0.2)
    (world.bin / "codex").write_text(f"#!/bin/sh\nread x <{never}\n", encoding="utf-8")
    async with world.app() as app:
        await look(app)
    assert (infos["codex"].available, infos["codex"].version) == (True, None)
    assert "did not answer --version within 0.2 s, and was stopped" in (infos["codex"].hint or "")


async def test_a_backend_that_is_switched_off_or_not_there_says_what_to_do(world: World) -> None:
    (world.bin / "gemini").unlink()
    world.environ["PATH"] = str(world.bin) + os.pathsep + "/usr/bin"
    async with world.app(backends__codex__enabled=False) as app:
        infos = await by_name(app)
    assert (infos["codex"].available, infos["codex"].enabled) == (False, False)
    assert "set backends.codex.enabled to true" in (infos["codex"].hint or "")
    assert (infos["gemini"].available, infos["gemini"].version) == (False, None)
    assert "install" in (infos["gemini"].hint or "")


async def test_a_login_is_seen_without_starting_anything(world: World) -> None:
    async with world.app() as app:
        assert (await by_name(app))["claude"].login == "logged_out"
    world.environ["ANTHROPIC_API_KEY"] = "sk-secret"
    async with world.app() as app:
        info = (await by_name(app))["claude"]
    assert (info.login, info.login_detail) == ("logged_in", "ANTHROPIC_API_KEY")
    assert "sk-secret" not in info.model_dump_json()


async def test_offline_is_the_default_of_nobody(world: World) -> None:
    for name in agent.VERSIONS:
        (world.bin / name).unlink()
    async with world.app() as app:
        result = await backends.backends(app)
    assert result.default_backend is None
