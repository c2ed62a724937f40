"""One prompt: its answer, how long a call waits, and the session that it belongs to."""

import json
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from clinvk.events import Event, RunFinished
from clinvk.request import PromptRequest, RunsRequest, SessionEditRequest, SessionsRequest
from clinvk.response import PromptResult
from clinvk.tools import prompt, runs, sessions
from fakes import agent
from fakes.calls import ask, refusal
from fakes.world import PATIENCE_SECS, World

pytestmark = pytest.mark.anyio


# What comes back


@pytest.mark.parametrize("backend", ["claude", "codex", "gemini"])
async def test_an_answer_comes_with_all_that_is_known_of_it(world: World, backend: str) -> None:
    async with world.app() as app:
        result = await ask(app, world, "hello", backend=backend)
        listed = await sessions.sessions(app, SessionsRequest(action="show", session_id=result.session_id))
    assert (result.status, result.output, result.backend, result.exit_code) == ("completed", "echo: hello", backend, 0)
    assert (result.token_usage.input_tokens, result.token_usage.cached_tokens) == (12, 2)
    assert (result.partial, result.output_truncated, result.output_chars) == (False, False, 11)
    assert result.error is None
    assert result.warnings == []
    assert listed.session is not None
    assert (listed.session.turn_count, listed.session.working_dir) == (1, str(world.workdir))
    assert listed.turns is not None
    assert [(turn.prompt, turn.output, turn.run_id) for turn in listed.turns] == [
        ("hello", "echo: hello", result.run_id)
    ]


async def test_a_failure_is_a_result_with_its_partial_output(world: World) -> None:
    async with world.app() as app:
        text = agent.prompt({"say": "I was about to"}, {"fail": "API Error: 529 overloaded"})
        result = await ask(app, world, text, backend="gemini")
    assert (result.status, result.partial, result.output) == ("failed", True, "I was about to")
    assert result.error is not None
    assert (result.error.backend, result.error.code in ("backend_error", "overloaded", "rate_limited")) == (
        "gemini",
        True,
    )


async def test_a_long_answer_is_cut_and_the_rest_is_one_call_away(world: World) -> None:
    async with world.app(output__max_chars=1000) as app:
        result = await ask(app, world, agent.prompt({"chars": 300_000}), backend="claude")
        rest = await runs.runs(
            app, RunsRequest(action="output", run_id=result.run_id, offset=1000, limit=200_000), world.caller()
        )
        last = await runs.runs(
            app, RunsRequest(action="output", run_id=result.run_id, offset=rest.next_offset or 0, limit=200_000),
            world.caller(),
        )  # fmt: skip
    assert (len(result.output), result.output_truncated, result.output_chars) == (1000, True, 300_000)
    assert (len(rest.text or ""), rest.next_offset) == (200_000, 201_000)
    assert (len(last.text or ""), last.next_offset) == (99_000, None)


# Waiting


async def test_a_call_that_waits_no_longer_gets_the_id_and_the_result_later(world: World) -> None:
    go = world.fifo("go")
    async with world.app() as app:
        text = agent.prompt({"wait": str(go)}, {"answer": "late"})
        running = await ask(app, world, text, backend="claude", wait_secs=0)
        assert (running.status, running.partial, running.error) == ("running", True, None)
        await go.release()
        with anyio.fail_after(PATIENCE_SECS):
            found = await runs.runs(app, RunsRequest(action="wait", run_id=running.run_id[:8]), world.caller())
    assert isinstance(found.result, PromptResult)
    assert (found.result.output, found.result.session_id) == ("late", running.session_id)


async def test_the_same_request_again_finds_the_run_instead_of_doing_it_twice(world: World) -> None:
    go = world.fifo("go")
    async with world.app() as app:
        text = agent.prompt({"wait": str(go)}, {"answer": "once"})
        first = await ask(app, world, text, backend="claude", wait_secs=0)
        other = await ask(app, world, text, world.caller(client="another"), backend="offline", wait_secs=0, fresh=True)
        again = await ask(app, world, text, backend="claude", wait_secs=0)
        await go.release()
        last = await ask(app, world, text, backend="claude", wait_secs=PATIENCE_SECS)
    assert first.run_id == again.run_id == last.run_id != other.run_id
    assert (last.status, last.output) == ("completed", "once")
    assert [warning for warning in again.warnings if "fresh=true" in warning]
    assert len(world.calls()) == 1


