"""Who may talk to the HTTP transport; stands before every route.

On loopback without keys, the only stranger that can reach the server is a web page in the user's browser: it is told by
its Host (DNS rebinding) or Origin. With keys, the key decides as well. Keys are compared in constant time.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from clinvk.errors import ClinvkError

KEYS_VARIABLE = "CLINVK_API_KEYS"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def api_keys(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The keys of CLINVK_API_KEYS. Raises ClinvkError(policy_denied) when it is set and holds none."""
    text = environ.get(KEYS_VARIABLE)
    if text is None:
        return ()
    keys = tuple(key for key in (part.strip() for part in text.split(",")) if key)
    if not keys:
        raise ClinvkError(
            "policy_denied",
            f"{KEYS_VARIABLE} is set but holds no key",
            hint="put keys into it, separated by commas, or unset it to serve without keys on loopback",
        )
    return keys


def check_exposure(host: str, keys: Sequence[str]) -> None:
    """Raises ClinvkError(policy_denied) for an address that others can reach when there are no keys."""
    if not is_loopback(host) and not keys:
        raise ClinvkError(
            "policy_denied",
            f"refused to listen on {host}, which other machines may reach, without API keys",
            hint=f"set {KEYS_VARIABLE}, or listen on 127.0.0.1",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI: refuses requests of strangers; `host` is the address that the server listens on.

    Paths in `public` need no key, but a Host and an Origin like all others.
    """

    def __init__(
        self, app: ASGIApp, host: str, *, keys: Sequence[str], origins: Sequence[str], public: Sequence[str] = ()
    ) -> None:
        self._app = app
        self._public = frozenset(public)
        self._local = is_loopback(host)
        self._hosts = {*LOOPBACK_NAMES, host.lower().strip("[]")}
        self._keys = [(hashlib.sha256(key.encode()).digest(), f"key {number}") for number, key in enumerate(keys, 1)]
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        refusal = self._refusal(scope, Headers(scope=scope))
        return await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if self._local and _host_name(headers.get("host", "")) not in self._hosts:
            return _error(421, "policy_denied", "this server does not answer for that Host")
        if not self._is_known_origin(headers.get("origin"), headers.get("host", "")):
            return _error(403, "policy_denied", "this Origin may not call the server")
        if self._keys and scope["path"] not in self._public:
            owner = self._owner(headers)
            if owner is None:
                return _error(401, "auth_required", "a valid API key is needed, as X-Api-Key or Bearer")
            # The SDK then lets a session be used only with the key that opened it.
            scope["user"] = AuthenticatedUser(AccessToken(token="", client_id=owner, scopes=[]))
        return None

    def _is_known_origin(self, origin: str | None, host: str) -> bool:
        if origin is None or origin in self._origins or "*" in self._origins:
            return True
        parts = urlsplit(origin)
        if self._local:
            return parts.scheme == "http" and _host_name(parts.netloc) in self._hosts
        return parts.netloc != "" and parts.netloc.lower() == host.lower()

    def _owner(self, headers: Headers) -> str | None:
        """Whose key a request carries; every key is compared, so that the time taken tells nothing."""
        given = headers.get("x-api-key")
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if given is None and scheme.lower() == "bearer":
            given = token.strip()
        digest = hashlib.sha256((given or "").encode()).digest()
        owners = [owner for key, owner in self._keys if hmac.compare_digest(key, digest)]
        return owners[0] if owners else None


def _host_name(host: str) -> str:
    """A Host header or netloc without its port."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower()


def _error(status: int, code: str, message: str) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers=headers)
