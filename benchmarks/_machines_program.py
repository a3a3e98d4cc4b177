"""The client, the journal and the purchases of each process of the benchmark `machines`.

``taskiq worker benchmarks._machines_program:worker`` imports this module. All of it is made from a *job*, a
dictionary of JSON values: *through* (a key of `JOURNALS`, or ``taskiq``), *url*, *rate*, *burst*, *lease*,
*sqlite* (a path), *dsn*, *schema*, *redis* and *queue*.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

from taskiq import AsyncBroker
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from ruxa_async import Generation, Limits, NanoBanana, RateLimit, RuxaClient, SqliteJournal
from ruxa_async.integrations.taskiq import Purchases
from ruxa_async.journal import PostgresJournal

__all__ = ("JOB", "JOURNALS", "RUN", "Generate", "Job", "opened", "worker")

Job: TypeAlias = dict[str, Any]
#: Buys one request.
Generate: TypeAlias = Callable[[NanoBanana], Awaitable[Generation]]

RUN = "catalogue"
#: The environment variable that holds the job of a taskiq worker.
JOB = "RUXA_MACHINES_JOB"
_KEY = "sk-emulated"
#: seconds; longer than any measurement
_PATIENCE = 600.0

JOURNALS: Mapping[str, Callable[[Job], Any]] = {
    "no journal": lambda _: None,
    "SqliteJournal": lambda job: SqliteJournal(job["sqlite"]),
    "PostgresJournal": lambda job: PostgresJournal(
        job["dsn"], schema=job["schema"], lease=job["lease"], wait=math.inf
    ),
}


@asynccontextmanager
async def opened(job: Job) -> AsyncIterator[Generate]:
    """Open what *job* buys through; without a journal there is no run."""
    if job["through"] == "taskiq":
        broker = _broker(job)
        try:
            yield partial(_purchases(broker, job).generate, run=RUN, timeout=_PATIENCE)
        finally:
            await broker.shutdown()
    else:
        journal = JOURNALS[job["through"]](job)
        async with _client(job, journal) as ruxa:
            yield partial(ruxa.generate, run=None if journal is None else RUN)


def worker() -> AsyncBroker:
    """Return the broker of a worker process, which writes a line before it opens its client."""
    job = json.loads(os.environ[JOB])
    broker = _broker(job)
    _purchases(broker, job)
    return broker


def _purchases(broker: AsyncBroker, job: Job) -> Purchases:
    def make_client() -> RuxaClient:
        print(json.dumps({"opening": time.monotonic()}), flush=True)
        return _client(job, JOURNALS["PostgresJournal"](job))

    return Purchases(broker, make_client)


def _client(job: Job, journal: Any) -> RuxaClient:
    """Return a client that only the rate limit of *job* slows down."""
    return RuxaClient(
        api_key=_KEY,
        base_url=job["url"],
        journal=journal,
        limits=Limits(
            max_in_flight=2_000,
            create_rate=RateLimit(job["rate"], burst=job["burst"]),
            query_rate=RateLimit(10_000, burst=1_000),
        ),
    )


def _broker(job: Job) -> AsyncBroker:
    queue = job["queue"]
    broker = RedisStreamBroker(
        job["redis"], queue_name=queue, consumer_group_name=queue, consumer_id="0", maxlen=100_000
    )
    return broker.with_result_backend(RedisAsyncResultBackend(job["redis"], result_ex_time=600))
