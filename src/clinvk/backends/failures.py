"""Failures that every backend tells alike: how a process ended, and what an error text means.

The CLIs have no common error format; what they share are HTTP status codes and a few phrases. A failure
names what the backend said and what to do about it.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from clinvk.backends.lines import EMPTY, count_of, object_of, parse, shorten, text_of
from clinvk.errors import RETRYABLE, ErrorCode, Failure
from clinvk.events import Ending

MESSAGE_CHARS = 1_000
SOON_SECS = 300.0  # a quota that is back so soon is a rate: Google calls its limit per minute a quota


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about failures of one backend."""

    backend: str
    title: str
    log_in: str
    models: str
    update: str


def failure(
    advice: Advice,
    code: ErrorCode,
    message: str,
    *,
    hint: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> Failure:
    """A failure of one backend, its message shortened."""
    return Failure(
        code=code,
        message=shorten(message.strip(), MESSAGE_CHARS),
        backend=advice.backend,
        details=dict(details or {}),
        retryable=code in RETRYABLE,
        hint=hint,
    )


def ended(advice: Advice, ending: Ending) -> Failure | None:
    """The failure of a process that did not come to its own end, None when it did."""
    title = advice.title
    if ending.reason == "exited":
        return None
    code, default, hint = _ENDINGS[ending.reason]
    if ending.reason == "spawn_failed":
        hint = f"run `clinvk doctor` to see how {title} is found; {advice.update}"
    message = ending.message or default.format(title=title)
    return failure(advice, code, message, hint=hint, details={"reason": ending.reason})


_ENDINGS: Mapping[str, tuple[ErrorCode, str, str]] = {
    "cancelled": ("cancelled", "{title} was stopped because the run was cancelled", "what it wrote is kept"),
    "timeout": (
        "timeout",
        "{title} was stopped at the run's deadline",
        "raise timeout_secs, or ask for less in one prompt; what it wrote is kept",
    ),
    "stalled": (
        "stalled",
        "{title} was stopped because it wrote nothing for too long",
        "try again; if it happens each time, run the CLI by hand to see what it waits for",
    ),
    "output_limit": (
        "output_unreadable",
        "{title} was stopped because it wrote more than a run may write",
        "ask for less output or raise limits.max_output_bytes; what it wrote so far is kept",
    ),
    "disk_full": (
        "internal",
        "{title} was stopped because its output could not be saved: no space left on the disk",
        "free space where CLINVK_HOME is; `clinvk runs clean` removes old runs",
    ),
    "spawn_failed": ("spawn_failed", "{title} could not be started", ""),
    "interrupted": (
        "interrupted",
        "the run was cut off because clinvk itself was stopped",
        "start it again; what it wrote is kept",
    ),
}

_LOGIN = re.compile(
    r"not logged in|please (run|use) /?login|/login|log ?in again|unauthori[sz]ed|authentication"
    r"|invalid (api|x-api|bearer)[ -]?(key|token)|api key not (valid|found)|missing api key|missing bearer"
    r"|missing environment variable|auth method|credentials|token (has )?expired|oauth|permission_error",
    re.IGNORECASE,
)
_QUOTA = re.compile(
    r"insufficient[_ ]quota|exceeded your (current )?quota|quota (exceeded|exhausted)|exhausted your"
    r"|usage limit|weekly limit|daily limit|monthly limit|(?<!rate[ _-])limit reached|credit balance|out of credits"
    r"|billing|payment required|terminalquota",
    re.IGNORECASE,
)
_RATE = re.compile(r"rate[_ -]?limit|too many requests|resource_exhausted|\b429\b", re.IGNORECASE)
_MODEL = re.compile(
    r"model[^.\n]{0,120}(not found|does not exist|not exist|not supported|may not exist|unknown|invalid"
    r"|not available|no access)|(unknown|invalid|unsupported|no such) model|models/\S+ is not found"
    r"|issue with the selected model|model_not_found|not_found_error|^\W*(API Error: )?model: \S+\W*$",
    re.IGNORECASE,
)
_SESSION = re.compile(
    r"no conversation found|no rollout found|invalid session identifier|session (id )?[^\n]{0,80}not found"
    r"|no previous sessions? found|thread not found|error resuming session",
    re.IGNORECASE,
)
_FLAG = re.compile(
    r"^(?:error: )?(?:unknown (?:option|argument|flag)s?|unexpected argument|unrecognized (?:option|argument)"
    r"|invalid (?:value|option|argument)s?|option '[^']{0,80}' argument|not enough arguments"
    r"|[^\n]{0,80}cannot be used with|error loading config[^\n]{0,40}unknown configuration field[^\n]{0,200}override)",
    re.IGNORECASE,
)
_FLAG_NAME = re.compile(
    r"(?<![\w-])--?[A-Za-z][\w-]*|(?<=unknown argument: )\w[\w-]*|(?<=unknown arguments: )\w[\w-]*"
    r"|(?<=argument: )\w[\w-]*|(?<=configuration field `)[\w.-]+",
    re.IGNORECASE,
)
_TRANSIENT = re.compile(
    r"overloaded|at capacity|high demand|temporar|transient|server error|internal error|bad gateway|unavailable"
    r"|connection|network|timed? ?out|econn|socket|terminated|fetch failed|dns|exceeded retry"
    r"|stream (disconnected|closed|ended|error)",
    re.IGNORECASE,
)
_OVERLOADED = re.compile(
    r"overloaded_error|server_is_overloaded|\b(model|service|server|api|system)\b[^\n]{0,60}\boverloaded\b"
    r"|^\W*(api error\W*)?(\d{3}\W*)?overloaded\b|\b(is|are) at capacity",
    re.IGNORECASE,
)
_STATUS = re.compile(r"(?:status|code|error|http)\W{0,6}(?:code\W{0,3})?([45]\d\d)\b", re.IGNORECASE)
_RETRY_AFTER = re.compile(
    r"(?:retry[- ]?(?:after|in|delay)|try again in|reset(?:s)? (?:after|in))\W{0,4}(\d+(?:\.\d+)?)\s*"
    r"(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hours?)?\b",
    re.IGNORECASE,
)
_UNITS = {"ms": 0.001, "mi": 60.0, "m": 60.0, "s": 1.0, "h": 3600.0}


def retry_after(text: str) -> float | None:
    """Seconds to wait, where an error text tells."""
    found = _RETRY_AFTER.search(text)
    if not found:
        return None
    unit = (found[2] or "s").lower()
    if unit.startswith("milli"):
        unit = "ms"
    factor = _UNITS.get(unit[:2]) or _UNITS[unit[:1]]
    return float(found[1]) * factor


def unwrapped(message: str) -> tuple[str, int | None]:
    """An API's error object inside a message as its plain text, and its HTTP status where it names one."""
    start, end = message.find("{"), message.rfind("}")
    told = parse(message[start : end + 1].encode("utf-8", "replace")) if 0 <= start < end else None
    error = object_of(told or EMPTY, "error")
    text = text_of(error, "message")
    if not text:
        return message, None
    code = count_of(error, "code")
    kind = text_of(error, "status", "type")
    plain = f"{text} ({kind})" if kind and kind not in text else text
    return plain, code if code and 400 <= code < 600 else None


def status_in(text: str) -> int | None:
    """The HTTP status that an error text names."""
    found = _STATUS.search(text)
    return int(found[1]) if found else None


def classify(advice: Advice, message: str, status: int | None = None) -> Failure:
    """What an error that the backend's model or service gave means; `status` is the HTTP one, if told."""
    message, told = unwrapped(message)
    status = next((each for each in (status, told, status_in(message)) if each is not None), None)
    details: dict[str, Any] = {} if status is None else {"http_status": status}
    code, hint = _meaning(advice, message, status)
    made = failure(
        advice, code, message.strip() or f"{advice.title} failed without a message", hint=hint, details=details
    )
    if code in ("rate_limited", "quota_exhausted", "overloaded"):
        made = replace(made, retry_after_secs=retry_after(message))
    if code == "backend_error" and ((status or 0) >= 500 or status == 408 or _TRANSIENT.search(message)):
        made = replace(made, retryable=True)
    return made


def _meaning(advice: Advice, message: str, status: int | None) -> tuple[ErrorCode, str]:
    if _SESSION.search(message):
        return "session_lost", "start a new session; clinvk keeps the turns of the old one"
    passes = (retry_after(message) or math.inf) <= SOON_SECS
    if status == 402 or (_QUOTA.search(message) and status in (None, 400, 403, 429) and not passes):
        return (
            "quota_exhausted",
            f"the plan or budget of {advice.title} is used up; use another backend or wait",
        )
    if status == 429 or (status is None and (_RATE.search(message) or _QUOTA.search(message))):
        return "rate_limited", f"wait, or run fewer prompts of {advice.title} at once"
    if status == 404 or (status in (None, 400, 403) and _MODEL.search(message)):
        return "model_unknown", advice.models
    if status in (401, 403) or (status in (None, 400) and _LOGIN.search(message)):
        return "auth_required", advice.log_in
    return _trouble(advice, message, status)


def _trouble(advice: Advice, message: str, status: int | None) -> tuple[ErrorCode, str]:
    """What it means that a service cannot do what may be asked of it."""
    if status == 529 or ((status or 500) >= 500 and _OVERLOADED.search(message)):
        return "overloaded", f"the service behind {advice.title} has too much to do; wait, or use another backend"
    return "backend_error", f"what {advice.title} said is in the message; try again, or use another backend"


def start_failure(advice: Advice, stderr: str, exit_code: int | None) -> Failure:
    """What a backend that gave no result at all means, from what it wrote on stderr."""
    details = {"exit_code": exit_code}
    rejected = _rejection(stderr)
    if rejected:
        return rejected_flag(advice, rejected)
    message = said(stderr)
    if message:
        made = classify(advice, message)
        return replace(made, details={**made.details, **details})
    if exit_code == 0:
        text = f"{advice.title} ended without a final result"
        return failure(advice, "output_unreadable", text, hint=advice.update, details=details)
    text = f"{advice.title} exited with code {exit_code} and said nothing"
    hint = "run the CLI by hand to see why"
    if exit_code is not None and exit_code > 128:
        text = f"{advice.title} was ended from outside by signal {exit_code - 128}"
        hint = "the system may be short of memory; try again"
    return failure(advice, "backend_error", text, hint=hint, details=details)


def _rejection(stderr: str) -> str:
    """The line that refuses a flag, with the next one where it ends in a colon; "" when there is none."""
    lines = [line.strip() for line in _COLOUR.sub("", stderr).splitlines()]
    for number, line in enumerate(lines):
        if _FLAG.match(line):
            return " ".join(lines[number : number + (2 if line.endswith(":") else 1)])
    return ""


def rejected_flag(advice: Advice, message: str) -> Failure:
    """A flag or value of ours that the installed version does not know."""
    found = _FLAG_NAME.search(message)
    flag = found[0] if found else None
    if flag is not None and "configuration field" not in message:
        flag = "--" + flag.lstrip("-")
    return failure(
        advice,
        "backend_changed",
        f"the installed {advice.title} does not accept {flag or 'an option'}: {message}",
        hint=f"{advice.update}; or update clinvk, or leave out the option that needs it",
        details={"flag": flag},
    )


_NOISE = re.compile(
    r"^(warning:|\(node:|reading (additional input|prompt) from stdin|ripgrep is not available|\s+at |usage:|"
    r"for more information|tip:|\[startup\]|\d{4}-\d\d-\d\dt\S+ +warn|loaded cached credentials|for security)",
    re.IGNORECASE,
)

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def said(stderr: str) -> str:
    """The lines of `stderr` that tell something, without warnings and stack traces; at most eight."""
    lines = _COLOUR.sub("", stderr).splitlines()
    kept = [line.strip() for line in lines if line.strip() and not _NOISE.match(line)]
    return shorten("\n".join(kept[-8:]), MESSAGE_CHARS)


def unproven(advice: Advice, *, asked: str | None, given: str, answered: bool) -> Failure | None:
    """What is wrong with a run that says of itself that it went well: another session, or nothing done at all."""
    if asked and given != asked:
        return lost(advice, asked, given or "no session")
    return None if answered else empty(advice)


def empty(advice: Advice) -> Failure:
    """A run that ended well and said and did nothing."""
    return failure(
        advice,
        "output_unreadable",
        f"{advice.title} ended without an error, but gave no answer and used no tool",
        hint="try again; a very long prompt or an update of the CLI can cause it",
    )


def lost(advice: Advice, asked: str, given: str) -> Failure:
    """Another conversation was continued than the one that was asked for."""
    return failure(
        advice,
        "session_lost",
        f"{advice.title} was asked to continue session {asked}, but answered as {given}",
        hint="start a new session; clinvk keeps the turns of the old one",
        details={"asked": asked, "given": given},
    )


def mismatch(advice: Advice, why: str) -> Failure:
    """The answer is not the JSON that `output_schema` asked for."""
    return failure(
        advice,
        "output_unreadable",
        f"{advice.title} gave no answer that fits output_schema: {why}",
        hint="try again, or make output_schema simpler; what it answered is kept as the output of its run",
    )


def blocked(advice: Advice, denied: tuple[str, ...]) -> Failure:
    """A run that ended because an action was not approved."""
    return failure(
        advice,
        "permission_blocked",
        f"{advice.title} stopped because it was not allowed to go on: {'; '.join(denied[:3])}",
        hint="allow it with approval_mode or sandbox_mode, or ask for something that needs no such action",
        details={"denied": list(denied)},
    )


def naming_version(failure: Failure, version: str | None) -> Failure:
    """`backend_changed` with the installed version in it, for the caller that knows it."""
    if failure.code != "backend_changed" or not version:
        return failure
    return replace(
        failure,
        message=f"{failure.message} (installed version: {version})",
        details={**failure.details, "version": version},
    )
