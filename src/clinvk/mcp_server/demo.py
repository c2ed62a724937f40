"""The tool set, used by a real MCP client on a real `clinvk mcp` process, with the steps told as they happen."""

import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import anyio
from mcp import Client, MCPError, StdioServerParameters
from pydantic import BaseModel

from clinvk.awaiting import awaited
from clinvk.backends.registry import BUILT_IN
from clinvk.config.cascade import Loaded
from clinvk.errors import Failure
from clinvk.response import (
    BackendsResult,
    ChainResult,
    CompareResult,
    ParallelResult,
    PromptResult,
    RunsResult,
    SessionsResult,
)

STEP_SECS = 180.0  # of one prompt; Gemini CLI takes ten seconds on a slow day
WAIT_SECS = 200.0  # a demo has nobody else to answer
PATIENCE_SECS = 2.0  # what is over sooner needs no progress
SHOWN_CHARS = 100

Say = Callable[[str], None]
Result = TypeVar("Result", bound=BaseModel)


class StepError(Exception):
    """A step did not do what it shows."""


@dataclass(slots=True)
class Stage:
    """The connected client, where it tells, and what the steps hand on."""

    client: Client
    say: Say
    backends: list[str] = field(default_factory=list[str])
    session_id: str = ""
    began: float = field(default_factory=time.monotonic)
    outcomes: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def offline(self) -> bool:
        """Whether no model answers."""
        return self.backends == [BUILT_IN]

    def backend(self, number: int) -> str:
        """The backends in turn."""
        return self.backends[number % len(self.backends)]

    async def progress(self, progress: float, total: float | None, message: str | None) -> None:
        """Tell what the server says while a call goes on."""
        if message and time.monotonic() - self.began > PATIENCE_SECS:
            self.say(f"      … {_short(message)}")

    async def call(self, kind: type[Result], tool: str, arguments: dict[str, Any]) -> Result:
        """Call a tool; its structured result. Raises StepError with what the tool said when it failed."""

        answer = await self.client.call_tool(
            tool, arguments, read_timeout_seconds=WAIT_SECS + 30, progress_callback=self.progress
        )
        structured = answer.structured_content
        if structured is None:
            raise StepError(f"{tool} gave no structured result")
        result = kind.model_validate(structured)
        if answer.is_error:
            raise StepError(_told(getattr(result, "error", None)) or _first_error(result) or f"{tool} failed")
        return result


Step = Callable[[Stage], Awaitable[tuple[str, ...]]]  # the outcome, and lines that show it


def main(
    loaded: Loaded, environ: Mapping[str, str], *, say: Say, offline: bool = False, keep: bool = False
) -> dict[str, Any]:
    """Show every step; the report: `ok`, the backends used, and each step's outcome."""
    return awaited(_shown, loaded, environ, say, offline, keep)


async def _shown(loaded: Loaded, environ: Mapping[str, str], say: Say, offline: bool, keep: bool) -> dict[str, Any]:
    began = time.monotonic()
    say("Starting `clinvk mcp` and connecting an MCP client to it over stdio ...")
    async with _connected(loaded, environ, keep=keep, say=say) as stage:
        info = stage.client.server_info
        tools = [tool.name for tool in (await stage.client.list_tools()).tools]
        name = f"{info.name} {info.version}" if info else "the server"
        say(f"  {name}, MCP {stage.client.protocol_version}, tools: {', '.join(tools)}\n")
        await _choose(stage, offline=offline)
        for number, (title, step) in enumerate(STEPS, start=1):
            await _step(stage, f"{number}/{len(STEPS)} {title}", step)
    failed = [title for title, outcome in stage.outcomes.items() if not outcome.startswith("ok")]
    who = f"the stand-in {BUILT_IN!r} (no model was asked)" if stage.offline else ", ".join(stage.backends)
    verdict = "every step worked" if not failed else f"{len(failed)} of {len(STEPS)} steps FAILED: {'; '.join(failed)}"
    say(f"\nDemo over after {time.monotonic() - began:.0f} s on {who}: {verdict}.")
    if failed and not stage.offline:
        say("`clinvk doctor` looks for the cause; `clinvk demo --offline` shows the same without a model.")
    return {"ok": not failed, "backends": stage.backends, "steps": stage.outcomes}


