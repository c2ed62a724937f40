"""The stand-in against raw HTTP in each API's shape, and against each real CLI once."""

import json
import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

from standin.clis import MissingToolError, cli_path, pinned_version
from standin.environment import KEY, MODELS, cli_environment
from standin.script import Answer, Garbage, HttpError, Recorded, Reply, Script, Shell, WriteFile
from standin.server import conversation, refusing, serving, texts_sent, tool_results
from standin.transcripts import cases, transcript

MAY_WRITE = {
    "claude": ["--permission-mode=acceptEdits", "--allowedTools=Bash,Write"],
    "codex": ["-s", "workspace-write"],
    "gemini": ["--approval-mode=yolo"],
}
COMMANDS = {
    "claude": ["-p", "--output-format", "stream-json", "--verbose", "--model", MODELS["claude"]],
    "codex": ["exec", "--json", "--skip-git-repo-check", "-"],
    "gemini": ["-o", "json", "-m", MODELS["gemini"]],
}
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "anthropic": (
        "/v1/messages",
        {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]},
    ),
    "openai": (
        "/v1/responses",
        {
            "model": "m",
            "stream": True,
            "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        },
    ),
    "gemini": (
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
    ),
}
ENDINGS = {"anthropic": "message_stop", "openai": "response.completed", "gemini": '"finishReason": "STOP"'}