async def test_a_call_whose_client_goes_away_is_cancelled_with_all_its_processes(world: World) -> None:
    up = world.fifo("up")
    told: dict[str, Any] = {}
    async with world.app() as app, anyio.create_task_group() as tasks:
        steps: list[agent.Step] = [{"ignore": True}, {"spawn": [*agent.KINDS]}, {"reach": str(up)}, {"hang": True}]
        tasks.start_soon(ask, app, world, agent.prompt(*steps))
        told |= await up.reached()
        world.processes.watch_agent(told)
        tasks.cancel_scope.cancel()
    await world.processes.ended()
    async with world.app() as app:
        found = await runs.runs(app, RunsRequest(action="status", run_id=told["run"]), world.caller())
    assert found.run is not None
    assert found.run.status == "cancelled"


async def test_a_handed_out_run_does_not_mind_that_its_client_goes_away(world: World) -> None:
    go = world.fifo("go")
    async with world.app() as app:
        text = agent.prompt({"wait": str(go)}, {"answer": "late"})
        running = await ask(app, world, text, backend="claude", wait_secs=0)
        with anyio.move_on_after(0):
            await runs.runs(app, RunsRequest(action="wait", run_id=running.run_id), world.caller())
        await go.release()
        with anyio.fail_after(PATIENCE_SECS):
            found = await runs.runs(app, RunsRequest(action="wait", run_id=running.run_id), world.caller())
    assert isinstance(found.result, PromptResult)
    assert found.result.status == "completed"


async def test_a_flag_that_an_update_dropped_is_told_with_version_and_remedy(world: World) -> None:
    (world.bin / "claude").write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo '9.0.0 (Claude Code)' && exit\n"
        "echo \"error: unknown option '--verbose'\" >&2\nexit 1\n",
        encoding="utf-8",
    )
    async with world.app() as app:
        error = (await ask(app, world, "hello", backend="claude")).error
    assert error is not None
    assert (error.code, error.details) == ("backend_changed", {"flag": "--verbose", "version": "9.0.0"})
    assert "9.0.0" in error.message
    assert "claude update" in (error.hint or "")


async def test_another_program_of_the_same_name_is_told_apart(world: World) -> None:
    (world.bin / "gemini").write_text("#!/bin/sh\necho the stars say yes\n", encoding="utf-8")
    async with world.app() as app:
        error = (await ask(app, world, "hello", backend="gemini")).error
    assert error is not None
    assert error.code == "output_unreadable"
    assert f"{world.bin / 'gemini'} does not tell its version: is it Gemini CLI?" in (error.hint or "")


async def test_what_is_told_of_the_program_is_there_with_the_result(world: World) -> None:
    (world.bin / "gemini").write_text("#!/bin/sh\necho the stars say yes\n", encoding="utf-8")
    seen: list[tuple[object, object]] = []
    async with world.app() as app:

        def hear(run_id: str, _backend: str, event: Event) -> None:
            if isinstance(event, RunFinished):
                saved = app.runs.result(run_id)
                assert saved is not None
                assert event.error is not None
                seen.append((saved["error"]["hint"], event.error.hint))

        request = PromptRequest(prompt="hello", backend="gemini")
        result = await prompt.prompt(app, request, world.caller(hear))
    assert isinstance(result, PromptResult)
    assert result.error is not None
    assert seen == [(result.error.hint, result.error.hint)]


@pytest.mark.parametrize("wait_secs", [0, PATIENCE_SECS], ids=["handed out", "waited for"])
async def test_what_a_program_wrote_that_was_removed_meanwhile_is_kept(world: World, wait_secs: float) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    text = agent.prompt({"say": "so far"}, {"reach": str(up)}, {"wait": str(go)}, {"exit": 0})
    results: list[PromptResult] = []
    async with world.app() as app:

        async def wait() -> None:
            results.append(await ask(app, world, text, backend="claude", wait_secs=wait_secs))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await up.reached()
            (world.bin / "claude").unlink()
            await go.release()
        shown = await runs.runs(app, RunsRequest(action="wait", run_id=results[0].run_id), world.caller())
    assert isinstance(shown.result, PromptResult)
    assert (shown.result.output, shown.result.error and shown.result.error.code) == ("so far", "output_unreadable")


# Sessions


