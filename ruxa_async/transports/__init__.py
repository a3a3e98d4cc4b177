"""Ways to reach the service: the contract in `base`, and one module for each library.

A transport loads with the module it lives in, when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .aiohttp import AiohttpTransport as AiohttpTransport
    from .httpx2 import Httpx2Transport as Httpx2Transport
    from .memory import MemoryTransport as MemoryTransport

_HOME_OF = {"AiohttpTransport": "aiohttp", "Httpx2Transport": "httpx2", "MemoryTransport": "memory"}

__all__ = ("AiohttpTransport", "Httpx2Transport", "MemoryTransport")


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
