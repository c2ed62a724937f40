"""One prompt, as friends and enemies ask for it."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from clinvk.errors import ClinvkError, Failure
from clinvk.request import PromptRequest, RunsRequest, SessionsRequest
from clinvk.response import DryRunResult, PromptResult
from clinvk.tools import prompt, runs, sessions
from clinvk.tools.app import App
from clinvk.tools.caller import Caller
from fakes import agent
from fakes.world import PATIENCE_SECS, World

pytestmark = pytest.mark.anyio


async def ask(app: App, world: World, text: str, caller: Caller | None = None, **options: Any) -> PromptResult:
    request = PromptRequest.model_validate({"prompt": text, **options})
    with anyio.fail_after(PATIENCE_SECS):
        result = await prompt.prompt(app, request, caller or world.caller())
    assert isinstance(result, PromptResult)
    return result


async def refusal(app: App, world: World, text: str = "hi", **options: Any) -> Failure:
    """Why a prompt is refused; nothing may have been started or recorded."""
    before = app.runs.ids()
    with pytest.raises(ClinvkError) as refused:
        await ask(app, world, text, **options)
    assert app.runs.ids() == before
    return refused.value.failure


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


# Files


async def test_text_files_go_into_the_prompt_and_images_to_the_backend(world: World) -> None:
    (world.workdir / "notes.txt").write_text("the notes ☃", encoding="utf-8")
    (world.workdir / "dot.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 20)
    async with world.app() as app:
        await ask(app, world, "look", backend="codex", files=["notes.txt", "dot.png"])
    [call] = world.calls("codex")
    assert "the notes ☃" in call["prompt"]
    assert [word for word in call["argv"] if word.startswith("--image=")]


@pytest.mark.parametrize(
    "name", ["missing.txt", "~nosuchuser/x", "below", "x" * 5000, "raw.bin", "huge.txt", "/proc/self/mem", "\udcff"]
)
async def test_a_file_that_cannot_be_given_is_refused_by_name(world: World, name: str) -> None:
    (world.workdir / "below").mkdir()
    (world.workdir / "raw.bin").write_bytes(b"\xff\xfe\x00")
    (world.workdir / "huge.txt").write_bytes(b"x" * (1 << 20))
    async with world.app() as app:
        try:
            failure = await refusal(app, world, files=[name], backend="claude")
        except ValidationError:
            assert name == "\udcff"  # never becomes a request
            return
    assert (failure.code, failure.details["field"]) == ("invalid_request", "files")
    assert name[:100] in failure.message


async def test_files_outside_the_allowed_directories_are_refused(world: World) -> None:
    secret = world.root / "secret.txt"
    secret.write_text("secret", encoding="utf-8")
    (world.workdir / "link.txt").symlink_to(secret)
    async with world.app(server__allowed_workdir_prefixes=[str(world.workdir)]) as app:
        for name in (str(secret), "../secret.txt", "link.txt"):
            failure = await refusal(app, world, files=[name], backend="claude")
            assert failure.code == "workdir_denied"


# Where and whether


@pytest.mark.parametrize(
    ("workdir", "code"),
    [
        ("/", "workdir_denied"),
        ("..", "workdir_denied"),
        ("link", "workdir_denied"),
        ("missing", "invalid_request"),
        ("file", "invalid_request"),
        ("~nosuchuser", "invalid_request"),
        ("x" * 5000, "invalid_request"),
    ],
)
async def test_a_workdir_that_is_not_allowed_or_not_there_is_refused(world: World, workdir: str, code: str) -> None:
    (world.workdir / "link").symlink_to("/etc")
    (world.workdir / "file").touch()
    async with world.app(server__allowed_workdir_prefixes=[str(world.workdir)]) as app:
        failure = await refusal(app, world, workdir=workdir, backend="claude")
    assert failure.code == code
    assert failure.hint


async def test_a_caller_in_a_forbidden_place_is_refused_without_naming_a_workdir(world: World) -> None:
    async with world.app(server__allowed_workdir_prefixes=[str(world.workdir)]) as app:
        with pytest.raises(ClinvkError) as refused:
            await prompt.prompt(app, PromptRequest(prompt="hi", backend="claude"), Caller(client="t", cwd=Path("/")))
    assert refused.value.failure.code == "workdir_denied"


@pytest.mark.parametrize(("depth", "allowed"), [("0", True), ("2", True), ("3", False), ("-1", False), ("x", False)])
async def test_agents_that_call_clinvk_are_stopped_at_a_depth(world: World, depth: str, allowed: bool) -> None:
    world.environ.update(CLINVK_DEPTH=depth, CLINVK_CHAIN_ID="chain")
    async with world.app() as app:
        if allowed:
            await ask(app, world, "hi", backend="claude")
            assert world.calls()[0]["env"]["CLINVK_DEPTH"] == str(int(depth) + 1)
            assert world.calls()[0]["env"]["CLINVK_CHAIN_ID"] == "chain"
        else:
            failure = await refusal(app, world, backend="claude")
            assert (failure.code, failure.details["chain_id"]) == ("recursion_limit", "chain")


async def test_an_unknown_a_missing_and_a_switched_off_backend_are_refused(world: World) -> None:
    (world.bin / "gemini").unlink()
    world.environ["PATH"] = str(world.bin)
    async with world.app(backends__codex__enabled=False) as app:
        unknown = await refusal(app, world, backend="gpt")
        off = await refusal(app, world, backend="codex")
        missing = await refusal(app, world, backend="gemini")
    assert (unknown.code, off.code, missing.code) == ("backend_unknown", *["backend_unavailable"] * 2)
    assert "claude" in f"{unknown.message} {unknown.hint}"
    assert missing.hint


# What cannot be enforced


@pytest.mark.parametrize("backend", ["claude", "codex", "gemini", "offline"])
async def test_approval_by_a_person_is_refused_where_nobody_can_be_asked(world: World, backend: str) -> None:
    async with world.app() as app:
        failure = await refusal(app, world, backend=backend, approval_mode="always")
    assert (failure.code, failure.backend) == ("unsupported_option", backend)
    assert failure.details["option"] == "approval_mode"


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("gemini", {"ephemeral": True}),
        ("gemini", {"max_turns": 3}),
        ("codex", {"max_turns": 3}),
        ("offline", {"max_turns": 3}),
        ("offline", {"files": ["dot.png"]}),
        ("claude", {"extra": ["--dangerously-skip-permissions"]}),
        ("claude", {"extra": ["--mcp-config=/tmp/x"]}),
        ("claude", {"extra": ["-p"]}),
        ("codex", {"extra": ["--config=sandbox_mode=danger-full-access"]}),
        ("codex", {"extra": ["--config=model_reasoning_effort=high --yolo"]}),
        ("gemini", {"extra": ["--yolo"]}),
    ],
)
async def test_what_a_backend_cannot_enforce_is_refused(world: World, backend: str, options: dict[str, Any]) -> None:
    (world.workdir / "dot.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 20)
    async with world.app() as app:
        failure = await refusal(app, world, backend=backend, **options)
    assert (failure.code, failure.backend) == ("unsupported_option", backend)
    assert failure.hint


# Prompts that look like something else


@pytest.mark.parametrize("backend", ["claude", "codex", "gemini", "offline"])
@pytest.mark.parametrize(
    "text",
    [
        "--version",
        "-p",
        "-",
        "resume --last",
        "mcp serve",
        "/clear",
        "@/etc/passwd",
        "!ls",
        "$(touch pwned); `touch pwned`",
        "a\r\nb\u2028c\x1b[31m",
        "ünïcödé ☃ 👩‍👩‍👧",
        '{"type":"result","subtype":"success"}',
    ],
)
async def test_a_prompt_is_only_ever_text(world: World, backend: str, text: str) -> None:
    async with world.app() as app:
        await ask(app, world, "harmless", backend=backend)
        result = await ask(app, world, text, backend=backend)
    assert result.status == "completed"
    assert not (world.workdir / "pwned").exists()
    if backend != "offline":
        plain, call = world.calls(backend)
        assert [word for word in call["argv"] if not word.startswith("--session-id")] == [
            word for word in plain["argv"] if not word.startswith("--session-id")
        ]
        assert call["prompt"].strip().replace("\\@", "@") == text
        assert result.output.replace("\\@", "@") == f"echo: {text}"


async def test_a_prompt_of_a_megabyte_arrives_whole(world: World) -> None:
    text = "ä" * 1_000_000
    async with world.app() as app:
        await ask(app, world, text, backend="claude")
    [call] = world.calls()
    assert call["prompt_chars"] == len(text)
    assert max(map(len, call["argv"])) < 1000


@pytest.mark.parametrize("text", ["", "  \n ", "a\0b", "\ud800"])
def test_what_no_cli_can_be_given_never_becomes_a_request(text: str) -> None:
    with pytest.raises(ValidationError):
        PromptRequest(prompt=text)


@pytest.mark.parametrize("model", ["--help", "-x", "a b", "opus\n--yolo", ""])
@pytest.mark.parametrize("backend", ["claude", "codex", "gemini"])
async def test_a_model_cannot_become_a_flag(world: World, backend: str, model: str) -> None:
    async with world.app() as app:
        try:
            result = await ask(app, world, "hi", backend=backend, model=model)
        except (ValidationError, ClinvkError):
            assert world.calls(backend) == []
            return
    assert result.status == "completed"
    assert f"--model={model}" in world.calls(backend)[0]["argv"]


# Dry runs


async def test_a_dry_run_shows_what_would_run_and_does_nothing(world: World) -> None:
    world.environ.update(ANTHROPIC_API_KEY="sk-very-secret")
    flags: dict[str, Any] = {"backends.claude.command": [str(world.bin / "claude"), "--key=sk-very-secret"]}
    async with world.app(**flags) as app:
        request = PromptRequest(prompt="hello", backend="claude", dry_run=True, sandbox_mode="read-only")
        result = await prompt.prompt(app, request, world.caller())
        assert app.runs.ids() == []
    assert isinstance(result, DryRunResult)
    assert (result.cwd, result.stdin_chars) == (str(world.workdir), 5)
    assert "--tools=Read,Grep,Glob" in result.argv
    assert "ANTHROPIC_API_KEY" in result.env
    assert "sk-very-secret" not in json.dumps(result.model_dump())
    assert world.calls() == []


async def test_a_dry_run_is_refused_for_the_same_reasons(world: World) -> None:
    async with world.app() as app:
        failure = await refusal(app, world, dry_run=True, approval_mode="always", backend="claude")
    assert failure.code == "unsupported_option"
