"""`clinvk mcp` as users have it: the real CLIs, a real transport, and the SDK's client."""

import json
import os
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp import Client, StdioServerParameters

from real.processes import agents_ended, all_ended, of_clinvk, watching
from standin.environment import MODELS, all_clis_environment
from standin.script import Reply, Script
from standin.server import Standin

Transport = Literal["stdio", "http"]
Mode = Literal["auto", "legacy"]
Json = dict[str, Any]

BACKENDS = ("claude", "codex", "gemini")
DEADLINE = 90  # of one call: Gemini CLI alone needs 3 s of a whole core to start, and cores are shared
SOURCE = Path(__file__).parents[2] / "src"
COMMAND = (sys.executable, "-m", "clinvk", "mcp")


@dataclass(frozen=True, slots=True)
class Place:
    """The folders and the environment of one clinvk; servers that share it share sessions and runs."""

    root: Path
    environ: Mapping[str, str]
    standin: Standin

    @property
    def home(self) -> Path:
        """CLINVK_HOME."""
        return self.root / "clinvk"

    @property
    def user(self) -> Path:
        """HOME, where the CLIs keep what is theirs."""
        return self.root / "user"

    @property
    def workdir(self) -> Path:
        """Where the server was started."""
        return self.root / "work"


def place(root: Path, standin: Standin, *, url: str | None = None, **config: Json) -> Place:
    """Fresh folders, with the real CLIs set up to ask the stand-in, or `url`; `config` are sections of config.yaml."""
    environ = all_clis_environment(root / "user", url or standin.url)
    environ |= {"CLINVK_HOME": str(root / "clinvk"), "PYTHONPATH": str(SOURCE)}
    (root / "work").mkdir(parents=True)
    (root / "clinvk").mkdir(mode=0o700)
    written: Json = {"backends": {name: {"model": model} for name, model in MODELS.items()}, **config}
    (root / "clinvk" / "config.yaml").write_text(json.dumps(written), encoding="utf-8")
    return Place(root, environ, standin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a client got for one call; `progress` are the notifications before it."""

    result: Json
    text: str
    is_error: bool
    progress: tuple[tuple[float, str], ...] = ()


@dataclass(slots=True)
class Clinvk:
    """A server with a client connected to it."""

    client: Client
    place: Place
    pid: int

    @property
    def standin(self) -> Standin:
        return self.place.standin

    def plays(self, *replies: Reply, **script: Any) -> None:
        """What the model says from now on: these replies in turn, the last one for ever, or a script's fields."""
        self.standin.requests.clear()
        self.standin.script = Script(queue=replies[:-1], default=replies[-1]) if replies else Script(**script)

    async def call(self, tool: str, arguments: Json, heard: Callable[[str], object] | None = None) -> Answered:
        """Call a tool; `heard` is given each progress message."""
        told: list[tuple[float, str]] = []

        async def note(progress: float, total: float | None, message: str | None) -> None:
            told.append((progress, message or ""))
            if heard is not None:
                heard(message or "")

        with anyio.fail_after(DEADLINE):
            answer = await self.client.call_tool(tool, arguments, progress_callback=note)
        assert answer.structured_content is not None
        [content] = answer.content
        assert content.type == "text"
        return Answered(
            result=answer.structured_content,
            text=content.text,
            is_error=bool(answer.is_error),
            progress=tuple(told),
        )

    async def prompt(self, prompt: str, backend: str, **arguments: Any) -> Answered:
        """Call the tool `prompt`."""
        return await self.call("prompt", {"prompt": prompt, "backend": backend, **arguments})

    async def everywhere(
        self, prompt: str, backends: Sequence[str] = BACKENDS, **arguments: Any
    ) -> dict[str, Answered]:
        """The same prompt on several backends at once."""
        answers: dict[str, Answered] = {}

        async def one(backend: str) -> None:
            answers[backend] = await self.prompt(prompt, backend, **arguments)

        async with anyio.create_task_group() as tasks:
            for backend in backends:
                tasks.start_soon(one, backend)
        return {backend: answers[backend] for backend in backends}

    async def quiet(self) -> None:
        """Wait until no process of any run is alive."""
        await agents_ended(self.place.home)


@asynccontextmanager
async def connected(where: Place, transport: Transport = "stdio", mode: Mode = "auto") -> AsyncGenerator[Clinvk]:
    """A server and a client; at the end everything that the server has started must be gone."""
    opened = _stdio if transport == "stdio" else _http
    async with opened(where, mode) as clinvk:
        yield clinvk
        family = watching(of_clinvk(where.home))
    await family.ended()
    await all_ended(where.home)


@asynccontextmanager
async def _stdio(where: Place, mode: Mode) -> AsyncGenerator[Clinvk]:
    parameters = StdioServerParameters(
        command=COMMAND[0], args=list(COMMAND[1:]), env=dict(where.environ), cwd=where.workdir
    )
    async with Client(parameters, mode=mode) as client:
        yield Clinvk(client, where, _server_pid(where))


def _server_pid(where: Place) -> int:
    """The SDK's client does not tell; the server is the one child of ours among its family."""
    [pid] = [pid for pid in of_clinvk(where.home) if _parent(pid) == os.getpid()]
    return pid


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


@asynccontextmanager
async def _http(where: Place, mode: Mode) -> AsyncGenerator[Clinvk]:
    command = (*COMMAND, "--transport=http", "--port=0")
    async with await anyio.open_process(command, env=where.environ, cwd=where.workdir, stdin=None) as process:
        try:
            assert process.stderr is not None
            with anyio.fail_after(DEADLINE):
                line = await BufferedByteReceiveStream(process.stderr).receive_until(b"\n", 4096)
            async with Client(line.decode().rpartition(" ")[2], mode=mode) as client:
                yield Clinvk(client, where, process.pid)
            process.terminate()
            with anyio.fail_after(DEADLINE):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
