"""Conversations that move: to another backend, into several at once, and on after a CLI has lost its own."""

import json
import re
from pathlib import Path

import pytest

from real.clients import BACKENDS, Clinvk, Json
from standin.script import Answer, Recorded, Reply
from standin.server import conversation, texts_sent

pytestmark = pytest.mark.anyio

API = {"anthropic": "claude", "openai": "codex", "gemini": "gemini"}
KEPT = {"claude": ".claude/projects", "codex": ".codex/sessions", "gemini": ".gemini/tmp"}


def backend_of(request: Recorded) -> str:
    assert request.api is not None
    return API[request.api]


@pytest.mark.parametrize(("first", "second"), [("claude", "codex"), ("codex", "gemini"), ("gemini", "claude")])
async def test_a_session_is_handed_over_with_all_that_was_said(clinvk: Clinvk, first: str, second: str) -> None:
    clinvk.plays(Answer("The duck is called Ada."), Answer("Ada, you said."), Answer("Still Ada."))
    begun = (await clinvk.prompt("Name my duck.", first)).result
    moved = (await clinvk.prompt("What is its name?", second, session_id=begun["session_id"])).result
    again = (await clinvk.prompt("Sure?", second, session_id=begun["session_id"])).result

    assert {begun["session_id"], moved["session_id"], again["session_id"]} == {begun["session_id"]}
    assert [result["backend"] for result in (begun, moved, again)] == [first, second, second]
    assert [result["output"] for result in (moved, again)] == ["Ada, you said.", "Still Ada."]
    [warning] = moved["warnings"]
    assert f"handed over from {first} to {second}" in warning
    assert again["warnings"] == []
    _, received, continued = clinvk.standin.questions
    [handed] = texts_sent(received)
    assert re.search("Name my duck.*The duck is called Ada.*What is its name", handed, re.DOTALL)
    assert [role for role, _ in conversation(continued)] == ["user", "assistant", "user"]
    shown = await clinvk.call("sessions", {"action": "show", "session_id": begun["session_id"]})
    assert [(turn["backend"], turn["prompt"], turn["output"]) for turn in shown.result["turns"]] == [
        (first, "Name my duck.", "The duck is called Ada."),
        (second, "What is its name?", "Ada, you said."),
        (second, "Sure?", "Still Ada."),
    ]


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_session_that_the_cli_has_lost_goes_on_from_our_transcript(clinvk: Clinvk, backend: str) -> None:
    clinvk.plays(Answer("The duck is called Ada."), Answer("Ada, you said."), Answer("Still Ada."))
    begun = (await clinvk.prompt("Name my duck.", backend)).result
    forget(clinvk.place.user / KEPT[backend])
    found = (await clinvk.prompt("What is its name?", backend, session_id=begun["session_id"])).result
    again = (await clinvk.prompt("Sure?", backend, session_id=begun["session_id"])).result

    assert {found["session_id"], again["session_id"]} == {begun["session_id"]}
    assert [(result["status"], result["output"]) for result in (found, again)] == [
        ("completed", "Ada, you said."),
        ("completed", "Still Ada."),
    ]
    [warning] = found["warnings"]
    assert "transcript was handed over" in warning
    assert again["warnings"] == []
    _, received, continued = clinvk.standin.questions
    [handed] = texts_sent(received)
    assert re.search("Name my duck.*The duck is called Ada.*What is its name", handed, re.DOTALL)
    assert [role for role, _ in conversation(continued)] == ["user", "assistant", "user"]


def forget(folder: Path) -> None:
    """Delete what a CLI has kept of its sessions."""
    files = [path for path in folder.rglob("*.jsonl") if path.is_file()]
    assert files
    for path in files:
        path.unlink()


async def test_parallel_answers_in_the_order_of_its_tasks(clinvk: Clinvk) -> None:
    def reply(request: Recorded) -> Reply:
        return Answer(f"{backend_of(request)} heard {texts_sent(request)[-1].strip()}")

    clinvk.plays(reply_to=reply)
    tasks = [
        {"prompt": "one", "backend": "gemini", "id": "a"},
        {"prompt": "two", "backend": "codex", "name": "second"},
        {"prompt": "three", "backend": "claude"},
        {"prompt": "four", "backend": "codex", "max_turns": 3},
    ]
    result = (await clinvk.call("parallel", {"tasks": tasks})).result
    counts = [result[name] for name in ("status", "total_tasks", "completed", "failed", "cancelled")]
    assert counts == ["failed", 4, 3, 1, 0]
    assert [(part["task"], part["id"], part["name"], part["output"]) for part in result["results"]] == [
        (1, "a", None, "gemini heard one"),
        (2, None, "second", "codex heard two"),
        (3, None, None, "claude heard three"),
        (4, None, None, ""),
    ]
    assert result["results"][3]["error"]["code"] == "unsupported_option"


async def test_a_chain_feeds_each_cli_with_the_answers_before(clinvk: Clinvk) -> None:
    def reply(request: Recorded) -> Reply:
        return Answer(f"{texts_sent(request)[-1].strip()} via {backend_of(request)}")

    clinvk.plays(reply_to=reply)
    steps = [
        {"prompt": "Seed", "backend": "claude", "name": "seed"},
        {"prompt": "[{{previous}}]", "backend": "codex"},
        {"prompt": "{{steps.seed}} + {{previous}}", "backend": "gemini"},
    ]
    result = (await clinvk.call("chain", {"steps": steps})).result
    assert [result[name] for name in ("status", "total_steps", "completed_steps", "failed_step")] == [
        "completed",
        3,
        3,
        None,
    ]
    assert [part["output"] for part in result["results"]] == [
        "Seed via claude",
        "[Seed via claude] via codex",
        "Seed via claude + [Seed via claude] via codex via gemini",
    ]


async def test_compare_is_judged_without_knowing_who_wrote_what(clinvk: Clinvk) -> None:
    def reply(request: Recorded) -> Reply:
        text = texts_sent(request)[-1]
        if "You are judging" not in text:
            return Answer(f"Answer number {BACKENDS.index(backend_of(request))}.")
        letters = dict(re.findall(r"<answer id='(\w)'>\nAnswer number (\d)", text))
        best = next(letter for letter, number in letters.items() if number == "1")
        scores = {letter: 9 if letter == best else int(number) for letter, number in letters.items()}
        return Answer(json.dumps({"winner": best, "scores": scores, "reasons": "It is the best."}))

    clinvk.plays(reply_to=reply)
    result: Json = (await clinvk.call("compare", {"prompt": "Which is best?", "judge": "claude"})).result
    assert (result["status"], result["backends"]) == ("completed", list(BACKENDS))
    assert [part["output"] for part in result["results"]] == [f"Answer number {number}." for number in range(3)]
    verdict = result["verdict"]
    assert (verdict["judge"], verdict["winner"], verdict["error"]) == ("claude", "codex", None)
    assert verdict["scores"] == {"claude": 0.0, "codex": 9.0, "gemini": 2.0}
    assert [place["backend"] for place in result["ranking"]] == ["codex", "gemini", "claude"]
    [judged] = [text for question in clinvk.standin.questions for text in texts_sent(question) if "judging" in text]
    assert not re.search("claude|codex|gemini", judged, re.IGNORECASE)
