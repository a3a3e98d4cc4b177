"""Transports: one class per HTTP library, and the protocol `Transport` for your own.

A library is imported when its transport is first used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ruxa_async._internal.lazy import lazy_names

if TYPE_CHECKING:
    from ._addresses import PrivateAddressError, check_host, check_public, is_public
    from ._aiohttp import AiohttpTransport
    from ._allowed import check_allowed
    from ._base import Request, Response, StreamedResponse, Transport
    from ._httpx2 import Httpx2Transport
    from ._memory import MemoryService, MemoryTransport

__all__ = (
    "AiohttpTransport",
    "Httpx2Transport",
    "MemoryService",
    "MemoryTransport",
    "PrivateAddressError",
    "Request",
    "Response",
    "StreamedResponse",
    "Transport",
    "check_allowed",
    "check_host",
    "check_public",
    "is_public",
)

__getattr__: Callable[[str], object] = lazy_names(
    __name__,
    {
        "_addresses": "PrivateAddressError check_host check_public is_public",
        "_aiohttp": "AiohttpTransport",
        "_allowed": "check_allowed",
        "_base": "Request Response StreamedResponse Transport",
        "_httpx2": "Httpx2Transport",
        "_memory": "MemoryService MemoryTransport",
    },
)