@asynccontextmanager
async def _connected(loaded: Loaded, environ: Mapping[str, str], *, keep: bool, say: Say) -> AsyncGenerator[Stage]:
    with TemporaryDirectory(prefix="clinvk-demo-") as temporary:
        workdir, home = Path(temporary, "work"), Path(temporary, "home")
        await anyio.Path(workdir).mkdir()
        env = dict(environ)
        if loaded.path.exists():
            env["CLINVK_CONFIG"] = str(loaded.path)
        if not keep:
            env["CLINVK_HOME"] = str(home)
        say(f"  sessions and runs: {loaded.home if keep else f'{home} (removed at the end)'}; agents work in {workdir}")
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "clinvk", "mcp", "--transport=stdio"], env=env, cwd=workdir
        )
        async with Client(server) as client:
            yield Stage(client, say)


async def _choose(stage: Stage, *, offline: bool) -> None:
    found = await stage.call(BackendsResult, "backends", {})
    for info in found.backends:
        if info.name != BUILT_IN:
            state = f"{info.version}, {info.login.replace('_', ' ')}" if info.available else "not installed"
            stage.say(f"  {info.title}: {state}")
    usable = [
        info.name
        for info in found.backends
        if info.name != BUILT_IN and info.available and info.enabled and info.version and info.login != "logged_out"
    ]
    stage.backends = [BUILT_IN] if offline or not usable else usable
    if stage.offline:
        why = "as asked" if offline else "no agent CLI is installed and logged in (see `clinvk doctor`)"
        stage.say(
            f"\nUsing the backend {BUILT_IN!r}: {why}.\n"
            "It is a stand-in that comes with clinvk. NO MODEL is asked, its answers only repeat the prompt.\n"
            "Everything else is real: server, client, processes, sessions."
        )
    else:
        stage.say(
            f"\nUsing {', '.join(stage.backends)} with your own accounts: tiny prompts, sandbox_mode read-only,\n"
            "in an empty folder. This costs about ten short answers."
        )


async def _step(stage: Stage, title: str, step: Step) -> None:
    stage.say(f"\n{title}")
    stage.began = time.monotonic()
    try:
        outcome, *details = await step(stage)
        outcome = f"ok: {outcome}"
    except (StepError, MCPError, TimeoutError, ValueError) as error:
        outcome, details = f"FAILED: {error}", []
    stage.outcomes[title] = outcome
    for detail in details:
        stage.say(f"      {detail}")
    stage.say(f"   {outcome}  [{time.monotonic() - stage.began:.1f} s]")


async def _prompt(stage: Stage) -> tuple[str, ...]:
    result = await stage.call(PromptResult, "prompt", _asked(stage, 0, "Answer with one word: pong"))
    if result.session_id is None:
        raise StepError("the answer belongs to no session")
    stage.session_id = result.session_id
    return f"session {result.session_id}", _answer(result)


async def _continue(stage: Stage) -> tuple[str, ...]:
    arguments = {"prompt": "Which word did you answer with? One word.", "session_id": stage.session_id}
    result = await stage.call(PromptResult, "prompt", {**arguments, "wait_secs": WAIT_SECS, "timeout_secs": STEP_SECS})
    if result.session_id != stage.session_id:
        raise StepError(f"session {stage.session_id} was continued as {result.session_id}")
    return f"session {result.session_id}, turn 2", _answer(result)


async def _parallel(stage: Stage) -> tuple[str, ...]:
    words = ("north", "south", "west")
    tasks = [_task(stage, number, f"Answer with one word: {word}") for number, word in enumerate(words)]
    result = await stage.call(ParallelResult, "parallel", {"tasks": tasks, "wait_secs": WAIT_SECS})
    if result.completed != len(tasks):
        raise StepError(f"{result.completed} of {len(tasks)} tasks completed: {_first_error(result)}")
    return f"{len(tasks)} answers in {result.total_duration_ms} ms", *map(_answer, result.results)


