"""Numbers for Prometheus. Every label has few values: routes are templates, backends and codes are known sets.

Runs are counted through whichever door they came, MCP included.
"""

import time
from collections.abc import Awaitable, Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from starlette.requests import Request
from starlette.responses import Response

from clinvk.backends import registry
from clinvk.errors import ERROR_CODES
from clinvk.events import Event, RunStarted, TextDelta, ToolStarted
from clinvk.executor.live import LiveRun
from clinvk.gateway.telemetry import Seen
from clinvk.response import PromptResult, RunStatus
from clinvk.tools.app import App

PATH = "/metrics"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"
ENDS: tuple[RunStatus, ...] = ("completed", "failed", "cancelled", "interrupted")
HTTP_SECONDS = (0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
RUN_SECONDS = (0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600)


class Metrics:
    """The numbers of one server. Satisfies `Watcher` of runs."""

    def __init__(self, app: App) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._counts()
        self._times()
        admission = app.executor.admission
        running = Gauge("clinvk_runs_running", "Runs that hold a place.", registry=self.registry)
        running.set_function(lambda: admission.running)
        waiting = Gauge("clinvk_queue_depth", "Runs that wait for their turn.", registry=self.registry)
        waiting.set_function(lambda: admission.waiting)
        room = Gauge("clinvk_queue_length", "Runs that may wait; more are refused.", registry=self.registry)
        room.set(app.config.limits.queue_length)

    def _counts(self) -> None:
        self._requests = Counter(
            "clinvk_http_requests", "HTTP requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self._runs = Counter("clinvk_runs", "Runs that ended.", ["backend", "status"], registry=self.registry)
        self._errors = Counter(
            "clinvk_run_errors", "Runs that failed, by error code.", ["backend", "code"], registry=self.registry
        )
        self._refusals = Counter(
            "clinvk_http_errors", "Requests answered with an error, by its code.", ["code"], registry=self.registry
        )
        self._tokens = Counter(
            "clinvk_tokens", "Tokens as backends report them.", ["backend", "kind"], registry=self.registry
        )
        self._cost = Counter("clinvk_cost_usd", "Cost as backends report it.", ["backend"], registry=self.registry)
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Prometheus sees no increase in a series that begins with its first error."""
        for code in ERROR_CODES:
            self._refusals.labels(code)
        for backend in registry.BACKENDS:
            self._cost.labels(backend)
            for status in ENDS:
                self._runs.labels(backend, status)
            for code in ERROR_CODES:
                self._errors.labels(backend, code)

    def _times(self) -> None:
        self._request_seconds = Histogram(
            "clinvk_http_request_seconds",
            "Time to answer.",
            ["method", "route"],
            buckets=HTTP_SECONDS,
            registry=self.registry,
        )
        self._run_seconds = Histogram(
            "clinvk_run_seconds",
            "Time of a run, from its start.",
            ["backend"],
            buckets=RUN_SECONDS,
            registry=self.registry,
        )
        self._first_output = Histogram(
            "clinvk_first_output_seconds",
            "Time from the start of a run to its first text or tool.",
            ["backend"],
            buckets=RUN_SECONDS,
            registry=self.registry,
        )
        self._queue_wait = Histogram(
            "clinvk_queue_wait_seconds",
            "Time that runs waited for their turn.",
            buckets=RUN_SECONDS,
            registry=self.registry,
        )

    def seen(self, seen: Seen) -> None:
        """A request is over."""
        method = seen.method if seen.method in METHODS else OTHER
        self._requests.labels(method, seen.route, str(seen.status)).inc()
        self._request_seconds.labels(method, seen.route).observe(seen.seconds)
        if seen.trail.error_code in ERROR_CODES:
            self._refusals.labels(seen.trail.error_code).inc()

    def began(self, live: LiveRun) -> None:
        """A run was recorded."""
        if live.record.kind == "prompt":
            live.listeners.add(_Clock(self, live.record.backend).hear)

    def started(self, waited: float) -> None:
        """A run got its turn."""
        self._queue_wait.observe(waited)

    def spoke(self, backend: str, seconds: float) -> None:
        """A run said or did something for the first time."""
        self._first_output.labels(backend).observe(seconds)

    def ended(self, live: LiveRun) -> None:
        """A run ended."""
        result = live.result
        if not isinstance(result, PromptResult):
            return
        backend = result.backend
        self._runs.labels(backend, result.status).inc()
        self._run_seconds.labels(backend).observe(result.duration_ms / 1000)
        if result.error is not None:
            self._errors.labels(backend, result.error.code).inc()
        usage = result.token_usage
        for kind, count in (
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cached", usage.cached_tokens),
            ("reasoning", usage.reasoning_tokens),
        ):
            if count:
                self._tokens.labels(backend, kind).inc(count)
        if result.cost_usd:
            self._cost.labels(backend).inc(result.cost_usd)

    def endpoint(self) -> Callable[[Request], Awaitable[Response]]:
        """GET /metrics."""

        async def show(_request: Request) -> Response:
            return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)

        return show


class _Clock:
    """Times one run by its events."""

    def __init__(self, metrics: Metrics, backend: str) -> None:
        self._metrics = metrics
        self._backend = backend
        self._recorded = time.monotonic()
        self._started: float | None = None
        self._spoke = False

    def hear(self, _run_id: str, _backend: str, event: Event) -> None:
        match event:
            case RunStarted():
                self._started = time.monotonic()
                self._metrics.started(self._started - self._recorded)
            case TextDelta() | ToolStarted() if self._started is not None and not self._spoke:
                self._spoke = True
                self._metrics.spoke(self._backend, time.monotonic() - self._started)
            case _:
                pass
