"""`clinvk config`: show, read, change and check the configuration."""

import argparse
import os
from typing import TYPE_CHECKING

from clinvk.cli import exits, options
from clinvk.cli.call import Call
from clinvk.cli.console import columns, plain

if TYPE_CHECKING:
    from clinvk.config.problems import Problem

NAME = "config"
HELP = "show, change and check the configuration"
_DESCRIPTION = """\
Show, change and check the configuration. Flags win over environment variables (CLINVK_<SECTION>__<KEY>), those over
the file, that over the defaults. The keys are described in docs/config.md.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its actions."""
    parser.description = _DESCRIPTION
    actions = options.actions(parser)
    actions.add("show", "every key, its value and where that came from; secrets are not shown")
    get = actions.add("get", "one key's value, or a section")
    get.add_argument("key", help="such as limits.timeout_secs")
    change = actions.add("set", "change one key in the file; comments and order stay")
    change.add_argument("key", help="such as default_backend")
    change.add_argument("value", help="as it would stand in the file; after -- if it begins with a dash")
    actions.add("lint", "everything wrong or without effect in file and environment; exit code 3 if wrong")
    actions.add("path", "where the file is")


def run(call: Call) -> int:
    """Do the action."""
    action = {"show": _show, "get": _get, "set": _set, "lint": _lint, "path": _path}[call.args.action]
    return action(call)


def _show(call: Call) -> int:
    from clinvk.config.display import show

    loaded = call.loaded()
    rows = show(loaded)
    if call.wants_json(loaded):
        call.console.document([{"key": row.key, "value": row.value, "source": row.source} for row in rows])
    else:
        call.console.say("\n".join(columns([(f"{row.key}:", plain(row.value), f"# {row.source}") for row in rows])))
    return exits.OK


def _get(call: Call) -> int:
    from clinvk.config.display import get

    loaded = call.loaded()
    value = get(loaded, call.args.key)
    if call.wants_json(loaded):
        call.console.document(value)
    else:
        call.console.say(plain(value))
    return exits.OK


def _set(call: Call) -> int:
    from clinvk.backends import registry
    from clinvk.config import cascade, editing

    path = cascade.config_file(call.environ, call.config_path)
    key, text = call.args.key, call.args.value
    value = editing.meant(key, text, known_backends=registry.BACKENDS, environ=call.environ)
    _require_taken(key, value, call)
    editing.set_value(path, key, text, known_backends=registry.BACKENDS, environ=call.environ)
    if call.wants_json():
        call.console.document({"key": key, "path": str(path)})
    else:
        call.console.note(f"set {key} in {path}")
    return exits.OK


def _require_taken(dotted: str, value: object, call: Call) -> None:
    """Refuse what would stand there well, and be refused by the backend with every run. Raises ConfigError."""
    from clinvk.config.cascade import user_home
    from clinvk.config.problems import COMMAND_LINE, ConfigError
    from clinvk.config.settings import Config
    from clinvk.tools import refused

    for part in reversed(dotted.split(".")):
        value = {part: value}
    config = Config.model_validate(value, context={"user_home": user_home(call.environ)})
    found = refused.found(config, {dotted: COMMAND_LINE})
    errors = [problem for problem in found if problem.severity == "error"]
    if errors:
        raise ConfigError(errors)


def _lint(call: Call) -> int:
    found = problems(call)
    if call.wants_json():
        call.console.document(
            [{"severity": p.severity, "key": p.key, "where": str(p.source), "message": p.message} for p in found]
        )
    elif found:
        call.console.say("\n".join(f"{p.severity}: {p}" for p in found))
    else:
        call.console.note("nothing is wrong")
    return exits.CONFIGURATION if any(p.severity == "error" for p in found) else exits.OK


def problems(call: Call) -> list["Problem"]:
    """What is wrong with, or without effect in, the file and the environment together."""
    from clinvk.backends import registry
    from clinvk.config import cascade
    from clinvk.config.problems import ConfigError
    from clinvk.tools import refused

    path = cascade.config_file(call.environ, call.config_path)
    found = (
        cascade.lint(path, known_backends=registry.BACKENDS, environ=call.environ)
        if os.access(path, os.F_OK) or call.args.config is not None  # one that may not be looked at is found below
        else []
    )
    try:
        loaded = cascade.load(call.environ, known_backends=registry.BACKENDS, path=call.config_path)
        found += [*loaded.warnings, *refused.found(loaded.config, loaded.sources)]
    except ConfigError as error:
        found += error.problems
    return list({str(problem): problem for problem in found}.values())


def _path(call: Call) -> int:
    from clinvk.config.cascade import config_file

    path = str(config_file(call.environ, call.config_path))
    if call.wants_json():
        call.console.document({"path": path})
    else:
        call.console.say(path)
    return exits.OK
