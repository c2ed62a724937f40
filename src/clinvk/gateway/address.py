"""From whom a request comes, when proxies stand in between: only what trusted ones say is believed."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import Scope

Address = IPv4Address | IPv6Address
UNKNOWN = "unknown"


class Addresses:
    """The client's address of a request. `trusted` are the proxies whose X-Forwarded-For is believed."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted: list[IPv4Network | IPv6Network] = [ip_network(text, strict=False) for text in trusted]

    def of(self, scope: Scope) -> str:
        """The nearest address that is not that of a trusted proxy: what stands left of it, anybody can have written."""
        client: tuple[str, int] | None = scope.get("client")
        if client is None:
            return UNKNOWN
        nearest = _parsed(client[0])
        if nearest is None:
            return client[0]
        for text in reversed(",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")):
            if not self._is_trusted(nearest):
                break
            before = _parsed(text)
            if before is None:
                break
            nearest = before
        return str(nearest)

    def neighbours(self, scope: Scope) -> str:
        """Of what the client's address is one of many that it may take at will: in IPv6, its /64."""
        address = self.of(scope)
        parsed = _parsed(address)
        return str(ip_network((parsed, 64), strict=False)) if isinstance(parsed, IPv6Address) else address

    def is_proxied(self, scope: Scope) -> bool:
        """Whether a trusted proxy passed the request on."""
        client: tuple[str, int] | None = scope.get("client")
        peer = _parsed(client[0]) if client else None
        return peer is not None and self._is_trusted(peer) and "x-forwarded-for" in Headers(scope=scope)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _parsed(text: str) -> Address | None:
    text = text.strip()
    if text.startswith("["):  # [::1]:1234
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # 10.0.0.1:1234
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
