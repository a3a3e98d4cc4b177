"""A transport on httpx2, for asyncio and trio; needs the extra ``httpx2``.

It uses httpx2's connection pool (the package httpcore2, a dependency of httpx2) without the client above it,
which keeps cookies, reads the environment, rewrites URLs, and leaves a generator open when a stream is left
early.

This module holds the pools and their settings. `_httpx2_exchange` determines whether a request was sent.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any, Final, cast

import anyio
from anyio.lowlevel import current_token

from ruxa_async.errors import MissingExtraError

from ._addresses import PrivateAddressError, is_public
from ._base import Request, Response, StreamedResponse

try:
    import httpcore2
    import httpx2
except ImportError as error:
    raise MissingExtraError("Httpx2Transport", "httpx2") from error

from ._exchange import FRESH_SECONDS, IDLE_SECONDS, PooledTransport, Streamed
from ._httpx2_exchange import Httpx2Exchange
from ._proxies import without_credentials

__all__ = ("Httpx2Transport",)

#: seconds to wait for one of several addresses before the next is tried
_HEAD_START: Final = 2.0
_PROXY_KINDS: Final = ("http", "https")
_SOCKS: Final = ("socks5", "socks5h")
_ABSENT: Final = ("", "identity")
_GZIP: Final = ("gzip", "x-gzip")


class Httpx2Transport(PooledTransport):
    """A transport on httpx2, for asyncio and trio. Its settings are those of `AiohttpTransport`.

    It belongs to the event loop of its first use, and raises RuntimeError in another loop or after `aclose`.
    Importing it raises `MissingExtraError` if httpx2 is not installed.
    """

    def __init__(
        self,
        *,
        pool_size: int = 64,
        max_body: int = 8 * 2**20,
        trust_env: bool = True,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(
            pool_size=pool_size,
            max_body=max_body,
            trust_env=trust_env,
            proxy=proxy,
            ssl_context=ssl_context,
            kinds=_PROXY_KINDS if find_spec("socksio") is None else (*_PROXY_KINDS, *_SOCKS),
        )
        if self._ssl_context is None:
            self._ssl_context = _system_context()
        self._pools: dict[tuple[bool, bool, str | None], httpcore2.AsyncConnectionPool] = {}
        self._exchanges: set[Httpx2Exchange] = set()

    async def send(self, request: Request) -> Response:
        """Send *request* and return the complete reply, decompressed.

        Raises `NotSentError` if no byte was sent, `MaybeSentError` if some may have been.
        """
        async with self._opened(request, "gzip") as (exchange, head, pieces):
            exchange.reply = head
            with exchange:
                body = await self._read(head, pieces, exchange)
            return Response(head.status, head.headers, body)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[StreamedResponse]:
        """Send *request* and yield the reply, whose body is read in pieces, not decompressed.

        Raises what `send` raises, here and from ``chunks()``.
        """
        async with self._opened(request, "identity") as (exchange, head, pieces):
            yield Streamed(head.status, head.headers, exchange, lambda: anext(pieces, b""))

    async def aclose(self) -> None:
        """Cancel all requests and close every connection. Calling it again does nothing."""
        self._closed = True
        for exchange in self._exchanges:
            exchange.shut()
        async with AsyncExitStack() as closing:
            for pool in self._pools.values():
                closing.push_async_callback(pool.aclose)

    @asynccontextmanager
    async def _opened(
        self, request: Request, encoding: str
    ) -> AsyncIterator[tuple[Httpx2Exchange, Response, AsyncGenerator[bytes]]]:
        """Send *request*; yield the exchange, the reply without its body, and the iterator over its body.

        After the block, the connection is released, or closed if the body was not read to its end.
        """
        self._check_usable(current_token(), request)
        proxy = self._proxies.route_of(request)
        pool = self._pool(request.fresh, request.public_only and proxy is None, proxy)
        exchange = Httpx2Exchange(request, via="" if proxy is None else without_credentials(proxy))
        self._exchanges.add(exchange)
        try:
            with exchange:
                response = await exchange.open(pool, encoding)
            async with AsyncExitStack() as closing:
                closing.push_async_callback(response.aclose)
                # The iterators of the pool's streams are generators.
                pieces = cast("AsyncGenerator[bytes]", aiter(response.stream))  # type: ignore[arg-type]
                closing.push_async_callback(pieces.aclose)
                yield exchange, Response(response.status, _headers(response)), pieces
        finally:
            self._exchanges.discard(exchange)

    async def _read(self, head: Response, received: AsyncGenerator[bytes], exchange: Httpx2Exchange) -> bytes:
        """Return the body in *received*, decompressed. Raises `MaybeSentError` if it is too large."""
        length = head.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_body:
            raise exchange.too_large(self._max_body)
        encoding = head.headers.get("content-encoding", "").strip().lower()
        if encoding not in _ABSENT + _GZIP:
            raise exchange.maybe_sent(f"the reply is encoded as {encoding!r}, which was not requested")
        # The output of each step is bounded, because a compression bomb expands a thousandfold.
        unpacker = zlib.decompressobj(wbits=31) if encoding in _GZIP else None
        pieces = exchange.pieces
        left = self._max_body
        async for chunk in received:
            piece = chunk if unpacker is None else unpacker.decompress(chunk, left + 1)
            left -= len(piece)
            if left < 0:
                raise exchange.too_large(self._max_body)
            pieces.append(piece)
        if unpacker is not None and not unpacker.eof:
            raise exchange.maybe_sent("the reply broke off inside its compression")
        return b"".join(pieces)

    def _pool(self, fresh: bool, public_only: bool, proxy: str | None) -> httpcore2.AsyncConnectionPool:
        key = fresh, public_only, proxy
        if key not in self._pools:
            self._pools[key] = httpcore2.AsyncConnectionPool(
                ssl_context=self._ssl_context,
                proxy=None if proxy is None else _proxy(proxy, self._ssl_context),
                max_connections=self._pool_size,
                keepalive_expiry=FRESH_SECONDS if fresh else IDLE_SECONDS,
                retries=0,
                network_backend=_PublicOnly() if public_only else None,
            )
        return self._pools[key]


class _PublicOnly(httpcore2.AsyncNetworkBackend):
    """A network backend that connects to public addresses only, and tries those of a host in turn."""

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


@cache
def _system_context() -> ssl.SSLContext:
    # Loading the system's certificates takes 80 ms, so it is done once, and not during a request.
    return httpx2.create_ssl_context(trust_env=False)


def _proxy(address: str, ssl_context: ssl.SSLContext | None) -> httpcore2.Proxy:
    given = httpx2.Proxy(address)
    url = httpcore2.URL(
        scheme=given.url.raw_scheme, host=given.url.raw_host, port=given.url.port, target=given.url.raw_path
    )
    trusted = ssl_context if given.url.scheme == "https" else None
    return httpcore2.Proxy(url, auth=given.raw_auth, ssl_context=trusted)


def _headers(response: httpcore2.Response) -> dict[str, str]:
    """Return the headers by lower-case names, the first of each name."""
    headers: dict[str, str] = {}
    for name, value in response.headers:
        headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return headers
