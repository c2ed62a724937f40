"""No double work: the same request of the same client finds the run that it began before."""

from clinvk.executor.live import LiveRun
from clinvk.tools.app import App


def attached(app: App, mark: str, *, fresh: bool) -> LiveRun | None:
    """The run of the same request that is still going on in this process, None when another must be started."""
    if fresh:
        return None
    for live in app.executor.live.values():
        if live.record.fingerprint == mark and not live.cancelled:
            return live
    return None
