"""A scripted agent CLI: one program that speaks as much of claude's, codex's and gemini's stream as clinvk reads.

`install(folder, "claude", ...)` puts launchers into a folder that a test puts on PATH. What the agent does is decided
by its *steps*, taken from the prompt (`prompt(...)` writes them into one), else from `<folder>/<name>.steps` (a JSON
list, see `decide`), else it answers `echo: <prompt>`. Each call is noted in `<folder>/<name>.calls` (see `calls`).

Steps are JSON objects with one key, done in order:

    {"answer": TEXT}          one whole assistant message
    {"say": TEXT}             a piece of a message that goes on
    {"chars": N}              one message of N characters on one line
    {"flood": MIB}            so many MiB of text in lines of about 1 KiB
    {"raw": TEXT}             these characters on standard output (latin-1, so that any byte can be given)
    {"stderr": TEXT}          these characters on standard error
    {"write": [NAME, TEXT]}   a file, relative to the working directory
    {"spawn": [KIND, ...]}    processes that try to outlive it (see KINDS); it goes on when they are up
    {"ignore": true}          ignore SIGTERM, SIGINT and SIGHUP from here on
    {"ask": COMMAND}          claude: ask whether it may run this shell command; runs it when allowed
    {"reach": FIFO}           tell the test that this point is reached: {"pid": .., "spawned": {KIND: PID, ..}, ...}
    {"wait": FIFO}            wait until the test opens the FIFO for writing and closes it
    {"hang": true}            do nothing, for ever
    {"close": true}           close standard output
    {"kill": N}               send itself signal N
    {"exit": CODE}            end at once, without a final event
    {"fail": TEXT}            end with the CLI's final event of a failure, exit code 1
    {"torn": true}            the final event gets no newline

After the last step comes the final event of a success and exit 0; with no message among the steps the answer is
`done`. Nothing here sleeps: tests hold an agent at a `reach` or `wait` with a FIFO.

KINDS: `plain` ignores signals; `setsid` does so in a session of its own; `daemon` is double-forked; `cleared` is a
daemon with an empty environment; `writer` writes to the inherited standard output without end
as soon as the agent has ended;
`hydra` forks anew and ends, again and again. All but `cleared` hold the inherited pipes.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

KINDS = ("plain", "setsid", "daemon", "cleared")
VERSIONS = {"claude": "2.1.329 (Claude Code)", "codex": "codex-cli 0.169.0", "gemini": "0.61.0"}
MARK = "agent steps: "
LINE = "x" * 1000
WALL = (b"x" * 4095 + b"\n") * 256

Step = dict[str, Any]


# What tests use


def install(folder: Path, *names: str) -> Path:
    """Put launchers under these backends' names into `folder`, which is made; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or VERSIONS:
        launcher = folder / name
        launcher.write_text(
            f"#!{sys.executable} -IS\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            f"import agent\nagent.main({name!r}, {str(folder)!r})\n",
            encoding="utf-8",
        )
        launcher.chmod(0o755)
    return folder


def prompt(*steps: Step, text: str = "do as you are told") -> str:
    """A prompt that holds the steps."""
    return f"{text}\n{MARK}{json.dumps(steps)}"


def decide(folder: Path, name: str, *steps: Step) -> None:
    """The steps of an agent whose prompt holds none."""
    (folder / f"{name}.steps").write_text(json.dumps(steps), encoding="utf-8")


def calls(folder: Path, name: str) -> list[dict[str, Any]]:
    """What the agent was called with so far, oldest first: argv, cwd, env, prompt, pid."""
    try:
        lines = (folder / f"{name}.calls").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


# The agent itself; standard library only


