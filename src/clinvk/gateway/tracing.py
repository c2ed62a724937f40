"""OpenTelemetry: a span per request and one per run, by the conventions for HTTP and for generative AI.

Only the API is used: nothing is recorded or sent unless an SDK is configured (`opentelemetry-instrument clinvk serve`).
Prompts and answers are in no span.
"""

import threading
from collections.abc import Callable
from typing import Any

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clinvk import __version__
from clinvk.executor.live import LiveRun
from clinvk.response import PromptResult

FLUSH_SECS = 3.0  # the process was told to stop, and whoever told it may not wait much longer
PROVIDERS = {"claude": "anthropic", "codex": "openai", "gemini": "gcp.gemini"}
TemplateOf = Callable[[Scope], str | None]

_tracer = trace.get_tracer("clinvk", __version__)


def flush() -> None:
    """Send what an SDK has not sent yet; a collector that does not answer delays the end for a few seconds only."""
    provider = trace.get_tracer_provider()
    shutdown: Callable[[], None] | None = getattr(provider, "shutdown", None)  # the API's own has nothing to send
    if shutdown is not None:
        sending = threading.Thread(target=shutdown, daemon=True)
        sending.start()
        sending.join(FLUSH_SECS)


class Traced:
    """ASGI: a server span around every request, a child of the caller's span where it names one."""

    def __init__(self, app: ASGIApp, template_of: TemplateOf) -> None:
        self._app = app
        self._template_of = template_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
        parent = propagate.extract(Headers(scope=scope))
        with _tracer.start_as_current_span(
            scope["method"], context=parent, kind=SpanKind.SERVER, attributes=attributes
        ) as span:

            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self._describe(span, scope, message["status"])
                await send(message)

            return await self._app(scope, receive, sending)

    def _describe(self, span: Span, scope: Scope, status: int) -> None:
        span.set_attribute("http.response.status_code", status)
        route = self._template_of(scope)
        if route is not None:
            span.update_name(f"{scope['method']} {route}")
            span.set_attribute("http.route", route)
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))


class RunSpans:
    """A span per run, below that of the request or of the run that began it. Satisfies `Watcher`."""

    def __init__(self) -> None:
        self._spans: dict[str, Span] = {}

    def began(self, live: LiveRun) -> None:
        """A run was recorded."""
        record = live.record
        parent = self._spans.get(record.parent_id or "")
        attributes: dict[str, Any] = {"clinvk.run.id": record.id, "clinvk.run.kind": record.kind}
        if record.kind == "prompt":
            attributes |= {
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.name": record.backend,
                "gen_ai.provider.name": PROVIDERS.get(record.backend, record.backend),
            }
            if record.model:
                attributes["gen_ai.request.model"] = record.model
            if record.session_id:
                attributes["gen_ai.conversation.id"] = record.session_id
        self._spans[record.id] = _tracer.start_span(
            f"invoke_agent {record.backend}" if record.kind == "prompt" else record.kind,
            context=trace.set_span_in_context(parent) if parent else context.get_current(),
            kind=SpanKind.INTERNAL,
            attributes=attributes,
        )

    def ended(self, live: LiveRun) -> None:
        """A run ended."""
        span = self._spans.pop(live.record.id, None)
        if span is None:
            return
        result = live.result
        if isinstance(result, PromptResult):
            usage = result.token_usage
            for name, value in (
                ("gen_ai.response.model", result.model),
                ("gen_ai.usage.input_tokens", usage.input_tokens),
                ("gen_ai.usage.output_tokens", usage.output_tokens),
                ("clinvk.cost_usd", result.cost_usd),
                ("clinvk.run.status", result.status),
            ):
                if value is not None:
                    span.set_attribute(name, value)
            if result.error is not None:
                span.set_attribute("error.type", result.error.code)
                span.set_status(Status(StatusCode.ERROR, result.error.code))
        span.end()
