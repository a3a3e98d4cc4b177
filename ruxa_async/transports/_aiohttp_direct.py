"""One request over a connection of aiohttp's pool, without aiohttp's session in between.

For each request a session makes a request and a response object, reads the URL, merges headers, and, for a body,
starts a task: more than a third of what a request costs on loopback. The requests of the API need nothing of that, so their
bytes are put together here, once for all that differ only in path and body. The pool, connecting, TLS, reading the
reply and decompression remain aiohttp's. And what was sent is known at first hand: nothing before `write`.

This takes names of aiohttp that are public, but not documented. So it is for versions that the tests ran with; with
any other, and for whatever is out of the ordinary, requests go through the session.
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

from ._aiohttp_exchange import LARGEST_HEAD, Exchange, read_body
from ._base import Request, Response
from ._reply_recorder import ReplyRecorder, record

__all__ = ("TESTED", "DirectExchange", "Line")

#: Whether the tests ran with this version of aiohttp.
TESTED: Final = aiohttp.__version__.startswith("3.14.")

#: A path, and a query if there is one, that may stand in a request as it is.
_TARGET: Final = re.compile(r"/[!-\"$-~]*")
_FIELD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\r\n\0]*")
#: Who sets one of these wants something of aiohttp that is not done here.
_SPECIAL: Final = frozenset(
    {"connection", "content-encoding", "content-length", "cookie", "expect", "transfer-encoding", "upgrade"}
)
_HEADS_KEPT: Final = 16


class _Head(NamedTuple):
    """What all requests to one server with the same headers have in common."""

    #: Says where to connect to, and carries no key.
    opener: ClientRequest
    fields: bytes


class _Ready(NamedTuple):
    head: _Head
    data: bytes


class Line:
    """The way over one pool of our own."""

    def __init__(self, connector: BaseConnector) -> None:
        self.connector = connector
        #: The ends of connections that a create has been sent over.
        self.used: WeakSet[asyncio.BaseProtocol] = WeakSet()
        self._heads: dict[tuple[str, tuple[tuple[str, str], ...]], _Head | None] = {}

    def prepare(self, request: Request) -> _Ready | None:
        """Return the bytes of *request*, None if it has to go through the session."""
        url, body = request.url, request.body
        start = url.find("/", url.find("//") + 2)
        if start < 0 or request.method != ("GET" if body is None else "POST"):
            return None
        target = url[start:]
        key = url[:start], tuple(request.headers.items())
        head = self._heads.get(key)
        if head is None:
            if key not in self._heads:
                self._keep(key, request.headers)
            head = self._heads[key]
        if head is None or not _TARGET.fullmatch(target):
            return None
        if body is None:
            return _Ready(head, b"GET %b HTTP/1.1\r\n%b\r\n" % (target.encode(), head.fields))
        form = b"POST %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b"
        return _Ready(head, form % (target.encode(), head.fields, len(body), body))

    def _keep(self, key: tuple[str, tuple[tuple[str, str], ...]], headers: Mapping[str, str]) -> None:
        if len(self._heads) >= _HEADS_KEPT:
            self._heads.clear()
        self._heads[key] = _head(key[0], headers)


class DirectExchange(Exchange):
    """One request on its way over a `Line`."""

    __slots__ = ("_connection", "_ready", "_recorder", "_sent")

    def __init__(self, asked: Request, ready: _Ready, max_body: int) -> None:
        super().__init__(asked, max_body)
        self._ready = ready
        self._recorder: ReplyRecorder | None = None
        self._connection: Connection | None = None
        self._sent = False

    async def run(self, line: Line, timeout: ClientTimeout) -> Response:
        """Send the request and read the whole reply."""
        connection = self._connection = await line.connector.connect(self._ready.head.opener, [], timeout)
        protocol = connection.protocol
        assert protocol is not None
        if protocol.should_close:  # somebody spoke out of turn, and that would be taken for the reply
            raise ConnectionError("the server spoke before it was asked")
        if self.asked.body is not None:
            # Whoever has gone may still be taken to be there, until the event loop looks at the socket the next time.
            if protocol in line.used and _can_be_read(connection.transport):
                raise ConnectionError("the server closed the connection, or spoke before it was asked")
            line.used.add(protocol)
        protocol.set_response_params(read_until_eof=True, **LARGEST_HEAD)
        self._write(connection)
        message, payload = await protocol.read()
        while 100 <= message.code < 200 and message.code != 101:
            message, payload = await protocol.read()
        body = await read_body(payload, message.headers, self._max_body, self)
        self._refund(connection)
        return Response(message.code, message.headers, body)

    def _write(self, connection: Connection) -> None:
        transport = connection.transport
        if transport is None or transport.is_closing():
            raise ConnectionError("the connection was closed")
        if self.asked.body is not None:
            self._recorder = record(transport)
        self._sent = True
        transport.write(self._ready.data)
        if self.asked.body is not None:
            failpoint("create sent")

    def _refund(self, connection: Connection) -> None:
        if (transport := connection.transport) is not None and transport.get_write_buffer_size():
            self.close()  # the answer came before the whole request was out
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
                transport.abort()  # what is not out yet shall not leave any more
            connection.close()


def _can_be_read(transport: asyncio.BaseTransport | None) -> bool:
    """Tell whether there is something to read at the socket, be it only that the connection has ended."""
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is None:
        return False
    if sys.platform == "win32":
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()  # `select` takes no socket of a number above 1023 here
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _head(origin: str, headers: Mapping[str, str]) -> _Head | None:
    """Return what a session would send before the body, None if that takes a session."""
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
    except (AttributeError, TypeError, ValueError):  # the session says what is wrong with it
        return None
