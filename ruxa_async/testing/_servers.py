"""Servers that misbehave, one script each, on a real socket.

A server runs on an event loop of its own in a thread, so that a test of any backend can talk to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import anyio

# Made for these tests: no client trusts it. A request to a server that shows it must not be sent.
SELF_SIGNED = """\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIPBVv7Z8/4oPrGokN/o8/+FF/5UoyC6mb2Q2DxUA2DuboAoGCCqGSM49
AwEHoUQDQgAElvZekpzQdwXGq99OAJlhFbH4WQIX1lLGQCbp2fksvQabvH/7G/nW
Rkhv6Pk0e40a1MPnOK2GLsv7EtiAyOVTVg==
-----END EC PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBpTCCAUugAwIBAgIUNyvx/rSOHIAQ9WY2SDosXxmSExAwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyODE0MjcyM1oYDzIxMjYxMTA0
MTQyNzIzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASW9l6SnNB3Bcar304AmWEVsfhZAhfWUsZAJunZ+Sy9Bpu8f/sb+dZG
SG/o+TR7jRrUw+c4rYYuy/sS2IDI5VNWo3kwdzAdBgNVHQ4EFgQUm5oqo6flcSr7
/L5Gsu2eAoeifLYwHwYDVR0jBBgwFoAUm5oqo6flcSr7/L5Gsu2eAoeifLYwDwYD
VR0TAQH/BAUwAwEB/zAkBgNVHREEHTAbgglsb2NhbGhvc3SCCGFwaS50ZXN0hwR/
AAABMAoGCCqGSM49BAMCA0gAMEUCIFTvMkUEoi4FB+/BDytdNCnU4t8mSR+0ZdVX
1kw+8kkPAiEAwa6LBG4tt1TKyfLl3hLOlp2UFsLJlYmOvIrNFgAaCOA=
-----END CERTIFICATE-----
"""


class Peer:
    """A connection of a client, for a script."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """Read one whole request, record it and return its body. Raises EOFError at the end."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        body = await self.reader.readexactly(length)
        self.server.requests.append(head.decode("latin-1"))
        self.server.bodies.append(body)
        return body

    async def say(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
        await self.writer.drain()

    def reset(self) -> None:
        """Close with an RST instead of a FIN."""
        reset(self.writer)


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


class Server:
    """A running server: its address, and what it received."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.url = ""
        self.connections: int = 0
        self.requests: list[str] = []
        self.bodies: list[bytes] = []
        self.hang_ups: int = 0

    async def seen(self, count: int) -> None:
        """Wait until *count* whole requests have been read."""
        with anyio.fail_after(10):
            while len(self.requests) < count:  # noqa: ASYNC110 - another thread counts
                await anyio.sleep(0.002)

    async def left(self, count: int) -> None:
        """Wait until *count* connections have ended."""
        with anyio.fail_after(10):
            while self.hang_ups < count:  # noqa: ASYNC110 - another thread counts
                await anyio.sleep(0.002)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            with contextlib.suppress(EOFError, OSError):
                await self._script(Peer(self, reader, writer))
        finally:
            self.hang_ups += 1
            writer.close()

    async def run(self, sock: socket.socket, tls: ssl.SSLContext | None, stop: asyncio.Event) -> None:
        peers: set[asyncio.Task[None]] = set()
        transports: list[asyncio.WriteTransport] = []

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            peers.add(task)
            transports.append(writer.transport)
            try:
                await self._serve(reader, writer)
            finally:
                peers.discard(task)

        listening = await asyncio.start_server(accepted, sock=sock, ssl=tls)
        await stop.wait()
        listening.close()
        for _ in range(6):  # a connection that is being accepted becomes one of the peers
            await asyncio.sleep(0)
        for task in tuple(peers):
            task.cancel()
        await asyncio.gather(*peers, return_exceptions=True)
        for transport in transports:
            transport.abort()  # closing waits for what the client has not read, and the loop does not


@contextlib.contextmanager
def serving(script: Script, *, tls: bool = False) -> Iterator[Server]:
    """Run *script* for every connection, until the block ends."""
    server = Server(script)
    sock = socket.create_server(("127.0.0.1", 0))
    server.url = f"http{'s' if tls else ''}://127.0.0.1:{sock.getsockname()[1]}"
    loop = asyncio.new_event_loop()
    # Some tests refuse the handshake: the server must not report it.
    loop.set_exception_handler(lambda _loop, _context: None)
    stop = asyncio.Event()
    context = self_signed() if tls else None

    def run() -> None:
        loop.run_until_complete(server.run(sock, context, stop))
        loop.run_until_complete(asyncio.sleep(0))  # what was closed last ends in the next turn
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        assert not thread.is_alive(), "the server hangs"


def self_signed() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "both.pem")
        path.write_text(SELF_SIGNED)
        context.load_cert_chain(path)
    return context


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """Yield an address at which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


@contextlib.contextmanager
def never_accepting() -> Iterator[str]:
    """Yield an address at which a connection is neither made nor refused: its queue is full."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def reply(
    body: bytes = b'{"code":200}', status: str = "200 OK", headers: str = "", *, length: int | None = None
) -> bytes:
    announced = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {announced}\r\n{headers}\r\n".encode() + body


def answering(*answers: bytes) -> Script:
    """Answer with *answers* in turn, then always with the last one; keep the connection."""

    async def script(peer: Peer) -> None:
        for turn in range(1_000_000):
            await peer.request()
            await peer.say(answers[min(turn, len(answers) - 1)])

    return script


def saying_then_closing(*parts: bytes) -> Script:
    """Read a request, say *parts*, close."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(*parts)

    return script


def saying_then_silent(*parts: bytes) -> Script:
    """Read a request, say *parts*, keep the connection and send nothing more."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(*parts)
        await peer.reader.read()

    return script


async def resetting_after_request(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def resetting_during_request(peer: Peer) -> None:
    await peer.reader.readexactly(1000)
    peer.reset()


async def dripping_headers(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\n")
    for number in range(10_000):
        await peer.say(b"X-%d: y\r\n" % number)
        await asyncio.sleep(0.02)


async def endless_chunks(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await peer.say(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")


async def silent_from_the_start(peer: Peer) -> None:
    """Read, and never answer; a TLS client waits for its handshake."""
    await peer.reader.read()


def gzipped(body: bytes) -> bytes:
    return reply(gzip.compress(body, mtime=0), headers="Content-Encoding: gzip\r\n")


@contextlib.asynccontextmanager
async def nothing_left_open(server: Server) -> AsyncIterator[None]:
    """Check that every connection made to *server* ends with the block."""
    yield
    await server.left(server.connections)
