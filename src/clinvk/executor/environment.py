"""The environment of a child: built from an allow-list, never inherited."""

from collections.abc import Iterable, Mapping

# What any program needs to find its files, its language, its certificates and its way to the network.
BASE = (
    "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "XDG_*",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
)  # fmt: skip
DEPTH = "CLINVK_DEPTH"
CHAIN = "CLINVK_CHAIN_ID"
RUN = "CLINVK_RUN_ID"  # of the run that a process belongs to: the keeper finds strays by it
HOME = "CLINVK_HOME"


def allowed(environ: Mapping[str, str], patterns: Iterable[str]) -> dict[str, str]:
    """The variables that are on the list; a pattern ending in `*` is a prefix."""
    names = frozenset(patterns)
    prefixes = tuple(pattern[:-1] for pattern in names if pattern.endswith("*"))
    return {name: value for name, value in environ.items() if name in names or name.startswith(prefixes)}


def child_environment(
    environ: Mapping[str, str], needed: Iterable[str], *, path: str, extra: Mapping[str, str], run_id: str
) -> dict[str, str]:
    """The variables of a child: the base list, what its backend needs, what the user configured, and the depth.

    An agent that calls clinvk passes `CLINVK_DEPTH` and the chain id on, so that recursion stops (`check_depth`).
    """
    env = allowed(environ, (*BASE, HOME, *needed))
    env["PATH"] = path
    env.update(extra)
    env[DEPTH] = str(depth(environ) + 1)
    env[CHAIN] = environ.get(CHAIN) or run_id
    env[RUN] = run_id
    return env


def depth(environ: Mapping[str, str]) -> int:
    """How many agents stand between the user and this process; damaged values count as deep."""
    raw = environ.get(DEPTH, "0")
    return int(raw) if raw.isascii() and raw.isdigit() else 1_000_000
