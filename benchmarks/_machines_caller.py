"""A process that asks for pictures: through a client of its own, or through taskiq.

It reads a job as JSON and opens what the job buys through, with a line before and a line after that. Each
further line is a batch of keys: it asks for all of them and writes what it measured. A batch without *keys*
goes on until SIGTERM or the end of the input. Instants are on the system's monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from typing import Any

import anyio
from attrs import define, field

from benchmarks._machines_program import Generate, Job, opened
from ruxa_async import NanoBanana
from ruxa_async.errors import RuxaError

__all__ = ("prompt",)


def prompt(key: str) -> str:
    """Return the prompt of the request with *key*, from which the ledger's entry is recognised."""
    return f"a lighthouse keeper's cat on a windowsill at dusk, in watercolour: {key}"


@define(eq=False)
class _Batch:
    """The calls for a number of keys: when each was made, and when it returned."""

    generate: Generate
    times: dict[str, tuple[float, float]] = field(factory=dict)
    failures: Counter[str] = field(factory=Counter)

    async def ask(self, keys: Iterable[str], batch: Job) -> dict[str, Any]:
        """Ask for *keys*, with a number of callers or at a rate, and return what was measured."""
        began = time.monotonic()
        async with anyio.create_task_group() as tg:
            if "callers" in batch:
                left = iter(keys)
                for _ in range(batch["callers"]):
                    tg.start_soon(self._ask_each, left)
            else:
                for number, key in enumerate(keys):
                    wait = began + number / batch["calls_per_second"] - time.monotonic()
                    await anyio.sleep(max(0.0, wait))
                    tg.start_soon(self._ask, key)
        return {
            "times": self.times,
            "failures": self.failures,
            "began": began,
            "wall": time.monotonic() - began,
        }

    async def _ask_each(self, keys: Iterable[str]) -> None:
        for key in keys:
            await self._ask(key)

    async def _ask(self, key: str) -> None:
        called = time.monotonic()
        try:
            await self.generate(NanoBanana(prompt=prompt(key), key=key))
        except (RuxaError, TimeoutError) as error:
            self.failures[type(error).__name__] += 1
        else:
            self.times[key] = called, time.monotonic()


def _keys(batch: Job) -> Iterable[str]:
    if "keys" not in batch:
        return (f"{batch['name']} {number}" for number in count())
    keys = [f"{batch['name']} {number}" for number in range(*batch["keys"])]
    random.Random(batch.get("seed", 0)).shuffle(keys)
    return keys


async def _work(lines: asyncio.Queue[str]) -> None:
    job = json.loads(await lines.get())
    _say({"opening": time.monotonic()})
    async with opened(job) as generate:
        _say({"open": time.monotonic()})
        while True:
            batch = json.loads(await lines.get())
            _say(await _Batch(generate).ask(_keys(batch), batch))


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


async def _main() -> None:
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[str]()
    work = asyncio.create_task(_work(lines))

    def read() -> None:
        with suppress(RuntimeError):  # the event loop has ended
            for line in sys.stdin:
                loop.call_soon_threadsafe(lines.put_nowait, line)
            loop.call_soon_threadsafe(work.cancel)

    # A daemon, because it waits for a line when the work has ended.
    threading.Thread(target=read, daemon=True).start()
    loop.add_signal_handler(signal.SIGTERM, work.cancel)
    with suppress(asyncio.CancelledError):
        await work


if __name__ == "__main__":
    # Processes are stopped while tasks run, which is worth a warning elsewhere.
    logging.getLogger("ruxa_async").setLevel(logging.ERROR)
    asyncio.run(_main())
