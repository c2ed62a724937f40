"""How many requests a client may make: counted per address before its key is looked at, and per key afterwards.

Windows move: over `burst / rps` seconds a client may make `burst` requests, at once or spread.
"""

import math
import time
from collections.abc import Callable

import limits
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from clinvk.config.settings import ServerConfig
from clinvk.errors import Failure
from clinvk.gateway import answers

WhoseRequest = Callable[[Scope], str | None]


class Buckets:
    """Counts requests by name; one for all guards of a server."""

    def __init__(self, config: ServerConfig) -> None:
        window = max(1, math.ceil(config.rate_limit_burst / config.rate_limit_rps))
        amount = max(config.rate_limit_burst, math.floor(config.rate_limit_rps * window))
        self._item = limits.RateLimitItemPerSecond(amount, window)
        self._storage = MemoryStorage()
        self._limiter = MovingWindowRateLimiter(self._storage)
        self._seen: dict[str, float] = {}
        # Who is forgotten within the window may ask again as if nothing had been.
        self._cleanup_secs = max(config.rate_limit_cleanup_secs, window)
        self._cleaned = time.monotonic()

    def wait_of(self, name: str) -> float:
        """Count a request; 0 when it may be made, else the seconds until the next one may."""
        self._clean(name)
        if self._limiter.hit(self._item, name):
            return 0.0
        return max(1.0, self._limiter.get_window_stats(self._item, name).reset_time - time.time())

    def _clean(self, name: str) -> None:
        now = time.monotonic()
        self._seen[name] = now
        if now - self._cleaned < self._cleanup_secs:
            return
        self._cleaned = now
        for other, seen in tuple(self._seen.items()):
            if now - seen >= self._cleanup_secs:
                del self._seen[other]
                self._limiter.clear(self._item, other)


class RateLimit:
    """ASGI: answers 429 to whoever asks too often; `whose` names the bucket of a request, None for no limit."""

    def __init__(self, app: ASGIApp, buckets: Buckets, whose: WhoseRequest) -> None:
        self._app = app
        self._buckets = buckets
        self._whose = whose

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = self._whose(scope) if scope["type"] == "http" else None
        wait = self._buckets.wait_of(name) if name is not None else 0.0
        if wait == 0:
            return await self._app(scope, receive, send)
        failure = Failure(
            code="rate_limited",
            message="too many requests",
            hint="wait as long as Retry-After says; server.rate_limit_rps and rate_limit_burst set the limit",
            retryable=True,
            retry_after_secs=math.ceil(wait),
        )
        return await answers.of_failure(scope, failure)(scope, receive, send)