class Agent:
    """One call of the CLI."""

    def __init__(self, name: str, folder: Path, argv: list[str]) -> None:
        self.name = name
        self.argv = argv
        self.spawned: dict[str, int] = {}
        self.torn = False
        self.said = False
        self.open = False
        self.asked = 0
        self.denials: list[Step] = []
        self.prompt = self._prompt()
        self.session = self._session()
        self.message = 0
        self._note(folder)
        self.steps = self._steps(folder)

    def _prompt(self) -> str:
        if "--input-format=stream-json" not in self.argv:
            return sys.stdin.buffer.read().decode("utf-8", "replace")
        content = json.loads(sys.stdin.buffer.readline())["message"]["content"]
        return "".join(part["text"] for part in content if part["type"] == "text")

    def _session(self) -> str:
        for flag in ("--session-id=", "--resume="):
            for word in self.argv:
                if word.startswith(flag):
                    return word[len(flag) :]
        if "resume" in self.argv:
            return self.argv[self.argv.index("resume") + 1]
        return f"00000000-0000-4000-8000-{os.getpid():012d}"

    def _note(self, folder: Path) -> None:
        call = {
            "argv": self.argv,
            "cwd": os.getcwd(),  # noqa: PTH109
            "env": dict(os.environ),
            "prompt": self.prompt[:200_000],
            "prompt_chars": len(self.prompt),
            "pid": os.getpid(),
        }
        with (folder / f"{self.name}.calls").open("a", encoding="utf-8") as log:
            log.write(json.dumps(call) + "\n")

    def _steps(self, folder: Path) -> list[Step]:
        decided = folder / f"{self.name}.steps"
        told = [line[len(MARK) :] for line in self.prompt.splitlines() if line.startswith(MARK)]
        if not told and decided.exists():
            told = [decided.read_text(encoding="utf-8")]
        if told:
            steps: list[Step] = json.loads(told[-1])
            return steps
        return [{"answer": f"echo: {self.prompt.strip()}"}]

    def run(self) -> int:
        """Do the steps; the exit code."""
        self.begin()
        for step in self.steps:
            [(what, value)] = step.items()
            done: Callable[[Any], int | None] = getattr(self, f"do_{what}")
            code = done(value)
            if code is not None:
                return code
        if not self.said:
            self.do_answer("done")
        self.finish(None)
        return 0

    def put(self, text: str) -> None:
        """Write and flush."""
        sys.stdout.buffer.write(text.encode("utf-8"))
        sys.stdout.buffer.flush()

    def event(self, **fields: Any) -> None:
        """One line of JSON."""
        self.put(json.dumps(fields) + "\n")

    # The dialects

    def begin(self) -> None:
        """The first event of the stream."""
        match self.name:
            case "claude":
                self.event(type="system", subtype="init", session_id=self.session, model="fake-claude", mcp_servers=[])
            case "codex":
                self.event(type="thread.started", thread_id=self.session)
                self.event(type="turn.started")
            case _:
                self.event(type="init", session_id=self.session, model="fake-gemini")

    def delta(self, text: str) -> None:
        """A piece of the answer (codex has only whole messages)."""
        self.said = True
        match self.name:
            case "claude":
                if not self.open:
                    self.message, self.open = self.message + 1, True
                    message = {"id": f"msg_{self.message}", "model": "fake-claude"}
                    self._stream(type="message_start", message=message)
                self._stream(type="content_block_delta", index=0, delta={"type": "text_delta", "text": text})
            case "codex":
                item = {"id": f"item_{self.message}", "type": "agent_message", "text": text}
                self.event(type="item.completed", item=item)
            case _:
                self.event(type="message", role="assistant", content=text, delta=True)

    def _stream(self, **event: Any) -> None:
        self.event(type="stream_event", event=event, session_id=self.session, parent_tool_use_id=None)

    def end_message(self) -> None:
        """The message is complete."""
        if self.open:
            self._stream(type="message_stop")
            self.open = False

    def finish(self, failure: str | None) -> None:
        """The last event of the stream."""
        self.end_message()
        match self.name:
            case "claude":
                line: Step = {
                    "type": "result",
                    "subtype": "success",
                    "is_error": failure is not None,
                    "result": failure or "",
                    "session_id": self.session,
                    "stop_reason": "end_turn",
                    "permission_denials": self.denials,
                    "total_cost_usd": 0.001,
                    "usage": {"input_tokens": 10, "cache_read_input_tokens": 2, "output_tokens": 3},
                }
            case "codex":
                usage = {"input_tokens": 12, "cached_input_tokens": 2, "output_tokens": 3}
                line = {"type": "turn.completed", "usage": usage}
                if failure is not None:
                    line = {"type": "turn.failed", "error": {"message": failure}}
            case _:
                stats = {"input_tokens": 12, "output_tokens": 3, "cached": 2, "total_tokens": 15}
                line = {"type": "result", "status": "success", "stats": stats}
                if failure is not None:
                    line = {"type": "result", "status": "error", "error": {"type": "Error", "message": failure}}
        self.put(json.dumps(line) + ("" if self.torn else "\n"))

    # The steps

    def do_answer(self, text: str) -> None:
        """See the module's text; so for all that follow."""
        self.delta(text)
        self.end_message()

    def do_say(self, text: str) -> None:
        self.delta(text)

    def do_chars(self, count: int) -> None:
        self.do_answer((LINE * (count // len(LINE) + 1))[:count])

    def do_flood(self, mib: int) -> None:
        for _ in range(mib * 1024 * 1024 // len(LINE)):
            self.delta(LINE)

    def do_raw(self, text: str) -> None:
        sys.stdout.buffer.write(text.encode("latin-1"))
        sys.stdout.buffer.flush()

    def do_stderr(self, text: str) -> None:
        os.write(2, text.encode())

    def do_write(self, name_and_text: list[str]) -> None:
        name, text = name_and_text
        Path(name).write_text(text, encoding="utf-8")

    def do_spawn(self, kinds: list[str]) -> None:
        for kind in kinds:
            self.spawned[kind] = spawn(kind)

    def do_ignore(self, _: object) -> None:
        ignore_signals()

    def do_ask(self, command: str) -> None:
        self.asked += 1
        action = {"command": command}
        if "--permission-prompt-tool=stdio" in self.argv:
            request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": action}
            self.event(type="control_request", request_id=f"ask-{self.asked}", request=request)
            line = sys.stdin.buffer.readline()
            answer: Step = json.loads(line)["response"]["response"] if line else {"message": "stdin was closed"}
            if answer.get("behavior") == "allow":
                subprocess.run(answer["updatedInput"]["command"], shell=True, check=False)
                return
            self.do_answer(f"denied: {answer['message']}")
        self.denials.append({"tool_name": "Bash", "tool_use_id": f"toolu_{self.asked}", "tool_input": action})

    def do_reach(self, fifo: str) -> None:
        told = {"pid": os.getpid(), "spawned": self.spawned, "run": os.environ.get("CLINVK_RUN_ID")}
        Path(fifo).write_text(json.dumps(told), encoding="utf-8")

    def do_wait(self, fifo: str) -> None:
        Path(fifo).read_bytes()

    def do_hang(self, _: object) -> None:
        while True:
            signal.pause()

    def do_close(self, _: object) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)

    def do_kill(self, number: int) -> None:
        os.kill(os.getpid(), number)
        signal.pause()

    def do_exit(self, code: int) -> int:
        return code

    def do_fail(self, message: str) -> int:
        self.finish(message)
        return 1

    def do_torn(self, _: object) -> None:
        self.torn = True


def ignore_signals() -> None:
    """What can be ignored of the ways to ask a process to end."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def spawn(kind: str) -> int:
    """Start a process that tries to outlive this one; its pid, once it is up."""
    ready, up = os.pipe()
    orphaned, alive = os.pipe()  # at its end when this process has ended
    pid = os.fork()
    if pid == 0:
        os.close(ready)
        os.close(alive)
        try:
            if kind in ("setsid", "daemon", "cleared"):
                os.setsid()
            if kind in ("daemon", "cleared") and os.fork():
                os._exit(0)
            outlive(kind, up, orphaned)
        finally:
            os._exit(1)
    os.close(up)
    os.close(orphaned)
    told = os.read(ready, 32)
    os.close(ready)
    if kind in ("daemon", "cleared"):
        os.waitpid(pid, 0)
    return int(told)


def outlive(kind: str, up: int, orphaned: int) -> NoReturn:
    """The rest of the life of a spawned process."""
    ignore_signals()
    os.write(up, str(os.getpid()).encode())
    os.close(up)
    if kind == "writer":
        os.read(orphaned, 1)
        while True:
            os.write(1, WALL)
    if kind == "hydra":
        while True:
            if os.fork():
                os._exit(0)
    if kind == "cleared":
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.execve("/bin/sleep", ["sleep", "100000"], {})
    while True:
        signal.pause()


def main(name: str, folder: str) -> NoReturn:
    """Be the CLI `name`."""
    if "--version" in sys.argv[1:]:
        sys.stdout.write(VERSIONS[name] + "\n")
        code = 0
    else:
        code = Agent(name, Path(folder), sys.argv[1:]).run()
    sys.stdout.flush()
    os._exit(code)
