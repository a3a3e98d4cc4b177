"""One request over a connection of aiohttp's pool, without aiohttp's session.

For each request a session makes a request and a response object, parses the URL, merges headers, and starts a
task for a body: more than a third of the cost of a request on loopback. API requests need none of that. Their
bytes are built here, with a head that is cached for requests that differ only in path and body. The pool,
connecting, TLS, parsing and decompression remain aiohttp's. Nothing is sent before `transport.write`.

The names of aiohttp used here are public but not documented. With versions that the tests did not run with,
and for unusual requests, the session is used instead.
"""

from __future__ import annotations

import asyncio
import re
import select
import sys
from collections.abc import Mapping
from typing import Final, NamedTuple
from weakref import WeakSet

import aiohttp
from aiohttp import BaseConnector, ClientRequest, ClientTimeout
from aiohttp.connector import Connection
from yarl import URL

from ruxa_async._internal.failpoints import failpoint

from ._aiohttp_exchange import LARGEST_HEAD, AiohttpExchange, read_body
from ._base import Request, Response
from ._reply_recorder import ReplyRecorder, record

__all__ = ("TESTED", "DirectExchange", "DirectPool")

#: Whether the tests ran with this version of aiohttp.
TESTED: Final = aiohttp.__version__.startswith("3.14.")

#: A path, with its query if any, that needs no encoding.
_TARGET: Final = re.compile(r"/[!-\"$-~]*")
_FIELD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\r\n\0]*")
#: Headers that change how aiohttp sends a request; they need a session.
_SPECIAL: Final = frozenset(
    {"connection", "content-encoding", "content-length", "cookie", "expect", "transfer-encoding", "upgrade"}
)
#: heads that a pool keeps, at most: creates and queries of one service need two
_HEADS_KEPT: Final = 16


class _Head(NamedTuple):
    """The part of the bytes that all requests with one origin and the same headers share.

    The connector reads from *opener* where to connect; it holds no API key. *fields* are the header lines.
    """

    opener: ClientRequest
    fields: bytes


class _Ready(NamedTuple):
    """A request as *data*, the bytes to send."""

    head: _Head
    data: bytes


class DirectPool:
    """The connections of *connector*, for requests without a session."""

    def __init__(self, connector: BaseConnector) -> None:
        self.connector = connector
        #: The protocols of connections that have sent a create.
        self.used: WeakSet[asyncio.BaseProtocol] = WeakSet()
        self._heads: dict[tuple[str, tuple[tuple[str, str], ...]], _Head | None] = {}

    def prepare(self, request: Request) -> _Ready | None:
        """Return the bytes to send for *request*, None if it needs a session."""
        url, body = request.url, request.body
        start = url.find("/", url.find("//") + 2)
        if start < 0 or request.method != ("GET" if body is None else "POST"):
            return None
        target = url[start:]
        key = url[:start], tuple(request.headers.items())
        if key not in self._heads:
            if len(self._heads) >= _HEADS_KEPT:
                self._heads.clear()
            self._heads[key] = _head(key[0], request.headers)
        head = self._heads[key]
        if head is None or not _TARGET.fullmatch(target):
            return None
        if body is None:
            return _Ready(head, b"GET %b HTTP/1.1\r\n%b\r\n" % (target.encode(), head.fields))
        form = b"POST %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b"
        return _Ready(head, form % (target.encode(), head.fields, len(body), body))


class DirectExchange(AiohttpExchange):
    """One request in progress over a connection of a `DirectPool`."""

    __slots__ = ("_connection", "_ready", "_recorder", "_sent")

    def __init__(self, request: Request, ready: _Ready, max_body: int) -> None:
        super().__init__(request, max_body)
        self._ready = ready
        self._recorder: ReplyRecorder | None = None
        self._connection: Connection | None = None
        self._sent = False

    async def run(self, pool: DirectPool, timeout: ClientTimeout) -> Response:
        """Send the request and read the whole reply."""
        connection = self._connection = await pool.connector.connect(self._ready.head.opener, [], timeout)
        protocol = connection.protocol
        assert protocol is not None
        if protocol.should_close:  # bytes arrived early, and would be taken for the reply
            raise ConnectionError("the server sent data before the request")
        if self.request.body is not None:
            # The event loop notices a closed connection only when it polls the socket the next time.
            if protocol in pool.used and _can_be_read(connection.transport):
                raise ConnectionError("the server closed the connection, or sent data before the request")
            pool.used.add(protocol)
        protocol.set_response_params(read_until_eof=True, **LARGEST_HEAD)
        self._write(connection)
        message, payload = await protocol.read()
        while 100 <= message.code < 200 and message.code != 101:
            message, payload = await protocol.read()
        body = await read_body(payload, message.headers, self._max_body, self)
        self._release(connection)
        return Response(message.code, message.headers, body)

    def _write(self, connection: Connection) -> None:
        transport = connection.transport
        if transport is None or transport.is_closing():
            raise ConnectionError("the connection was closed")
        if self.request.body is not None:
            self._recorder = record(transport)
        self._sent = True
        transport.write(self._ready.data)
        if self.request.body is not None:
            failpoint("create sent")

    def _release(self, connection: Connection) -> None:
        if (transport := connection.transport) is not None and transport.get_write_buffer_size():
            self.close()  # the reply came before the whole request was written
        else:
            connection.release()

    @property
    def sent(self) -> bool:
        return self._sent

    @property
    def recorder(self) -> ReplyRecorder | None:
        return self._recorder

    def expire(self) -> bool:
        if self._connection is None:
            return False
        self._expired = True
        if self._connection.transport is not None:
            self._connection.transport.abort()
        return True

    def close(self) -> None:
        if (connection := self._connection) is not None:
            transport = connection.transport
            if transport is not None and transport.get_write_buffer_size():
                transport.abort()  # unsent bytes must not be sent any more
            connection.close()


def _can_be_read(transport: asyncio.BaseTransport | None) -> bool:
    """Return whether the socket has data or an end of file to read."""
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is None:
        return False
    if sys.platform == "win32":
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()  # select() accepts no file descriptor above 1023
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _head(origin: str, headers: Mapping[str, str]) -> _Head | None:
    """Return the head that a session would send, None if the request needs a session."""
    try:
        if any(name.lower() in _SPECIAL for name in headers):
            return None
        url = URL(origin, encoded=True)
        if not origin.isascii() or url.scheme not in ("http", "https") or str(url.origin()) != origin:
            return None
        whole = ClientRequest("GET", url, headers=headers, skip_auto_headers=("Accept", "User-Agent"))
        fields = [f"{name}: {value}" for name, value in whole.headers.items()]
        if not all(map(_FIELD.fullmatch, fields)):
            return None
        return _Head(ClientRequest("GET", url), "".join(f"{field}\r\n" for field in fields).encode())
    except (AttributeError, TypeError, ValueError):  # the session reports the error
        return None
