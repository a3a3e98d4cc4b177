"""A transport on httpx2, for asyncio and trio; needs the extra ``httpx2``.

It drives httpx2's own connection pool (the package httpcore2, which httpx2 brings along) and leaves out the client above it: that
one keeps cookies, reads the environment, rewrites addresses, and leaves a generator open where a stream is left early.

What was sent and what was not is worked out in `_httpx2_exchange`; here are the pools and their settings.
"""

from __future__ import annotations

import ssl
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from importlib.util import find_spec
from typing import Final, Self, cast

from anyio.lowlevel import EventLoopToken, current_token

from ruxa_async.errors import MissingExtraError

from ._base import Request, Response, StreamedResponse

try:
    import httpcore2
    import httpx2
except ImportError as error:
    raise MissingExtraError("Httpx2Transport", "httpx2") from error

from ._httpx2_exchange import Exchange
from ._httpx2_guard import PublicOnly
from ._proxies import Proxies, trusted_by_environment, without_credentials

__all__ = ("Httpx2Transport",)

#: How long a pooled connection may have been idle and still carry a create; servers close theirs later than this.
FRESH_SECONDS: Final = 2.0
#: How long any other may have been idle.
IDLE_SECONDS: Final = 15.0

_PROXY_KINDS: Final = ("http", "https")
_SOCKS: Final = ("socks5", "socks5h")
_ABSENT: Final = ("", "identity")
_GZIP: Final = ("gzip", "x-gzip")


