"""A transport without a network: a handler of your own, or an emulated service, answers in this process.

It keeps the promises of a real one. There is a checkpoint before the other side sees the request, so a cancel or
time-out there means that nothing was sent, and one after it acted, so a cancel there means that it acted unseen.
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

_CHUNK = 64 * 1024
#: In how many pieces a stream comes that drips.
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
    """A reply, and what this face is to do instead of delivering it whole."""

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
    """What stands behind this transport when it is no plain handler; the emulator's ``Service`` is one."""

    def handle(self, request: _Arrived, now: float) -> _Reply:
        """Answer *request*, which arrives at *now*."""
        ...


@frozen
class _Letter:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@define(eq=False)
class _Exchange:
    """How far one request got; *cut* says that its reply breaks off half-way, *drip* how long its body takes."""

    sent: bool = False
    cut: bool = False
    drip: float = 0.0


class MemoryTransport:
    """Answer every request by *handler*: a function from `Request` to `Response`, plain or async, or a service.

    A handler may raise `NotSentError` and `MaybeSentError` to play a broken network. A service is told the time of
    the running loop, which makes hours pass at once in virtual time. *max_body* is the largest reply in bytes that
    `send` takes (default 8 MiB); *record* keeps every request in *requests*, which nobody empties.
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
        #: Requests that reached the other side, and those that are with it now.
        self.sent = 0
        self.on_wire = 0

    def __repr__(self) -> str:
        return f"<MemoryTransport: {self.sent} sent, {self.on_wire} on the wire{', closed' * self._closed}>"

    async def send(self, request: Request) -> Response:
        """Exchange *request* for a whole reply; see `Transport.send` for the errors."""
        exchange = _Exchange()
        response = await self._exchange(request, exchange)
        if exchange.cut:
            error = MaybeSentError(f"{_label(request)}: the reply broke off half-way")
            error.partial = Response(
                response.status, response.headers, response.body[: len(response.body) // 2]
            )
            raise error
        if len(response.body) > self._max_body:
            raise MaybeSentError(f"{_label(request)}: the reply is larger than {self._max_body} bytes")
        return response

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[StreamedResponse]:
        """Open *request* for reading its body in pieces of 64 KiB."""
        exchange = _Exchange()
        ends = anyio.current_time() + request.timeout
        response = await self._exchange(request, exchange, whole=False)
        yield _Streamed(response, cut=exchange.cut, drip=exchange.drip, ends=ends)

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
        letter = _Letter(request.method, urlsplit(request.url).path, headers, request.body or b"")
        reply = self._service.handle(letter, anyio.current_time())
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
    """Name *request* without its query, which may be signed."""
    parts = urlsplit(request.url)
    return f"{request.method} {parts.scheme}://{parts.hostname}{parts.path}"


@contextmanager
def _within(request: Request, exchange: _Exchange) -> Iterator[None]:
    """Bound the exchange by the request's time-out; what it then raises says whether anything was sent."""
    seconds = request.timeout if request.timeout > 0 else 0.0
    with anyio.move_on_after(seconds if seconds < math.inf else None) as scope:
        yield
    if scope.cancelled_caught:
        error = MaybeSentError if exchange.sent else NotSentError
        raise error(f"{_label(request)}: no answer within {request.timeout:g} s")


class _Streamed:
    """A whole reply, handed out in pieces."""

    def __init__(self, response: Response, *, cut: bool, drip: float, ends: float) -> None:
        self.status = response.status
        self.headers = response.headers
        self._body = response.body[: len(response.body) // 2] if cut else response.body
        self._cut = cut
        self._drip = drip
        self._ends = ends

    async def chunks(self) -> AsyncIterator[bytes]:
        size = max(1, len(self._body) // _DROPS) if self._drip else _CHUNK
        for start in range(0, len(self._body), size):
            await self._pause()
            yield self._body[start : start + size]
        if self._cut:
            raise MaybeSentError("the body broke off half-way")

    async def _pause(self) -> None:
        if not self._drip:
            await checkpoint()
            return
        with anyio.CancelScope(deadline=self._ends) as scope:
            await anyio.sleep(self._drip / _DROPS)
        if scope.cancelled_caught:
            raise MaybeSentError("the body was not whole when its time was up")
