"""An unknown limit of running tasks, end to end: client and emulator, in virtual time."""

from __future__ import annotations

import anyio
import pytest
from harness import client_of, prompts, service_of

from ruxa_async import Limits
from ruxa_async.emulator import Durations, TokenBucket

pytestmark = pytest.mark.anyio

MANY = Limits(max_in_flight=1000)


async def test_an_unknown_concurrency_limit_is_found_and_filled() -> None:
    service = service_of(max_running=20, latency=0.001, image=Durations(10.0, 0.2))
    async with client_of(service, limits=MANY) as ruxa, ruxa.as_completed(prompts(200)) as outcomes:
        assert [outcome.ok async for outcome in outcomes] == [True] * 200
    assert anyio.current_time() <= 1.15 * 200 * 10.2 / 20
    assert (
        service.counts.creates_throttled <= 20
    )  # to find it, to prove it, and the probes; trio shuffles: 16 or 17
    assert service.ledger.charged == 200


async def test_a_concurrency_limit_is_told_apart_from_a_rate_limit() -> None:
    service = service_of(max_running=20, latency=0.01, creates=TokenBucket(10, 10), image=Durations(3.5, 0.2))
    async with client_of(service, limits=MANY) as ruxa, ruxa.as_completed(prompts(200)) as outcomes:
        assert [outcome.ok async for outcome in outcomes] == [True] * 200
    assert anyio.current_time() <= 1.15 * 200 * 3.57 / 20
    assert service.counts.creates_throttled <= 20
