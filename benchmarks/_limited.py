"""The server process of the benchmarks of limits: the emulator with a limit, as Ruxa or behind a shim.

It reads its settings as a line of JSON, writes its address as another, and replies to each further line with
a report until its input ends. Instants are on the system's monotonic clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Any
from urllib.parse import unquote

import attrs

from benchmarks._shims import SHIMS, serve_shim
from ruxa_async.emulator import Durations, EmulatorSettings, Service, ServiceReply, parse_limit
from ruxa_async.emulator._http import Incoming
from ruxa_async.emulator._service import QUERY_PATH
from ruxa_async.emulator._web import serve


class WatchedService(Service):
    """A service that records each rejection, with the wait that it names in seconds, and the last queries."""

    def __init__(self, settings: EmulatorSettings) -> None:
        super().__init__(settings)
        self.refusals: list[tuple[float, float]] = []
        #: The instant of the last query by task id.
        self.queried: dict[str, float] = {}

    def handle(self, request: Incoming, now: float) -> ServiceReply:
        """Reply to *request* and record a rejection; one without Retry-After forbids nothing."""
        if request.path.startswith(QUERY_PATH):
            self.queried[unquote(request.path.removeprefix(QUERY_PATH))] = now
        before = self.counts.throttled
        reply = super().handle(request, now)
        if self.counts.throttled > before:
            # Both are on the client's clock, which is later by the latency.
            heard = now + self.settings.latency
            self.refusals.append((heard, float(reply.headers.get("retry-after", 0.0))))
        return reply

    def report(self) -> dict[str, Any]:
        """Return everything that a benchmark reads afterwards."""
        duplicates = self.ledger.duplicates()
        return {
            "creates": self.counts.creates,
            "queries": self.counts.queries,
            "throttled": self.counts.throttled,
            "charged": self.ledger.charged,
            "bought_twice": sum(len(group) - 1 for group in duplicates),
            "accepted": [(entry.at, entry.input["prompt"]) for entry in self.ledger.entries],
            "task_ids": [entry.task_id for entry in self.ledger.entries],
            "queried": [self.queried.get(entry.task_id) for entry in self.ledger.entries],
            "refusals": self.refusals,
        }


def settings_of(given: dict[str, Any], url: str | None = None) -> EmulatorSettings:
    """Return the settings in *given*: limits in the form of `parse_limit`, *median* and *sigma*."""
    said = dict(given)
    image = Durations(said.pop("median"), said.pop("sigma", 0.0))
    for name in ("creates", "queries"):
        if said.get(name):
            said[name] = parse_limit(said[name])
    return EmulatorSettings(image=image, video=image, public_url=url, **said)


async def _main() -> None:
    given = json.loads(sys.stdin.readline())
    wire = given.pop("wire", "ruxa")
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    settings = settings_of(given, url)
    # The latency of other services is in their shims.
    service = WatchedService(settings if wire == "ruxa" else attrs.evolve(settings, latency=0.0))
    stop, started = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(
        serve(service, listener, stop, started.set)
        if wire == "ruxa"
        else serve_shim(SHIMS[wire](service, url, settings.latency), listener, stop, started.set)
    )
    await started.wait()
    print(json.dumps({"url": url}), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(service.report()), flush=True)
    stop.set()
    await serving


if __name__ == "__main__":
    asyncio.run(_main())
