"""One prompt as enemies ask for it: files, places, options and texts that must not get through."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from clinvk.errors import ClinvkError
from clinvk.request import PromptRequest
from clinvk.response import DryRunResult
from clinvk.tools import prompt
from clinvk.tools.caller import Caller
from fakes.calls import ask, refusal
from fakes.world import World

pytestmark = pytest.mark.anyio


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


async def test_a_file_of_any_size_is_refused_unread(world: World) -> None:
    path = world.workdir / "huge.txt"
    path.touch()
    os.truncate(path, 1 << 40)
    async with world.app() as app:
        failure = await refusal(app, world, files=["huge.txt"], backend="claude")
    assert failure.message == "files: 'huge.txt' has 1,099,511,627,776 bytes; at most 524,288 are accepted"


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


async def test_a_dry_run_takes_no_number_of_tokens_for_a_secret(world: World) -> None:
    world.environ.update(MAX_THINKING_TOKENS="3")
    async with world.app() as app:
        request = PromptRequest(prompt="hello", backend="claude", dry_run=True, max_turns=3)
        result = await prompt.prompt(app, request, world.caller())
    assert isinstance(result, DryRunResult)
    assert "MAX_THINKING_TOKENS" in result.env
    assert "--max-turns=3" in result.argv


async def test_a_dry_run_is_refused_for_the_same_reasons(world: World) -> None:
    async with world.app() as app:
        failure = await refusal(app, world, dry_run=True, approval_mode="always", backend="claude")
    assert failure.code == "unsupported_option"
