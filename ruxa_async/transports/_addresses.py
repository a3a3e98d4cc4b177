"""Public and private addresses: the protection against links to internal machines (SSRF).

A host name proves nothing, because its addresses may change between two lookups (DNS rebinding). So a
transport checks the address itself for each connection that may carry a request with `Request.public_only`.
"""

from __future__ import annotations

import socket
import unicodedata
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

__all__ = ("PrivateAddressError", "check_host", "check_public", "is_public", "public_socket")

#: The IANA registry of special-purpose addresses (RFC 6890 and its updates), and Azure's metadata address.
#: Python's own list differs between releases.
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
#: The global unicast range of IPv6; everything outside of it (mapped, site-local, metadata ...) is refused.
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
#: IPv4 addresses in a network without IPv4; public if the IPv4 address is.
_NAT64: Final = IPv6Network("64:ff9b::/96")


class PrivateAddressError(OSError):
    """An address is not public; nothing was sent to it."""

    def __init__(self) -> None:
        # One message for all addresses: libraries merge equal errors of several addresses into one.
        super().__init__("the address is not a public one")


def is_public(address: str) -> bool:
    """Return whether the numeric *address* is public."""
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
    """Raise `PrivateAddressError` if *host* is localhost or a private address in any numeric notation.

    Other names are not looked up: this is for requests through a proxy, which resolves names itself.
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
    """Return a socket for a result of ``getaddrinfo``. Raises `PrivateAddressError` for a private address."""
    family, kind, protocol, _, address = info
    check_public(address[0])
    return socket.socket(family, kind, protocol)
