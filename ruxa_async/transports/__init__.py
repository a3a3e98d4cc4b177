"""Transports: one class per HTTP library, and the protocol `Transport` for your own.

A library is imported when its transport is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ruxa_async._internal.lazy import lazy_names

if TYPE_CHECKING:
    from ._addresses import PrivateAddressError as PrivateAddressError
    from ._addresses import check_host as check_host
    from ._addresses import check_public as check_public
    from ._addresses import is_public as is_public
    from ._aiohttp import AiohttpTransport as AiohttpTransport
    from ._base import Request as Request
    from ._base import Response as Response
    from ._base import StreamedResponse as StreamedResponse
    from ._base import Transport as Transport
    from ._httpx2 import Httpx2Transport as Httpx2Transport
    from ._memory import MemoryService as MemoryService
    from ._memory import MemoryTransport as MemoryTransport

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
    "check_host",
    "check_public",
    "is_public",
)

__getattr__ = lazy_names(
    __name__,
    {
        "_addresses": "PrivateAddressError check_host check_public is_public",
        "_aiohttp": "AiohttpTransport",
        "_base": "Request Response StreamedResponse Transport",
        "_httpx2": "Httpx2Transport",
        "_memory": "MemoryService MemoryTransport",
    },
)
