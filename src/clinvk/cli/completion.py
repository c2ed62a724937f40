"""`clinvk completion`: completion of the command line by the shell, ids and backends included."""

import argparse
from typing import TYPE_CHECKING, Any

from clinvk.cli import exits
from clinvk.cli.call import Call

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "completion"
HELP = "print the completion script of a shell"
SHELLS = ("bash", "zsh", "fish")
_DESCRIPTION = """\
Print what makes a shell complete verbs, flags, backends, and the ids of sessions and runs.

  bash   echo 'eval "$(clinvk completion bash)"' >> ~/.bashrc
  zsh    echo 'eval "$(clinvk completion zsh)"' >> ~/.zshrc        (after compinit)
  fish   clinvk completion fish > ~/.config/fish/completions/clinvk.fish
"""
MOST = 200  # ids offered at once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which shell."""
    parser.description = _DESCRIPTION
    parser.add_argument("shell", choices=SHELLS)


def run(call: Call) -> int:
    """Print the script."""
    from argcomplete.shell_integration import shellcode

    call.console.say(shellcode(["clinvk"], shell=call.args.shell))
    return exits.OK


def answer(completing: "Callable[[list[str]], argparse.ArgumentParser]") -> None:
    """Answer the shell that started this process to complete a command line; does not return.

    `completing` gives the parser of what follows some words.
    """
    import os

    import argcomplete
    from argcomplete.lexers import split_line

    line = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT") or 0)]
    _, _, _, words, _ = split_line(line)
    parser = completing(words[1:])
    _equip(parser)
    argcomplete.autocomplete(parser, always_complete_options=False)


def _equip(parser: argparse.ArgumentParser) -> None:
    """Give every argument that takes a name of something its completer."""
    verb = parser.prog.split()[1] if " " in parser.prog else ""
    for action in parser._actions:  # pyright: ignore[reportPrivateUsage] - argparse tells this in no other way
        below: Any = action.choices if action.nargs == argparse.PARSER else {}
        for each in {id(each): each for each in below.values()}.values():
            _equip(each)
        completer = _completer(verb, action)
        if completer is not None:
            action.completer = completer  # type: ignore[attr-defined]


def _completer(verb: str, action: argparse.Action) -> "Callable[..., Any] | None":
    if action.dest in ("id", "ids", "words", "key", "name"):
        return _of_words().get(verb, _nothing)
    if action.dest == "status":
        return _run_states if verb == "runs" else _session_states
    return _of_flags().get(next((flag for flag in action.option_strings if flag.startswith("--")), ""))


def _of_words() -> "dict[str, Callable[..., Any]]":
    return {"sessions": _sessions, "resume": _sessions, "runs": _runs, "config": _keys, "keys": _owners}


def _of_flags() -> "dict[str, Callable[..., Any]]":
    return {
        "--backend": _backends,
        "--judge": _backends,
        "--session": _sessions,
        "--model": _models,
        "--workdir": _folders,
        "--output-dir": _folders,
        "--tag": _nothing,
    }


def _nothing(**_: object) -> list[str]:
    return []


def _folders(prefix: str, **_: object) -> list[str]:
    from argcomplete.completers import DirectoriesCompleter

    return list(DirectoriesCompleter()(prefix))


def _backends(**_: object) -> list[str]:
    from clinvk.backends.registry import BACKENDS

    return list(BACKENDS)


def _models(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    from clinvk.backends.registry import BACKENDS

    if getattr(parsed_args, "verb", None) == "compare":
        return [f"{name}={model}" for name, backend in BACKENDS.items() for model in backend.MODELS]
    chosen = getattr(parsed_args, "backend", None)
    return [model for name, backend in BACKENDS.items() if chosen in (None, name) for model in backend.MODELS]


def _session_states(**_: object) -> list[str]:
    return ["idle", "active", "failed", "running"]


def _run_states(**_: object) -> list[str]:
    return ["completed", "failed", "cancelled", "running", "interrupted", "unread"]


def _keys(**_: object) -> list[str]:
    from clinvk.backends.registry import BACKENDS
    from clinvk.config import keys

    return [".".join(key) for key in keys.leaves(keys.tree(BACKENDS))]


def _owners(**_: object) -> list[str]:
    import os

    from clinvk.config.cascade import home_directory
    from clinvk.web.keys import listed

    return [key.name for key in listed(home_directory(os.environ))]


def _sessions(**_: object) -> dict[str, str]:
    import os

    from clinvk.config.cascade import home_directory
    from clinvk.sessions.store import SessionStore

    page = SessionStore(home_directory(os.environ)).page(limit=MOST)
    return {session.id: session.title for session in page.sessions}


def _runs(**_: object) -> dict[str, str]:
    import os

    from clinvk.config.cascade import home_directory
    from clinvk.errors import ClinvkError
    from clinvk.executor.finished import browsing
    from clinvk.executor.runs import RunStore

    store = RunStore(home_directory(os.environ))
    found: list[tuple[float, str, str]] = []
    with browsing(store) as ids:
        for run_id in ids:
            try:
                record = store.state(run_id).record
            except ClinvkError:
                continue
            found.append((record.created_at, run_id, record.title))
    return {run_id: title for _, run_id, title in sorted(found, reverse=True)[:MOST]}
