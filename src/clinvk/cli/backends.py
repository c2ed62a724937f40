"""`clinvk backends`: what is installed, and what each can enforce."""

import argparse
from typing import TYPE_CHECKING

from clinvk.cli import exits
from clinvk.cli.call import Call
from clinvk.cli.console import columns

if TYPE_CHECKING:
    from clinvk.config.cascade import Loaded
    from clinvk.response import BackendInfo, BackendsResult

NAME = "backends"
HELP = "list the agent CLIs found here and what each can enforce"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none of its own."""
    parser.description = (
        "List the agent CLIs found on this machine: version, login, and the sandbox and approval modes that each can\n"
        "enforce. Nothing is sent to a model. Exit code 2 when there is no agent CLI."
    )


def run(call: Call) -> int:
    """Ask each for its version and print what is known."""
    from clinvk.awaiting import awaited

    loaded = call.loaded()
    result = awaited(_asked, loaded, call)
    if call.wants_json(loaded):
        call.console.document(result.model_dump(mode="json", exclude={"error"}))
    else:
        for line in _lines(result):
            call.console.say(line)
    from clinvk.backends.registry import BUILT_IN

    agents = [info for info in result.backends if info.available and info.name != BUILT_IN]
    return exits.OK if agents else exits.NO_BACKEND


async def _asked(loaded: "Loaded", call: Call) -> "BackendsResult":
    from clinvk.tools.app import opened
    from clinvk.tools.backends import backends

    async with opened(loaded, call.environ) as app:
        return await backends(app)


def _lines(result: "BackendsResult") -> list[str]:
    table = columns([("BACKEND", "VERSION", "LOGIN", "WHERE"), *map(_row, result.backends)])
    lines = [table[0]]
    for info, line in zip(result.backends, table[1:], strict=True):
        lines += [
            line,
            f"    sandbox: {', '.join(info.sandbox_modes)}; approval: {', '.join(info.approval_modes)}",
            f"    options: {', '.join(info.options)}",
        ]
        if info.hint:
            lines.append(f"    hint: {info.hint}")
    lines.append(f"default: {result.default_backend or 'none; name one with each call'}")
    return lines


def _row(info: "BackendInfo") -> tuple[str, str, str, str]:
    if not info.enabled:
        return info.name, "-", "-", "switched off in the configuration"
    if not info.available:
        return info.name, "-", "-", "not installed"
    login = f"{info.login.replace('_', ' ')} ({info.login_detail})" if info.login_detail else info.login
    return info.name, info.version or "unknown", login, f"{info.path} ({info.found_by})"
