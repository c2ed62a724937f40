"""The command line of the process that drives handed-out runs on when their server is gone."""

import sys

from clinvk.tools.app import App


def heir_argv(app: App, generation: int = 1) -> list[str]:
    """argv of the heir, to which the keeper adds the runs; `-P` keeps the working directory off the import path."""
    argv = [sys.executable, "-P", "-m", "clinvk.tools.heir", "--home", str(app.home)]
    if generation > 1:
        argv.append(f"--generation={generation}")
    return [*argv, "--config", str(app.loaded.path)] if app.loaded.path.exists() else argv
