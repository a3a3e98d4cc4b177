"""Run as a process of its own: forks a child for each command, a line of JSON, and says how each one ended.

A child that is forked from here has everything imported, and no thread and no event loop have run yet: half a
second of start-up less for each of hundreds of children.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
from attrs import evolve

from ruxa_async import Limits, NanoBanana, Polling, RateLimit, RuxaClient, SqliteJournal, Timeouts
from ruxa_async._internal import failpoints
from ruxa_async._internal.files import PartFile
from ruxa_async.batch import Row, folder_journal, run_batch
from ruxa_async.downloads import _sinks as sinks
from ruxa_async.journal._store import Store
from ruxa_async.results import JobRecord
from ruxa_async.transports import AiohttpTransport, Request, StreamedResponse, Transport

#: How many times each point was reached, in their order, and when the first request of any kind left.
COUNTS = struct.Struct(f"{len(failpoints.FAILPOINTS)}I")
FIRST = struct.Struct("d")
SIZE = COUNTS.size + FIRST.size

#: By backend, as far as there is one that runs there.
TRANSPORTS: dict[str, Callable[[], Transport]] = {"asyncio": AiohttpTransport}
with suppress(ImportError):
    TRANSPORTS["trio"] = import_module("ruxa_async.transports._httpx2").Httpx2Transport
#: What is read and written at once: pictures are small, and their downloads are to have a middle.
PIECE = 4096
#: How many creates may be on the wire at once.
CREATES = 16

_PLACES = {point: at for at, point in enumerate(failpoints.FAILPOINTS)}
_REQUESTS = ("create sent", "query begun", "download begun")


class Counter:
    """The hook: counts the points in a file, which survives the process, and ends the process at one of them."""

    def __init__(self, path: str, kill: tuple[str, int] | None) -> None:
        with Path(path).open("w+b") as file:
            file.truncate(SIZE)
            kept = memoryview(mmap.mmap(file.fileno(), SIZE))
        # Items are written in one piece each. `Struct.pack_into` writes zeros first, and a kill may come between.
        self._times = kept[: COUNTS.size].cast("I")
        self._first = kept[COUNTS.size :].cast("d")
        self._kill = kill
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def __call__(self, point: str) -> None:
        with self._lock:
            at = _PLACES[point]
            self._times[at] += 1
            if point in _REQUESTS and not self._first[0]:
                self._first[0] = time.monotonic() - self._began
            if self._kill == (point, self._times[at]):
                os.kill(os.getpid(), signal.SIGKILL)


class _Pieces:
    """A reply whose body comes in pieces of 4 KiB, each after letting others work: a download has a middle."""

    def __init__(self, response: StreamedResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = response.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.chunks():
            for at in range(0, len(chunk), PIECE):
                yield chunk[at : at + PIECE]


class Piecewise:
    """Another transport, whose downloads come in pieces."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.send = inner.send
        self.aclose = inner.aclose

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[StreamedResponse]:
        async with self._inner.stream(request) as response:
            yield _Pieces(response)


# ---- what a child may be told to do worse than the library does it


def no_links(*_: object) -> None:
    raise PermissionError("no links here")


async def intend_carelessly(self: SqliteJournal, job: JobRecord) -> object:
    """Call nothing bought what is about to be sent."""
    job = evolve(job, entry=await intend(self, job))
    await self.not_bought(job)
    return job.entry


def link_carelessly(self: PartFile, target: Path) -> Path:
    """Fill the file under its final name."""
    content = self._path.read_bytes()
    with target.open("wb", buffering=0) as file:
        file.write(content[:PIECE])
        failpoints.failpoint("file named")
        file.write(content[PIECE:])
    return target


def mark_intended_carelessly(self: Store, reason: str) -> None:
    """Call failed what may have been charged."""
    self.connection.execute("UPDATE jobs SET state = 'failed', task_id = '?' WHERE state = 'intended'")


intend = SqliteJournal.intend
NO_LINKS = "no links"
WORSE = {
    NO_LINKS: (os, "link", no_links),
    "careless intent": (SqliteJournal, "intend", intend_carelessly),
    "careless ending": (Store, "mark_intended_unknown", mark_intended_carelessly),
    "careless name": (PartFile, "_link", link_carelessly),
}


async def batch(command: dict[str, Any]) -> int:
    """Do what ``ruxa-async batch`` does, with everything in flight at once that can be."""
    count = command["rows"]
    journal = folder_journal(command["out"])
    client = RuxaClient(
        api_key=command["key"],
        base_url=command["url"],
        transport=Piecewise(TRANSPORTS[command["backend"]]()),
        limits=Limits(
            max_in_flight=count,
            max_concurrent_creates=CREATES,
            create_rate=RateLimit(1000),
            query_rate=RateLimit(1000),
        ),
        polling=Polling(min_interval=0.02),
        timeouts=Timeouts(create=20, query=20),
        journal=journal,
    )
    rows = [Row(n + 1, NanoBanana(prompt=f"prompt {n}", key=f"k{n}")) for n in range(count)]
    if command["reverse"]:
        rows.reverse()
    async with journal, client:
        summary = await run_batch(client, rows, command["out"], resume=True)
    return 0 if summary.done == count else 1


def child(command: dict[str, Any]) -> None:
    """Be the process that is killed; never return."""
    code = 70
    try:
        log = os.open(command["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sinks._BLOCK = PIECE  # type: ignore[misc]
        if command["worse"]:
            setattr(*WORSE[command["worse"]])
        kill = command.get("kill")
        failpoints.hook = Counter(command["counts"], kill and (kill[0], kill[1]))
        code = anyio.run(batch, command, backend=command["backend"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int, seconds: float | None) -> int:
    """Return the exit status of the child, negative for a signal; kill it after *seconds*."""
    if seconds is not None:
        handle = os.pidfd_open(pid)
        if not select.select([handle], [], [], seconds)[0]:
            os.kill(pid, signal.SIGKILL)  # it cannot be another process: nobody has waited for this one yet
        os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    answers = sys.stdout
    for line in sys.stdin:
        command = json.loads(line)
        Path(command["log"]).parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            child(command)
        answers.write(f"{pid}\n")
        answers.flush()
        status = wait(pid, command.get("kill_after"))
        answers.write(json.dumps({"status": status, "seconds": time.monotonic() - began}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
