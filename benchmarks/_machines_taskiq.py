"""The broker and the purchases of taskiq's processes; ``taskiq worker`` imports `worker` from here."""

from __future__ import annotations

import json
import os
import time

from taskiq import AsyncBroker
from taskiq.serializers import JSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks._machines_program import JOB, JOURNALS, Job, make_client
from ruxa_async import RuxaClient
from ruxa_async.integrations.taskiq import Purchases

__all__ = ("make_broker", "make_purchases", "worker")


def worker() -> AsyncBroker:
    """Return the broker of a worker process."""
    job = json.loads(os.environ[JOB])
    broker = make_broker(job)
    make_purchases(broker, job)
    return broker


def make_purchases(broker: AsyncBroker, job: Job) -> Purchases:
    """Return the purchases of *job*; a worker writes a line before it opens its client."""

    def client() -> RuxaClient:
        print(json.dumps({"opening": time.monotonic()}), flush=True)
        return make_client(job, JOURNALS["PostgresJournal"](job))

    return Purchases(broker, client)


def make_broker(job: Job) -> AsyncBroker:
    """Return the broker of *job*, as docs/many-machines.md does."""
    queue = job["queue"]
    broker = RedisStreamBroker(
        job["redis"],
        queue_name=queue,
        consumer_group_name=queue,
        consumer_id="0",
        maxlen=100_000,
        max_connection_pool_size=10,
    )
    return broker.with_result_backend(
        RedisAsyncResultBackend(
            job["redis"], result_ex_time=600, serializer=JSONSerializer(), max_connection_pool_size=10
        )
    )
