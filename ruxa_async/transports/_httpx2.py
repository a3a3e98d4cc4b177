"""A transport on httpx2, for asyncio and trio; needs the extra ``httpx2``.

It uses httpx2's connection pool (the package httpcore2, a dependency of httpx2) without the client above it,
which keeps cookies, reads the environment, rewrites URLs, and leaves a generator open when a stream is left
early.

This module holds the pools and their settings. `_httpx2_exchange` determines whether a request was sent.
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

from ._httpx2_exchange import Httpx2Exchange
from ._httpx2_guard import PublicOnly
from ._proxies import Proxies, trusted_by_environment, without_credentials

__all__ = ("Httpx2Transport",)

#: seconds that a connection for creates may be idle; servers close idle connections later than this
FRESH_SECONDS: Final = 2.0
#: seconds that any other connection may be idle
IDLE_SECONDS: Final = 15.0

_PROXY_KINDS: Final = ("http", "https")
_SOCKS: Final = ("socks5", "socks5h")
_ABSENT: Final = ("", "identity")
_GZIP: Final = ("gzip", "x-gzip")


class Httpx2Transport:
    """A transport on httpx2, for asyncio and trio.

    *pool_size* (64) bounds the connections for creates and, separately, those for other requests. *max_body*
    (8 MiB) bounds the decompressed reply that `send` accepts, in bytes.

    *proxy* is the URL of a proxy, with its credentials if needed. *ssl_context* replaces the default one,
    which trusts the system's certificates. Otherwise, if *trust_env* is set (the default), the variables
    HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR are used. A loopback address
    is never reached through a proxy. Raises `ConfigurationError` for a proxy or certificate file that cannot
    be used.

    A transport belongs to the event loop of its first use. Raises RuntimeError in another loop or after
    `aclose`. Importing it raises `MissingExtraError` if httpx2 is not installed.
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
        self._ssl_context = _system_context() if ssl_context is None else ssl_context
        self._token: EventLoopToken | None = None
        self._pools: dict[tuple[bool, bool, str | None], httpcore2.AsyncConnectionPool] = {}
        self._exchanges: set[Httpx2Exchange] = set()
        self._closed = False

    async def send(self, request: Request) -> Response:
        """Send *request* and return the complete reply, decompressed.

        Raises `NotSentError` if no byte was sent, `MaybeSentError` if some may have been.
        """
        async with self._opened(request, "gzip") as (exchange, response):
            exchange.reply = Response(response.status, response.headers)
            with exchange:
                body = await self._read(response, exchange)
            return Response(response.status, response.headers, body)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[StreamedResponse]:
        """Send *request* and yield the reply, whose body is read in pieces, not decompressed.

        Raises what `send` raises, here and from ``chunks()``.
        """
        async with self._opened(request, "identity") as (_, response):
            yield response

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
    ) -> AsyncIterator[tuple[Httpx2Exchange, _Streamed]]:
        """Send *request* and yield its reply before the body; the connection is released after the block."""
        proxy, pool = self._route(request)
        exchange = Httpx2Exchange(request, via="" if proxy is None else without_credentials(proxy))
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

    async def _read(self, response: _Streamed, exchange: Httpx2Exchange) -> bytes:
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_body:
            raise exchange.too_large(self._max_body)
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in _ABSENT + _GZIP:
            raise exchange.maybe_sent(f"the reply is encoded as {encoding!r}, which was not requested")
        # The output of each step is bounded, because a compression bomb expands a thousandfold.
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

    def _route(self, request: Request) -> tuple[str | None, httpcore2.AsyncConnectionPool]:
        """Return the proxy and the pool for *request*."""
        if self._closed:
            raise RuntimeError("This Httpx2Transport is closed; make a new one.")
        token = current_token()
        if token != self._token:
            if self._token is not None:
                raise RuntimeError(
                    "This Httpx2Transport belongs to the event loop of its first use, and this is "
                    "another event loop; make one for each loop."
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
    """A reply whose body is still arriving, and the iterator over its pieces."""

    def __init__(self, response: httpcore2.Response, exchange: Httpx2Exchange) -> None:
        self._response = response
        self._exchange = exchange
        #: The body; the iterators of the pool's streams are generators.
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
        """Release the connection, or close it if the body was not read to its end."""
        try:
            await self.pieces.aclose()
        finally:
            await self._response.aclose()


@cache
def _system_context() -> ssl.SSLContext:
    # Loading the system's certificates takes 80 ms, so it is done once, and not during a request.
    return httpx2.create_ssl_context(trust_env=False)


def _proxy(address: str, ssl_context: ssl.SSLContext) -> httpcore2.Proxy:
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
