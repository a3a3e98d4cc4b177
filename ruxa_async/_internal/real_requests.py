"""The guard against real requests: RUXA_ALLOW_REQUESTS=0 limits requests to this machine."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from .hosts import is_loopback

__all__ = ("refusal_of",)

_VARIABLE = "RUXA_ALLOW_REQUESTS"
#: Values that allow every request. Any other one does not: a spelling mistake must not cost money.
_ALLOWING = frozenset({"", "1", "true", "yes", "on"})


def refusal_of(url: str) -> str:
    """Return why no request may be sent to *url*, and what to do; "" if it may.

    The variable is read at each request, so that a test can set it while a client is open.
    """
    value = os.environ.get(_VARIABLE)
    if value is None or value.strip().lower() in _ALLOWING:
        return ""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    if is_loopback(host):
        return ""
    return (
        f"{_VARIABLE}={value} allows requests to this machine only, and this one is for {host!r}. In a test, "
        "use the pytest fixtures ruxa or ruxa_emulator, or set RUXA_BASE_URL to the address of an emulator. "
        "To send real requests, unset the variable"
    )
