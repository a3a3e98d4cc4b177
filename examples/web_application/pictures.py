"""What the web processes and the workers share: the queue, and the client that one of the workers opens."""

from __future__ import annotations

import math
import os

from taskiq.serializers import JSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from ruxa_async import RuxaClient
from ruxa_async.integrations.taskiq import Purchases
from ruxa_async.journal import PostgresJournal

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")

broker = RedisStreamBroker(
    REDIS_URL,
    queue_name="ruxa",
    consumer_group_name="ruxa",
    consumer_id="0",  # also what was sent before the first worker ran
    maxlen=100_000,  # Redis keeps messages that were processed, too
    max_connection_pool_size=10,  # to open one takes as long as ten messages
).with_result_backend(
    RedisAsyncResultBackend(
        REDIS_URL, result_ex_time=3600, serializer=JSONSerializer(), max_connection_pool_size=10
    )
)


def make_client() -> RuxaClient:
    """Make the client: in a worker only, where RUXA_API_KEY and RUXA_JOURNAL are set."""
    return RuxaClient(journal=PostgresJournal(os.environ["RUXA_JOURNAL"], wait=math.inf))


purchases = Purchases(broker, make_client)
