"""A network backend for httpx2's pool that connects to public addresses only."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import Any, Final

import anyio
import httpcore2

from ._addresses import PrivateAddressError, is_public

__all__ = ("PublicOnly",)

#: seconds to wait for one of several addresses before the next is tried
_HEAD_START: Final = 2.0


class PublicOnly(httpcore2.AsyncNetworkBackend):
    """Resolves a host and tries its public addresses in turn."""

    def __init__(self) -> None:
        on_asyncio = anyio.get_cancelled_exc_class() is asyncio.CancelledError
        self._backend = httpcore2.AnyIOBackend() if on_asyncio else httpcore2.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to *host*. Raises `PrivateAddressError` if it has no public address."""

        async def connected(address: str) -> httpcore2.AsyncNetworkStream:
            # By address: a second lookup of the name might return another one.
            return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)

        *others, last = await _public_addresses(host, port)
        for address in others:
            with anyio.move_on_after(_HEAD_START):
                try:
                    return await connected(address)
                except httpcore2.ConnectError:
                    continue
        return await connected(last)


async def _public_addresses(host: str, port: int) -> list[str]:
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found)
    if public := [address for address in addresses if is_public(address)]:
        return public
    raise PrivateAddressError
