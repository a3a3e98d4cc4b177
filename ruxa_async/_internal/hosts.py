"""Loopback addresses."""

from __future__ import annotations

import ipaddress

__all__ = ("is_loopback",)


def is_loopback(host: str) -> bool:
    """Tell whether *host* is ``localhost`` or a loopback IP address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
