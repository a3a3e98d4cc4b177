"""A network without sockets in virtual time: varying round trips, and an event loop that stops at times."""

from __future__ import annotations

import asyncio
import random
import selectors
from urllib.parse import urlsplit

from benchmarks._draws import Draw, Span
from benchmarks._ideal import awake
from ruxa_async.emulator import Service, ServiceRequest
from ruxa_async.transports import MemoryTransport, Request, Response

__all__ = ("StallingLoop", "VaryingTransport")


class _Clock(selectors.DefaultSelector):
    """A clock that jumps to the next timer, and from there to the end of the stall that it lies in."""

    def __init__(self, stalls: tuple[Span, ...]) -> None:
        super().__init__()
        self.now = 0.0
        self._stalls = stalls

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(timeout if timeout is None else 0)
        if not ready and timeout is not None and timeout > 0:
            self.now = awake(self.now + timeout, self._stalls)
        return ready


class StallingLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time that stands still during *stalls*; timers due then are late."""

    def __init__(self, stalls: tuple[Span, ...] = ()) -> None:
        self._clock = _Clock(stalls)
        super().__init__(self._clock)

    def time(self) -> float:
        """Return the virtual seconds."""
        return self._clock.now


class VaryingTransport(MemoryTransport):
    """Carry each request to *service* and its reply back in half a round trip each, *jitter* of it more or
    less.

    A stall of the client's loop delays requests that leave and replies that are read, not those on the way.
    """

    def __init__(self, service: Service, draw: Draw) -> None:
        super().__init__(service)
        self._account = service
        self._half, self._jitter = draw.rtt / 2, draw.jitter
        self._chance = random.Random(f"trips/{draw.seed}")

    async def send(self, request: Request) -> Response:
        """Exchange *request* for its reply."""
        loop = asyncio.get_running_loop()
        response: asyncio.Future[Response] = loop.create_future()
        arrives = loop.time() + self._trip()
        loop.call_at(arrives, self._arrive, request, arrives, response)
        return await response

    def _arrive(self, request: Request, now: float, response: asyncio.Future[Response]) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = urlsplit(request.url).path
        reply = self._account.handle(ServiceRequest(request.method, path, headers, request.body or b""), now)
        read = Response(reply.status, reply.headers, reply.body)
        asyncio.get_running_loop().call_at(now + self._trip(), _resolve, response, read)

    def _trip(self) -> float:
        return self._half * (1 + self._jitter * self._chance.uniform(-1.0, 1.0))


def _resolve(future: asyncio.Future[Response], response: Response) -> None:
    if not future.done():
        future.set_result(response)
