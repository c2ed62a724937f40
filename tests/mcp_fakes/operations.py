"""Operations without agents behind them, and servers that offer them.

Started as a script it serves them on stdio, or with words like `mcp.port=0` on HTTP. The prompt says what happens:
`echo TEXT`, `print TEXT` (on standard output), `refuse ID`, `crash`, `fail`, or `wait` until cancelled (`stubborn`: and
for ever after), leaving the files `waiting` and `cancelled` in the workdir.
"""

import os
import subprocess
import sys
from pathlib import Path

import anyio

from clinvk.backends import registry
from clinvk.config.cascade import load, readings
from clinvk.errors import ClinvkError, Failure
from clinvk.events import RunFinished, RunStarted, TextDelta, ToolStarted
from clinvk.mcp_server import http, signals, stdio
from clinvk.mcp_server import server as servers
from clinvk.request import (
    CancelRequest,
    ChainRequest,
    CompareRequest,
    ParallelRequest,
    PromptRequest,
    RunsRequest,
    SessionEditRequest,
    SessionsRequest,
)
from clinvk.response import (
    BackendInfo,
    BackendsResult,
    CancelResult,
    ChainResult,
    CompareResult,
    DryRunResult,
    ParallelResult,
    PromptResult,
    Ranked,
    RunsResult,
    RunSummary,
    SessionEditResult,
    SessionsResult,
    SessionSummary,
    StepResult,
    TaskResult,
)
from clinvk.tools.caller import Caller
from clinvk.web import listener
from clinvk.web.keys import Keyring


def flags_of(words: list[str]) -> dict[str, object]:
    """Flags given as words like `mcp.port=0`."""
    return {key: readings(value)[1] for key, _, value in (word.partition("=") for word in words)}


SESSION = SessionSummary(
    id="5e55",
    backend="claude",
    title="greeting",
    status="completed",
    created_at="2026-11-21T00:00:00Z",
    last_used="2026-11-21T00:00:00Z",
    working_dir="/work",
    turn_count=1,
)
RUN = RunSummary(run_id="4f4f", kind="prompt", status="completed", unread=True, created_at="2026-11-21T00:00:00Z")


def _tell(caller: Caller, run_id: str, backend: str, text: str) -> None:
    if caller.listener is not None:
        caller.listener(run_id, backend, RunStarted(run_id, backend))
        caller.listener(run_id, backend, ToolStarted("t1", "Bash", "ls"))
        caller.listener(run_id, backend, TextDelta(text))
        caller.listener(run_id, backend, RunFinished(run_id, "completed"))


