"""A configured limit and a journal that is slow: creates depart together, and none is rejected."""

from __future__ import annotations

import math

import anyio
import pytest
from harness import client_of, prompts, service_of

from ruxa_async import JobRecord, Limits, RateLimit
from ruxa_async.emulator import TokenBucket
from ruxa_async.journal import NullJournal


class CommitsTogether(NullJournal):
    """What was intended in the last *every* seconds becomes durable at once."""

    def __init__(self, every: float) -> None:
        self._every = every

    async def intend(self, job: JobRecord) -> None:
        now = anyio.current_time()
        await anyio.sleep((math.floor(now / self._every) + 1) * self._every - now)


@pytest.mark.alternate_backends
@pytest.mark.parametrize("every", [0.01, 0.1, 0.5])
async def test_creates_that_become_durable_together_stay_within_the_configured_limit(every: float) -> None:
    service = service_of(creates=TokenBucket(50, 10), latency=0.05)
    limits = Limits(create_rate=RateLimit(50, 1, burst=10), max_in_flight=1000)
    async with (
        client_of(service, limits=limits, journal=CommitsTogether(every)) as ruxa,
        ruxa.as_completed(prompts(200)) as outcomes,
    ):
        assert all([outcome.ok async for outcome in outcomes])
    instants = [entry.at for entry in service.ledger.entries]
    assert service.counts.throttled == 0
    assert max(sum(0 <= at - start < 1 for at in instants) for start in instants) <= 60


async def test_a_fast_journal_costs_no_throughput() -> None:
    service = service_of(creates=TokenBucket(50, 10), latency=0.05)
    limits = Limits(create_rate=RateLimit(50, 1, burst=10), max_in_flight=1000)
    async with (
        client_of(service, limits=limits, journal=CommitsTogether(0.004)) as ruxa,
        ruxa.as_completed(prompts(500)) as outcomes,
    ):
        assert all([outcome.ok async for outcome in outcomes])
    assert max(entry.at for entry in service.ledger.entries) <= (500 - 10) / 50 * 1.01
