"""scale: does a task cost the same in a batch of a hundred and of ten thousand (``--huge``: 100,000)?

*memory, flow*: as_completed over a handler in the same process, real time, one create and three queries a
task, all in flight; its CPU is the client's own and that of `MemoryTransport`, without HTTP. *memory, held*:
the same, but no task ends before all are accepted and queried once; bytes a task are the memory of the
process above that with the same requests in a list. *HTTP, ours* and *HTTP, plain*: against the emulator,
with tasks that take long enough for the whole batch to be in flight at once; bytes a task are from the peak
memory. Plain is aiohttp with gather and a semaphore, which polls less often the more tasks there are, because
it would only queue otherwise.

A cost that grows linearly shows the same figures in every line of a case. Not measured: the bytes a task of
100 tasks hide one allocation of the system; under HTTP a client that falls behind polls less often.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks._figures import Row, Sample, figures
from benchmarks._harness import Measure, Options, interleaved
from benchmarks._processes import Server, client

__all__ = ("run",)

#: Tasks in a batch, and seconds of each over HTTP: longer than creating all of them takes.
_SECONDS = {100: 2.0, 1_000: 5.0, 10_000: 40.0}
_MOST_HTTP = 10_000


def run(options: Options) -> list[Row]:
    """Measure every case at every size."""
    sizes = [100, 1_000] if options.quick else [100, 1_000, 10_000]
    if options.huge:
        sizes.append(100_000)
    rows = _cases(
        "memory", sizes, options.times(5), {"flow": _memory(hold=False), "held": _memory(hold=True)}
    )
    over = [size for size in sizes if size <= _MOST_HTTP]
    return rows + _cases("HTTP", over, options.times(3), {"ours": _http("ours"), "plain": _http("plain")})


def _cases(
    about: str, sizes: list[int], rounds: int, cases: Mapping[str, Callable[[int], Measure]]
) -> list[Row]:
    variants = {f"{name} {size:,}": make(size) for name, make in cases.items() for size in sizes}
    measured = interleaved(variants, rounds, about=about)
    return [
        {
            "case": f"{about}, {name}",
            "tasks": size,
            **figures([each[f"{name} {size:,}"] for each in measured], _COLUMNS),
        }
        for name in cases
        for size in sizes
    ]


def _memory(*, hold: bool) -> Callable[[int], Measure]:
    def measure(size: int) -> Sample:
        return {**client("in_memory", tasks=size, hold=hold), "tasks": size}

    return lambda size: lambda _: measure(size)


def _http(name: str) -> Callable[[int], Measure]:
    def measure(size: int) -> Sample:
        with Server(median=_SECONDS[size]) as server:
            sample = client(name, url=server.url, tasks=size, interval=max(1.0, size / 1_000))
            report = server.report()
        return {
            **{key: value for key, value in sample.items() if key != "seen"},
            "tasks": size,
            "requests": report["creates"] + report["queries"],
            "throttled": report["throttled"],
        }

    return lambda size: lambda _: measure(size)


_COLUMNS: dict[str, Callable[[Sample], float]] = {
    "wall s": lambda sample: sample["wall"],
    "requests/task": lambda sample: sample["requests"] / sample["tasks"],
    "CPU us/task": lambda sample: 1e6 * sample["cpu"] / sample["tasks"],
    "CPU us/request": lambda sample: 1e6 * sample["cpu"] / sample["requests"],
    "most in flight": lambda sample: sample.get("most_in_flight", float("nan")),
    "bytes/task": lambda sample: sample.get("memory", float("nan")) / sample["tasks"],
    "failed": lambda sample: len(sample["failures"]),
    "429s": lambda sample: sample.get("throttled", 0),
}
