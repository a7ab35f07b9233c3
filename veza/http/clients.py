"""Who is at the other end: the client's address and scheme, through the proxies we trust and no others.

`X-Forwarded-*` counts only when the connection comes from `TRUSTED_PROXIES`; the rightmost untrusted address is the
client. Everything else anybody writes there is a claim, and is not passed on.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from veza.http.head import Head


class Proxies:
    """The addresses whose word about their clients is taken."""

    def __init__(self, networks: tuple[str, ...]) -> None:
        self._networks = tuple(ip_network(network, strict=False) for network in networks)
        self._trusts = lru_cache(4096)(self._look_up)

    def trusts(self, address: str) -> bool:
        return bool(self._networks) and self._trusts(address)

    def client(self, peer: str, head: Head) -> str:
        """The address of the person behind this request."""
        if not self.trusts(peer):
            return peer
        for claim in reversed(head.elements(b"x-forwarded-for")):
            address = _address(claim)
            if address is None:
                break
            if not self.trusts(address):
                return address
            peer = address
        return peer

    def secure(self, peer: str, head: Head, secure: bool) -> bool:
        """Did the client come by TLS, here or at the proxy?"""
        if not self.trusts(peer):
            return secure
        claims = head.elements(b"x-forwarded-proto")
        return claims[-1].lower() in ("https", "wss") if claims else secure

    def _look_up(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._networks if network.version == found.version)


def plain(address: str) -> str:
    """An address as it is counted and shown: IPv4 seen through an IPv6 socket is IPv4, without a zone."""
    address = address.partition("%")[0]
    return address.removeprefix("::ffff:") if address.startswith("::ffff:") and "." in address else address


def _address(claim: str) -> str | None:
    """The address in one element of X-Forwarded-For, which may carry a port."""
    text = claim.strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return None
    return plain(str(found))
