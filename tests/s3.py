"""An S3 server of moto in a process of its own, and a proxy before it that loses requests and responses."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator

import pytest
from attrs import define, field

from ruxa_async.testing._servers import reset

__all__ = ("BUCKET", "S3", "FaultyProxy", "s3_server")

BUCKET = "pictures"
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@define
class S3:
    """The address of a server and what points a client to it."""

    url: str

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret-canary",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ALLOW_HTTP": "true",
        }

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Point clients of this process, and those that it starts, to the server."""
        for name, value in self.environment().items():
            monkeypatch.setenv(name, value)

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Return every object whose key begins with *prefix*, without the prefix."""
        import obstore
        from obstore.store import S3Store

        store = S3Store(
            BUCKET,
            endpoint=self.url,
            access_key_id="key",
            secret_access_key="secret-canary",
            region="us-east-1",
            prefix=prefix,
            client_options={"allow_http": True},
        )
        return {
            meta["path"]: bytes(obstore.get(store, meta["path"]).bytes())
            for page in obstore.list(store)
            for meta in page
        }


@contextlib.contextmanager
def s3_server(bucket: str = BUCKET) -> Iterator[S3]:
    """Run a server with an empty *bucket*."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(300):
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(
                    urllib.request.Request(f"{url}/{bucket}", data=b"", method="PUT"), timeout=10
                ).close()
                break
            assert process.poll() is None, "the server ended"
            time.sleep(0.1)
        else:
            raise TimeoutError("the server did not start")
        yield S3(url)
    finally:
        process.kill()
        process.wait()


@define(eq=False)
class FaultyProxy:
    """Passes requests on to the server at *port*, and spoils a *share* of them, chosen by a seed.

    Each fault is as likely as the others: the connection is reset before the request is passed on or after
    it was answered, half of the response comes, or a 503 comes instead. *created* counts the puts that the
    server accepted, by path; *faults* counts the faults by name.
    """

    port: int
    share: float
    url: str = ""
    created: Counter[str] = field(factory=Counter)
    faults: Counter[str] = field(factory=Counter)
    _random: random.Random = field(factory=lambda: random.Random(15))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, EOFError):
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                await self._answer(head, body, writer)
        finally:
            writer.close()

    async def _answer(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        fault = ""
        if self._random.random() < self.share:
            fault = self._random.choice(["reset before", "reset after", "cut", "503"])
            self.faults[fault] += 1
        if fault == "503":
            writer.write(
                b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Type: application/xml\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(SLOW_DOWN), SLOW_DOWN)
            )
            await writer.drain()
            return
        response = b"" if fault == "reset before" else await self._pass_on(head, body)
        if fault == "cut":
            writer.write(response[: len(response) // 2])
            await writer.drain()
        elif fault:
            reset(writer)
        else:
            writer.write(response)
            await writer.drain()

    async def _pass_on(self, head: bytes, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(head.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n" + body)
            response = await reader.read()
        finally:
            writer.close()
        method, path, _ = head.decode("latin-1").split(" ", 2)
        if method == "PUT" and response.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
            self.created[path.partition("?")[0]] += 1
        return response

    @classmethod
    @contextlib.contextmanager
    def before(cls, server: S3, share: float) -> Iterator[FaultyProxy]:
        """Run a proxy before *server* in a thread of its own."""
        proxy = cls(int(server.url.rpartition(":")[2]), share)
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda _loop, _context: None)  # being reset is what it is for
        thread = threading.Thread(target=loop.run_forever, name="faulty proxy")
        sock = socket.create_server(("127.0.0.1", 0), backlog=256)
        proxy.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        thread.start()
        try:
            starting = asyncio.start_server(proxy.serve, sock=sock)
            listening = asyncio.run_coroutine_threadsafe(starting, loop).result(10)
            yield proxy
            loop.call_soon_threadsafe(listening.close)
            asyncio.run_coroutine_threadsafe(_settled(), loop).result(30)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()


async def _settled() -> None:
    """Cancel what is left, and wait for it."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
