"""The client process: read a job as JSON, run one of `CLIENTS`, and write what it measured.

The clock runs from the first request to the end of the last, with every library loaded before. CPU is that of
the whole process: user and system, all threads.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks._code import use_code
from benchmarks._figures import Sample
from benchmarks._processes import CLIENT_CORE, pin

if TYPE_CHECKING:
    from ruxa_async import RuxaClient

Job: TypeAlias = dict[str, Any]

_KEY = "sk-emulated"
_MODEL = "google/nano-banana"
_HEADERS = {"Authorization": f"Bearer {_KEY}"}
_PAGE = resource.getpagesize()


@contextmanager
def metered(sample: Sample) -> Iterator[None]:
    """Store wall and CPU seconds of the block in *sample*, and the peak memory of the process in bytes."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    sample["wall"] = time.perf_counter() - wall
    sample["cpu"] = time.process_time() - cpu
    sample["peak_memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memory() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE


def prompt(place: int) -> str:
    """Return a prompt of typical length for task number *place*."""
    return f"A lighthouse keeper's cat on a windowsill at dusk, in watercolour, picture number {place}"


class Peak:
    """The peak memory of a run in bytes above that at its start, sampled ten times a second."""

    def __init__(self) -> None:
        gc.collect()
        self._before = memory()
        self._most = self._before
        self._in_flight = 0

    async def watch(self, in_flight: Callable[[], int]) -> None:
        """Take samples until cancelled."""
        while True:
            self.sample(in_flight())
            await asyncio.sleep(0.1)

    def sample(self, in_flight: int) -> None:
        """Take one sample."""
        self._most = max(self._most, memory())
        self._in_flight = max(self._in_flight, in_flight)

    def figures(self) -> Sample:
        """Return the peak in bytes above the start, and the most tasks that were in flight."""
        return {"memory": self._most - self._before, "most_in_flight": self._in_flight}


# ---- against a server


async def ours(job: Job) -> Sample:
    """Buy with `as_completed`; every setting is the default, except that all may be in flight."""
    from ruxa_async import Limits, NanoBanana, RuxaClient

    count: int = job["tasks"]
    requests = [NanoBanana(prompt=prompt(place)) for place in range(count)]
    client = RuxaClient(api_key=_KEY, base_url=job["url"], limits=Limits(max_in_flight=count))
    sample: Sample = {}
    seen: dict[str, float] = {}
    failures: list[str] = []
    peak = Peak()
    with metered(sample):
        async with client as ruxa, ruxa.as_completed(requests) as outcomes:
            watcher = asyncio.create_task(peak.watch(lambda: ruxa.stats().in_flight))
            if not job.get("watched", True):
                watcher.cancel()  # no samples where a thousandth of the CPU counts
            async for outcome in outcomes:
                if outcome.ok and outcome.task_id is not None:
                    seen[outcome.task_id] = time.monotonic()
                else:
                    failures.append(repr(outcome))
            watcher.cancel()
    return {**sample, **peak.figures(), "seen": seen, "failures": failures}


async def plain(job: Job) -> Sample:
    """Buy as most programs do: aiohttp, gather, a semaphore, a create, then polling at a fixed interval."""
    import aiohttp

    seen: dict[str, float] = {}
    in_flight = asyncio.Semaphore(job["tasks"])
    sample: Sample = {}
    peak = Peak()
    with metered(sample):
        async with aiohttp.ClientSession(job["url"], headers=_HEADERS) as session:

            async def one(place: int) -> None:
                async with in_flight:
                    task_id = await _create(session, place)
                    while True:
                        await asyncio.sleep(job["interval"])
                        state = await _query(session, task_id)
                        if state == "success":
                            seen[task_id] = time.monotonic()
                            return

            watcher = asyncio.create_task(peak.watch(lambda: job["tasks"] - len(seen)))
            ends = await asyncio.gather(*map(one, range(job["tasks"])), return_exceptions=True)
            watcher.cancel()
    failures = [repr(end) for end in ends if end is not None]
    return {**sample, **peak.figures(), "seen": seen, "failures": failures}


async def replay(job: Job) -> Sample:
    """Send the requests of a log over plain aiohttp, at its times if *paced*, else as fast as they go.

    Start a task for each request, as most programs do, or a fixed number of *workers*.
    """
    import aiohttp

    log: list[tuple[float, int]] = job["log"]
    ids: list[str] = []
    begun = asyncio.Event()
    steps = iter(log)
    workers: int = job["workers"]
    sample: Sample = {"seen": {}, "failures": []}
    with metered(sample):
        late = time.monotonic() - log[0][0]
        async with aiohttp.ClientSession(job["url"], headers=_HEADERS) as session:

            async def send(at: float, place: int) -> None:
                if job["paced"] and (wait := at + late - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                if place < 0:
                    ids.append(await _create(session, len(ids)))
                    begun.set()
                else:
                    await begun.wait()  # this server may be slower than the one of the log
                    await _query(session, ids[min(place, len(ids) - 1)])

            async def worker() -> None:
                for at, place in steps:
                    await send(at, place)

            if workers:
                await asyncio.gather(*(worker() for _ in range(workers)))
            else:
                await asyncio.gather(*(send(at, place) for at, place in log))
    return sample


async def _create(session: Any, place: int) -> str:
    body = {"model": _MODEL, "input": {"prompt": prompt(place)}}
    async with session.post("/api/v1/tasks/create", json=body) as response:
        task_id: str = (await response.json())["data"]["taskId"]
        return task_id


async def _query(session: Any, task_id: str) -> str:
    async with session.get(f"/api/v1/tasks/query/{task_id}") as response:
        state: str = (await response.json())["data"]["state"]
        return state


class _Raw(asyncio.Protocol):
    """Repeat one request on a connection and count the replies, to measure the most that a server can do."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._answer = b""
        self.done = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, _, body = self._answer.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if length and len(body) >= int(length):
            self.done += head.startswith(b"HTTP/1.1 200")
            self._answer = b""
            self._transport.write(self._request)


async def ceiling(job: Job) -> Sample:
    """Count the creates and queries a second that the server answers to 32 raw connections."""
    import aiohttp

    async with aiohttp.ClientSession(job["url"], headers=_HEADERS) as session:
        task_id = await _create(session, 0)
    body = json.dumps({"model": _MODEL, "input": {"prompt": prompt(0)}}).encode()
    head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {_KEY}\r\n"
    create = (
        f"POST /api/v1/tasks/create HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    )
    query = f"GET /api/v1/tasks/query/{task_id} HTTP/1.1\r\n{head}\r\n".encode()
    return {
        "creates": await _rate(job["url"], create, job["seconds"]),
        "queries": await _rate(job["url"], query, job["seconds"]),
    }


async def _rate(url: str, request: bytes, seconds: float) -> float:
    host, _, port = url.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()
    pairs = [await loop.create_connection(lambda: _Raw(request), host, int(port)) for _ in range(32)]
    before, start = sum(raw.done for _, raw in pairs), time.perf_counter()
    await asyncio.sleep(seconds)
    done, passed = sum(raw.done for _, raw in pairs) - before, time.perf_counter() - start
    for transport, _ in pairs:
        transport.abort()
    return done / passed


# ---- in memory


class _Handler:
    """The smallest possible service. Its memory does not grow, because it would count as the client's.

    A task is pending twice and then done; with *hold*, until all were accepted and queried.
    """

    def __init__(self, count: int, peak: Peak | None) -> None:
        self._asked = bytearray(count)
        self._count = count
        self._made = 0
        self._waiting = count
        self._peak = peak

    def __call__(self, request: Any) -> Any:
        from ruxa_async.transports import Response

        if request.method == "POST":
            self._made += 1
            return Response(
                200, {}, b'{"code":200,"data":{"taskId":"task_nano-banana_%012d"}}' % (self._made - 1)
            )
        place = int(request.url[-12:])
        state = b"success" if self._is_done(place) else b"generating"
        result = b',"resultJson":"{\\"resultUrls\\":[\\"https://files.test/%d.png\\"]}"' % place
        fields = b'"taskId":"%d","state":"%b"%b' % (place, state, result if state == b"success" else b"")
        return Response(200, {}, b'{"code":200,"message":"success","data":{%b}}' % fields)

    def _is_done(self, place: int) -> bool:
        asked = self._asked[place]
        if self._peak is None:
            self._asked[place] = asked + 1
            return asked >= 2
        if not asked:
            self._asked[place] = 1
            self._waiting -= 1
            if not self._waiting:
                self._peak.sample(self._count)
            return False
        return not self._waiting


async def in_memory(job: Job) -> Sample:
    """Buy from a handler in this process. With *hold*, all are in flight when memory is measured.

    *watch* is what gets the events, see `_watch`.
    """
    from ruxa_async import Limits, NanoBanana, RuxaClient
    from ruxa_async.transports import MemoryTransport

    async def buy(count: int, peak: Peak | None, requests: list[NanoBanana]) -> list[str]:
        transport = MemoryTransport(_Handler(count, peak))
        async with (
            RuxaClient(api_key=_KEY, transport=transport, limits=Limits(max_in_flight=count)) as ruxa,
            ruxa.as_completed(requests) as outcomes,
        ):
            _watch(ruxa, job.get("watch", "nothing"))
            failures = [repr(outcome) async for outcome in outcomes if not outcome.ok]
        return [*failures, f"{transport.sent}"]

    count: int = job["tasks"]
    requests = [NanoBanana(prompt=prompt(place)) for place in range(count)]
    await buy(50, None, requests[:50])  # load and create what is needed once, before the start
    sample: Sample = {}
    peak = Peak() if job["hold"] else None
    with metered(sample):
        *failures, sent = await buy(count, peak, requests)
    return {**sample, **(peak.figures() if peak else {}), "requests": int(sent), "failures": failures}


def _watch(ruxa: RuxaClient, watch: str) -> None:
    """Give the events of *ruxa* to nothing, a function that does nothing, or OpenTelemetry."""
    if watch == "a function":
        ruxa.add_event_hook(lambda _: None)
    if watch.startswith("OpenTelemetry"):
        from ruxa_async.integrations.otel import instrument

        if watch == "OpenTelemetry, no SDK":
            instrument(ruxa)
        else:
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.trace import TracerProvider

            instrument(ruxa, tracer_provider=TracerProvider(), meter_provider=MeterProvider())


# ---- to disk


async def batch(job: Job) -> Sample:
    """Run a batch as the command line does, with journal and results file, and *downloads* or without."""
    from attrs import evolve

    from ruxa_async import Generation, Limits, NanoBanana, RuxaClient
    from ruxa_async.batch import Row, folder_journal, run_batch
    from ruxa_async.results import MediaSource

    class NoMedia:
        here = ""

        async def save(self, *_: object, **__: object) -> list[Path]:
            return []

        async def read(self, *_: object) -> list[bytes]:
            return []

    class WithoutDownloads(RuxaClient):
        def _generation(self, job: Any) -> Generation:
            media: MediaSource = NoMedia()
            return evolve(super()._generation(job), _media=media)

    count: int = job["tasks"]
    rows = [Row(place + 1, NanoBanana(prompt=prompt(place), key=f"k{place}")) for place in range(count)]
    kind = RuxaClient if job["downloads"] else WithoutDownloads
    sample: Sample = {}
    # Beside this file, because a temporary folder may be in memory.
    with TemporaryDirectory(dir=Path(__file__).parent, prefix=".batch-") as folder, metered(sample):
        async with kind(
            api_key=_KEY,
            base_url=job["url"],
            journal=folder_journal(folder),
            limits=Limits(max_in_flight=job["at_once"]),
        ) as ruxa:
            summary = await run_batch(ruxa, rows, folder, resume=True)
    return {**sample, "succeeded": summary.states["succeeded"], "files": summary.files}


CLIENTS: dict[str, Callable[[Job], Awaitable[Sample]]] = {
    each.__name__: each for each in (ours, plain, replay, ceiling, in_memory, batch)
}


def main() -> None:
    """Do one job."""
    job: Job = json.load(sys.stdin)
    pin(CLIENT_CORE)
    use_code(job.get("code"))
    os.environ.pop("RUXA_BASE_URL", None)

    async def measured() -> Sample:
        return await CLIENTS[job["client"]](job)

    json.dump(asyncio.run(measured()), sys.stdout)


if __name__ == "__main__":
    main()
