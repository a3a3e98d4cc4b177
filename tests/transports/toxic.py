"""A proxy that spoils what passes through it, in one direction: up to the server, or down to the client.

The faults are those of Toxiproxy. They run on an event loop of their own in a thread, so that a test of any
backend can stand before them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Literal

from attrs import define, field

from ruxa_async.testing._servers import refusing, reset

Direction = Literal["up", "down"]

CREATE = b"POST /api/v1/tasks/create "


@define(eq=False)
class Flow:
    """What goes one way through one connection."""

    direction: Direction
    writer: asyncio.StreamWriter
    both: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    passed: int = 0

    async def give(self, data: bytes) -> None:
        self.passed += len(data)
        self.writer.write(data)
        await self.writer.drain()

    async def give_in_pieces(self, data: bytes, size: int, pause: float) -> None:
        for start in range(0, len(data), size):
            await asyncio.sleep(pause)
            await self.give(data[start : start + size])


async def latency(flow: Flow, data: bytes) -> None:
    await asyncio.sleep(0.1)
    await flow.give(data)


async def bandwidth(flow: Flow, data: bytes) -> None:
    await flow.give_in_pieces(data, 10, 0.2)  # fifty bytes a second: longer than any deadline here


async def black_hole(flow: Flow, data: bytes) -> None:
    """Swallow everything."""


async def resetting(flow: Flow, data: bytes) -> None:
    for writer in flow.both:
        reset(writer)


async def slicer(flow: Flow, data: bytes) -> None:
    await flow.give_in_pieces(data, max(25, len(data) // 50), 0.001)


async def limit_data(flow: Flow, data: bytes) -> None:
    await flow.give(data[: max(0, 60 - flow.passed)])
    if flow.passed >= 60:
        for writer in flow.both:
            writer.close()


async def plain(flow: Flow, data: bytes) -> None:
    await flow.give(data)


async def stale(flow: Flow, data: bytes) -> None:
    """Pass one request, and hang up when the next comes over the same connection: the keep-alive race, lost."""
    if flow.passed and data.startswith(CREATE):
        for writer in flow.both:
            writer.close()
    else:
        await flow.give(data)


#: What becomes of the bytes of a flow; "down" and "slow_close" are about connections.
FAULTS: dict[str, Callable[[Flow, bytes], Awaitable[None]]] = {
    "latency": latency,
    "down": plain,
    "bandwidth": bandwidth,
    "slow_close": plain,
    "black_hole": black_hole,
    "reset": resetting,
    "slicer": slicer,
    "limit_data": limit_data,
    "stale": stale,
}


@define(eq=False)
class Proxy:
    """One fault before the server at *port*; `sent` is everything that clients let go of."""

    port: int
    fault: str
    direction: Direction
    url: str = ""
    sent: bytearray = field(factory=bytearray)

    @property
    def creates(self) -> int:
        """How many creates have left a client, or begun to."""
        return self.sent.count(CREATE)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, EOFError):
                if self.fault == "down":  # upwards: the proxy stands, and there is nobody behind it
                    self.sent += await reader.read(1 << 16)
                else:
                    await self._join(reader, writer)
        finally:
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, onward = await asyncio.open_connection("127.0.0.1", self.port)
        both = (writer, onward)
        ways = [
            asyncio.ensure_future(self._pump(reader, Flow("up", onward, both))),
            asyncio.ensure_future(self._pump(behind, Flow("down", writer, both))),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if self.fault == "slow_close":
                await asyncio.sleep(0.3)
        finally:
            onward.close()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, flow: Flow) -> None:
        act = FAULTS[self.fault] if flow.direction == self.direction else plain
        while data := await reader.read(1 << 16):
            if flow.direction == "up":
                self.sent += data
            await act(flow, data)


class Proxies:
    """The loop in which proxies run, and a way to open one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _loop, _context: None)  # being reset is what they are for
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies")
        self._servers: list[asyncio.Server] = []
        self._dead = contextlib.ExitStack()

    def open(self, port: int, fault: str, direction: Direction) -> Proxy:
        """Put *fault* before the server at *port*."""
        proxy = Proxy(port, fault, direction)
        if (fault, direction) == ("down", "down"):  # nobody stands here, either
            proxy.url = self._dead.enter_context(refusing())
            return proxy
        sock = socket.create_server(("127.0.0.1", 0))
        proxy.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        starting = asyncio.start_server(proxy.serve, sock=sock)
        self._servers.append(asyncio.run_coroutine_threadsafe(starting, self._loop).result(10))
        return proxy

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        ending = asyncio.all_tasks() - {asyncio.current_task()}
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await asyncio.sleep(0)

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[Proxies]:
        proxies = cls()
        proxies._thread.start()
        try:
            yield proxies
        finally:
            asyncio.run_coroutine_threadsafe(proxies._end(), proxies._loop).result(10)
            proxies._loop.call_soon_threadsafe(proxies._loop.stop)
            proxies._thread.join(10)
            proxies._loop.close()
            proxies._dead.close()