def ask(url: str, api: str) -> str:
    path, body = QUESTIONS[api]
    request = urllib.request.Request(
        url + path, json.dumps(body).encode(), {"x-api-key": KEY, "Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return str(response.read(), "utf-8")


def run(name: str, home: Path, url: str, prompt: str, *flags: str) -> subprocess.CompletedProcess[str]:
    command = COMMANDS[name]
    return subprocess.run(
        [cli_path(name), command[0], *flags, *command[1:]] if name == "codex" else [cli_path(name), *command, *flags],
        input=prompt,
        env=cli_environment(name, home, url),
        cwd=home,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_the_real_cli_gets_its_answer_from_the_standin(name: str, tmp_path: Path) -> None:
    with serving(Script(Answer("It is a stand-in."))) as standin:
        done = run(name, tmp_path / "home", standin.url, "hi, who are you?")
    assert done.returncode == 0, done.stderr
    assert "It is a stand-in." in done.stdout
    assert [text.strip() for text in texts_sent(standin.questions[0])] == ["hi, who are you?"]
    assert len(standin.questions) == 1
    assert standin.faults == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_real_cli_does_what_the_model_asks_for(name: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    calls = (Shell("printf made > made.txt"), WriteFile(str(home / "written.txt"), "text\n"))
    with serving(Script(queue=[Answer("Working.", calls=calls), Answer("Done.")])) as standin:
        done = run(name, home, standin.url, "do it", *MAY_WRITE[name])
    assert "Done." in done.stdout
    assert (home / "made.txt").read_text(encoding="utf-8") == "made"
    assert (home / "written.txt").read_text(encoding="utf-8") == "text\n"
    assert len(tool_results(standin.questions[1])) == 2
    assert standin.faults == []


def test_a_router_call_is_answered_beside_the_script(tmp_path: Path) -> None:
    with serving(Script(Answer("Routed."))) as standin:
        done = subprocess.run(
            [cli_path("gemini"), "-o", "json"],
            input="hi",
            env=cli_environment("gemini", tmp_path, standin.url),
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=True,
        )
    assert json.loads(done.stdout)["response"] == "Routed."
    assert (len(standin.requests), len(standin.questions)) == (2, 1)


@pytest.mark.parametrize("backend", COMMANDS)
def test_the_transcripts_are_of_the_pinned_versions_and_of_no_machine(backend: str) -> None:
    assert len(cases(backend)) >= 25
    for case in cases(backend):
        recorded = transcript(backend, case)
        assert (recorded.version, recorded.argv[0]) == (pinned_version(backend), backend)
        printed = b"\n".join(recorded.lines) + recorded.stderr.encode()
        assert len(printed) < 100_000
        assert not re.search(rb"(?<![\w.-])/(root|tmp|home|work|Users)/", printed)


@pytest.mark.parametrize("api", QUESTIONS)
def test_an_answer_is_streamed_in_pieces_and_ends_properly(api: str) -> None:
    with serving(Script(Answer("abcdef", deltas=3))) as standin:
        body = ask(standin.url, api)
    assert all(f'"{piece}"' in body for piece in ("ab", "cd", "ef"))
    assert body.count(ENDINGS[api]) >= 1
    assert conversation(standin.questions[0]) == [("user", "hi")]
    assert KEY not in str(standin.requests)


@pytest.mark.parametrize("api", QUESTIONS)
def test_the_queue_goes_before_the_default_and_the_request_before_both(api: str) -> None:
    def reply_to(request: Recorded) -> Reply | None:
        return Answer("chosen", deltas=1) if len(standin.questions) == 3 else None

    with serving(Script(Answer("default", deltas=1), queue=[Answer("queued", deltas=1)], reply_to=reply_to)) as standin:
        answers = [ask(standin.url, api) for _ in range(3)]
    for word, answer in zip(("queued", "default", "chosen"), answers, strict=True):
        assert f'"{word}"' in answer


@pytest.mark.parametrize("api", QUESTIONS)
def test_an_http_error_has_its_status_its_message_and_its_waiting_time(api: str) -> None:
    with serving(Script(HttpError(429, retry_after=7, message="slow down"))) as standin:
        with pytest.raises(urllib.error.HTTPError) as raised:
            ask(standin.url, api)
        with raised.value as error:
            assert (error.code, error.headers["Retry-After"]) == (429, "7")
            assert b"slow down" in error.read()


@pytest.mark.parametrize("api", QUESTIONS)
def test_a_stream_can_stop_without_its_ending_or_break_with_an_error(api: str) -> None:
    with serving(Script(queue=[Answer("abc", broken="no_end"), Answer("abc", broken="error_event")])) as standin:
        whole_text = ask(standin.url, api)
        with_error = ask(standin.url, api)
    assert ENDINGS[api] not in whole_text + with_error
    assert "verloaded" in with_error
    assert "verloaded" not in whole_text


@pytest.mark.parametrize("api", QUESTIONS)
def test_a_cut_stream_is_seen_as_cut(api: str) -> None:
    with serving(Script(Answer(broken="cut"))) as standin, pytest.raises(Exception, match="IncompleteRead"):
        ask(standin.url, api)


def test_garbage_comes_with_status_200() -> None:
    with serving(Script(Garbage(b"<html>"))) as standin:
        assert ask(standin.url, "openai") == "<html>"


@pytest.mark.parametrize("hold", ["before", "middle"])
@pytest.mark.anyio
async def test_a_held_answer_goes_on_when_it_is_released(hold: Any) -> None:
    answers: list[str] = []

    async def question() -> None:
        answers.append(await to_thread.run_sync(ask, standin.url, "anthropic"))

    with anyio.fail_after(10):
        async with serving(Script(Answer("late", hold=hold))) as standin, anyio.create_task_group() as group:
            group.start_soon(question)
            await standin.asked()
            assert answers == []
            standin.release()
    assert "message_stop" in answers[0]


@pytest.mark.anyio
async def test_leaving_ends_the_connections_that_are_held() -> None:
    failures: list[Exception] = []

    async def question() -> None:
        try:
            await to_thread.run_sync(ask, standin.url, "gemini")
        except OSError as error:
            failures.append(error)

    standin = serving(Script(Answer(hold="before")))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group, standin:
            group.start_soon(question)
            await standin.asked()
    assert len(failures) == 1
    assert standin.faults == []


def test_a_refusing_address_refuses() -> None:
    with refusing() as url, pytest.raises(urllib.error.URLError, match="refused"):
        ask(url, "openai")


def test_a_missing_tool_fails_and_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINVK_TEST_NPM", str(tmp_path))
    with pytest.raises(MissingToolError, match="npm install"):
        cli_path("codex")


def test_a_tool_of_another_version_than_the_pin_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "node_modules" / "node" / "package.json"
    package.parent.mkdir(parents=True)
    package.write_text('{"version": "1.2.3"}', encoding="utf-8")
    binary = tmp_path / "node_modules" / ".bin" / "node"
    binary.parent.mkdir()
    binary.touch()
    monkeypatch.setenv("CLINVK_TEST_NPM", str(tmp_path))
    with pytest.raises(MissingToolError, match=pinned_version("node")):
        cli_path("node")
