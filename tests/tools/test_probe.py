"""The flags that clinvk uses, against the pinned real CLIs: an update that drops one is found here."""

import os
from pathlib import Path

import anyio
import pytest

from clinvk.backends import claude, codex, registry
from clinvk.config.cascade import load
from clinvk.errors import Failure
from clinvk.tools import probe
from clinvk.tools.app import opened
from standin.environment import base_environment


def _without_root(failures: list[Failure]) -> list[Failure]:
    """Without what only root hears: Claude Code lets it do without permissions in no way."""
    return [failure for failure in failures if os.geteuid() != 0 or "root" not in failure.message]


@pytest.mark.parametrize("name", list(registry.BACKENDS))
@pytest.mark.anyio
async def test_the_pinned_clis_take_every_flag(name: str, tmp_path: Path) -> None:
    env = base_environment(tmp_path / "home") | {"CLINVK_HOME": str(tmp_path / "clinvk")}
    loaded = load(env, known_backends=registry.BACKENDS)
    with anyio.fail_after(60):
        async with opened(loaded, env) as app:
            backend = registry.BACKENDS[name]
            failures = await probe.rejected(app, backend, app.installation(backend))
    assert _without_root(failures) == []


@pytest.mark.anyio
async def test_the_node_of_a_script_is_told_and_a_native_program_has_none(tmp_path: Path) -> None:
    env = base_environment(tmp_path / "home") | {"CLINVK_HOME": str(tmp_path / "clinvk")}
    with anyio.fail_after(60):
        async with opened(load(env, known_backends=registry.BACKENDS), env) as app:
            found = {name: app.installation(backend) for name, backend in registry.BACKENDS.items()}
            node = await probe.node_version(app, found["gemini"])
            assert node is not None
            assert node[1] >= probe.OLDEST_NODE
            assert await probe.node_version(app, found["claude"]) is None


@pytest.mark.anyio
async def test_a_setting_that_an_update_of_codex_dropped_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codex, "WORKSPACE", ("--config=sandbox_workspace_write.exclude_all_temporary=true",))
    env = base_environment(tmp_path / "home") | {"CLINVK_HOME": str(tmp_path / "clinvk")}
    with anyio.fail_after(60):
        async with opened(load(env, known_backends=registry.BACKENDS), env) as app:
            [failure] = await probe.rejected(app, codex, app.installation(codex))
    assert failure.code == "backend_changed"
    assert failure.details["flag"] == "sandbox_workspace_write.exclude_all_temporary"


@pytest.mark.anyio
async def test_the_means_to_ask_and_the_configured_flags_are_checked_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claude, "PROMPT_TOOL", "--permission-prompts-to=stdio")
    env = base_environment(tmp_path / "home") | {"CLINVK_HOME": str(tmp_path / "clinvk")}
    flags = {"backends.claude.extra_flags": ["--effort=high", "--fallback-model="]}
    with anyio.fail_after(60):
        async with opened(load(env, known_backends=registry.BACKENDS), env) as app:
            [unknown] = _without_root(await probe.rejected(app, claude, app.installation(claude)))
        async with opened(load(env, known_backends=registry.BACKENDS, flags=flags), env) as app:
            [refused] = await probe.rejected(app, claude, app.installation(claude))
    assert (unknown.code, unknown.details["flag"]) == ("backend_changed", "--permission-prompts-to")
    assert (refused.code, refused.details["value"]) == ("invalid_request", "--fallback-model=")
