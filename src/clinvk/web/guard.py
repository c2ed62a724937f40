"""Who may talk to a server; stands before every route.

On loopback without keys, the only stranger that can reach the server is a web page in the user's browser: it is told by
its Host (DNS rebinding) or Origin. With keys, the key decides as well.
"""

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import asdict
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from clinvk.errors import ClinvkError, Failure
from clinvk.web.keys import VARIABLE, Keyring

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
HTTP_PORT = 80
OWNER = "clinvk.owner"  # in an ASGI scope: the name of the key that a request carries

Refuse = Callable[[Scope, int, Failure], Response]


def refusal(_scope: Scope, status: int, failure: Failure) -> Response:
    """The answer to a request that is not let in."""
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": asdict(failure)}, status, headers=headers)


def check_exposure(host: str, keyring: Keyring, origins: Sequence[str] = ()) -> None:
    """Raises ClinvkError(policy_denied) for what lets strangers in when there are no keys.

    That is an address that others can reach, or every web page (`*` among `origins`) that the user opens.
    """
    if keyring.required:
        return
    if "*" in origins:
        raise ClinvkError(
            "policy_denied",
            "refused to let every web page call the server without API keys",
            hint="name the origins in server.cors_allowed_origins, or make a key with `clinvk keys create NAME`",
        )
    if not is_loopback(host):
        raise ClinvkError(
            "policy_denied",
            f"refused to listen on {host}, which other machines may reach, without API keys",
            hint=f"make a key with `clinvk keys create NAME`, or set {VARIABLE}, or listen on 127.0.0.1",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class HostGuard:
    """ASGI: refuses requests with a strange Host or Origin; `host` is the address that the server listens on.

    `proxied` tells requests that a trusted proxy passed on: their Host is that of the proxy's public name.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        *,
        origins: Sequence[str] = (),
        proxied: Callable[[Scope], bool] = lambda _scope: False,
        refuse: Refuse = refusal,
    ) -> None:
        self._app = app
        self._local = is_loopback(host)
        self._hosts = {*LOOPBACK_NAMES, host.lower().strip("[]")}
        self._origins = frozenset(origins)
        self._proxied = proxied
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        hosts, origin = headers.getlist("host"), headers.get("origin")
        host = hosts[0] if len(hosts) == 1 else ""  # of two, nobody knows which one others go by
        local = self._local and not self._proxied(scope)
        if local and _host_name(host) not in self._hosts:
            failure = Failure(code="policy_denied", message="this server does not answer for that Host")
            return await self._refuse(scope, 421, failure)(scope, receive, send)
        if origin is not None and not self._is_known_origin(origin, host, local=local):
            failure = Failure(
                code="policy_denied",
                message="this Origin may not call the server",
                hint="server.cors_allowed_origins names those that may",
            )
            return await self._refuse(scope, 403, failure)(scope, receive, send)
        return await self._app(scope, receive, send)

    def _is_known_origin(self, origin: str, host: str, *, local: bool) -> bool:
        if origin in self._origins or "*" in self._origins:
            return True
        try:
            parts, called = urlsplit(origin), urlsplit(f"//{host}")
            # Another port of this machine is another program, whose pages may not act for the user either.
            same_port = (parts.port or HTTP_PORT) == (called.port or HTTP_PORT)
        except ValueError:
            return False
        if local:
            return parts.scheme == "http" and same_port and _host_name(parts.netloc) in self._hosts
        return parts.netloc != "" and parts.netloc.lower() == host.lower()


class KeyGuard:
    """ASGI: lets nobody in without a key, where there are keys; `public` are paths that need none."""

    def __init__(self, app: ASGIApp, keyring: Keyring, *, public: Sequence[str] = (), refuse: Refuse = refusal) -> None:
        self._app = app
        self._keyring = keyring
        self._public = frozenset(public)
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._keyring.required or scope["path"] in self._public:
            return await self._app(scope, receive, send)
        try:
            owner = self._keyring.owner(_given(Headers(scope=scope)))
        except ClinvkError as error:  # fail closed
            failure = Failure(code="policy_denied", message="the API keys cannot be read", hint=error.failure.hint)
            return await self._refuse(scope, 503, failure)(scope, receive, send)
        if owner is None:
            failure = Failure(code="auth_required", message="a valid API key is needed, as X-Api-Key or Bearer")
            return await self._refuse(scope, 401, failure)(scope, receive, send)
        scope[OWNER] = owner
        return await self._app(scope, receive, send)


def _given(headers: Headers) -> str:
    """The key that a request carries, empty when there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return headers.get("x-api-key") or bearer


def _host_name(host: str) -> str:
    """A Host header or netloc without its port."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower()
