"""The gateway as one ASGI application: its routes and the guards around them.

From the outside in: the boundary that counts everything; strange Hosts and Origins; CORS, so that preflights need no
key and refusals can be read by pages that may; the limit per address, which also slows who guesses keys; keys; the
limit per key; the size of bodies.
"""

from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Scope

from clinvk.config.settings import ServerConfig
from clinvk.errors import ClinvkError, Failure
from clinvk.gateway import answers, anthropic, docs, openai, openapi, reading, rest, telemetry
from clinvk.gateway.address import Addresses
from clinvk.gateway.attended import Gone
from clinvk.gateway.audit import Audit
from clinvk.gateway.bodylimit import BodyLimit, Refused
from clinvk.gateway.calls import OPERATIONS
from clinvk.gateway.drain import Drain
from clinvk.gateway.metrics import PATH, Metrics
from clinvk.gateway.ratelimit import Buckets, RateLimit
from clinvk.gateway.service import Service, trail_of
from clinvk.gateway.tracing import RunSpans, TemplateOf, Traced
from clinvk.tools.app import App
from clinvk.web import health
from clinvk.web.guard import OWNER, HostGuard, KeyGuard
from clinvk.web.keys import Keyring
from clinvk.web.mounting import Mounted

API = "/api/v1"
PUBLIC = (health.PATH, openapi.PATH, *docs.FILES)  # what they tell is in the source
METHODS = ("GET", "POST", "DELETE")
REFUSALS = (400, 401, 403, 408, 413, 421, 429, 431, 503)  # of the guards
REQUEST_HEADERS = (
    "Accept", "Authorization", "Content-Type", "Last-Event-ID", "Prefer", "X-Api-Key", "X-Request-Id",
    "X-Clinvk-Session", "X-Clinvk-Workdir",
    "Mcp-Session-Id", "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name",
    "Anthropic-Version", "Anthropic-Beta", "Anthropic-Dangerous-Direct-Browser-Access",
    *(f"X-Stainless-{name}" for name in (  # what the official SDKs send
        "Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Retry-Count", "Timeout",
    )),
)  # fmt: skip
RESPONSE_HEADERS = (
    "Location", "Retry-After", "X-Request-Id", "Request-Id", "X-Clinvk-Run", "X-Clinvk-Session", "X-Clinvk-Ignored",
    "X-Clinvk-Warning", "X-Clinvk-Partial", "X-Should-Retry", "Mcp-Session-Id",
)  # fmt: skip


def build(
    app: App,
    keyring: Keyring,
    *,
    cwd: Path,
    drain: Drain,
    watchers: Sequence[telemetry.Watcher] = (),
    mounted: Mounted | None = None,
) -> telemetry.Telemetry:
    """The application. `cwd` is where calls without a workdir work; `mounted` is served at its path beside the API."""
    service = Service(app, cwd, drain)
    config = app.config.server
    extra: list[BaseRoute] = [Route(mounted.path, mounted.app, name="mcp")] if mounted else []
    if config.metrics_enabled:
        metrics = Metrics(app)
        app.executor.watchers.append(metrics)
        watchers = [*watchers, metrics.seen]
        extra.append(Route(PATH, metrics.endpoint(), methods=["GET"], name="metrics"))
    audit = Audit(app.home, prompts=config.audit_prompts)
    app.executor.watchers += [RunSpans(), audit]
    every = [*routes(service, keyring), *extra]
    inner = Starlette(
        routes=every,
        exception_handlers={
            ClinvkError: _on_error,
            HTTPException: _on_http,
            Refused: _on_refused,
            Gone: _on_gone,
            ClientDisconnect: _on_gone,
            Exception: _on_bug,
        },
    )
    addresses = Addresses(config.trusted_proxies)

    def audited(seen: telemetry.Seen) -> None:
        if mounted and (seen.method, seen.route) == ("POST", mounted.path):
            seen.trail.operation = "mcp"  # what is called, the protocol below knows; its runs have records of their own
        # Of /health, 503 is no refusal: nothing has failed there.
        if seen.trail.operation or (seen.trail.error_code and seen.status in REFUSALS):
            audit.note(
                seen.trail,
                request_id=seen.request_id,
                who=seen.who,
                address=addresses.of(seen.scope),
                status=seen.status,
                route=f"{seen.method} {seen.route}",
            )

    template_of = _templates([route for route in every if isinstance(route, Route)])
    guarded = Traced(_guarded(inner, config, keyring, addresses, drain), template_of)
    return telemetry.Telemetry(guarded, template_of, [telemetry.log, audited, *watchers])


