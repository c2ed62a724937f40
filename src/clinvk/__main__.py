"""`clinvk` and `python -m clinvk`."""

import gc
import os
import signal
import sys

INTERRUPTED = 7  # exits.CANCELLED
GARBAGE = 100_000  # new objects before a look for cycles: looking is a tenth of a short command, for nothing


def _look_there_last() -> None:
    """Search PYTHONPATH and the current folder after the folder that clinvk's own dependencies are in.

    An IDE that starts the server inside a repository points PYTHONPATH at it; a folder `mcp/` or `yaml/` there would
    be imported in place of the library. `python -m` puts the current folder first in the same way.
    """
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120  pathlib costs a start
    theirs = {_absolute(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    theirs |= {_absolute(entry) for entry in sys.path[:1]}
    theirs.discard(own)
    sys.path.sort(key=lambda entry: _absolute(entry) in theirs)


def _absolute(entry: str) -> str:
    try:
        return os.path.abspath(entry)  # noqa: PTH100
    except OSError:  # the current folder was deleted
        return entry


def _stop_quietly_while_starting() -> None:
    """Let a signal that comes before the server serves end the process with 0: nothing runs yet.

    Importing what it needs takes a second on a busy machine, and clients do change their mind. The server takes over
    later; other commands are not meant.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: os._exit(0))


def main() -> int:
    """Run the command that `sys.argv` names; the exit code."""
    if sys.argv[1:2] in (["mcp"], ["serve"]):
        _stop_quietly_while_starting()
    else:
        gc.set_threshold(GARBAGE)
    try:
        _look_there_last()
        from clinvk.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        # All is done: an impatient second Ctrl-C would only end the interpreter's own end with a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # The interpreter would look for cycles in all that was imported before it ends: 0.2 s after a prompt.
        gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