class Httpx2Transport:
    """Carry requests over httpx2, on asyncio and on trio.

    *pool_size* bounds the connections of creates and, apart from them, those of all the rest: 64. *max_body* is the
    largest reply in bytes, after decompression, that `send` takes: 8 MiB.

    *proxy* is the address of a proxy, with its credentials if it needs any, and *ssl_context* replaces the default one,
    which trusts what the system trusts. Without them and with *trust_env*, the default, HTTPS_PROXY, HTTP_PROXY,
    ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR count. A loopback address is never reached through a proxy. Raise
    `ConfigurationError` for a proxy or a file of certificates that cannot be used.

    It may be made anywhere and belongs to the event loop of its first use. Raise RuntimeError when used from
    another loop or after `aclose`. Importing it raises `MissingExtraError` where httpx2 is not installed.
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
        if pool_size < 1:
            raise ValueError(f"pool_size={pool_size!r} is not valid: at least 1 connection is needed")
        if max_body < 1:
            raise ValueError(f"max_body={max_body!r} is not valid: at least 1 byte is needed")
        self._pool_size = pool_size
        self._max_body = max_body
        kinds = _PROXY_KINDS if find_spec("socksio") is None else (*_PROXY_KINDS, *_SOCKS)
        self._proxies = Proxies(proxy, trust_env=trust_env, kinds=kinds)
        if ssl_context is None and trust_env:
            ssl_context = trusted_by_environment()
        self._ssl_context = _trusting_the_system() if ssl_context is None else ssl_context
        self._token: EventLoopToken | None = None
        self._pools: dict[tuple[bool, bool, str | None], httpcore2.AsyncConnectionPool] = {}
        self._exchanges: set[Exchange] = set()
        self._closed = False

    async def send(self, request: Request) -> Response:
        """Exchange *request* for a whole reply, decompressed.

        Raise `NotSentError` if no byte of it left, `MaybeSentError` if some may have.
        """
        async with self._opened(request, "gzip") as (exchange, response):
            exchange.reply = Response(response.status, response.headers)
            with exchange:
                body = await self._read(response, exchange)
            return Response(response.status, response.headers, body)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[StreamedResponse]:
        """Open *request* for reading its body in pieces, as they come over the wire.

        Raise what `send` raises, at the opening and from ``chunks()``.
        """
        async with self._opened(request, "identity") as (_, response):
            yield response

    async def aclose(self) -> None:
        """End what is under way and close every connection. Calling it again does nothing."""
        self._closed = True
        for exchange in self._exchanges:
            exchange.shut()
        async with AsyncExitStack() as closing:
            for pool in self._pools.values():
                closing.push_async_callback(pool.aclose)

    @asynccontextmanager
    async def _opened(self, request: Request, encoding: str) -> AsyncIterator[tuple[Exchange, _Streamed]]:
        """Give the reply to *request* with its body still to come; its connection is let go of with the block."""
        proxy, pool = self._way(request)
        exchange = Exchange(request, via="" if proxy is None else without_credentials(proxy))
        self._exchanges.add(exchange)
        try:
            with exchange:
                response = await exchange.open(pool, encoding)
            streamed = _Streamed(response, exchange)
            try:
                yield exchange, streamed
            finally:
                await streamed.aclose()
        finally:
            self._exchanges.discard(exchange)

    async def _read(self, response: _Streamed, exchange: Exchange) -> bytes:
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_body:
            raise exchange.too_large(self._max_body)
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in _ABSENT + _GZIP:
            raise exchange.maybe_sent(f"the reply is encoded as {encoding!r}, which was not asked for")
        # Packed a thousandfold, one read would fill the memory: what comes out is bounded, not only what comes in.
        unpacker = zlib.decompressobj(wbits=31) if encoding in _GZIP else None
        pieces = exchange.pieces
        left = self._max_body
        async for chunk in response.pieces:
            piece = chunk if unpacker is None else unpacker.decompress(chunk, left + 1)
            left -= len(piece)
            if left < 0:
                raise exchange.too_large(self._max_body)
            pieces.append(piece)
        if unpacker is not None and not unpacker.eof:
            raise exchange.maybe_sent("the reply broke off inside its compression")
        return b"".join(pieces)

    def _way(self, request: Request) -> tuple[str | None, httpcore2.AsyncConnectionPool]:
        """Return the proxy and the pool that *request* goes through."""
        if self._closed:
            raise RuntimeError("This Httpx2Transport is closed; make a new one.")
        token = current_token()
        if token != self._token:
            if self._token is not None:
                raise RuntimeError(
                    "This Httpx2Transport belongs to another event loop, that of its first use; make one for each loop."
                )
            self._token = token
        proxy = self._proxies.route_of(request)
        key = request.fresh, request.public_only and proxy is None, proxy
        pool = self._pools.get(key)
        return proxy, self._make(*key) if pool is None else pool

    def _make(self, fresh: bool, public_only: bool, proxy: str | None) -> httpcore2.AsyncConnectionPool:
        self._pools[fresh, public_only, proxy] = pool = httpcore2.AsyncConnectionPool(
            ssl_context=self._ssl_context,
            proxy=None if proxy is None else _proxy(proxy, self._ssl_context),
            max_connections=self._pool_size,
            keepalive_expiry=FRESH_SECONDS if fresh else IDLE_SECONDS,
            retries=0,
            network_backend=PublicOnly() if public_only else None,
        )
        return pool


class _Streamed:
    """A reply whose body is still arriving, and the iterator over it."""

    def __init__(self, response: httpcore2.Response, exchange: Exchange) -> None:
        self._response = response
        self._exchange = exchange
        #: The body as the pool gives it; the pool's streams are iterated by generators.
        self.pieces = cast("AsyncGenerator[bytes]", aiter(response.stream))  # type: ignore[arg-type]
        self.status: int = response.status
        self.headers: Mapping[str, str] = _headers(response)

    def chunks(self) -> AsyncIterator[bytes]:
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        with self._exchange:
            chunk = await anext(self.pieces, b"")
        if chunk:
            return chunk
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        try:
            await self.pieces.aclose()
        finally:
            await self._response.aclose()


@cache
def _trusting_the_system() -> ssl.SSLContext:
    # Reading what the system trusts takes 80 ms, so it is done once, and not inside somebody's first request.
    return httpx2.create_ssl_context(trust_env=False)


def _proxy(address: str, ssl_context: ssl.SSLContext) -> httpcore2.Proxy:
    told = httpx2.Proxy(address)
    url = httpcore2.URL(
        scheme=told.url.raw_scheme, host=told.url.raw_host, port=told.url.port, target=told.url.raw_path
    )
    trusted = ssl_context if told.url.scheme == "https" else None
    return httpcore2.Proxy(url, auth=told.raw_auth, ssl_context=trusted)


def _headers(response: httpcore2.Response) -> dict[str, str]:
    """Return the headers by lower-case names; of several of one name, the first."""
    headers: dict[str, str] = {}
    for name, value in response.headers:
        headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return headers
