"""The least client of an MCP server over stdio: JSON lines, one request at a time, no SDK and no event loop."""

import json
import select
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE_SECS = 120.0  # for any one answer; a server that hangs must not hang the benchmark
EXIT_SECS = 10.0

Message = dict[str, Any]


class ServerError(RuntimeError):
    """The server did not answer as it should."""


class Server:
    """One server process and the pipe to it."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self.process = subprocess.Popen(
            argv, env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin, self.process.stdout
        self._rest = b""
        self._number = 0

    def initialize(self) -> None:
        """The handshake."""
        client = {"name": "benchmark", "version": "1"}
        self.request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def request(self, method: str, params: Mapping[str, Any]) -> Message:
        """The result of a request."""
        self._number += 1
        self._send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        while True:
            answer: Message = json.loads(self._line())
            if answer.get("id") == self._number and "method" not in answer:
                break
        if "result" not in answer:
            raise ServerError(f"{method}: {answer.get('error')}")
        result: Message = answer["result"]
        return result

    def call(self, tool: str, **arguments: object) -> Message:
        """What a tool answers. Raises ServerError when it reports a failure."""
        result = self.request("tools/call", {"name": tool, "arguments": arguments})
        if result.get("isError"):
            raise ServerError(f"{tool}: {result['content']}"[:400])
        structured: Message = result["structuredContent"]
        return structured

    def _send(self, message: Message) -> None:
        self._in.write(json.dumps(message).encode() + b"\n")

    def _line(self) -> bytes:
        parts = [self._rest]
        while b"\n" not in parts[-1]:
            if not select.select([self._out], [], [], PATIENCE_SECS)[0]:
                raise ServerError(f"no answer within {PATIENCE_SECS:g} s")
            chunk = self._out.read(1 << 20)
            if not chunk:
                raise ServerError("the server has ended")
            parts.append(chunk)
        line, _, self._rest = b"".join(parts).partition(b"\n")
        return line

    def close(self) -> None:
        """Close the pipe, and see to it that the server ends."""
        self._in.close()
        try:
            self.process.wait(EXIT_SECS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._out.close()

    def memory(self, field: str) -> float:
        """A figure of /proc/PID/status in MiB: VmRSS now, VmHWM at its highest."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0]) / 1024
        raise ServerError(f"the system does not tell {field}")

    def forget_peak(self) -> None:
        """Have VmHWM start again from what is used now (proc(5), clear_refs)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")


@contextmanager
def serving(argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> Generator[Server]:
    """A server that has shaken hands."""
    server = Server(argv, env, cwd)
    try:
        server.initialize()
        yield server
    finally:
        server.close()
