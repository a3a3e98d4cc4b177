"""A transport without a network: your own handler or an emulated service responds in this process.

There is a checkpoint before the service sees the request: a cancellation or timeout there means that nothing
was sent. There is another one after the service acted: a cancellation there loses the response.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

import anyio
from anyio.lowlevel import checkpoint
from attrs import define, frozen

from ruxa_async.errors import MaybeSentError, NotSentError

from ._base import Request, Response, StreamedResponse

__all__ = ("Handler", "MemoryService", "MemoryTransport")

#: bytes of a piece of an ordinary body
_CHUNK = 64 * 1024
#: pieces in which a slow body arrives
_DROPS = 20

Handler: TypeAlias = Callable[[Request], Response | Awaitable[Response]]


class _Arrived(Protocol):
    """A request as the service reads it."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...


class _Reply(Protocol):
    """A reply, and the faults in its delivery."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def fault(self) -> Literal["", "refused", "reset", "stall", "cut"]: ...
    @property
    def latency(self) -> float: ...
    @property
    def drip(self) -> float: ...


class MemoryService(Protocol):
    """A service behind a `MemoryTransport`; the emulator's ``Service`` is one."""

    def handle(self, request: _Arrived, now: float) -> _Reply:
        """Return the reply to *request*, which arrives at *now*, in seconds of the event loop's clock."""


@frozen
class _ServiceRequest:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@define(eq=False)
class _Exchange:
    """One request in progress. *sent*: the service has it. *cut*: its reply breaks off half-way.

    *drip* is the number of seconds in which the body arrives.
    """

    sent: bool = False
    cut: bool = False
    drip: float = 0.0

    def arriving(self, body: bytes) -> bytes:
        """Return the part of *body* that arrives."""
        return body[: len(body) // 2] if self.cut else body


class MemoryTransport:
    """A transport that passes every request to *handler*: a plain or async function, or a service.

    A function takes a `Request`, returns a `Response`, and may raise `NotSentError` and `MaybeSentError` to
    simulate a broken network. A service gets the event loop's time, so that it works in virtual time.
    *max_body* (8 MiB) bounds the reply that `send` accepts, in bytes. With *record*, all requests are kept in
    *requests*.
    """

    def __init__(
        self, handler: Handler | MemoryService, *, max_body: int = 8 * 2**20, record: bool = False
    ) -> None:
        self._answer: Callable[[Request, _Exchange], Awaitable[Response]]
        if callable(handler):
            self._handler = handler
            self._answer = self._ask_handler
        else:
            self._service = handler
            self._answer = self._ask_service
        self._max_body = max_body
        self._record = record
        self._closed = False
        self.requests: list[Request] = []
        #: The number of requests that reached the handler, and of those that it is processing.
        self.sent: int = 0
        self.on_wire: int = 0

    def __repr__(self) -> str:
        return f"<MemoryTransport: {self.sent} sent, {self.on_wire} on the wire{', closed' * self._closed}>"

    async def send(self, request: Request) -> Response:
        """Send *request* and return the complete reply; see `Transport.send` for the errors."""
        exchange = _Exchange()
        response = await self._exchange(request, exchange)
        if exchange.cut:
            error = MaybeSentError(f"{_label(request)}: the reply broke off half-way")
            error.partial = Response(response.status, response.headers, exchange.arriving(response.body))
            raise error
        if len(response.body) > self._max_body:
            raise MaybeSentError(f"{_label(request)}: the reply is larger than {self._max_body} bytes")
        return response

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[StreamedResponse]:
        """Send *request* and yield the reply, whose body is read in pieces of 64 KiB."""
        exchange = _Exchange()
        ends = anyio.current_time() + request.timeout
        response = await self._exchange(request, exchange, whole=False)
        yield _Streamed(response.status, response.headers, exchange.arriving(response.body), exchange, ends)

    async def aclose(self) -> None:
        """Close: every later request raises RuntimeError."""
        self._closed = True

    async def _exchange(self, request: Request, exchange: _Exchange, *, whole: bool = True) -> Response:
        if self._closed:
            raise RuntimeError("This MemoryTransport is closed; make a new one.")
        with _within(request, exchange):
            await checkpoint()
            exchange.sent = True
            self.sent += 1
            self.on_wire += 1
            if self._record:
                self.requests.append(request)
            try:
                response = await self._answer(request, exchange)
                await (anyio.sleep(exchange.drip) if whole and exchange.drip else checkpoint())
            finally:
                self.on_wire -= 1
            return response

    async def _ask_handler(self, request: Request, _exchange: _Exchange) -> Response:
        answer = self._handler(request)
        return await answer if inspect.isawaitable(answer) else answer

    async def _ask_service(self, request: Request, exchange: _Exchange) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        arrived = _ServiceRequest(request.method, urlsplit(request.url).path, headers, request.body or b"")
        reply = self._service.handle(arrived, anyio.current_time())
        if reply.fault == "refused":
            raise NotSentError(f"{_label(request)}: the connection was refused")
        if reply.fault == "stall":
            await anyio.sleep_forever()
        if reply.latency:
            await anyio.sleep(reply.latency)
        if reply.fault == "reset":
            await checkpoint()
            raise MaybeSentError(f"{_label(request)}: the connection was reset")
        exchange.cut = reply.fault == "cut"
        exchange.drip = reply.drip
        return Response(reply.status, reply.headers, reply.body)


def _label(request: Request) -> str:
    """Return method and URL of *request* without its query, which may be signed."""
    parts = urlsplit(request.url)
    return f"{request.method} {parts.scheme}://{parts.hostname}{parts.path}"


@contextmanager
def _within(request: Request, exchange: _Exchange) -> Iterator[None]:
    """Raise `NotSentError` or `MaybeSentError` when the timeout of *request* expires."""
    seconds = request.timeout if request.timeout > 0 else 0.0
    with anyio.move_on_after(seconds if seconds < math.inf else None) as scope:
        yield
    if scope.cancelled_caught:
        error = MaybeSentError if exchange.sent else NotSentError
        raise error(f"{_label(request)}: no answer within {request.timeout:g} s")


@frozen
class _Streamed:
    """A reply, handed out in pieces until *ends*, in seconds of the event loop's clock."""

    status: int
    headers: Mapping[str, str]
    _body: bytes
    _exchange: _Exchange
    _ends: float

    async def chunks(self) -> AsyncIterator[bytes]:
        size = max(1, len(self._body) // _DROPS) if self._exchange.drip else _CHUNK
        for start in range(0, len(self._body), size):
            await self._pause()
            yield self._body[start : start + size]
        if self._exchange.cut:
            raise MaybeSentError("the body broke off half-way")

    async def _pause(self) -> None:
        if not self._exchange.drip:
            await checkpoint()
            return
        with anyio.CancelScope(deadline=self._ends) as scope:
            await anyio.sleep(self._exchange.drip / _DROPS)
        if scope.cancelled_caught:
            raise MaybeSentError("the body was not complete before the timeout")
