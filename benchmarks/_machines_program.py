"""The client of each process of the benchmark `machines`, and what taskiq's processes have in common.

Everything is made from a *job*, a dictionary of JSON values: *through* (a key of `JOURNALS`, or ``taskiq``),
*url*, *rate*, *burst*, *lease*, *sqlite* (a path), *dsn*, *schema*, *redis* and *queue*.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

from ruxa_async import Generation, Limits, NanoBanana, RateLimit, RuxaClient, SqliteJournal
from ruxa_async.journal import PostgresJournal

__all__ = ("JOB", "JOURNALS", "Generate", "Job", "make_client", "opened")

Job: TypeAlias = dict[str, Any]
#: Buys one request.
Generate: TypeAlias = Callable[[NanoBanana], Awaitable[Generation]]

#: The environment variable that holds the job of a taskiq worker.
JOB = "RUXA_MACHINES_JOB"
_RUN = "catalogue"
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
        # Its import takes seconds, which the other processes need not wait for.
        from benchmarks._machines_taskiq import make_broker, make_purchases

        broker = make_broker(job)
        try:
            yield partial(make_purchases(broker, job).generate, run=_RUN, timeout=_PATIENCE)
        finally:
            await broker.shutdown()
    else:
        journal = JOURNALS[job["through"]](job)
        async with make_client(job, journal) as ruxa:
            yield partial(ruxa.generate, run=None if journal is None else _RUN)


def make_client(job: Job, journal: Any) -> RuxaClient:
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
