"""What a caller may ask for beyond a prompt: done by the real CLI, or refused before it starts."""

import os
import struct
import zlib
from pathlib import Path

import pytest

from real.clients import BACKENDS, Clinvk, Json, Mode, Transport
from standin.script import Answer, Recorded, Reply, Shell
from standin.server import tool_results

pytestmark = pytest.mark.anyio

SCHEMA: Json = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}
API = {"claude": "anthropic", "codex": "openai", "gemini": "gemini"}
KEPT = {  # where each CLI keeps its sessions, below HOME
    "claude": ".claude/projects/**/*.jsonl",
    "codex": ".codex/sessions/**/*.jsonl",
    "gemini": ".gemini/tmp/**/chats/*.jsonl",
}


@pytest.fixture(scope="module")
def transport() -> tuple[Transport, Mode]:
    return "http", "auto"


def png() -> bytes:
    """A picture of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0\xff\0\0")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


async def test_an_answer_that_was_asked_for_as_json_is_a_value(clinvk: Clinvk) -> None:
    clinvk.plays(Answer(structured={"answer": 42}))
    answers = await clinvk.everywhere("How many?", output_schema=SCHEMA)
    assert {
        name: (answer.result["status"], answer.result["structured_output"]) for name, answer in answers.items()
    } == (dict.fromkeys(BACKENDS, ("completed", {"answer": 42})))


async def test_an_answer_that_does_not_fit_its_schema_is_no_success(clinvk: Clinvk) -> None:
    clinvk.plays(Answer("Forty-two."))
    answers = await clinvk.everywhere("How many?", output_schema=SCHEMA)
    for answer in answers.values():
        assert (answer.result["status"], answer.result["error"]["code"]) == ("failed", "output_unreadable")
        assert answer.is_error
        assert "output_schema" in answer.result["error"]["message"]
        assert (answer.result["output"], answer.result["structured_output"]) == ("Forty-two.", None)


async def test_files_reach_the_model_pictures_as_pictures(clinvk: Clinvk) -> None:
    work = clinvk.place.workdir
    (work / "dot.png").write_bytes(png())
    (work / "note.txt").write_text("The duck is green.", encoding="utf-8")
    clinvk.plays(Answer("I see."))
    answers = await clinvk.everywhere("Look.", files=["dot.png", "note.txt"])
    assert [answer.result["output"] for answer in answers.values()] == ["I see."] * 3
    for question in clinvk.standin.questions:
        sent = str(question.body)
        assert "The duck is green." in sent
        assert "iVBORw0KGgo" in sent, question.api


async def test_ephemeral_leaves_no_session_anywhere_or_is_refused(clinvk: Clinvk) -> None:
    def kept() -> dict[str, set[Path]]:
        return {name: set(clinvk.place.user.glob(pattern)) for name, pattern in KEPT.items()}

    before = kept()
    clinvk.plays(Answer("Gone tomorrow."))
    answers = await clinvk.everywhere("Forget this.", ephemeral=True)
    assert kept() == before
    for backend in ("claude", "codex"):
        result = answers[backend].result
        assert (result["status"], result["output"], result["session_id"]) == ("completed", "Gone tomorrow.", None)
    refused = answers["gemini"].result
    assert (refused["error"]["code"], refused["run_id"]) == ("unsupported_option", "")
    assert refused["error"]["details"]["option"] == "ephemeral"

    lasting = await clinvk.everywhere("Keep this.")
    assert all(answer.result["session_id"] for answer in lasting.values())
    assert {name: len(files - before[name]) for name, files in kept().items()} == dict.fromkeys(BACKENDS, 1)


async def test_max_turns_ends_claude_and_is_refused_elsewhere(clinvk: Clinvk) -> None:
    clinvk.plays(Answer("Again.", calls=(Shell("echo again"),)))
    answers = await clinvk.everywhere("Go on for ever.", max_turns=2)
    error = answers["claude"].result["error"]
    assert (error["code"], error["details"]) == ("budget_exceeded", {"max_turns": 2})
    assert answers["claude"].result["output"] == "Again."
    assert len(clinvk.standin.questions) == 2
    for backend in ("codex", "gemini"):
        refused = answers[backend].result["error"]
        assert (refused["code"], refused["details"]["option"]) == ("unsupported_option", "max_turns")


async def test_a_model_that_was_asked_for_is_the_one_that_is_asked(clinvk: Clinvk) -> None:
    models = {"claude": "claude-haiku-4-5", "codex": "gpt-5-codex", "gemini": "gemini-2.5-flash"}
    clinvk.plays(Answer("It is me."))
    for backend, model in models.items():
        answer = await clinvk.prompt("Who are you?", backend, model=model)
        assert (answer.result["status"], answer.result["model"]) == ("completed", model)
        assert clinvk.standin.questions[-1].model == model


async def test_full_lets_a_command_write_where_it_likes_or_is_refused(clinvk: Clinvk, tmp_path: Path) -> None:
    def write(request: Recorded) -> Reply:
        command = Shell(f"printf made > {tmp_path}/{request.api}.txt")
        return Answer("Done.") if tool_results(request) else Answer("Now.", calls=(command,))

    clinvk.plays(reply_to=write)
    answers = await clinvk.everywhere("Write.", sandbox_mode="full")
    if os.geteuid() == 0:  # Claude Code refuses it there
        refused = answers.pop("claude").result["error"]
        assert (refused["code"], refused["details"]["value"]) == ("unsupported_option", "full")
    assert [answer.result["warnings"] for answer in answers.values()] == [[]] * len(answers)
    for backend in answers:
        assert (tmp_path / f"{API[backend]}.txt").read_text(encoding="utf-8") == "made"
