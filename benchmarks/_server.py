"""The server process: the emulator behind a socket, with a log of the arrival of each request.

It reads its settings as a line of JSON (``{"instant": true}`` selects a server that costs next to nothing),
writes its address as another, and replies to each further line with a report until its input ends. Instants
are on the system's monotonic clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from typing import Any
from urllib.parse import unquote

from benchmarks._instant import Instant
from benchmarks._processes import SERVER_CORE, pin
from ruxa_async.emulator import Durations, EmulatorSettings, Service, ServiceReply
from ruxa_async.emulator._http import Incoming
from ruxa_async.emulator._service import CREATE_PATH, FILES_PATH, QUERY_PATH
from ruxa_async.emulator._web import serve


class LoggedService(Service):
    """A service that logs the arrival of each request, and its task id (a create: "")."""

    def __init__(self, settings: EmulatorSettings) -> None:
        super().__init__(settings)
        self.log: list[tuple[float, str]] = []
        #: The content of every output, if drawing them would make this process the bottleneck.
        self.same_file: ServiceReply | None = None

    def handle(self, request: Incoming, now: float) -> ServiceReply:
        """Log *request*, unless it is for an output, and reply to it."""
        path = request.path
        if not path.startswith(FILES_PATH):
            self.log.append((now, "" if path == CREATE_PATH else path.removeprefix(QUERY_PATH)))
        return super().handle(request, now)

    def _file(self, rest: str, now: float) -> ServiceReply:
        return self.same_file or super()._file(rest, now)

    def report(self) -> dict[str, Any]:
        """Return the report; in its log a task is its position in the ledger, a create -1."""
        places = {purchase.task_id: place for place, purchase in enumerate(self.ledger.entries)}
        return {
            "creates": self.counts.creates,
            "queries": self.counts.queries,
            "throttled": self.counts.throttled,
            "charged": self.ledger.charged,
            "bought_twice": len(self.ledger.duplicates()),
            "cpu": time.process_time(),
            "ends": {task_id: task.ends for task_id in places if (task := self.task(task_id))},
            "log": [(at, places[unquote(name)] if name else -1) for at, name in self.log],
        }


async def _main() -> None:
    given = json.loads(sys.stdin.readline())
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    if given.get("instant"):
        instant = Instant()
        server = await asyncio.get_running_loop().create_server(instant.connection, sock=listener)
        await _report(url, instant)
        server.close()
    else:
        await _emulate(given, listener, url)


async def _emulate(given: dict[str, Any], listener: socket.socket, url: str) -> None:
    image, size = Durations(given.pop("median"), given.pop("sigma")), given.pop("file_bytes", 0)
    service = LoggedService(EmulatorSettings(image=image, public_url=url, **given))
    if size:
        png = b"\x89PNG\r\n\x1a\n".ljust(size, b"\0")
        service.same_file = ServiceReply(headers={"content-type": "image/png"}, body=png)
    stop = asyncio.Event()
    started = asyncio.Event()
    serving = asyncio.create_task(serve(service, listener, stop, started.set))
    await started.wait()
    await _report(url, service)
    stop.set()
    await serving


async def _report(url: str, service: LoggedService | Instant) -> None:
    _write({"url": url})
    while await asyncio.to_thread(sys.stdin.readline):
        _write(service.report())


def _write(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    pin(SERVER_CORE)
    asyncio.run(_main())
