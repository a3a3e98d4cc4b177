"""The program that the web processes and the workers of a test import."""

from __future__ import annotations

import asyncio
import math
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import set_start_method
from pathlib import Path

from taskiq import AsyncBroker
from taskiq.cli.worker.cmd import WorkerCMD
from taskiq.serializers import JSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from ruxa_async import Generation, Limits, NanoBanana, RateLimit, RuxaClient
from ruxa_async.integrations.taskiq import Purchases
from ruxa_async.journal import PostgresJournal

RUN = "catalogue"


def redis_broker(url: str) -> AsyncBroker:
    """What docs/many-machines.md shows, on the databases of one test."""
    broker = RedisStreamBroker(
        url,
        queue_name="ruxa",
        consumer_group_name="ruxa",
        consumer_id="0",
        maxlen=10_000,
        max_connection_pool_size=10,
    )
    return broker.with_result_backend(
        RedisAsyncResultBackend(
            url, result_ex_time=600, serializer=JSONSerializer(), max_connection_pool_size=10
        )
    )


def client() -> RuxaClient:
    """The client of the worker process. RUXA_API_KEY and RUXA_BASE_URL are in its environment alone."""
    print("the client is made", flush=True)  # noqa: T201 - a test waits for it
    journal = PostgresJournal(
        os.environ["RUXA_JOURNAL"], schema=os.environ["JOURNAL_SCHEMA"], lease=1.0, wait=math.inf
    )
    return RuxaClient(journal=journal, limits=Limits(create_rate=RateLimit(20, burst=10)))


def purchases_on(broker: AsyncBroker) -> Purchases:
    return Purchases(broker, client, ask_again=1.0)


def worker() -> AsyncBroker:
    """The broker that ``taskiq worker`` starts."""
    broker = redis_broker(os.environ["REDIS_URL"])
    purchases_on(broker)
    return broker


def run_worker(environment: Mapping[str, str], output: Path) -> None:
    """Do what the command ``taskiq worker`` does, in a process that has imported everything."""
    os.setsid()
    os.environ.update(environment)
    set_start_method("fork", force=True)  # the default of Linux, for taskiq's own child
    with output.open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.exit(WorkerCMD().exec(["integrations.taskiq_program:worker", "--workers", "1"]))


def requests_of(keys: Sequence[str]) -> list[NanoBanana]:
    return [NanoBanana(prompt=f"prompt {key}", key=key) for key in keys]


def submit(url: str, keys: Sequence[str], answers: Path) -> None:
    """Ask for *keys* in a process of its own, and append each answer to the file *answers*."""
    asyncio.run(_submit(url, keys, answers))


async def _submit(url: str, keys: Sequence[str], answers: Path) -> None:
    broker = redis_broker(url)  # not started: that fails while Redis is away, and sending needs no start
    asked = purchases_on(broker).as_completed(requests_of(keys), run=RUN, window=20, timeout=100)
    with answers.open("a", encoding="utf-8") as file:
        async for request, answer in asked:
            said = answer.task_id if isinstance(answer, Generation) else type(answer).__name__
            file.write(f"{request.key}\t{said}\n")
            file.flush()
    await broker.shutdown()
