"""Everything that serves together: clinvk, what is mounted beside the API, and the socket."""

from collections.abc import Mapping
from contextlib import AsyncExitStack

from clinvk.config.cascade import Loaded
from clinvk.gateway.app import build
from clinvk.gateway.drain import Drain
from clinvk.tools.caller import working_directory
from clinvk.tools.housekeeping import served
from clinvk.web import listener
from clinvk.web.guard import check_exposure
from clinvk.web.keys import Keyring
from clinvk.web.mounting import Mounting


async def serve(loaded: Loaded, environ: Mapping[str, str], mounting: Mounting | None) -> None:
    """Serve until a signal comes. Raises ClinvkError when it cannot, or may not, be served as configured."""
    settings = loaded.config.server
    keyring = Keyring(loaded.home, environ)
    check_exposure(settings.host, keyring, settings.cors_allowed_origins)
    with listener.bound(loaded, "server") as listening:
        async with AsyncExitStack() as stack:
            app = await stack.enter_async_context(served(loaded, environ))
            mounted = await stack.enter_async_context(mounting(app)) if mounting else None
            drain = Drain(app)

            def stop() -> None:
                drain.close()
                if mounted is not None:
                    mounted.close()

            built = build(app, keyring, cwd=working_directory(app.home), drain=drain, mounted=mounted)
            url = listener.url_of(settings.host, listening, "")
            config = listener.configured(built, "httptools", built.refused)
            await listener.serve(config, listening, url, stop)
