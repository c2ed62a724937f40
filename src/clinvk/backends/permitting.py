"""How a caller allows what was denied to an agent: the one sentence that goes with the denials of a run."""

from clinvk.backends.base import Capabilities, Turn

DENIED = "permission denied: "  # how the note of a denial begins


def how_to_allow(turn: Turn, can: Capabilities, backend: str) -> str:
    """What would have let the actions of this turn through that were denied, with the modes that the backend has."""
    wider = {"read-only": ("workspace", "full"), "workspace": ("full",), "default": ("full",), "full": ()}[turn.sandbox]
    ways = [f"sandbox_mode {mode} ({_LETS[mode]})" for mode in wider if mode in can.sandbox_modes]
    if turn.approval != "auto" and turn.sandbox != "read-only":
        ways.append("approval_mode auto (approves what the sandbox lets)")
    if "allowed_tools" in can.options and turn.sandbox in ("default", "full"):
        ways.append(f"backends.{backend}.allowed_tools in the configuration (approves single tools)")
    if "always" in can.approval_modes and turn.sandbox != "read-only":
        ways.append("approval_mode always from a client that supports elicitation (a person decides)")
    return f"to allow what was denied: {'; or '.join(ways)}" if ways else ""


_LETS = {"workspace": "changes inside the workdir", "full": "no limits"}
