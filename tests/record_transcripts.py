"""Record what the pinned CLIs print, case by case, against the stand-in model.

    python tests/record_transcripts.py [BACKEND ...] [--case NAME ...]

Writes tests/transcripts/<backend>/<case>/{stdout.jsonl,stderr.txt,meta.json}. Output is kept as it is, but for
the paths of this machine (/TMP, /NPM), the stand-in's port (4242) and the key. Run it after a pin changes, and read
the diff.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from standin.clis import cli_path, npm_folder, pinned_version
from standin.environment import KEY, MODELS, cli_environment
from standin.script import Answer, Garbage, HttpError, Reply, Script, Shell, WriteFile
from standin.server import refusing, serving

TRANSCRIPTS = Path(__file__).parent / "transcripts"
BACKENDS = ("claude", "codex", "gemini")
PROMPT = "What is the answer to the ultimate question?"
TIMEOUT_SECONDS = 90
# Gemini waits 5 s before each retry and prints nothing about it on stdout.
RETRIES = {"claude": 2, "codex": 1, "gemini": 0}
# What stdout shows once the model's answer has begun (Codex shows nothing of it before its end).
BEGUN = {"claude": '"text_delta"', "codex": "turn.started", "gemini": '"delta":true'}
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}

Flags = dict[str, tuple[str, ...]]
Replies = Callable[[str, Path], tuple[Reply, ...]]  # of a backend, in a working directory
ALL: Flags = dict.fromkeys(BACKENDS, ())


@dataclass(frozen=True)
class Case:
    """One recording: what the model does, and the flags of each backend that takes part."""

    replies: Replies
    flags: Flags = field(default_factory=lambda: ALL)
    before: bool = False  # a plain turn goes before,
    resume: bool = False  # which this one resumes
    refuse: bool = False
    model: bool = True
    logged_out: bool = False
    send: signal.Signals | None = None


def says(*replies: Reply) -> Replies:
    """Replies that need no path."""

    def the_same(_: str, __: Path) -> tuple[Reply, ...]:
        return replies

    return the_same


def both_tools(_: str, work: Path) -> tuple[Reply, ...]:
    """A command and a file in one step, then the answer."""
    # One delta each: a path that is cut in two cannot be scrubbed.
    calls = (
        Shell("echo to-stdout; echo to-stderr >&2; printf made > made.txt"),
        WriteFile(str(work / "written.txt"), "first\nsecond\n"),
    )
    return (Answer("I will do both.", calls=calls, deltas=1), Answer("Both files are there."))


def only_shell(_: str, work: Path) -> tuple[Reply, ...]:
    """A command that changes something, then the answer."""
    touch = Shell(f"touch {work}/forbidden.txt")
    return (Answer("Trying.", calls=(touch,), deltas=1), Answer("I was not allowed to."))


def endless_tools(*_: object) -> tuple[Reply, ...]:
    """The model never comes to an end."""
    return tuple(Answer("Again.", calls=(Shell("echo again"),)) for _ in range(9))


MAY_WRITE: Flags = {
    "claude": ("--permission-mode=acceptEdits", "--allowedTools=Bash,Write"),
    "codex": ("-s", "workspace-write"),
    "gemini": ("--approval-mode=yolo",),
}
NOWHERE = str(uuid.UUID(int=7, version=4))
UNKNOWN_SESSION: Flags = {
    "claude": (f"--resume={NOWHERE}",),
    "codex": ("resume", NOWHERE),
    "gemini": ("--resume", NOWHERE),
}
# The bodies of exhausted plans, in the shapes that the CLIs look for (read in their code, not seen from the services).
QUOTAS: dict[str, HttpError] = {
    "claude": HttpError(
        400,
        message="Your credit balance is too low to access the Anthropic API. "
        "Please go to Plans & Billing to upgrade or purchase credits.",
    ),
    "codex": HttpError(
        429,
        body={
            "error": {
                "type": "usage_limit_reached",
                "message": "The usage limit has been reached",
                "plan_type": "plus",
                "resets_in_seconds": 3600,
            }
        },
    ),
    "gemini": HttpError(
        429,
        body={
            "error": {
                "code": 429,
                "status": "RESOURCE_EXHAUSTED",
                "message": "You exceeded your current quota, please check your plan and billing details.",
                "details": [
                    {
                        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                        "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
                    }
                ],
            }
        },
    ),
}
CASES: dict[str, Case] = {
    "plain": Case(says(Answer("The answer is 42. ✓ Grüße\nSecond line."))),
    "thinking": Case(says(Answer("42, I think.", thinking="Deep thought about the question."))),
    "tools": Case(both_tools, MAY_WRITE),
    "denied_tool": Case(only_shell, ALL | {"codex": ("-s", "read-only")}),
    # Gemini CLI then asks a router model first; the result names both.
    "default_model": Case(says(Answer("The answer is 42.")), model=False),
    "resumed": Case(says(Answer("First."), Answer("Second, with all of the first in mind.")), before=True, resume=True),
    "structured": Case(
        says(Answer(structured={"answer": 42})),
        {"claude": (f"--json-schema={json.dumps(SCHEMA)}",), "codex": ("--output-schema", "{schema}")},
    ),
    "unstructured": Case(  # a schema was asked for and the model does not comply
        says(Answer("Forty-two.")), {"claude": (f"--json-schema={json.dumps(SCHEMA)}",)}
    ),
    "max_turns": Case(
        endless_tools,
        {"claude": ("--max-turns=2", *MAY_WRITE["claude"]), "gemini": MAY_WRITE["gemini"]},
    ),
    "max_budget": Case(endless_tools, {"claude": ("--max-budget-usd=0.0001", *MAY_WRITE["claude"])}),
    "max_tokens": Case(says(*[Answer("The answer is", stop="max_tokens")] * 5)),
    "refusal": Case(says(Answer("I cannot say.", stop="refusal"))),
    "empty": Case(says(*[Answer("")] * 9)),
    "unauthorized": Case(says(*[HttpError(401, message="invalid x-api-key")] * 9)),
    "forbidden": Case(says(*[HttpError(403, message="this key may not use this model")] * 9)),
    "model_unknown": Case(says(*[HttpError(404, message="model: no-such-model")] * 9)),
    "bad_request": Case(says(*[HttpError(400, message="messages: too odd")] * 9)),
    "rate_limited": Case(says(*[HttpError(429, message="slow down")] * 9)),
    "rate_limited_long": Case(  # Codex waits for it without a word
        says(*[HttpError(429, retry_after=3600, message="come back later")] * 9), {"claude": (), "gemini": ()}
    ),
    "rate_limited_once": Case(
        says(HttpError(429, retry_after=1, message="slow down"), Answer("The answer is 42.")),
        {"claude": ()},
    ),
    "quota_exhausted": Case(lambda backend, _: (QUOTAS[backend],) * 9),
    "server_error": Case(says(*[HttpError(500, message="something broke")] * 40)),
    "server_error_once": Case(says(HttpError(500), Answer("The answer is 42.")), {"claude": (), "codex": ()}),
    "overloaded": Case(says(*[HttpError(529, message="Overloaded")] * 9), {"claude": ()}),
    "unavailable": Case(says(*[HttpError(503, message="The model is overloaded.")] * 40), {"codex": (), "gemini": ()}),
    "refused": Case(says(), refuse=True),
    "garbage": Case(says(*[Garbage()] * 9)),
    "cut": Case(says(*[Answer("The answer is 42, of course.", broken="cut")] * 9)),
    "no_end": Case(says(*[Answer("The answer is 42.", broken="no_end")] * 9)),
    "error_event": Case(says(*[Answer("The answer is 42.", broken="error_event")] * 9)),
    "terminated": Case(says(Answer("The answer is 42.", hold="middle")), send=signal.SIGTERM),
    "interrupted": Case(says(Answer("The answer is 42.", hold="middle")), send=signal.SIGINT),
    "logged_out": Case(says(), logged_out=True),
    "unknown_session": Case(says(), UNKNOWN_SESSION, before=True),
    "unknown_session_of_none": Case(says(), UNKNOWN_SESSION),
    "bad_flag": Case(says(), dict.fromkeys(BACKENDS, ("--no-such-flag",))),
}


def argv(backend: str, model: str, flags: tuple[str, ...], session: str, resume: str | None) -> list[str]:
    """The command line; the flags go before `resume`, where Codex still takes all of them."""
    chosen = [] if not model else [f"--model={model}"] if backend == "claude" else ["-m", model]
    if backend == "claude":
        base = ["-p", "--output-format=stream-json", "--verbose", "--include-partial-messages", *chosen]
        resuming = any(flag.startswith("--resume") for flag in flags)
        which = [f"--resume={resume}"] if resume else [] if resuming else [f"--session-id={session}"]
        return [*base, *which, *flags]
    if backend == "codex":
        return [
            "exec",
            "--json",
            "--skip-git-repo-check",
            *chosen,
            *flags,
            *(["resume", resume] if resume else []),
            "-",
        ]
    which = ["--resume", resume] if resume else [] if "--resume" in flags else ["--session-id", session]
    return ["-o", "stream-json", *chosen, *which, *flags]


@dataclass(frozen=True)
class Ended:
    """How a process ended, and its output."""

    argv: list[str]
    exit_code: int
    stdout: str
    stderr: str


class Recording:
    """One case of one backend in a folder of its own."""

    def __init__(self, backend: str, name: str, root: Path) -> None:
        self.backend, self.name, self.root = backend, name, root
        self.case = CASES[name]
        self.home, self.work = root / "home", root / "work"
        self.work.mkdir()
        (root / "tmp").mkdir()

    def environment(self, url: str) -> dict[str, str]:
        """The stand-in's environment, with few retries."""
        env = cli_environment(self.backend, self.home, url, retries=RETRIES[self.backend])
        env |= {"TMPDIR": str(self.root / "tmp"), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        if self.backend == "gemini" and self.name == "max_turns":
            settings = self.home / ".gemini" / "settings.json"
            limited = json.loads(settings.read_text(encoding="utf-8")) | {"model": {"maxSessionTurns": 2}}
            settings.write_text(json.dumps(limited), encoding="utf-8")
        if self.case.logged_out:
            env = {name: value for name, value in env.items() if not name.endswith("_API_KEY")}
            config = self.home / ".codex" / "config.toml"
            if config.exists():
                text = config.read_text(encoding="utf-8")
                keyless = re.sub("experimental_bearer_token = .*", 'env_key = "NO_KEY"', text)
                config.write_text(keyless, encoding="utf-8")
        return env

    def run(self, url: str, flags: tuple[str, ...], resume: str | None = None) -> Ended:
        """Start the CLI, send the prompt, signal it where the case wants that, and wait."""
        session = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.name} {flags}"))
        schema = self.root / "schema.json"
        schema.write_text(json.dumps(SCHEMA), encoding="utf-8")
        flags = tuple(flag.replace("{schema}", str(schema)) for flag in flags)
        model = MODELS[self.backend] if self.case.model else ""
        arguments = argv(self.backend, model, flags, session, resume)
        stdin, stdout, stderr = (self.root / name for name in ("stdin", "stdout", "stderr"))
        stdin.write_text(PROMPT if resume is None else "And what was that again?", encoding="utf-8")
        with stdin.open() as given, stdout.open("w") as out, stderr.open("w") as err:
            process = subprocess.Popen(
                [cli_path(self.backend), *arguments],
                env=self.environment(url),
                cwd=self.work,
                stdin=given,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            try:
                if self.case.send is not None:
                    wait_for_text(stdout, BEGUN[self.backend])
                    os.killpg(process.pid, self.case.send)
                code = process.wait(TIMEOUT_SECONDS)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        printed = (path.read_text(encoding="utf-8") for path in (stdout, stderr))
        return Ended([self.backend, *arguments], code, *printed)

    def record(self) -> Ended:
        """Every turn of the case; the last one is what is kept."""
        flags = self.case.flags[self.backend]
        if self.case.refuse:
            with refusing() as url:
                return self.scrubbed(self.run(url, flags), url)
        with serving(Script(queue=self.case.replies(self.backend, self.work))) as standin:
            before = session_of(self.run(standin.url, ()).stdout) if self.case.before else None
            ended = self.run(standin.url, flags, before if self.case.resume else None)
            return self.scrubbed(ended, standin.url)

    def scrubbed(self, ended: Ended, url: str) -> Ended:
        """Without this machine's paths, port and key."""
        slug = re.sub("[^A-Za-z0-9]", "-", str(self.root))
        known = {
            str(self.root): "/TMP",
            slug: "-TMP",
            str(npm_folder()): "/NPM",
            url: "http://127.0.0.1:4242",
            KEY: "KEY",
        }

        def clean(text: str) -> str:
            for secret, shown in known.items():
                text = text.replace(secret, shown)
            return text

        return Ended([clean(part) for part in ended.argv], ended.exit_code, clean(ended.stdout), clean(ended.stderr))


def session_of(stdout: str) -> str:
    """The id that the first turn told."""
    for line in stdout.splitlines():
        event = json.loads(line)
        if found := event.get("thread_id") or event.get("session_id"):
            return str(found)
    raise ValueError("the first turn named no session")


def wait_for_text(path: Path, text: str) -> None:
    """Until the CLI has printed it; a script may poll where a test may not."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while text not in path.read_text(encoding="utf-8", errors="replace"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{text!r} was not printed")
        time.sleep(0.02)


def write(backend: str, name: str) -> str:
    """Record one case and put it on disk; a line about it."""
    with tempfile.TemporaryDirectory(prefix="clinvk-", ignore_cleanup_errors=True) as root:
        ended = Recording(backend, name, Path(root).resolve()).record()
    folder = TRANSCRIPTS / backend / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stdout.jsonl").write_text(ended.stdout, encoding="utf-8")
    (folder / "stderr.txt").write_text(ended.stderr, encoding="utf-8")
    meta = {
        "backend": backend,
        "case": name,
        "version": pinned_version(backend),
        "argv": ended.argv,
        "exit_code": ended.exit_code,
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    return f"{backend}/{name}: exit {ended.exit_code}, {len(ended.stdout)} characters"


def main() -> None:
    """Record what was asked for, or everything."""
    parser = argparse.ArgumentParser(description="Record golden transcripts of the pinned CLIs.")
    parser.add_argument("backends", nargs="*", default=BACKENDS)
    parser.add_argument("--case", action="append", choices=CASES)
    asked = parser.parse_args()
    for backend in asked.backends:
        for name in asked.case or CASES:
            if backend in CASES[name].flags:
                print(write(backend, name), flush=True)


if __name__ == "__main__":
    main()
