"""Which addresses are public: what stands between a link that somebody else chose and the machines around us.

A name proves nothing: it may lead anywhere, and elsewhere a moment later. So a transport asks here about the address
that it is about to connect to, for each connection that may carry a request with `Request.public_only`.
"""

from __future__ import annotations

import socket
import unicodedata
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

__all__ = ("PrivateAddressError", "check_host", "check_public", "is_public", "public_socket")

#: The IANA registry of special addresses (RFC 6890 and its updates), and one public address that clouds answer
#: themselves. Python's own list differs from release to release.
_NOT_PUBLIC_4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this host
            "10.0.0.0/8",
            "100.64.0.0/10",  # behind a provider's NAT; Alibaba's metadata
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's metadata
            "169.254.0.0/16",  # link-local; the metadata of most clouds
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved; broadcast
        ),
    )
)
#: All public IPv6 is in here, so that what is not thought of (mapped, site-local, metadata ...) is refused.
_GLOBAL_6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # Teredo and other protocols' own
            "2001:db8::/32",
            "2002::/16",  # 6to4: leads to any IPv4 address
            "3fff::/20",
        ),
    )
)
#: How a network without IPv4 writes IPv4 addresses: public where those are.
_NAT64: Final = IPv6Network("64:ff9b::/96")


class PrivateAddressError(OSError):
    """An address is not public, and nothing was sent there."""

    def __init__(self) -> None:
        # The same words for every address, or a library that tries several would make one vague error of them.
        super().__init__("the address is not a public one")


def is_public(address: str) -> bool:
    """Tell whether *address*, as numbers, is one that anybody on the internet can reach."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        if ip in _NAT64:
            return _is_public_4(IPv4Address(ip.packed[-4:]))
        return ip in _GLOBAL_6 and not any(ip in network for network in _NOT_PUBLIC_6)
    return _is_public_4(ip)


def _is_public_4(ip: IPv4Address) -> bool:
    return not any(ip in network for network in _NOT_PUBLIC_4)


def check_public(address: str) -> None:
    """Raise `PrivateAddressError` unless *address* is public."""
    if not is_public(address):
        raise PrivateAddressError


def check_host(host: str) -> None:
    """Raise `PrivateAddressError` if *host* names an address that is not public, as far as its text alone tells.

    That is all that can be known of a host that a proxy looks up: numbers in every notation, and localhost.
    """
    name = unicodedata.normalize("NFKC", host).rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        raise PrivateAddressError
    try:
        address = str(ip_address(name.partition("%")[0]))
    except ValueError:
        try:
            address = socket.inet_ntoa(socket.inet_aton(name))  # such as 127.1, 0x7f000001 and 2130706433
        except (OSError, ValueError):
            return
    check_public(address)


def public_socket(info: tuple[Any, Any, int, str, Sequence[Any]]) -> socket.socket:
    """Make a socket for one answer of ``getaddrinfo``; raise `PrivateAddressError` unless its address is public."""
    family, kind, protocol, _, address = info
    check_public(address[0])
    return socket.socket(family, kind, protocol)
