"""Sessions as callers read and edit them."""

from typing import Any

import pytest

from clinvk.errors import ClinvkError
from clinvk.request import PromptRequest, SessionEditRequest, SessionsRequest
from clinvk.response import PromptResult, SessionEditResult, SessionsResult
from clinvk.tools import prompt, sessions
from clinvk.tools.app import App
from fakes import agent
from fakes.world import World

pytestmark = pytest.mark.anyio


async def ask(app: App, world: World, text: str, **options: Any) -> PromptResult:
    request = PromptRequest.model_validate({"prompt": text, **options})
    result = await prompt.prompt(app, request, world.caller())
    assert isinstance(result, PromptResult)
    return result


async def read(app: App, action: str, **more: Any) -> SessionsResult:
    return await sessions.sessions(app, SessionsRequest.model_validate({"action": action, **more}))


async def edit(app: App, action: str, session_id: str | None, **more: Any) -> SessionEditResult:
    request = SessionEditRequest.model_validate({"action": action, "session_id": session_id, **more})
    return await sessions.session_edit(app, request)


async def test_sessions_are_listed_newest_first_by_page_and_filter(world: World) -> None:
    (world.workdir / "below").mkdir()
    async with world.app() as app:
        one = await ask(app, world, "about turnips", backend="claude", tags=["garden"])
        two = await ask(app, world, "about ships", backend="codex", workdir="below")
        three = await ask(app, world, agent.prompt({"say": "so far"}, {"fail": "it broke"}), backend="gemini")
        every = await read(app, "list")
        page = await read(app, "list", limit=1, offset=1)
        filters: list[dict[str, Any]] = [
            {"backend": "codex"},
            {"tag": "garden"},
            {"workdir": str(world.workdir / "below")},
            {"status": "failed"},
            {"query": "turnips"},
        ]
        found = [[one.id for one in (await read(app, "list", **each)).sessions] for each in filters]
    assert [one.id for one in every.sessions] == [three.session_id, two.session_id, one.session_id]
    assert ([one.id for one in page.sessions], page.total, page.limit, page.offset) == ([two.session_id], 3, 1, 1)
    assert found == [[two.session_id], [one.session_id], [two.session_id], [three.session_id], [one.session_id]]


async def test_words_are_found_in_prompts_and_answers(world: World) -> None:
    async with world.app() as app:
        one = await ask(app, world, agent.prompt({"answer": "the rutabaga is ripe"}), backend="claude")
        await ask(app, world, "nothing of the kind", backend="claude")
        found = await read(app, "search", query="rutabaga ripe")
    assert [(hit.id, "rutabaga" in (hit.snippet or "")) for hit in found.sessions] == [(one.session_id, True)]


async def test_a_session_is_shown_with_a_page_of_its_turns(world: World) -> None:
    async with world.app() as app:
        first = await ask(app, world, "turn 1", backend="claude")
        for number in (2, 3):
            await ask(app, world, f"turn {number}", session_id=first.session_id)
        shown = await read(app, "show", session_id=first.session_id, offset=1, limit=1)
    assert shown.session is not None
    assert shown.turns is not None
    assert (shown.total, shown.session.turn_count, shown.initial_prompt) == (3, 3, "turn 1")
    assert [(turn.number, turn.prompt, turn.output, turn.status) for turn in shown.turns] == [
        (2, "turn 2", "echo: turn 2", "completed")
    ]
    assert shown.session.token_usage.input_tokens == 36
    assert shown.backend_session_id


async def test_long_turns_are_cut_where_a_session_is_shown(world: World) -> None:
    async with world.app() as app:
        first = await ask(app, world, agent.prompt({"chars": 50_000}), backend="claude")
        shown = await read(app, "show", session_id=first.session_id)
    assert shown.turns is not None
    assert len(shown.turns[0].output) < 5_000
    assert "46000 more characters" in shown.turns[0].output


