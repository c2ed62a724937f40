"""`clinvk serve` against the tool that it serves, and against LiteLLM's proxy where there is one.

LiteLLM (CLINVK_BENCH_LITELLM=/path/to/litellm) answers from an instant OpenAI-compatible stand-in over HTTP; clinvk
starts a process for every answer, as that is what it is for. `/openai/v1/models` is what both answer from memory.
"""

import http.client
import itertools
import json
import os
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks import filling, place
from benchmarks.client import serving
from benchmarks.measure import Figure, interleaved, timed
from benchmarks.prompting import asked, run_directly
from benchmarks.scale import Scale

LITELLM = "CLINVK_BENCH_LITELLM"
KEY = f"sk-{secrets.token_hex(32)}"  # LiteLLM takes no other
READY_SECS = 120
CLIENTS = (1, 4, 16)
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "instant",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}

_numbers = itertools.count()


class Http:
    """A server process and kept-open connections to it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self._port = port

    def connect(self) -> http.client.HTTPConnection:
        """A new connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=READY_SECS)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def memory(self, field: str) -> float:
        """A figure of /proc/PID/status in MiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith(f"{field}:"))


def gateway(folder: Path, scale: Scale) -> list[Figure]:
    """What HTTP adds, what many clients get, and what many streams cost."""
    with ExitStack() as stack:
        where = place.create(folder / "served")
        server = stack.enter_context(_clinvk(where))
        tool = stack.enter_context(serving(place.server(), where.env, where.work))
        connection = server.connect()
        samples = interleaved(
            {
                "direct": timed(lambda: run_directly(where)),
                "tool": timed(lambda: asked(tool, ephemeral=False)),
                "gateway": timed(lambda: _prompt(connection)),
                "chat": timed(lambda: _chat(connection, "codex")),
                "models": timed(lambda: _get(connection, "/openai/v1/models")),
            },
            scale.calls,
            warmup=10,
        )
        figures = [
            samples.figure("HTTP prompt: more than the tool over stdio", "gateway", over="tool", aim=3),
            samples.figure("HTTP prompt: more than the bare command", "gateway", over="direct", aim=9),
            samples.figure("chat completion: more than the bare command", "chat", over="direct", aim=9),
            samples.figure("answered from memory (/openai/v1/models)", "models", aim=2),
        ]
        figures += [_rate(server, clients, scale) for clients in CLIENTS]
        figures += _streams(server, scale)
        figures += _against_litellm(folder, server, scale)
    return figures + _health(folder / "asked", scale)


def _rate(server: Http, clients: int, scale: Scale) -> Figure:
    """Prompts per second of so many clients that each wait for their answer."""
    each = max(1, scale.calls // clients)
    seconds = _together([lambda: _times(server, each, _prompt)] * clients)
    floor = _together([lambda: _times(server, each, lambda c: _get(c, "/openai/v1/models"))] * clients)
    return Figure(
        name=f"prompts by {clients} clients at once",
        value=clients * each / seconds,
        unit="1/s",
        aim=50,
        more_is_better=True,
        beside={"answers from memory 1/s": round(clients * each / floor)},
        rounds=each,
    )


def _times(server: Http, count: int, work: Callable[[http.client.HTTPConnection], object]) -> None:
    connection = server.connect()
    for _ in range(count):
        work(connection)


def _together(works: Sequence[Callable[[], object]]) -> float:
    """The seconds until all of them have ended."""
    threads = [threading.Thread(target=work) for work in works]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun


def _streams(server: Http, scale: Scale) -> list[Figure]:
    """Readers of the events of one run at once; what each of them costs while it is open."""
    run_id: str = _prompt(server.connect())["run_id"]
    path = f"/api/v1/runs/{run_id}/events"
    before = server.memory("VmRSS")
    seconds = _together([lambda: _get(server.connect(), path)] * scale.streams)
    after = server.memory("VmHWM")
    name = f"{scale.streams} readers of one run's events"
    beside = {"streams": scale.streams}
    return [
        Figure(name=name, value=seconds * 1000, unit="ms", aim=2000, beside=beside, rounds=1),
        Figure(
            name=f"{name}: memory",
            value=max(0.0, after - before),
            unit="MiB",
            aim=30,
            beside={"MiB under load": round(after)},
            rounds=1,
        ),
    ]


def _health(folder: Path, scale: Scale) -> list[Figure]:
    """What a probe costs where there are many sessions, which nobody has listed yet."""
    where = place.create(folder)
    filling.sessions(where.home, scale.sessions)
    with _clinvk(where) as server:
        connection = server.connect()
        first = timed(lambda: _get(connection, "/health"))()
        samples = interleaved({"health": timed(lambda: _get(connection, "/health"))}, scale.calls)
    name = f"/health at {scale.sessions} sessions"
    return [
        samples.figure(name, "health", aim=10),
        Figure(name=f"{name}: the first", value=first * 1000, unit="ms", aim=200, beside={}, rounds=1),
    ]


def _against_litellm(folder: Path, server: Http, scale: Scale) -> list[Figure]:
    program = os.environ.get(LITELLM)
    if not program:
        return []
    with _instant() as upstream, _litellm(folder / "litellm", program, upstream) as proxy:
        ours, theirs = server.connect(), proxy.connect()
        samples = interleaved(
            {
                "clinvk models": timed(lambda: _get(ours, "/openai/v1/models")),
                "litellm models": timed(lambda: _get(theirs, "/v1/models")),
                "clinvk chat": timed(lambda: _chat(ours, "codex")),
                "litellm chat": timed(lambda: _chat(theirs, "instant", "/v1")),
            },
            scale.calls,
            warmup=10,
        )
        each = max(1, scale.calls // 4)
        mine = _together([lambda: _times(server, each, lambda c: _chat(c, "codex"))] * 16)
        other = _together([lambda: _times(proxy, each, lambda c: _chat(c, "instant", "/v1"))] * 16)
        return [
            samples.figure("models: of LiteLLM's", "clinvk models", times="litellm models", aim=0.2),
            samples.figure(
                "chat with a process each: of LiteLLM's without", "clinvk chat", times="litellm chat", aim=2
            ),
            Figure(
                name="chats of 16 clients: of LiteLLM's",
                value=other / mine,
                unit="x",
                aim=1,
                more_is_better=True,
                beside={"clinvk 1/s": round(16 * each / mine), "litellm 1/s": round(16 * each / other)},
                rounds=each,
            ),
            Figure(
                name="memory: of LiteLLM's",
                value=server.memory("VmRSS") / proxy.memory("VmRSS"),
                unit="x",
                aim=0.5,
                beside={"clinvk MiB": round(server.memory("VmRSS")), "litellm MiB": round(proxy.memory("VmRSS"))},
                rounds=1,
            ),
        ]


def _prompt(connection: http.client.HTTPConnection) -> dict[str, Any]:
    result = _post(connection, "/api/v1/prompt", {"prompt": f"question {next(_numbers)}"})
    assert result["output"] == "hello", result
    return result


def _chat(connection: http.client.HTTPConnection, model: str, prefix: str = "/openai/v1") -> None:
    body = {"model": model, "messages": [{"role": "user", "content": f"question {next(_numbers)}"}]}
    result = _post(connection, f"{prefix}/chat/completions", body)
    assert result["choices"][0]["message"]["content"] == "hello", result


def _post(connection: http.client.HTTPConnection, path: str, body: Mapping[str, object]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    connection.request("POST", path, json.dumps(body), headers)
    result: dict[str, Any] = json.loads(connection.getresponse().read())
    return result


def _get(connection: http.client.HTTPConnection, path: str) -> None:
    connection.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
    answer = connection.getresponse()
    assert answer.read()
    assert answer.status == 200


@contextmanager
def _clinvk(where: place.Place) -> Generator[Http]:
    command = [*place.clinvk(), "serve", "--port", "0"]
    with (where.folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=where.env, cwd=where.work, stderr=log)
        try:
            port = _announced(where.folder / "log")
            yield Http(process, port)
        finally:
            process.terminate()
            process.wait(READY_SECS)


def _announced(log: Path) -> int:
    deadline = time.monotonic() + READY_SECS
    while time.monotonic() < deadline:
        for line in log.read_text(encoding="utf-8").splitlines():
            if "listening on" in line:
                return int(line.rpartition(":")[2].strip().split("/")[0])
        time.sleep(0.01)
    raise TimeoutError(f"the gateway did not come up: {log.read_text(encoding='utf-8')}")


@contextmanager
def _litellm(folder: Path, program: str, upstream: str) -> Generator[Http]:
    folder.mkdir(parents=True)
    parameters = {"model": "openai/instant", "api_base": f"{upstream}/v1", "api_key": "none"}
    config = {"model_list": [{"model_name": "instant", "litellm_params": parameters}]}
    (folder / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LITELLM_MASTER_KEY": KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    command = [program, "--config", str(folder / "config.yaml"), "--port", str(port), "--host", "127.0.0.1"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
        try:
            server = Http(process, port)
            _wait_for(server)
            yield server
        finally:
            process.terminate()
            process.wait(READY_SECS)
            shutil.rmtree(folder, ignore_errors=True)


def _wait_for(server: Http) -> None:
    deadline = time.monotonic() + READY_SECS
    while True:
        try:
            return _get(server.connect(), "/v1/models")
        except (OSError, AssertionError, http.client.HTTPException):
            if time.monotonic() > deadline or server.process.poll() is not None:
                raise
            time.sleep(0.2)


class _Instant(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(COMPLETION).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def _instant() -> Generator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Instant)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
