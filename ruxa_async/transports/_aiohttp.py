"""The default transport: aiohttp, on asyncio.

This module holds the sessions and their settings. `_aiohttp_exchange` determines whether a request was sent;
`_aiohttp_direct` sends API requests without the session.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from aiohttp import ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from multidict import CIMultiDict
from yarl import URL

from ruxa_async.errors import MaybeSentError

from ._addresses import public_socket
from ._aiohttp_direct import TESTED, DirectExchange, DirectPool
from ._aiohttp_exchange import LARGEST_HEAD, AiohttpExchange, SessionExchange, read_body
from ._base import Request, Response, StreamedResponse
from ._deadlines import Deadlines
from ._exchange import FRESH_SECONDS, IDLE_SECONDS, PooledTransport, Streamed
from ._proxies import without_credentials

__all__ = ("AiohttpTransport",)

#: The sessions: for creates, for other requests, for downloads from public addresses, the same by proxy.
_Kind: TypeAlias = Literal["fresh", "pooled", "public", "public by proxy"]

#: Headers that aiohttp must not add. It may add Accept-Encoding, which lists what it can decode.
_ADDED: Final = frozenset({"Accept", "User-Agent"})
_ADDED_WITH_BODY: Final = _ADDED | {"Content-Type"}


class AiohttpTransport(PooledTransport):
    """The default transport, on aiohttp and asyncio.

    *pool_size* (64) bounds the connections for creates and, separately, those for other requests. *max_body*
    (8 MiB) bounds the decompressed reply that `send` accepts, in bytes.

    *proxy* is the URL of an HTTP proxy, with its credentials if needed. *ssl_context* replaces the default
    one, which trusts the system's certificates. Otherwise, if *trust_env* is set (the default), the variables
    HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR are used. A loopback address
    is never reached through a proxy. Raises `ConfigurationError` for a proxy or certificate file that cannot
    be used.

    A *session* of your own is used for all requests except those limited to public addresses, and is not
    closed. Its cookie jar, proxies, default headers and TLS settings apply; *pool_size* does not. Its
    connector decides how long a connection may be idle before a create uses it: 15 s by default, instead of
    2 s. Its middlewares are skipped, because one of them could send a create twice.

    A transport belongs to the event loop of its first use. Raises RuntimeError in another loop, without
    asyncio, or after `aclose`.
    """

    def __init__(
        self,
        session: ClientSession | None = None,
        *,
        pool_size: int = 64,
        trust_env: bool = True,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        max_body: int = 8 * 2**20,
    ) -> None:
        if session is not None and (proxy is not None or ssl_context is not None):
            raise ValueError("a session of your own brings its own proxy and TLS settings: set them there")
        super().__init__(
            pool_size=pool_size, max_body=max_body, trust_env=trust_env, proxy=proxy, ssl_context=ssl_context
        )
        self._supplied = session
        self._deadlines: Deadlines | None = None
        self._sessions: dict[_Kind, ClientSession] = {}
        if session is not None:
            self._sessions = {"fresh": session, "pooled": session}
        self._direct_pools: dict[ClientSession, DirectPool] = {}

    async def send(self, request: Request) -> Response:
        """Send *request* and return the complete reply, decompressed.

        Raises `NotSentError` if no byte was sent, `MaybeSentError` if some may have been.
        """
        proxy, session, deadlines = self._route(request)
        pool = None if proxy is not None else self._direct_pools.get(session)
        if pool is not None and (ready := pool.prepare(request)) is not None:
            direct = DirectExchange(request, ready, self._max_body)
            return await self._await_reply(direct, direct.run(pool, _connect_timeout(request)), deadlines)
        exchange = SessionExchange(request, self._max_body)
        return await self._await_reply(exchange, self._send_through(session, proxy, exchange), deadlines)

    async def _await_reply(
        self, exchange: AiohttpExchange, sending: Coroutine[Any, Any, Response], deadlines: Deadlines
    ) -> Response:
        """Await *sending* until the deadline of *exchange* and return the reply."""
        deadlines.add(exchange, exchange.request.timeout)
        try:
            with exchange:
                return await sending
        except MaybeSentError:
            exchange.close()
            if exchange.whole is not None:
                return exchange.whole
            raise
        except BaseException:
            exchange.close()
            raise
        finally:
            deadlines.remove(exchange)
            if exchange.recorder is not None:
                exchange.recorder.stop()

    async def _send_through(
        self, session: ClientSession, proxy: str | None, exchange: SessionExchange
    ) -> Response:
        response = await self._open(session, proxy, exchange, exchange.request.headers, decompress=True)
        body = await read_body(response.content, response.headers, self._max_body, exchange)
        return Response(response.status, response.headers, body)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[StreamedResponse]:
        """Send *request* and yield the reply, whose body is read in pieces, not decompressed.

        Raises what `send` raises, here and from ``chunks()``.
        """
        headers = CIMultiDict(request.headers)
        headers["Accept-Encoding"] = "identity"
        proxy, session, deadlines = self._route(request)
        exchange = SessionExchange(request)
        deadlines.add(exchange, request.timeout)
        try:
            with exchange:
                response = await self._open(session, proxy, exchange, headers, decompress=False)
            yield Streamed(response.status, response.headers, exchange, response.content.readany)
        finally:
            exchange.close()
            deadlines.remove(exchange)

    async def aclose(self) -> None:
        """Close our own sessions and wait until their sockets are closed. Calling it again does nothing."""
        self._closed = True
        if self._deadlines is not None:
            self._deadlines.close()
        async with AsyncExitStack() as closing:
            for session in self._sessions.values():
                if session is not self._supplied:
                    closing.push_async_callback(session.close)

    async def _open(
        self,
        session: ClientSession,
        proxy: str | None,
        exchange: SessionExchange,
        headers: Mapping[str, str],
        *,
        decompress: bool,
    ) -> ClientResponse:
        request = exchange.request
        if proxy is not None:
            exchange.via = without_credentials(proxy)
        return await session.request(
            request.method,
            URL(request.url, encoded=True),
            headers=headers,
            data=exchange.body,
            skip_auto_headers=_skipped_headers(request),
            allow_redirects=False,
            raise_for_status=False,
            auto_decompress=decompress,
            timeout=_connect_timeout(request),
            proxy=proxy,
            middlewares=(exchange,),
            **LARGEST_HEAD,
        )

    def _route(self, request: Request) -> tuple[str | None, ClientSession, Deadlines]:
        """Return the proxy, the session and the deadlines for *request*."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "AiohttpTransport runs on asyncio only. On trio pass "
                "RuxaClient(transport=Httpx2Transport()), from ruxa_async.transports, which needs the extra "
                "'httpx2'."
            ) from None
        self._check_usable(loop, request)
        deadlines = self._deadlines
        if deadlines is None:
            deadlines = self._deadlines = Deadlines(loop)
        proxy = None
        if self._supplied is None or request.public_only:
            proxy = self._proxies.route_of(request)
        kind: _Kind = "fresh" if request.fresh else "pooled"
        if request.public_only:
            kind = "public" if proxy is None else "public by proxy"
        session = self._sessions.get(kind)
        if session is None:
            session = self._make(kind)
        if session.closed:
            raise RuntimeError("The aiohttp session that was given to AiohttpTransport is closed.")
        return proxy, session, deadlines

    def _make(self, kind: _Kind) -> ClientSession:
        connector = TCPConnector(
            limit=self._pool_size,
            ssl=True if self._ssl_context is None else self._ssl_context,
            socket_factory=public_socket if kind == "public" else None,
            keepalive_timeout=FRESH_SECONDS if kind == "fresh" else IDLE_SECONDS,
        )
        session = self._sessions[kind] = ClientSession(connector=connector, cookie_jar=DummyCookieJar())
        if TESTED:
            self._direct_pools[session] = DirectPool(connector)
        return session


def _connect_timeout(request: Request) -> ClientTimeout:
    return _timeout(min(request.timeout, request.connect_timeout))


@lru_cache(maxsize=64)
def _timeout(connect: float) -> ClientTimeout:
    # `connect` covers the wait for the pool, DNS, TCP and TLS, for all addresses of the host together.
    # `Deadlines` bounds the whole exchange. Without ceil_threshold, aiohttp rounds timeouts above 5 s up.
    return ClientTimeout(connect=connect, ceil_threshold=math.inf)


def _skipped_headers(request: Request) -> frozenset[str] | None:
    # Skipping headers takes aiohttp off its fast path, so it is done only if needed.
    added = _ADDED if request.body is None else _ADDED_WITH_BODY
    return None if request.headers.keys() >= added else added
