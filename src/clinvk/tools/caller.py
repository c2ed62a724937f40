"""Who calls an operation, as far as operations care; every door makes one per call."""

from dataclasses import dataclass
from pathlib import Path

from clinvk.executor.live import Listener


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """`client` tells callers apart (an MCP client's name, `cli`, an API key's name).

    `cwd` is where a call without a workdir works. `listener` gets every event of the call's run and of its children.
    """

    client: str
    cwd: Path
    listener: Listener | None = None