def _templates(known: Sequence[Route]) -> TemplateOf:
    """What tells the route of a request, such as /api/v1/runs/{id}: there are few of them, unlike paths."""
    by_endpoint: dict[object, str] = {route.endpoint: route.path for route in known}

    def template_of(scope: Scope) -> str | None:
        if "endpoint" in scope:
            return by_endpoint.get(scope["endpoint"])
        if "path" not in scope:
            return None
        # A guard has answered, so that no router has seen it.
        return next((route.path for route in known if route.matches(scope)[0] is Match.FULL), None)

    return template_of


def routes(service: Service, keyring: Keyring) -> list[BaseRoute]:
    """Every route of the gateway itself."""

    def at(path: str, name: str, handler: reading.Handler, method: str = "GET") -> Route:
        return Route(f"{API}{path}", reading.endpoint(service, name, handler), methods=[method], name=name)

    return [
        *(Route(f"{API}/{op.name}", rest.endpoint(service, op), methods=["POST"], name=op.name) for op in OPERATIONS),
        at("/backends", "list_backends", reading.list_backends),
        at("/sessions", "list_sessions", reading.list_sessions),
        at("/sessions/{id}", "show_session", reading.show_session),
        at("/sessions/{id}", "delete_session", reading.delete_session, "DELETE"),
        at("/sessions/{id}/fork", "fork_session", reading.fork_session, "POST"),
        at("/runs", "list_runs", reading.list_runs),
        at("/runs/{id}", "show_run", reading.show_run),
        at("/runs/{id}", "cancel_run", reading.cancel_run, "DELETE"),
        at("/runs/{id}/events", "run_events", reading.run_events),
        at("/runs/{id}/output", "run_output", reading.run_output),
        Route(f"{openai.PATH}/chat/completions", openai.endpoint(service), methods=["POST"], name="openai_chat"),
        Route(f"{openai.PATH}/models", openai.models(service), methods=["GET"], name="openai_models"),
        Route(f"{openai.PATH}/models/{{model:path}}", openai.models(service), methods=["GET"], name="openai_model"),
        Route(f"{anthropic.PATH}/messages", anthropic.endpoint(service), methods=["POST"], name="anthropic_messages"),
        Route(health.PATH, health.endpoint(service.app, keyring), methods=["GET"], name="health"),
        Route(openapi.PATH, openapi.endpoint(), methods=["GET"], name="openapi"),
        *(Route(path, docs.endpoint(path), methods=["GET"], name=f"docs {path}") for path in docs.FILES),
    ]


def _guarded(inner: ASGIApp, config: ServerConfig, keyring: Keyring, addresses: Addresses, drain: Drain) -> ASGIApp:
    app: ASGIApp = BodyLimit(inner, config.max_request_body_bytes, drain)
    buckets = Buckets(config) if config.rate_limit_enabled else None
    if buckets is not None:
        app = RateLimit(app, buckets, lambda scope: f"key {scope[OWNER]}" if OWNER in scope else None)
    app = KeyGuard(app, keyring, public=PUBLIC, refuse=answers.refused)
    if buckets is not None:
        app = RateLimit(app, buckets, lambda scope: f"address {addresses.neighbours(scope)}")
    if config.cors_allowed_origins:
        app = CORSMiddleware(
            app,
            allow_origins=config.cors_allowed_origins,
            allow_methods=METHODS,
            allow_headers=(*REQUEST_HEADERS, *config.cors_allowed_headers),
            allow_credentials=config.cors_allow_credentials,
            expose_headers=RESPONSE_HEADERS,
            max_age=config.cors_max_age,
        )
    return HostGuard(
        app,
        config.host,
        origins=config.cors_allowed_origins,
        # A page in a browser can send X-Forwarded-For as well, but it has no key.
        proxied=lambda scope: keyring.required and addresses.is_proxied(scope),
        refuse=answers.refused,
    )


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ClinvkError)
    return answers.of_failure(request.scope, error.failure)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    failure = Failure(
        code="invalid_request",
        message=f"{request.method} {request.url.path}: {error.detail}",
        hint="/docs and /openapi.json list what there is",
    )
    answer = answers.of_failure(request.scope, failure, error.status_code)
    answer.headers.update(error.headers or {})
    return answer


async def _on_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return answers.of_failure(request.scope, error.failure, error.status)


async def _on_gone(request: Request, error: Exception) -> Response:
    trail_of(request.scope).outcome = "left"
    return Response(status_code=telemetry.CLIENT_LEFT)


async def _on_bug(request: Request, error: Exception) -> Response:
    """Starlette raises the error again once this is sent; the boundary then logs it."""
    return answers.of_failure(request.scope, telemetry.bug(error))
