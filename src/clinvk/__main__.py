"""`clinvk` and `python -m clinvk`."""

import os
import sys


def _look_there_last() -> None:
    """Search PYTHONPATH and the current folder after the folder that clinvk's own dependencies are in.

    An IDE that starts the server inside a repository points PYTHONPATH at it; a folder `mcp/` or `yaml/` there would
    be imported in place of the library. `python -m` puts the current folder first in the same way.
    """
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120  pathlib costs a start
    theirs = {os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)}  # noqa: PTH100
    theirs |= {os.path.abspath(entry) for entry in sys.path[:1]}  # noqa: PTH100
    theirs.discard(own)
    sys.path.sort(key=lambda entry: os.path.abspath(entry) in theirs)  # noqa: PTH100


def _stop_quietly_while_starting() -> None:
    """Let a signal that comes before the server serves end the process with 0: nothing runs yet.

    Importing what it needs takes a second on a busy machine, and clients do change their mind. The server takes over
    later; other commands are not meant.
    """
    import signal

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: os._exit(0))


def main() -> int:
    """Run the command that `sys.argv` names; the exit code."""
    if sys.argv[1:2] in (["mcp"], ["serve"]):
        _stop_quietly_while_starting()
    _look_there_last()
    from clinvk.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
