"""One request on its way through aiohttp, and whether any of it can have left.

`Exchange` translates errors; `SessionExchange` is one that goes through a session. What was sent of that is read off what aiohttp did with this one request, never off the class of an exception, which is the same for
"the server closed before it read us" and "the server closed after it charged us". Two public seams show it, on any
session and without tracing, which would cost every query of that session:

* each request carries its own client middleware (`SessionExchange`), which sees the request that aiohttp built. aiohttp
  gives that request a response object in the same step in which it hands over the bytes of one that has no body;
* a body is a payload (`_Body`) that notes when it is asked to write itself. Headers leave with the body's first
  byte, so before that moment nothing has left.

The middleware also takes the place of aiohttp's own retry: aiohttp repeats a GET whose connection broke, but not
after an error of ours, and only such an error leaves the middleware.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self, TypedDict

from aiohttp import (
    ClientError,
    ClientHandlerType,
    ClientHttpProxyError,
    ClientRequest,
    ClientResponse,
    ClientResponseError,
    InvalidURL,
    NonHttpUrlClientError,
    StreamReader,
)
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter
from aiohttp.payload import Payload
from yarl import URL

from ruxa_async._internal.failpoints import failpoint

from ._base import MaybeSentError, NotSentError, Request, Response, TransportError
from ._reply_recorder import ReplyRecorder, record

__all__ = ("LARGEST_HEAD", "Exchange", "SessionExchange", "read_body")


class _Head(TypedDict):
    max_line_size: int
    max_field_size: int
    max_headers: int


#: The largest head of a reply that is read: line and field in bytes, and the number of fields. aiohttp's own limits
#: (8,190 bytes and 128 fields) lose the replies of services that set many cookies.
LARGEST_HEAD: Final[_Head] = {"max_line_size": 2**17, "max_field_size": 2**17, "max_headers": 1024}

#: Errors whose text or arguments hold the whole URL or the request's headers, so that they may not be chained.
_TELLTALE: Final = (ClientResponseError, InvalidURL, NonHttpUrlClientError)


class _Body(Payload):
    """The bytes of a body, and whether any of the request can have left."""

    def __init__(self, value: bytes) -> None:
        super().__init__(value)
        self.begun = False
        self.recorder: ReplyRecorder | None = None

    @property
    def size(self) -> int:
        return len(self._value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._value, encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        # aiohttp writes nothing to a connection that closed meanwhile, and a closed one does not come back.
        if not (isinstance(writer, StreamWriter) and _is_lost(writer.transport)):
            self.begun = True
            if isinstance(writer, StreamWriter) and writer.transport is not None:
                self.recorder = record(writer.transport)
        await writer.write(self._value[:content_length])
        failpoint("create sent")


class Exchange(ABC):
    """One request on its way: the block that translates its errors."""

    __slots__ = ("_expired", "_max_body", "asked", "via", "whole")

    def __init__(self, asked: Request, max_body: int = 0) -> None:
        self.asked = asked
        self._max_body = max_body
        self._expired = False
        #: The proxy that the request goes through, without its credentials.
        self.via = ""
        #: A whole reply that aiohttp could not read.
        self.whole: Response | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, exc: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if exc is None or isinstance(exc, TransportError):
            return
        if isinstance(exc, asyncio.CancelledError) and _is_asked_to_stop():
            return
        if not isinstance(exc, (Exception, asyncio.CancelledError)):
            return
        # A connector that is closed cancels whoever waits for a connection: a failure, for nobody asked to stop.
        failure = self._translate(exc)
        try:
            raise failure
        finally:
            # The error being handled may hold the key or a signed URL; only what `_root` lets through is chained.
            failure.__context__ = None

    @property
    @abstractmethod
    def sent(self) -> bool:
        """Whether a byte of the request may have been handed to the socket."""
        ...

    @property
    @abstractmethod
    def recorder(self) -> ReplyRecorder | None:
        """What keeps the bytes of the reply to a request with a body, once its first byte may have left."""
        ...

    @abstractmethod
    def expire(self) -> bool:
        """Break the exchange off, for its time is up; tell whether that could be done.

        It cannot while a connection is being made, which has a time-out of its own. Later, whoever waits for the reply
        finds the connection lost.
        """
        ...

    @abstractmethod
    def close(self) -> None:
        """Give up the connection, unless it was given back after a whole reply."""
        ...

    def too_large(self, limit: int) -> MaybeSentError:
        return MaybeSentError(f"{self._label()}: the reply is larger than max_body={limit} bytes")

    def _translate(self, exc: BaseException) -> TransportError:
        root = _root(exc)
        if isinstance(exc, asyncio.CancelledError):
            detail = "the transport was closed meanwhile"
        elif self._expired or isinstance(exc, TimeoutError):
            detail = f"timed out (timeout={self.asked.timeout:g} s, connect_timeout={self.asked.connect_timeout:g} s)"
        elif isinstance(exc, ClientHttpProxyError):
            detail = f"the proxy answered HTTP {exc.status}"
        else:
            detail = type(exc).__name__
            if isinstance(root, OSError) and str(root):
                detail = f"{detail}: {root}"
        failure: TransportError
        if self.sent:
            failure = self._with_reply(
                MaybeSentError(f"{self._label()}: sent, but no whole answer came: {detail}")
            )
        else:
            failure = NotSentError(f"{self._label()}: nothing was sent: {detail}")
        failure.__cause__ = root
        return failure

    def _with_reply(self, failure: MaybeSentError) -> MaybeSentError:
        """Return *failure* with what arrived of the reply, and note a reply that is whole all the same."""
        received = None if self.recorder is None else self.recorder.received(self._max_body)
        if received is not None:
            failure.partial = received.response
            self.whole = received.response if received.whole else None
        return failure

    def _label(self) -> str:
        """Return the method, the host and the path: a query may be a signature, and user info a password."""
        try:
            url = URL(self.asked.url, encoded=True)
        except ValueError:
            return f"{self.asked.method} (a URL that cannot be read)"
        via = f" through the proxy {self.via}" if self.via else ""
        return f"{self.asked.method} {url.scheme}://{url.host_port_subcomponent}{url.raw_path}{via}"


class SessionExchange(Exchange):
    """One request on its way through a session: the client middleware that watches it."""

    __slots__ = ("_built", "body")

    def __init__(self, asked: Request, max_body: int = 0) -> None:
        super().__init__(asked, max_body)
        self.body = None if asked.body is None else _Body(asked.body)
        self._built: ClientRequest | None = None

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        self._built = request
        with self:
            return await handler(request)

    @property
    def sent(self) -> bool:
        if self.body is not None:
            return self.body.begun
        return self._response is not None

    @property
    def recorder(self) -> ReplyRecorder | None:
        return None if self.body is None else self.body.recorder

    @property
    def _response(self) -> ClientResponse | None:
        return None if self._built is None else self._built.response

    def expire(self) -> bool:
        response = self._response
        if response is None:
            return False
        self._expired = True
        if response.connection is not None and response.connection.transport is not None:
            response.connection.transport.abort()
        return True

    def close(self) -> None:
        if (response := self._response) is not None:
            response.close()


async def read_body(
    content: StreamReader, headers: Mapping[str, str], limit: int, exchange: Exchange
) -> bytes:
    """Return the whole body, decompressed; raise `MaybeSentError` if it is larger than *limit* bytes."""
    if content.is_eof():  # it came together with the headers, as nearly every reply does
        if len(body := content.read_nowait()) > limit:
            raise exchange.too_large(limit)
        return body
    length = headers.get("Content-Length")
    if length is not None:
        if int(length) > limit:
            raise exchange.too_large(limit)
        if "Content-Encoding" not in headers:
            return await content.read()
    # A length that is not told, or that of the compressed body, bounds nothing.
    pieces: list[bytes] = []
    left = limit
    while piece := await content.readany():
        left -= len(piece)
        if left < 0:
            raise exchange.too_large(limit)
        pieces.append(piece)
    return b"".join(pieces)


def _root(exc: BaseException) -> BaseException | None:
    """Return what lies under aiohttp's own error, for aiohttp writes URLs and headers into some of its own."""
    root: BaseException | None = exc
    while isinstance(root, ClientError) and root.__cause__ is not None:
        root = root.__cause__
    return None if isinstance(root, _TELLTALE) else root


def _is_lost(transport: asyncio.WriteTransport | None) -> bool:
    return transport is None or transport.is_closing()


def _is_asked_to_stop() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