async def _chain(stage: Stage) -> tuple[str, ...]:
    steps = [
        {**_task(stage, 0, "Name one colour. Answer with one word."), "name": "colour"},
        _task(stage, 1, "Name a fruit of this colour, in one word: {{steps.colour}}"),
    ]
    result = await stage.call(ChainResult, "chain", {"steps": steps, "wait_secs": WAIT_SECS})
    if result.completed_steps != len(steps):
        raise StepError(f"step {result.failed_step} failed: {_first_error(result)}")
    return f"{result.completed_steps} steps", *map(_answer, result.results)


async def _compare(stage: Stage) -> tuple[str, ...]:
    result = await stage.call(
        CompareResult,
        "compare",
        {
            "prompt": "Is a tomato a fruit? Answer with one word.",
            "backends": stage.backends,
            "timeout_secs": STEP_SECS,
            "wait_secs": WAIT_SECS,
        },
    )
    failed = [one.backend for one in result.results if one.status != "completed"]
    if failed:
        raise StepError(f"no answer from {', '.join(failed)}: {_first_error(result)}")
    ranking = [f"{ranked.place}. {ranked.backend} in {ranked.duration_ms} ms" for ranked in result.ranking]
    return "; ".join(ranking), *map(_answer, result.results)


async def _background(stage: Stage) -> tuple[str, ...]:
    begun = await stage.call(
        PromptResult, "prompt", {**_asked(stage, 0, "Answer with one word: later"), "wait_secs": 0}
    )
    waited = await stage.call(RunsResult, "runs", {"action": "wait", "run_id": begun.run_id, "wait_secs": WAIT_SECS})
    if not isinstance(waited.result, PromptResult) or waited.result.status != "completed":
        raise StepError(_first_error(waited) or f"run {begun.run_id} did not complete")
    return f"answered {begun.status!r} at once; run {begun.run_id} was fetched later", _answer(waited.result)


async def _sessions(stage: Stage) -> tuple[str, ...]:
    listed = await stage.call(SessionsResult, "sessions", {"action": "list"})
    shown = await stage.call(SessionsResult, "sessions", {"action": "show", "session_id": stage.session_id})
    turns = shown.turns or []
    if len(turns) != 2:
        raise StepError(f"session {stage.session_id} has {len(turns)} turns, not 2")
    said = [f"{turn.backend}: {_short(turn.prompt)!r} -> {_short(turn.output)!r}" for turn in turns]
    return f"{listed.total} sessions; {stage.session_id} has {len(turns)} turns", *said


STEPS: tuple[tuple[str, Step], ...] = (
    ("prompt: one question to one agent", _prompt),
    ("prompt with session_id: the same conversation goes on", _continue),
    ("parallel: three tasks at once", _parallel),
    ("chain: each step gets the answer before it", _chain),
    ("compare: one question to all", _compare),
    ("runs: start now, fetch later", _background),
    ("sessions: everything was kept", _sessions),
)


def _task(stage: Stage, number: int, prompt: str) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "backend": stage.backend(number),
        "sandbox_mode": "read-only",
        "timeout_secs": STEP_SECS,
    }


def _asked(stage: Stage, number: int, prompt: str) -> dict[str, Any]:
    return {**_task(stage, number, prompt), "wait_secs": WAIT_SECS}


def _answer(result: PromptResult) -> str:
    if result.status not in ("completed", "running"):
        raise StepError(_told(result.error) or f"{result.backend} ended as {result.status}")
    return f"{result.backend}: {_short(result.output)!r}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARS else line[: SHOWN_CHARS - 1] + "…"


def _told(failure: Failure | None) -> str:
    if failure is None:
        return ""
    return f"{failure.code}: {failure.message}" + (f" (hint: {failure.hint})" if failure.hint else "")


def _first_error(result: BaseModel) -> str:
    inner = getattr(result, "result", None)
    if isinstance(inner, PromptResult):
        return _told(inner.error)
    parts: list[PromptResult] = getattr(result, "results", None) or []
    return next((_told(part.error) for part in parts if part.error), "")
