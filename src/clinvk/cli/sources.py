"""Where a prompt comes from: the command line, standard input, or the person at the terminal."""

import os
import select
import stat
import sys
from collections.abc import Sequence

from clinvk.cli.console import Console
from clinvk.errors import ClinvkError
from clinvk.request import MAX_PROMPT_CHARS

MAX_BYTES = 4 * MAX_PROMPT_CHARS  # UTF-8 takes no more
STDIN = 0


def confused(message: str, hint: str) -> ClinvkError:
    """The error for a command line that contradicts itself or names what is not there."""
    return ClinvkError("invalid_request", message, hint=hint)


def prompt(console: Console, words: Sequence[str], *, more: bool = False, unasked: bool = False) -> str:
    """The prompt. `more`: standard input follows it. `unasked`: at a terminal, ask for it."""
    if len(words) > 1:
        raise confused(f"the prompt is {len(words)} arguments: {' '.join(words)[:60]}", "put it in quotes")
    word = words[0] if words else "-"
    if word != "-":
        if more:
            return f"{word}\n\n{_standard_input('--stdin')}"
        if _something_waits():
            console.note("clinvk: note: standard input is not read, as there is a prompt; --stdin adds it")
        return word
    if sys.stdin.isatty() and not words:
        if not unasked:
            raise confused("no prompt given", 'clinvk "what to do", or pipe it in; see clinvk --help')
        return _asked()
    return _standard_input("the prompt")


def _standard_input(what: str) -> str:
    data = bytearray()
    while piece := os.read(STDIN, 1 << 16):
        data += piece
        if len(data) > MAX_BYTES:
            raise confused(f"{what}: standard input is longer than {MAX_BYTES:,} bytes", "put it into a file: --file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise confused(f"{what}: standard input is not UTF-8 at byte {error.start:,}", "convert it") from None
    if not text.strip():
        raise confused(f"{what}: standard input is empty", 'clinvk "what to do", or pipe it in; see clinvk --help')
    return text.removesuffix("\n")


def _something_waits() -> bool:
    """Whether somebody sent data that nobody will read; a loop's list of files is a file, and not meant for us."""
    try:
        return stat.S_ISFIFO(os.fstat(STDIN).st_mode) and bool(select.select([STDIN], [], [], 0)[0])
    except (OSError, ValueError):
        return False


def _asked() -> str:
    from rich import console
    from rich.prompt import Prompt

    try:
        return Prompt.ask("prompt", console=console.Console(stderr=True))
    except EOFError:
        raise confused("no prompt given", "type one, or give it as an argument") from None
