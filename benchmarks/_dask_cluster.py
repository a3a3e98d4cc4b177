"""Prompts through a Dask cluster of processes: seconds, purchases, and memory over time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster

from benchmarks._processes import Server
from ruxa_async import Generation, Limits, NanoBanana, RateLimit, RuxaClient
from ruxa_async.integrations.dask import generate
from ruxa_async.journal import PostgresJournal

__all__ = ("measure",)

#: samples of memory in one run
_SAMPLES = 10


def _make_client(url: str, dsn: str, schema: str) -> RuxaClient:
    limits = Limits(
        max_in_flight=1000, max_concurrent_creates=64, create_rate=RateLimit(700), query_rate=RateLimit(2000)
    )
    return RuxaClient(base_url=url, limits=limits, journal=PostgresJournal(dsn, schema=schema, wait=30.0))


async def _size(generation: Generation) -> int:
    """Stand for post-processing: fetch the outputs and return their size."""
    return sum(map(len, await generation.read()))


def _prompts(count: int) -> Iterator[NanoBanana]:
    return (NanoBanana(prompt=f"prompt {n}", key=f"key {n}") for n in range(count))


def _megabytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/status").read_text(encoding="ascii").split("VmRSS:")[1].split()
    return int(fields[0]) // 1024


def measure(dsn: str, prompts: int, *, workers: int = 4, shard: int = 100, window: int = 8) -> dict[str, Any]:
    """Buy *prompts* and fetch each output on the workers; the journal is in the database at *dsn*.

    ``memory`` has a row for each tenth of the prompts: the megabytes of the process with the script and the
    scheduler, then of each worker, of which the first sends.
    """
    schema = f"dask {prompts} {time.time():.0f}"
    memory: list[list[int]] = []
    with (
        Server(median=0.5, sigma=0.3, file_bytes=20_000, key="sk-benchmark") as server,
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address=":0",
            resources={"ruxa": 1},
            env={"RUXA_API_KEY": "sk-benchmark"},
        ) as cluster,
        Client(cluster) as client,
    ):
        pids = [os.getpid(), *(pid for _, pid in sorted(client.run(os.getpid).items()))]
        began, done, size = time.monotonic(), 0, 0
        for result in generate(
            _prompts(prompts),
            make_client=partial(_make_client, server.url, dsn, schema),
            run="prompts",
            client=client,
            post_process=_size,
            shard=shard,
            window=window,
        ):
            done += 1
            size += result.unwrap()
            if done % max(1, prompts // _SAMPLES) == 0:
                memory.append([_megabytes(pid) for pid in pids])
        seconds = time.monotonic() - began
        report = server.report()
    return {
        "prompts": prompts,
        "results": done,
        "megabytes_fetched": size // 1_000_000,
        "seconds": round(seconds, 1),
        "per_second": round(prompts / seconds, 1),
        "charged": report["charged"],
        "bought_twice": report["bought_twice"],
        "throttled": report["throttled"],
        "memory": memory,
    }
