"""Which options a turn has: the call's, its session's, the configuration's; and what becomes of a tightened one."""

from typing import Any

import pytest

from clinvk.errors import ClinvkError
from fakes.calls import ask
from fakes.world import World

pytestmark = pytest.mark.anyio


async def argv_of_the_next_turn(
    world: World, *, first: dict[str, Any], then: dict[str, Any], named: dict[str, Any] | None = None
) -> list[str]:
    """The argv of a second turn that names nothing, on Claude Code; `first` and `then` are the configurations."""
    async with world.app(**first) as app:
        begun = await ask(app, world, "one", backend="claude", **(named or {}))
    async with world.app(**then) as app:
        second = await ask(app, world, "two", session_id=begun.session_id)
    assert second.error is None
    argv: list[str] = world.calls()[-1]["argv"]
    return argv


READ_ONLY = "--tools=Read,Grep,Glob"


@pytest.mark.parametrize("before", ["default", "workspace", "full"])
async def test_a_sandbox_that_was_tightened_since_holds_older_sessions_as_well(world: World, before: str) -> None:
    argv = await argv_of_the_next_turn(
        world,
        first={"backends__claude__sandbox_mode": before},
        then={"backends__claude__sandbox_mode": "read-only"},
    )
    assert READ_ONLY in argv


async def test_an_approval_that_was_tightened_since_holds_older_sessions_as_well(world: World) -> None:
    argv = await argv_of_the_next_turn(
        world, first={"unified_flags__approval_mode": "auto"}, then={"unified_flags__approval_mode": "none"}
    )
    assert "--permission-mode=dontAsk" in argv


async def test_a_looser_configuration_loosens_no_session(world: World) -> None:
    argv = await argv_of_the_next_turn(
        world,
        first={"unified_flags__sandbox_mode": "read-only", "unified_flags__max_turns": 2},
        then={"unified_flags__sandbox_mode": "full", "unified_flags__max_turns": 9},
    )
    assert READ_ONLY in argv
    assert "--max-turns=2" in argv


async def test_fewer_turns_hold_older_sessions_as_well(world: World) -> None:
    argv = await argv_of_the_next_turn(world, first={}, then={"unified_flags__max_turns": 3})
    assert "--max-turns=3" in argv


async def test_what_a_caller_named_stays_as_it_was_named(world: World) -> None:
    argv = await argv_of_the_next_turn(
        world,
        first={},
        then={"unified_flags__sandbox_mode": "read-only", "unified_flags__max_turns": 3},
        named={"sandbox_mode": "workspace", "max_turns": 7},
    )
    assert "--restricted" in argv
    assert "--max-turns=7" in argv


async def test_a_default_that_a_caller_named_bounds_nothing_and_so_yields(world: World) -> None:
    argv = await argv_of_the_next_turn(
        world,
        first={},
        then={"unified_flags__sandbox_mode": "read-only"},
        named={"sandbox_mode": "default"},
    )
    assert READ_ONLY in argv


async def test_tools_and_flags_are_those_that_the_configuration_names_now(world: World) -> None:
    argv = await argv_of_the_next_turn(
        world,
        first={"backends__claude__allowed_tools": ["Bash"], "backends__claude__extra_flags": ["--effort=max"]},
        then={"backends__claude__allowed_tools": ["Read"], "backends__claude__extra_flags": ["--effort=low"]},
        named={"extra": ["--betas=x"]},
    )
    assert [word for word in argv if word.startswith(("--allowedTools", "--effort", "--betas"))] == [
        "--allowedTools=Read",
        "--effort=low",
        "--betas=x",
    ]


async def test_the_flag_that_was_named_last_wins_however_often_it_changed(world: World) -> None:
    async with world.app(backends__claude__extra_flags=["--effort=high"]) as app:
        begun = await ask(app, world, "one", backend="claude", extra=["--effort=low"])
        await ask(app, world, "two", session_id=begun.session_id, extra=["--effort=high"])
        await ask(app, world, "three", session_id=begun.session_id)
    said = [[word for word in call["argv"] if word.startswith("--effort")][-1] for call in world.calls()]
    assert said == ["--effort=low", "--effort=high", "--effort=high"]


@pytest.mark.parametrize("backend", ["codex", "gemini"])
@pytest.mark.parametrize("how", ["named", "configured"])
async def test_turns_that_only_the_session_limits_are_told_of_where_they_cannot_be_counted_and_come_back(
    world: World, backend: str, how: str
) -> None:
    async with world.app(**({"unified_flags__max_turns": 3} if how == "configured" else {})) as app:
        named: dict[str, Any] = {"max_turns": 3} if how == "named" else {}
        begun = await ask(app, world, "one", backend="claude", sandbox_mode="read-only", **named)
    async with world.app() as app:
        handed = await ask(app, world, "two", backend=backend, session_id=begun.session_id)
        stays = await ask(app, world, "three", session_id=begun.session_id)
        back = await ask(app, world, "four", backend="claude", session_id=begun.session_id)
    for result in (handed, stays):
        assert (result.status, result.backend, result.error) == ("completed", backend, None)
        (told,) = [warning for warning in result.warnings if "max_turns" in warning]
        assert told.startswith(f"max_turns=3, which this session keeps, is not enforced: {backend} cannot limit")
    assert [warning for warning in back.warnings if "max_turns" in warning] == []
    assert {"--max-turns=3", READ_ONLY} <= set(world.calls("claude")[-1]["argv"])


@pytest.mark.parametrize("where", ["call", "configuration"])
async def test_turns_that_are_limited_now_are_refused_where_they_cannot_be_counted(world: World, where: str) -> None:
    async with world.app() as app:
        begun = await ask(app, world, "one", backend="claude", max_turns=3)
    async with world.app(**({"unified_flags__max_turns": 5} if where == "configuration" else {})) as app:
        named: dict[str, Any] = {"max_turns": 5} if where == "call" else {}
        with pytest.raises(ClinvkError) as refused:
            await ask(app, world, "two", backend="codex", session_id=begun.session_id, **named)
    failure = refused.value.failure
    field = {"field": "max_turns"} if where == "call" else {}  # only what the caller gave is one of its fields
    assert (failure.code, failure.details) == ("unsupported_option", {"option": "max_turns", "value": 5, **field})
    assert ("unified_flags.max_turns" in (failure.hint or "")) == (where == "configuration")


async def test_a_sandbox_that_the_session_keeps_is_never_given_up(world: World) -> None:
    async with world.app(unified_flags__sandbox_mode="read-only") as app:
        begun = await ask(app, world, "one", backend="claude", max_turns=3)
    async with world.app() as app:
        await ask(app, world, "two", backend="codex", session_id=begun.session_id)
    assert [word for word in world.calls("codex")[-1]["argv"] if "read-only" in word]
