"""The service on a socket, in its own thread."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack, closing, suppress
from os import PathLike
from types import TracebackType
from typing import Self

import anyio
import attrs

from ruxa_async.errors import MissingExtraError

from ._ledger import LedgerFile
from ._service import Service
from ._settings import EmulatorSettings

__all__ = ("Emulator",)


class Emulator:
    """The service on a socket of this machine, in its own thread and event loop.

    Enter it with ``async with`` from asyncio or trio, or with ``with``, or call `start` and `stop`. Pass its
    `url` and `key` to a client, and read the ledger and counts of its `service`, also after the end.

    *settings* default to `EmulatorSettings()`. *port* 0 takes a free port. *ledger* is a file for the tasks
    that were charged: the next emulator with this file continues them, even if this one is killed, and with
    *port* 0 it takes the same port if that is free.

    Starting raises `MissingExtraError` if Pillow is not installed, OSError if the address or the file is not
    available, and ValueError if the file is not a ledger.
    """

    def __init__(
        self,
        settings: EmulatorSettings | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ledger: str | PathLike[str] | None = None,
    ) -> None:
        self._settings: EmulatorSettings = settings or EmulatorSettings()
        self._address: tuple[str, int] = (host, port)
        self._ledger: str | PathLike[str] | None = ledger
        self._at_stop: ExitStack = ExitStack()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._url: str | None = None
        self._service: Service | None = None

    def __repr__(self) -> str:
        return f"<Emulator {self._url if self._thread else 'not running'}>"

    @property
    def url(self) -> str:
        """The base URL for a client."""
        if self._url is None:
            raise RuntimeError("the emulator has no address yet: enter it with `async with`, or call start()")
        return self._url

    @property
    def key(self) -> str:
        """The API key for a client."""
        return self._settings.key

    @property
    def service(self) -> Service:
        """The service behind the socket. Another thread owns it, so only read its ledger and counts."""
        if self._service is None:
            raise RuntimeError("the emulator has no service yet: enter it with `async with`, or call start()")
        return self._service

    def start(self) -> None:
        """Listen, and return as soon as clients can connect. Raises the errors that `Emulator` lists."""
        if self._thread is not None:
            raise RuntimeError("the emulator is running already")
        if importlib.util.find_spec("PIL") is None:
            raise MissingExtraError("the emulator's pictures", "emulator")
        with ExitStack() as stack:
            file = None
            if self._ledger is not None:
                file = stack.enter_context(closing(LedgerFile(self._ledger)))
            listener = self._listen(file)
            stack.callback(listener.close)
            self._url = _url(listener)
            settings = _completed(self._settings, self._url)
            if file is None:
                self._service = Service(settings)
            else:
                file.record_port(listener.getsockname()[1])
                self._service = Service(settings, past=file.tasks, keep=file.keep)
            self._run(self._service, listener)
            self._at_stop = stack.pop_all()

    def _listen(self, file: LedgerFile | None) -> socket.socket:
        """Listen on the port; instead of 0 on that of the ledger, if it is free."""
        host, port = self._address
        if file is not None and not port:
            with suppress(OSError):
                return _listen(host, file.port)
        return _listen(host, port)

    def stop(self) -> None:
        """Close every connection and wait for the end of the thread. A second call does nothing."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        thread.join()
        self._at_stop.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        """Start the emulator. A cancellation takes effect after the start and stops it again."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, also after an error."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    def _run(self, service: Service, listener: socket.socket) -> None:
        """Start the thread and wait until it serves. Raises the error that prevents it."""
        from ._web import serve  # noqa: PLC0415 - aiohttp takes 0.2 s to import

        ready: Future[None] = Future()

        async def main() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            await serve(service, listener, self._stop, lambda: ready.set_result(None))

        def run() -> None:
            try:
                asyncio.run(main())
            except BaseException as error:
                if ready.done():
                    raise
                ready.set_exception(error)

        thread = threading.Thread(target=run, name="ruxa-emulator", daemon=True)
        thread.start()
        ready.result()
        self._thread = thread


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise type(error)(
            error.errno, f"the emulator cannot listen on {host}:{port}: {error.strerror}"
        ) from error


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    # A client cannot connect to the address that stands for every interface.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _completed(settings: EmulatorSettings, url: str) -> EmulatorSettings:
    """Return *settings* with defaults for *public_url* and *epoch*."""
    epoch = time.time() - time.monotonic() if settings.epoch is None else settings.epoch
    return attrs.evolve(settings, public_url=settings.public_url or url, epoch=epoch)
