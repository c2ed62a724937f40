"""Keys of clinvoker's config.yaml that clinvk has not, so that the message for such a file says what to change.

A value that asks for what clinvk does anyway is a warning; any other is an error with the remedy.
"""

from dataclasses import dataclass

from clinvk.config.leaves import Leaf
from clinvk.config.problems import Problem


@dataclass(frozen=True, slots=True)
class Relic:
    """`harmless` values change nothing; `now` is the key that took over; `remedy` what to do instead."""

    harmless: tuple[object, ...]
    remedy: str
    now: str | None = None


RELICS = {
    "unified_flags.command_timeout_secs": Relic((0,), "use limits.timeout_secs", "limits.timeout_secs"),
    "unified_flags.output_format": Relic(("default", ""), "use output.format", "output.format"),
    "unified_flags.verbose": Relic((False,), "there is no verbose mode; progress goes to stderr"),
    "unified_flags.dry_run": Relic((False,), "use --dry-run with a call"),
    "unified_flags.max_tokens": Relic((0,), "no agent CLI can be held to a number of tokens"),
    "session.store_token_usage": Relic((True,), "token usage is always stored"),
    "parallel.aggregate_output": Relic((True,), "the results of a parallel run always come together"),
    "server.read_timeout_secs": Relic((30,), "use server.request_timeout_secs"),
    "server.write_timeout_secs": Relic((300,), "use server.request_timeout_secs"),
    "server.idle_timeout_secs": Relic((120,), "use server.request_timeout_secs"),
    "server.api_keys_gopass_path": Relic(("",), "put the keys into the environment variable CLINVK_API_KEYS"),
}


def judged(stranger: Leaf) -> tuple[Leaf | None, Problem] | None:
    """The leaf that a key of clinvoker's stands for now, and what to tell. None if it had no such key."""
    relic = RELICS.get(stranger.dotted)
    if relic is None:
        return None
    key, value = stranger.dotted, stranger.value
    if any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in relic.harmless):
        told = Problem(
            message=f"'{key}' has no effect; {relic.remedy}", source=stranger.source, key=key, severity="warning"
        )
        return None, told
    if relic.now:
        told = Problem(
            message=f"'{key}' is now called '{relic.now}'", source=stranger.source, key=key, severity="warning"
        )
        return Leaf(tuple(relic.now.split(".")), value, stranger.source), told
    return None, Problem(message=f"'{key}' is not supported; {relic.remedy}", source=stranger.source, key=key)
