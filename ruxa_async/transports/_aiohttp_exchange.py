"""One request in progress through aiohttp, and whether any byte of it may have been sent.

`AiohttpExchange` translates errors; `SessionExchange` goes through a session. The class of an exception does
not tell what was sent: it is the same for "the server closed before it read us" and "the server closed after
it charged us". Two public interfaces of aiohttp do tell, for any session and without tracing, which would
slow every query:

* Each request has its own client middleware (`SessionExchange`), which sees the request that aiohttp built.
  aiohttp sets its response object in the same step in which it writes a request without a body.
* A body is a payload (`_Body`) that notes when its `write` is called. The headers are sent with the first
  byte of the body, so nothing was sent before that call.

The middleware also prevents aiohttp's own retry: aiohttp repeats a GET after a broken connection, but not
after one of our errors, and only our errors leave the middleware.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
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
from ruxa_async.errors import MaybeSentError, TransportError

from ._base import Request, Response
from ._exchange import Exchange, raise_without_context
from ._reply_recorder import ReplyRecorder, record

__all__ = ("LARGEST_HEAD", "AiohttpExchange", "SessionExchange", "read_body")


class _Head(TypedDict):
    max_line_size: int
    max_field_size: int
    max_headers: int


#: The largest head of a reply that is read: bytes a line, bytes a field, number of fields. aiohttp's defaults
#: (8,190 bytes and 128 fields) reject replies with many cookies.
LARGEST_HEAD: Final[_Head] = {"max_line_size": 2**17, "max_field_size": 2**17, "max_headers": 1024}

#: Errors that quote the whole URL or the request's headers, and so must not be chained.
_REVEALING: Final = (ClientResponseError, InvalidURL, NonHttpUrlClientError)


class _Body(Payload):
    """A body that sets *begun* when its first byte may be sent."""

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


class AiohttpExchange(Exchange):
    """One request in progress, and the ``with`` block that translates its errors."""

    __slots__ = ("_expired", "_max_body", "whole")

    def __init__(self, request: Request, max_body: int = 0) -> None:
        super().__init__(request)
        self._max_body = max_body
        self._expired = False
        #: A complete reply that aiohttp's parser rejected.
        self.whole: Response | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, exc: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if exc is None or isinstance(exc, TransportError):
            return
        if isinstance(exc, asyncio.CancelledError) and _is_cancelled():
            return
        if not isinstance(exc, (Exception, asyncio.CancelledError)):
            return
        # A connector that is closed cancels the tasks that wait for a connection: that is a failure, not a
        # cancellation.
        raise_without_context(self._translate(exc))

    @property
    @abstractmethod
    def recorder(self) -> ReplyRecorder | None:
        """The recorder of the reply to a request with a body, once its first byte may have been sent."""

    @abstractmethod
    def expire(self) -> bool:
        """Abort the exchange because its deadline has passed; return whether that was possible.

        It is not possible while a connection is being made, which has its own timeout. Later the connection
        is aborted, which ends the wait for the reply.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connection, unless it was released after a complete reply."""

    def _translate(self, exc: BaseException) -> TransportError:
        root = _root(exc)
        if isinstance(exc, asyncio.CancelledError):
            detail = "the transport was closed meanwhile"
        elif self._expired or isinstance(exc, TimeoutError):
            detail = self.timed_out()
        elif isinstance(exc, ClientHttpProxyError):
            detail = f"the proxy answered HTTP {exc.status}"
        else:
            detail = type(exc).__name__
            if isinstance(root, OSError) and str(root):
                detail = f"{detail}: {root}"
        failure = self.failure(detail, root)
        if isinstance(failure, MaybeSentError) and self.recorder is not None:
            received = self.recorder.received(self._max_body)
            if received is not None:
                failure.partial = received.response
                self.whole = received.response if received.whole else None
        return failure

    def _address(self) -> str:
        url = URL(self.request.url, encoded=True)
        return f"{url.scheme}://{url.host_port_subcomponent}{url.raw_path}"


class SessionExchange(AiohttpExchange):
    """One request in progress through a session, and the client middleware that observes it."""

    __slots__ = ("_built", "body")

    def __init__(self, request: Request, max_body: int = 0) -> None:
        super().__init__(request, max_body)
        self.body = None if request.body is None else _Body(request.body)
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
    content: StreamReader, headers: Mapping[str, str], limit: int, exchange: AiohttpExchange
) -> bytes:
    """Return the whole body, decompressed. Raises `MaybeSentError` if it is larger than *limit* bytes."""
    if content.is_eof():  # it arrived with the headers, as usual
        if len(body := content.read_nowait()) > limit:
            raise exchange.too_large(limit)
        return body
    length = headers.get("Content-Length")
    if length is not None:
        if int(length) > limit:
            raise exchange.too_large(limit)
        if "Content-Encoding" not in headers:
            return await content.read()
    # Without a length, or with that of a compressed body, the size is not bounded yet.
    pieces: list[bytes] = []
    left = limit
    while piece := await content.readany():
        left -= len(piece)
        if left < 0:
            raise exchange.too_large(limit)
        pieces.append(piece)
    return b"".join(pieces)


def _root(exc: BaseException) -> BaseException | None:
    """Return the innermost cause of *exc*, None if its message may hold a URL or headers."""
    root: BaseException | None = exc
    while isinstance(root, ClientError) and root.__cause__ is not None:
        root = root.__cause__
    return None if isinstance(root, _REVEALING) else root


def _is_lost(transport: asyncio.WriteTransport | None) -> bool:
    return transport is None or transport.is_closing()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