class FakeOperations:
    """Answers at once, unless the prompt says otherwise."""

    def __init__(self) -> None:
        self.prompts: list[tuple[PromptRequest, Caller]] = []
        self.waiting = anyio.Event()
        self.cancelled = anyio.Event()

    async def prompt(self, request: PromptRequest, caller: Caller) -> PromptResult | DryRunResult:
        self.prompts.append((request, caller))
        backend = request.backend or "claude"
        if request.dry_run:
            return DryRunResult(backend=backend, argv=["claude", "-p"], cwd="/work", env=["HOME"], stdin_chars=3)
        word, _, rest = request.prompt.partition(" ")
        done = PromptResult(run_id="4f4f", status="completed", backend=backend, session_id="5e55", output=rest)
        match word:
            case "wait":
                await self._wait(Path(request.workdir) if request.workdir else None)
            case "stubborn":
                await self._wait(Path(request.workdir) if request.workdir else None, stubborn=True)
            case "print":
                print(rest, flush=True)
                subprocess.run(["echo", rest], check=True)  # noqa: ASYNC221 - the child is what is tested
            case "refuse":
                raise ClinvkError("session_not_found", f"no session {rest!r}", hint="list them with sessions")
            case "crash":
                raise RuntimeError("a secret of the server")
            case "fail":
                error = Failure(code="timeout", message="no answer in 5 s", backend=backend, hint="raise timeout_secs")
                return done.model_copy(update={"status": "failed", "partial": True, "error": error})
            case _:
                _tell(caller, "4f4f", backend, rest)
        return done

    async def _wait(self, folder: Path | None, *, stubborn: bool = False) -> None:
        self.waiting.set()
        if folder:
            (folder / "waiting").touch()
        try:
            await anyio.sleep_forever()
        finally:
            self.cancelled.set()
            if folder:
                (folder / "cancelled").touch()
            if stubborn:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep_forever()

    async def parallel(self, request: ParallelRequest, caller: Caller) -> ParallelResult:
        results: list[TaskResult] = []
        for number, task in enumerate(request.tasks, 1):
            backend = task.backend or "claude"
            _tell(caller, f"r{number}", backend, task.prompt)
            results.append(
                TaskResult(
                    run_id=f"r{number}",
                    status="completed",
                    backend=backend,
                    output=task.prompt,
                    task=number,
                    id=task.id,
                    name=task.name,
                )
            )
        return ParallelResult(
            run_id="4f4f",
            status="completed",
            total_tasks=len(results),
            completed=len(results),
            failed=0,
            cancelled=0,
            total_duration_ms=7,
            results=results,
        )

    async def chain(self, request: ChainRequest, caller: Caller) -> ChainResult:
        error = Failure(code="backend_error", message="exit status 1", backend="codex")
        results = [
            StepResult(run_id="r1", status="completed", backend="claude", output="plan", step=1, name="plan"),
            StepResult(run_id="r2", status="failed", backend="codex", output="half", partial=True, error=error, step=2),
        ]
        return ChainResult(
            run_id="4f4f",
            status="failed",
            total_steps=len(request.steps),
            completed_steps=1,
            failed_step=2,
            total_duration_ms=9,
            results=results,
        )

    async def compare(self, request: CompareRequest, caller: Caller) -> CompareResult:
        backends = request.backends or ["claude", "codex"]
        return CompareResult(
            run_id="4f4f",
            status="completed",
            prompt=request.prompt,
            backends=backends,
            total_duration_ms=9,
            results=[PromptResult(run_id=name, status="completed", backend=name, output=name) for name in backends],
            ranking=[Ranked(place=place, backend=name, duration_ms=place) for place, name in enumerate(backends, 1)],
        )

    async def sessions(self, request: SessionsRequest, caller: Caller) -> SessionsResult:
        if request.session_id not in (None, SESSION.id):
            raise ClinvkError("session_not_found", f"no session {request.session_id!r}")
        if request.action == "show":
            return SessionsResult(total=1, limit=request.limit, offset=0, session=SESSION, turns=[])
        return SessionsResult(sessions=[SESSION], total=1, limit=request.limit, offset=request.offset)

    async def session_edit(self, request: SessionEditRequest, caller: Caller) -> SessionEditResult:
        return SessionEditResult(action=request.action, session=SESSION, deleted=request.action == "delete")

    async def runs(self, request: RunsRequest, caller: Caller) -> RunsResult:
        if request.run_id not in (None, RUN.run_id):
            raise ClinvkError("run_not_found", f"no run {request.run_id!r}")
        if request.action == "list":
            return RunsResult(runs=[RUN], total=1)
        if request.action == "output":
            return RunsResult(text="the whole output", offset=0, total_chars=16)
        return RunsResult(run=RUN, result=PromptResult(run_id="4f4f", status="completed", backend="claude", output="4"))

    async def cancel(self, request: CancelRequest, caller: Caller) -> CancelResult:
        return CancelResult(run_id=request.run_id, status="cancelled")

    async def backends(self, caller: Caller) -> BackendsResult:
        claude = BackendInfo(
            name="claude", title="Claude Code", models=["opus", "sonnet"], available=True, enabled=True
        )
        codex = BackendInfo(name="codex", title="Codex", default_model="configured", available=True, enabled=True)
        return BackendsResult(backends=[claude, codex], default_backend="claude")


async def _stdio() -> None:
    server = servers.build(FakeOperations(), cwd=Path.cwd(), wait_secs=90)
    async with signals.cancelled_by_signal() as stopped:
        with stopped:
            await stdio.serve(servers.lowlevel(server))


async def _http(flags: dict[str, object]) -> None:
    loaded = load(os.environ, known_backends=registry.BACKENDS, flags=flags)
    server = servers.build(FakeOperations(), cwd=Path.cwd(), wait_secs=90)
    with listener.bound(loaded, "mcp") as listening:
        await http.serve(server, loaded, listening, Keyring(loaded.home, os.environ))


if __name__ == "__main__":
    signals.exit_quietly_while_starting()
    if sys.argv[1:]:
        anyio.run(_http, flags_of(sys.argv[1:]))
    else:
        anyio.run(_stdio)