async def test_a_fork_goes_its_own_way(world: World) -> None:
    async with world.app() as app:
        first = await ask(app, world, "one", backend="claude")
        fork = (await edit(app, "fork", first.session_id)).session
        assert fork is not None
        await ask(app, world, "two", session_id=fork.id)
        original = await read(app, "show", session_id=first.session_id)
        forked = await read(app, "show", session_id=fork.id)
    assert (fork.parent_id, original.total, forked.total) == (first.session_id, 1, 2)
    assert original.backend_session_id != forked.backend_session_id
    assert "one" in world.calls()[-1]["prompt"]  # the conversation so far, as nothing native was forked


async def test_a_session_is_tagged_renamed_and_deleted(world: World) -> None:
    async with world.app() as app:
        first = await ask(app, world, "one", backend="claude", tags=["a"])
        tagged = (await edit(app, "tag", first.session_id, tags=["b", "a"])).session
        untagged = (await edit(app, "untag", first.session_id, tags=["a"])).session
        renamed = (await edit(app, "rename", first.session_id, title="A  new\nname")).session
        gone = await edit(app, "delete", first.session_id)
        left = await read(app, "list")
    assert tagged is not None
    assert untagged is not None
    assert renamed is not None
    assert (tagged.tags, untagged.tags, renamed.title) == (["a", "b"], ["b"], "A new name")
    assert (gone.deleted, left.total) == (True, 0)


async def test_a_session_in_use_is_shown_as_running_and_not_deleted(world: World) -> None:
    up, go = world.fifo("up"), world.fifo("go")
    async with world.app() as app:
        first = await ask(app, world, "one", backend="claude")
        text = agent.prompt({"reach": str(up)}, {"wait": str(go)})
        await ask(app, world, text, session_id=first.session_id, wait_secs=0)
        await up.reached()
        shown = await read(app, "list")
        with pytest.raises(ClinvkError) as refused:
            await edit(app, "delete", first.session_id)
        await go.release()
    assert [one.status for one in shown.sessions] == ["running"]
    assert refused.value.failure.code == "session_busy"


@pytest.mark.parametrize(
    ("action", "more", "code"),
    [
        ("show", {}, "invalid_request"),
        ("show", {"session_id": "ffff"}, "session_not_found"),
        ("search", {}, "invalid_request"),
        ("search", {"query": "  "}, "invalid_request"),
        ("list", {"status": "done"}, "invalid_request"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(
    world: World, action: str, more: dict[str, Any], code: str
) -> None:
    async with world.app() as app:
        with pytest.raises(ClinvkError) as refused:
            await read(app, action, **more)
    assert (refused.value.failure.code, bool(refused.value.failure.hint)) == (code, True)


@pytest.mark.parametrize(("action", "more"), [("tag", {}), ("untag", {}), ("rename", {}), ("rename", {"title": " \n"})])
async def test_an_edit_without_what_it_needs_is_refused(world: World, action: str, more: dict[str, Any]) -> None:
    async with world.app() as app:
        first = await ask(app, world, "one", backend="claude")
        with pytest.raises(ClinvkError) as refused:
            await edit(app, action, first.session_id, **more)
        with pytest.raises(ClinvkError) as unknown:
            await edit(app, action, "ffff", tags=["a"], title="b")
    assert refused.value.failure.code == "invalid_request"
    assert unknown.value.failure.code == "session_not_found"


@pytest.mark.parametrize(
    ("action", "more", "field"),
    [
        ("tag", {}, "tags"),
        ("untag", {}, "tags"),
        ("rename", {"title": " "}, "title"),
        ("fork", {"title": "copy"}, "title"),
        ("delete", {"tags": ["old"]}, "tags"),
        ("tag", {"tags": ["new"], "title": "new"}, "title"),
    ],
)
async def test_an_edit_wants_what_it_needs_and_ignores_nothing(
    world: World, action: str, more: dict[str, Any], field: str
) -> None:
    async with world.app() as app:
        one = await ask(app, world, "about turnips")
        with pytest.raises(ClinvkError) as refused:
            await edit(app, action, one.session_id, **more)
        [kept] = (await read(app, "list")).sessions
    failure = refused.value.failure
    assert (failure.code, failure.details["field"]) == ("invalid_request", field)
    assert failure.hint
    assert (kept.id, kept.title, kept.tags) == (one.session_id, "about turnips", [])
