"""`clinvk doctor`: is everything there, and what to do where it is not."""

import argparse

from clinvk.cli import exits
from clinvk.cli.call import Call

NAME = "doctor"
HELP = "check this machine: CLIs, logins, configuration, storage; with a fix for what is missing"
_DESCRIPTION = """\
Check this machine: each agent CLI (found, version, login, whether it takes the flags that clinvk uses), the
configuration, the folder of sessions and runs, and whether anything was left running. No model is asked, nothing is
spent. Exit codes: 0 ready, 1 the folder cannot be used, 2 no agent CLI is ready to use, 3 configuration.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none of its own."""
    parser.description = _DESCRIPTION


def run(call: Call) -> int:
    """Check, print, and tell by the exit code."""
    from clinvk.cli import checks

    report = checks.made(call)
    if call.wants_json(report.loaded):
        call.console.document(report.to_json())
    else:
        for check in report.checks:
            call.console.say(f"{_MARKS[check.state]}  {check.name}: {check.detail}")
            if check.fix:
                call.console.say(f"      fix: {check.fix}")
        call.console.say(f"\n{report.summary}")
    return {"ready": exits.OK, "storage": exits.GENERAL, "no_backend": exits.NO_BACKEND, "config": exits.CONFIGURATION}[
        report.status
    ]


_MARKS = {"ok": " ok ", "info": " -- ", "warning": "warn", "error": "FAIL"}
