"""The built-in backend `offline`: no model, no network, no login; it is for trying clinvk out and for tests.

It runs as a process of its own like every other backend (see `offline_agent`), and says in every answer that no
model was asked. It touches no file but its own conversations.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from clinvk.backends import failures
from clinvk.backends.base import Capabilities, Command, Installation, Login, Turn, require
from clinvk.backends.failures import Advice
from clinvk.backends.lines import EMPTY, JsonObject, parse, text_of
from clinvk.backends.structured import Answer
from clinvk.backends.values import bound
from clinvk.errors import ERROR_CODES, ClinvkError, ErrorCode, Failure
from clinvk.events import Ending, Event, Outcome, SessionStarted, TextDelta, TextEnd

NAME = "offline"
TITLE = "Offline stand-in"
EXECUTABLE = sys.executable
INSTALL_HINT = "it comes with clinvk"
MODELS = ("offline",)
ENVIRONMENT = ("CLINVK_OFFLINE_HOME",)
CAPABILITIES = Capabilities(
    approval_modes=("default", "auto", "none"),
    sandbox_modes=("default", "read-only", "workspace", "full"),
    options=frozenset({"model", "system_prompt", "ephemeral", "output_schema"}),
    streams_text=True,
    notes={
        "prompt": "answers with the prompt; directives: offline:sleep=SECONDS, offline:chars=N, "
        "offline:json=TEXT, offline:fail=CODE, offline:exit=N",
        "sandbox_mode": "touches no files in any mode",
        "model": "only the name offline",
    },
)
ADVICE = Advice(
    backend=NAME,
    title=TITLE,
    log_in="it needs no login",
    models="leave model out, or use offline",
    update="it comes with clinvk",
)
AGENT = Path(__file__).with_name("offline_agent.py")


def program(path: Path) -> tuple[str, ...]:
    """This Python, isolated from the user's variables and site packages, with the agent's file."""
    return (str(path), "-I", str(AGENT))


def settings_folder(environ: Mapping[str, str], home: Path) -> Path:
    """Where the agent keeps its conversations."""
    own = environ.get("CLINVK_OFFLINE_HOME")
    return Path(own) if own else Path(environ.get("CLINVK_HOME") or home / ".clinvk") / "offline"


def parse_version(text: str) -> str | None:
    """`clinvk-offline 1`."""
    found = re.search(r"^clinvk-offline (\d+)", text, re.MULTILINE)
    return found[1] if found else None


def login(environ: Mapping[str, str], home: Path) -> Login:
    """There is none."""
    return Login(state="logged_in", how="needs no login")


def command(turn: Turn, installation: Installation) -> Command:
    """The agent with the prompt on stdin."""
    require(turn, NAME, CAPABILITIES)
    if turn.model not in (None, *MODELS):
        raise ClinvkError(
            "model_unknown",
            f"the offline backend has no model {turn.model!r}",
            hint=ADVICE.models,
            backend=NAME,
            details={"option": "model", "value": turn.model},
        )
    argv = list(installation.program)
    if turn.resume_id is not None:
        argv += [bound("--resume", turn.resume_id)]
    elif not turn.ephemeral:
        argv += [bound("--session", turn.new_id)]
    if turn.ephemeral:
        argv.append("--ephemeral")
    if turn.model is not None:
        argv.append(bound("--model", turn.model))
    if turn.system_prompt is not None:
        argv.append(f"--system-prompt-chars={len(turn.system_prompt)}")
    return Command(argv=tuple(argv), cwd=turn.workdir, stdin=turn.prompt.encode(), expect_session=turn.resume_id)


class OfflineReader:
    """One process's output."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._session = ""
        self._result: JsonObject | None = None
        self._said = False
        self._answer = Answer(turn.output_schema)

    def feed(self, line: bytes) -> Sequence[Event]:
        """Events of one line."""
        data = parse(line) or EMPTY
        match data.get("type"):
            case "started":
                self._session = text_of(data, "session")
                return [SessionStarted(self._session, NAME)] if self._session else []
            case "text":
                text = text_of(data, "text")
                self._said = self._said or bool(text)
                self._answer.add(text)
                return [TextDelta(text)] if text else []
            case "result":
                self._result = data
                return [TextEnd()] if self._said else []
            case _:
                return []

    def outcome(self, ending: Ending) -> Outcome:
        """Judge the run."""
        value, why = self._answer.read()
        failure = self._failure(ending)
        if failure is None and why:
            failure = failures.mismatch(ADVICE, why)
        return Outcome(
            failure=failure,
            backend_session_id=self._session or None,
            model=NAME,
            stop_reason="end" if failure is None else None,
            structured_output=value,
        )

    def _failure(self, ending: Ending) -> Failure | None:
        stopped = failures.ended(ADVICE, ending)
        if stopped:
            return stopped
        if self._result is None:
            return failures.start_failure(ADVICE, ending.stderr_tail, ending.exit_code)
        if self._result.get("ok") is not True or ending.exit_code != 0:
            told = text_of(self._result, "code")
            code: ErrorCode = "backend_error"
            for known in ERROR_CODES:
                code = known if known == told else code
            message = text_of(self._result, "message") or "the offline backend failed"
            return failures.failure(ADVICE, code, message, hint="the prompt's offline: directives decide")
        return failures.unproven(ADVICE, asked=self._turn.resume_id, given=self._session, answered=self._said)


def reader(turn: Turn) -> OfflineReader:
    """Reads the agent's JSON lines."""
    return OfflineReader(turn)