@pytest.mark.parametrize("backend", ["claude", "codex", "gemini"])
async def test_a_session_is_resumed_in_the_backends_own_way(world: World, backend: str) -> None:
    async with world.app() as app:
        first = await ask(app, world, "one", backend=backend)
        second = await ask(app, world, "two", session_id=first.session_id[:8] if first.session_id else None)
    assert (second.status, second.backend, second.session_id) == ("completed", backend, first.session_id)
    begun, resumed = world.calls(backend)
    native = [word for word in resumed["argv"] if "resume" in word]
    assert native
    assert not [word for word in begun["argv"] if "resume" in word]
    assert resumed["prompt"].strip() == "two"


async def test_another_backend_gets_the_transcript_and_the_result_says_so(world: World) -> None:
    async with world.app() as app:
        first = await ask(app, world, "remember the word turnip", backend="claude")
        second = await ask(app, world, "which word?", backend="codex", session_id=first.session_id)
        third = await ask(app, world, "and now?", session_id=first.session_id)
    assert second.session_id == third.session_id == first.session_id
    assert (second.backend, third.backend) == ("codex", "codex")
    [handed, native] = world.calls("codex")
    assert "remember the word turnip" in handed["prompt"]
    assert "which word?" in handed["prompt"]
    assert [warning for warning in second.warnings if "handed over from claude to codex" in warning]
    assert native["prompt"] == "and now?"


async def test_a_session_of_another_backend_is_bound_by_the_configuration_of_the_new_one(world: World) -> None:
    settings = {"backends__claude__allowed_tools": ["Read"], "backends__codex__sandbox_mode": "read-only"}
    async with world.app(**settings) as app:
        first = await ask(app, world, "one", backend="claude")
        await ask(app, world, "two", backend="codex", session_id=first.session_id)
    [call] = world.calls("codex")
    assert "--sandbox=read-only" in call["argv"]


async def test_a_stricter_mode_goes_with_the_session_to_another_backend(world: World) -> None:
    async with world.app(backends__codex__sandbox_mode="full") as app:
        first = await ask(app, world, "one", backend="claude", sandbox_mode="read-only")
        await ask(app, world, "two", backend="codex", session_id=first.session_id)
    [call] = world.calls("codex")
    assert "--sandbox=read-only" in call["argv"]


async def test_a_session_is_busy_while_its_first_turn_runs(world: World) -> None:
    going = world.fifo("going")
    async with world.app() as app, world.app() as other:
        first = await ask(app, world, agent.prompt({"wait": str(going)}), wait_secs=0)
        assert first.session_id is not None
        failure = await refusal(other, world, session_id=first.session_id)
        await going.release()
    assert (failure.code, failure.retryable) == ("session_busy", True)
    assert first.run_id in (failure.hint or "")


async def test_a_handover_that_fails_leaves_the_session_where_it_was(world: World) -> None:
    async with world.app() as app:
        first = await ask(app, world, "one", backend="claude")
        agent.decide(world.bin, "gemini", {"exit": 1})
        (world.bin / "gemini").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
        second = await ask(app, world, "two", backend="gemini", session_id=first.session_id)
        third = await ask(app, world, "three", session_id=first.session_id)
    assert second.status == "failed"
    assert (third.status, third.backend) == ("completed", "claude")
    assert [word for word in world.calls()[-1]["argv"] if "resume" in word]


async def test_a_session_keeps_its_options_and_workdir(world: World) -> None:
    below = world.workdir / "below"
    below.mkdir()
    options: dict[str, Any] = {
        "model": "opus",
        "sandbox_mode": "read-only",
        "approval_mode": "none",
        "system_prompt": "be brief",
    }
    async with world.app() as app:
        first = await ask(app, world, "one", backend="claude", workdir="below", max_turns=3, **options)
        await ask(app, world, "two", session_id=first.session_id)
    one, two = world.calls()
    assert one["cwd"] == two["cwd"] == str(below)
    for flag in ("--model=opus", "--permission-mode=dontAsk", "--tools=Read,Grep,Glob", "--max-turns=3"):
        assert flag in one["argv"]
        assert flag in two["argv"]
    assert [word for word in two["argv"] if word.startswith("--append-system-prompt")]


async def test_a_session_of_another_directory_is_refused(world: World) -> None:
    (world.workdir / "below").mkdir()
    async with world.app() as app:
        first = await ask(app, world, "one", backend="claude")
        failure = await refusal(app, world, session_id=first.session_id, workdir="below")
    assert (failure.code, failure.details["field"]) == ("invalid_request", "workdir")
    assert str(world.workdir) in failure.message


