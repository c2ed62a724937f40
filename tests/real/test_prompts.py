"""Every prompt reaches the model as it was written, whatever a CLI could take it for."""

import hashlib

import pytest

from real.clients import BACKENDS, Clinvk
from standin.script import Answer, Recorded, Reply
from standin.server import texts_sent

pytestmark = pytest.mark.anyio

LONG = "Zwölf Boxkämpfer. " * 56_000 + "What is in @notes.txt?"
PROMPTS = (
    "--version",
    "resume",
    "-",
    "/help",
    "@/etc/passwd",
    "\n\n  $HOME `id` $(id) 'one' \"two\" \\ %s {{curly}}\r\n\t✓ 🦆 \u202ereversed\u202c 漢字",
    LONG,
)


def received(prompt: str, backend: str) -> str:
    """A prompt as the model gets it: in two cases a character keeps a CLI from reading it as its own syntax."""
    if prompt.startswith("/") and backend != "codex":
        return f"\n{prompt}"
    return prompt.replace("@", "\\@") if backend == "gemini" else prompt


def digest(text: str) -> str:
    return f"{len(text)} {hashlib.sha256(text.encode()).hexdigest()}"


async def test_a_prompt_reaches_the_model_verbatim_and_without_the_files_it_names(clinvk: Clinvk) -> None:
    (clinvk.place.workdir / "notes.txt").write_text("PRIVATE", encoding="utf-8")

    def fingerprint(request: Recorded) -> Reply:
        [text] = texts_sent(request)
        return Answer(digest(text))

    clinvk.plays(reply_to=fingerprint)
    tasks = [{"prompt": prompt, "backend": backend} for prompt in PROMPTS for backend in BACKENDS]
    answer = await clinvk.call("parallel", {"tasks": tasks, "max_parallel": 4})

    expected = [digest(received(task["prompt"], task["backend"])) for task in tasks]
    assert [result["output"] for result in answer.result["results"]] == expected
    assert len(LONG) > 1_000_000
    assert len(clinvk.standin.questions) == len(tasks)
    sent = " ".join(str(request.body) for request in clinvk.standin.requests)
    assert "PRIVATE" not in sent
    assert "root:x:0:0" not in sent
