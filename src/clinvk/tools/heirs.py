"""The command line of the process that drives handed-out runs on when their server is gone."""

import sys

from clinvk.tools.app import App


def heir_argv(app: App, run_id: str) -> list[str]:
    """argv of the heir of one run; the keeper puts the descriptor of the run's lock in place of `{fds}`.

    `-P` keeps the working directory off the import path.
    """
    argv = [
        sys.executable,
        "-P",
        "-m",
        "clinvk.tools.heir",
        "--home",
        str(app.home),
        "--run",
        run_id,
        "--lock",
        "{fds}",
    ]
    return [*argv, "--config", str(app.loaded.path)] if app.loaded.path.exists() else argv
