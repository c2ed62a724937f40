"""A model on loopback for the real CLIs: Anthropic Messages, OpenAI Responses and Gemini on one port.

Every request is recorded before it is answered. Leaving the scope closes every connection at once, also those
that a script holds. Use `async with serving(script)` in async tests and `with serving(script)` in the others.
"""

import json
import re
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import anyio.to_thread

from standin import anthropic, gemini, openai
from standin.script import Answer, Api, Frames, Garbage, HttpError, Json, Recorded, Script

_APIS: dict[Api | None, Any] = {"anthropic": anthropic, "openai": openai, "gemini": gemini}
_SECRETS = {"authorization", "x-api-key", "x-goog-api-key", "cookie"}
_GEMINI = re.compile(r"/v1(?:beta)?/models/([^/:?]+):(streamGenerateContent|generateContent|countTokens)")
# How the texts begin that the CLIs send as the user's, though nobody typed them.
_CONTEXT = ("<system-reminder>", "<environment_context>", "<session_context>", "# AGENTS.md instructions")
# How soon `serve_forever` notices that it is over.
_POLL_SECONDS = 0.02
_PATIENCE_SECONDS = 30.0


class Standin:
    """The running stand-in: its address, what it was asked, and the handle on what it holds."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Recorded] = []
        self.faults: list[BaseException] = []
        self._arrived = threading.Condition()
        self._released = threading.Event()
        self._closing = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": _POLL_SECONDS}, daemon=True
        )

    @property
    def url(self) -> str:
        """The address without a path, `http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def questions(self) -> list[Recorded]:
        """The requests that the script answered: no model lists, token counts or router calls."""
        return [request for request in self.requests if _is_question(request)]

    def release(self) -> None:
        """Let every held answer go on, now and later."""
        self._released.set()

    def wait_for_questions(self, count: int = 1) -> None:
        """Block until so many questions have arrived.

        Raises: TimeoutError after 30 s.
        """
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.questions) >= count, _PATIENCE_SECONDS):
                raise TimeoutError(f"{len(self.questions)} of {count} questions arrived")

    async def asked(self, count: int = 1) -> None:
        """`wait_for_questions` for async tests."""
        await anyio.to_thread.run_sync(self.wait_for_questions, count, abandon_on_cancel=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._released.set()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        self._thread.join()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.__exit__, kind, error, trace)

    def record(self, request: Recorded) -> None:
        """Note a request and wake who waits for it."""
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()

    def hold(self) -> bool:
        """Wait for the release; False when the stand-in is closing instead."""
        self._released.wait()
        return not self._closing.is_set()


def serving(script: Script | None = None) -> Standin:
    """A stand-in to enter with `with` or `async with`."""
    return Standin(script or Script())


@contextmanager
def refusing() -> Generator[str]:
    """An address where connections are refused; the port stays taken, so nobody else can answer on it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def texts_sent(request: Recorded) -> list[str]:
    """The texts of the conversation in this request, oldest first, without what the CLI itself puts in."""
    return [text for _, text in conversation(request)]


def conversation(request: Recorded) -> list[tuple[str, str]]:
    """Role (`user` or `assistant`) and text of each turn, without what the CLI itself puts in."""
    spoken: list[tuple[str, str]] = []
    for role, text in _module(request).conversation(request.body):
        if role in {"user", "assistant", "model"} and not text.lstrip().startswith(_CONTEXT):
            spoken.append(("assistant" if role == "model" else role, text))
    return spoken


def tool_results(request: Recorded) -> list[str]:
    """What tools gave back to the model in this request, oldest first."""
    found: list[str] = _module(request).tool_results(request.body)
    return found


def _module(request: Recorded) -> Any:
    assert request.api is not None, f"{request.path} is no question to a model"
    return _APIS[request.api]


def _is_question(request: Recorded) -> bool:
    if request.api is None or request.method != "POST" or re.search("count_?[tT]okens", request.path):
        return False
    return request.api != "gemini" or not gemini.is_router_call(request)


class _Server(ThreadingHTTPServer):
    # Joined at the end, so that no thread outlives the scope; `__exit__` makes sure that none is waiting.
    daemon_threads = False
    block_on_close = True
    request_queue_size = 512

    def __init__(self, standin: Standin) -> None:
        self.standin = standin
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that the CLI drops is no fault; anything else is kept for the test to see."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):
            self.standin.faults.append(error)

    def hang_up(self) -> None:
        """End every connection, so that each handler's next read or write ends."""
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the CLI was first


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        """Model lists; Codex first tries the Responses API as a websocket and falls back at 426."""
        request = self._record(b"")
        path = request.path.partition("?")[0]
        if path.endswith("/responses"):
            self._send_json(426, openai.error_body(426, "no websocket here"))
        elif path.endswith("/models"):
            self._send_json(200, {"data": [], "models": [], "has_more": False})
        else:
            self._send_json(404, {"error": {"message": f"no {path} here"}})

    def do_HEAD(self) -> None:
        """A probe for life."""
        self._record(b"")
        self._send_json(200, {})

    def do_POST(self) -> None:
        """A question to a model, or something beside it."""
        request = self._record(self._read_body())
        if re.search("count_?tokens", request.path, re.IGNORECASE):
            self._send_json(200, {"input_tokens": 120, "totalTokens": 120})
        elif request.api is None:
            self._send_json(404, {"error": {"message": f"no {request.path} here"}})
        elif request.api == "gemini" and gemini.is_router_call(request):
            self._answer(gemini.router_answer(), request)
        else:
            self._reply(request)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Quiet: the requests are recorded."""

    def _record(self, body: bytes) -> Recorded:
        headers = {name.lower(): value for name, value in self.headers.items()}
        shown = {name: "***" if name in _SECRETS else value for name, value in headers.items()}
        path = re.sub("key=[^&]*", "key=***", self.path)
        decoded: Json = json.loads(body) if body else {}
        api, model = _target(path, decoded)
        request = Recorded(self.command, path, shown, decoded, api, model)
        self.server.standin.record(request)
        return request

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _reply(self, request: Recorded) -> None:
        reply = self.server.standin.script.next_reply(request)
        match reply:
            case HttpError():
                self._refuse(reply, request)
            case Garbage(body):
                self._send(200, body, {"Content-Type": "text/html"})
            case Answer():
                self._answer(reply, request)

    def _refuse(self, error: HttpError, request: Recorded) -> None:
        text = error.message or ("Overloaded" if error.status == 529 else HTTPStatus(error.status).phrase)
        body = error.body or _APIS[request.api].error_body(error.status, text)
        waiting = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        self._send_json(error.status, body, {**waiting, **error.headers})

    def _answer(self, answer: Answer, request: Recorded) -> None:
        if answer.hold == "before" and not self.server.standin.hold():
            self.close_connection = True
            return
        module = _APIS[request.api]
        if request.body.get("stream") or ":streamGenerateContent" in request.path:
            self._stream(answer, module.frames(answer, request))
        elif answer.broken == "no":
            self._send_json(200, module.message(answer, request))
        else:
            self._send_half(json.dumps(module.message(answer, request)).encode())

    def _send_half(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.close_connection = True

    def _stream(self, answer: Answer, frames: Frames) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._chunk(frames.opening)
        goes_on = answer.hold != "middle" or self.server.standin.hold()
        if not goes_on or answer.broken == "cut":
            self.close_connection = True
            return
        if answer.broken == "error_event":
            self._chunk(frames.error)
        else:
            for frame in frames.middle:
                self._chunk(frame)
            self._chunk(b"" if answer.broken == "no_end" else frames.ending)
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> None:
        if data:  # an empty chunk would end the body
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _send_json(self, status: int, body: Json, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(body).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status, "Overloaded" if status == 529 else None)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _target(path: str, body: Json) -> tuple[Api | None, str]:
    """Which API a path belongs to and which model is asked."""
    plain = path.partition("?")[0]
    if found := _GEMINI.match(plain):
        return "gemini", found[1]
    model = str(body.get("model", ""))
    if plain.endswith(("/v1/messages", "/v1/messages/count_tokens")):
        return "anthropic", model
    return ("openai", model) if plain.endswith("/responses") else (None, model)
