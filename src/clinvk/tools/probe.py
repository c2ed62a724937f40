"""Whether an installed CLI still takes the flags that clinvk gives it, found out without a model.

Each command is started as for a run, but with no prompt, in an empty home and without any login: a CLI that knows all
flags ends with "no prompt" or "not logged in", one that was changed names the flag. Nothing can be spent or changed.
"""

import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from clinvk.backends import locate
from clinvk.backends.base import Backend, Command, Installation, Option, Turn
from clinvk.errors import ClinvkError, Failure
from clinvk.events import Ending
from clinvk.files import write_whole
from clinvk.request import SandboxMode
from clinvk.tools.app import App
from clinvk.tools.brief import said

PROBE_SECS = 20.0  # gemini needs 2 s; a CLI that waits for something must not hold up the rest
OLDEST_NODE = 20  # of Gemini CLI; the other CLIs are native programs
_SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


async def rejected(app: App, backend: Backend, found: Installation) -> list[Failure]:
    """What the installed version does not accept, or what cannot be enforced here; empty when all is well."""
    failures: dict[str, Failure] = {}
    with TemporaryDirectory(prefix="clinvk-") as folder:
        extra = app.config.backend(backend.NAME).extra_flags
        for number, turn in enumerate(_turns(backend, Path(folder), extra)):
            try:
                failure = await _tried(app, backend, turn, backend.command(turn, found), Path(folder) / str(number))
            except ClinvkError as error:
                failure = error.failure
            if failure is not None:
                failures[failure.message] = failure
    return list(failures.values())


async def node_version(app: App, found: Installation) -> tuple[str, int] | None:
    """The Node that a CLI written for Node would be run with, and its major version; None for a native program."""
    if not _is_script(Path(found.program[-1])):
        return None
    path = locate.search_path(app.environ, app.user_home)
    argv = [found.program[0]] if len(found.program) > 1 else ["/usr/bin/env", "node"]
    with TemporaryDirectory(prefix="clinvk-") as scratch:
        folder = Path(scratch)
        argv, env = [*argv, "--version"], {"PATH": path, "HOME": scratch}
        version = await said(app, argv, env, folder=folder, cwd=folder, timeout_secs=PROBE_SECS)
    told = re.match(r"v(\d+)\.\S+", version.stdout.decode("utf-8", "replace"))
    return (told[0], int(told[1])) if told else ("not found", 0)


def _is_script(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return re.match(rb"#!.*\bnode\b", file.readline(200)) is not None
    except OSError:
        return False


def _turns(backend: Backend, folder: Path, extra: tuple[str, ...]) -> Iterator[Turn]:
    """One turn per sandbox mode, the options of the backend spread over them; in `default` a person is asked."""
    can = backend.CAPABILITIES
    asks = "always" in can.approval_modes
    modes: list[SandboxMode] = [mode for mode in can.sandbox_modes if mode != "default"]
    if asks or not modes:
        modes.append("default")
    picture = folder / "picture.png"
    picture.touch()
    for number, mode in enumerate(modes):
        scratch = folder / f"scratch-{number}"
        scratch.mkdir(mode=0o700)
        first, second, asked = number == 0, number == 1, asks and mode == "default"

        def has(option: Option, now: bool) -> bool:
            return now and option in can.options

        yield Turn(
            prompt="",
            workdir=folder,
            scratch=scratch,
            new_id=str(uuid.uuid4()),
            resume_id=str(uuid.uuid4()) if second and can.resumes else None,
            model=(*backend.MODELS, "none")[0] if has("model", first) else None,
            system_prompt="none" if has("system_prompt", second) else None,
            approval="auto" if first and "auto" in can.approval_modes else "always" if asked else "default",
            ask=asked,
            sandbox=mode,
            max_turns=1 if has("max_turns", first) else None,
            ephemeral=has("ephemeral", number > 1),
            images=(picture,) if has("images", number > 1) else (),
            output_schema=_SCHEMA if has("output_schema", first) else None,
            extra=extra,
            strict=True,
        )


async def _tried(app: App, backend: Backend, turn: Turn, command: Command, folder: Path) -> Failure | None:
    home = folder / "home"
    await anyio.Path(home).mkdir(parents=True)
    for file, data in command.files.items():
        write_whole(file, data)
    path = locate.search_path(app.environ, app.user_home)
    env = {"PATH": path, "LANG": "C.UTF-8", **command.env, "HOME": str(home)}
    told = await said(app, command.argv, env, folder=folder, cwd=command.cwd, timeout_secs=PROBE_SECS)
    reader = backend.reader(turn)
    for line in told.stdout.splitlines():
        reader.feed(line)
    tail = told.stderr.decode("utf-8", "replace")
    ending = Ending(reason=told.ending.reason, exit_code=told.ending.exit_code, stderr_tail=tail)
    failure = reader.outcome(ending).failure
    return failure if failure is not None and failure.code in ("backend_changed", "spawn_failed") else None
