"""The program behind the `offline` backend: it asks no model, answers at once, and always says so.

It reads the prompt on stdin and prints JSON lines. With `--session ID` it keeps the prompts of the conversation in
a file (in CLINVK_OFFLINE_HOME, else `offline` in CLINVK_HOME), so that a turn with `--resume ID` can prove that it
remembers. Prompts may hold directives, for trying out what depends on a backend:

    offline:sleep=2             wait so many seconds before the answer
    offline:chars=100000        answer with so many characters
    offline:json={"a":1}        answer with exactly this text (up to the end of the line)
    offline:fail=rate_limited   fail with this error code
    offline:exit=3              exit with this code, without a result

Standard library only, and nothing of clinvk: it is started as a script with `python -I`.
"""

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path

PREFIX = "[offline backend, no model was asked]"
DELTA = 8192


def emit(**event: object) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def directive(prompt: str, name: str, pattern: str) -> str | None:
    found = re.search(rf"offline:{name}=({pattern})", prompt)
    return found[1] if found else None


def answer(prompt: str, earlier: list[str]) -> str:
    verbatim = directive(prompt, "json", r"[^\n]*")
    if verbatim is not None:
        return verbatim
    chars = directive(prompt, "chars", r"\d{1,9}")
    if chars is not None:
        line = f"{PREFIX} filling up to the length that was asked for. "
        return (line * (int(chars) // len(line) + 1))[: int(chars)]
    if earlier:
        return f"{PREFIX} Turn {len(earlier) + 1}. Earlier you said: {earlier[-1]}\nYou said: {prompt}"
    return f"{PREFIX} You said: {prompt}"


def store() -> Path:
    own = os.environ.get("CLINVK_OFFLINE_HOME")
    if own:
        return Path(own)
    home = os.environ.get("CLINVK_HOME")
    return (Path(home) if home else Path.home() / ".clinvk") / "offline"


def load(session: str) -> list[str]:
    prompts: list[str] = json.loads((store() / f"{session}.json").read_text(encoding="utf-8"))
    return prompts


def save(session: str, prompts: list[str]) -> None:
    path = store() / f"{session}.json"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    beside.write_text(json.dumps(prompts), encoding="utf-8")
    beside.chmod(0o600)
    beside.replace(path)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--version", action="version", version="clinvk-offline 1")
    parser.add_argument("--session", type=identity)
    parser.add_argument("--resume", type=identity)
    parser.add_argument("--ephemeral", action="store_true")
    parser.add_argument("--model", choices=("offline",))
    parser.add_argument("--system-prompt-chars", type=int)
    return parser.parse_args()


def identity(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]{1,100}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no session id")
    return text


def fail(code: str, message: str) -> int:
    emit(type="result", ok=False, code=code, message=message)
    return 1


def main() -> int:
    asked = options()
    session = asked.resume or asked.session
    prompt = sys.stdin.buffer.read().decode("utf-8", "replace")
    try:
        earlier = load(asked.resume) if asked.resume else []
    except (OSError, ValueError):
        return fail("session_lost", f"there is no offline session {asked.resume}")
    emit(type="started", session=session)
    time.sleep(float(directive(prompt, "sleep", r"\d{1,5}(?:\.\d+)?") or 0))
    code = directive(prompt, "fail", r"[a-z_]+")
    if code:
        return fail(code, f"{PREFIX} the prompt asked for {code}")
    leave = directive(prompt, "exit", r"\d{1,3}")
    if leave:
        return int(leave)
    text = answer(prompt, earlier)
    for start in range(0, len(text), DELTA):
        emit(type="text", text=text[start : start + DELTA])
    if session and not asked.ephemeral:
        save(session, [*earlier, prompt])
    emit(type="result", ok=True, input_chars=len(prompt), output_chars=len(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