async def test_an_unknown_session_is_refused(world: World) -> None:
    async with world.app() as app:
        failure = await refusal(app, world, session_id="feedbeef")
    assert failure.code == "session_not_found"
    assert "feedbeef" in failure.message


async def test_a_session_in_use_is_refused_as_busy(world: World) -> None:
    go = world.fifo("go")
    async with world.app() as app:
        first = await ask(app, world, "one", backend="claude")
        text = agent.prompt({"wait": str(go)})
        running = await ask(app, world, text, session_id=first.session_id, wait_secs=0)
        async with world.app() as other:
            failure = await refusal(other, world, session_id=first.session_id)
        await go.release()
        with anyio.fail_after(PATIENCE_SECS):
            await runs.runs(app, RunsRequest(action="wait", run_id=running.run_id), world.caller())
        after = await ask(app, world, "two", session_id=first.session_id)
    assert (failure.code, failure.retryable) == ("session_busy", True)
    assert running.run_id in failure.message
    assert after.status == "completed"


async def test_an_ephemeral_prompt_keeps_no_session(world: World) -> None:
    async with world.app() as app:
        result = await ask(app, world, "secret", backend="claude", ephemeral=True)
        listed = await sessions.sessions(app, SessionsRequest(action="list"))
    assert (result.session_id, listed.total) == (None, 0)
    assert "--no-session-persistence" in world.calls()[0]["argv"]


async def test_an_ephemeral_prompt_in_a_session_knows_it_and_leaves_it_as_it_was(world: World) -> None:
    async with world.app() as app:
        first = await ask(app, world, "one", backend="claude")
        aside = await ask(app, world, "aside", session_id=first.session_id, ephemeral=True)
        shown = await sessions.sessions(app, SessionsRequest(action="show", session_id=first.session_id))
    assert aside.session_id is None
    assert shown.total == 1
    assert [word for word in world.calls()[-1]["argv"] if "resume" in word]


async def test_metadata_and_tags_are_kept_with_the_session(world: World) -> None:
    async with world.app(session__default_tags=["work"]) as app:
        first = await ask(app, world, "one", backend="claude", tags=["a", "work"], metadata={"k": [1, None]})
        found = await sessions.sessions(app, SessionsRequest(action="list", tag="a"))
        shown = await sessions.sessions(app, SessionsRequest(action="show", session_id=first.session_id))
    assert [one.tags for one in found.sessions] == [["work", "a"]]
    assert shown.metadata == {"k": [1, None]}


async def test_a_session_does_not_go_on_in_another_conversation_that_answered_in_its_place(world: World) -> None:
    other = {"type": "thread.started", "thread_id": "22222222-2222-4222-8222-222222222222"}
    async with world.app() as app:
        first = await ask(app, world, "one", backend="codex")
        stray = agent.prompt({"raw": json.dumps(other) + "\n"}, {"answer": "who are you?"})
        failed = await ask(app, world, stray, session_id=first.session_id)
        await ask(app, world, "three", session_id=first.session_id)
    assert failed.error is not None
    assert (failed.error.code, failed.output) == ("session_lost", "who are you?")
    second, third = world.calls("codex")[1:]
    assert second["argv"][-3:] == third["argv"][-3:]


async def test_tags_and_metadata_of_a_later_prompt_are_added_to_those_of_the_session(world: World) -> None:
    async with world.app(session__default_tags=["work"]) as app:
        first = await ask(app, world, "one", backend="claude", tags=["a"], metadata={"k": 1, "l": 2})
        await sessions.session_edit(
            app, SessionEditRequest(action="untag", session_id=first.session_id or "", tags=["work"])
        )
        await ask(app, world, "two", session_id=first.session_id, tags=["a", " b "], metadata={"l": 3})
        shown = await sessions.sessions(app, SessionsRequest(action="show", session_id=first.session_id))
    assert shown.session is not None
    assert shown.session.tags == ["a", "b"]
    assert shown.metadata == {"k": 1, "l": 3}


@pytest.mark.parametrize("tag", [" ", "two\nlines", "x" * 101])
def test_a_tag_that_could_not_be_typed_again_is_refused(tag: str) -> None:
    with pytest.raises(ValidationError, match="1 to 100 printable characters"):
        PromptRequest(prompt="x", tags=[tag])
