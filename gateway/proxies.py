"""Who a request comes from, where a balancer stands in front.

The balancer writes the address that it sees into ``X-Forwarded-For``. Anybody can send that header, so it is believed
only from addresses that the operator names, and read from its end: what stands left of the first address that is no
proxy of ours was written by the client.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.requests import Request

HEADER = "x-forwarded-for"


class TrustedProxies:
    """``networks``: CIDR, of our own balancers."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ip_network(network) for network in networks)

    def client(self, request: Request) -> str:
        """The client's address; "" for a socket without one."""
        peer = request.client.host if request.client else ""
        if not self._trusts(_address(peer)):
            return peer
        hops = [hop.strip() for line in request.headers.getlist(HEADER) for hop in line.split(",")]
        for hop in reversed(hops):
            address = _address(hop)
            if address is None:
                return peer  # not what a balancer writes: believe nothing of it
            if not self._trusts(address):
                return str(address)
        return peer

    def _trusts(self, address: IPv4Address | IPv6Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An IPv4 one that was mapped into IPv6 is that IPv4 one."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
