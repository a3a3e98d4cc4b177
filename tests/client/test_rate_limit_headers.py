"""RateLimit headers on every reply: true ones avoid rejections, false ones delay nothing for long."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from harness import client_of, prompts, service_of

from ruxa_async import Limits
from ruxa_async.emulator import Changing, FixedWindow, Service, SlidingWindow, TokenBucket

TRUTHFUL = ["ratelimit", "draft7", "draft3"]
NUMBERS = ["x-ratelimit", "x-ratelimit-epoch", "x-ratelimit-ms"]


async def done(service: Service, count: int) -> tuple[float, int]:
    """Return when the last of *count* creates was accepted, and how many requests were refused."""
    async with (
        client_of(service, limits=Limits(max_in_flight=1000)) as ruxa,
        ruxa.as_completed(prompts(count)) as outcomes,
    ):
        good = [outcome.ok async for outcome in outcomes]
    assert sum(good) == count == service.ledger.charged
    # A rejected create pauses queries for a minute at most, until it is known whether they share a quota.
    assert anyio.current_time() < max(entry.at for entry in service.ledger.entries) + 10 + 60
    return max(entry.at for entry in service.ledger.entries), service.counts.throttled


@pytest.mark.long
@pytest.mark.alternate_backends
@pytest.mark.parametrize("form", TRUTHFUL)
@pytest.mark.parametrize("latency", [0.02, 0.2])
@pytest.mark.parametrize(("limit", "floor"), [(TokenBucket(50, 10), 2.2), (TokenBucket(5, 10), 22.0)])
async def test_a_token_bucket_in_the_headers_rejects_nothing(
    limit: TokenBucket, floor: float, latency: float, form: Any
) -> None:
    last, refused = await done(service_of(creates=limit, latency=latency, rate_limit_headers=form), 120)
    assert refused == 0
    assert last <= 1.15 * floor + 1


@pytest.mark.long
@pytest.mark.alternate_backends
@pytest.mark.parametrize("form", [*TRUTHFUL, *NUMBERS])
@pytest.mark.parametrize("latency", [0.02, 0.2])
@pytest.mark.parametrize(
    ("limit", "floor"), [(SlidingWindow(20, 10), 50.0), (FixedWindow(20, 10, 3.0), 43.0)]
)
async def test_a_window_in_the_headers_rejects_one_probe(
    limit: Any, floor: float, latency: float, form: Any
) -> None:
    last, refused = await done(service_of(creates=limit, latency=latency, rate_limit_headers=form), 120)
    assert refused == 1
    # Five windows end before the last create, and one after the rejected probe. Whole seconds are rounded up.
    assert last <= floor + 6 * (1.0 if form in NUMBERS else latency) + 1.5 + 6 * latency


@pytest.mark.parametrize("form", TRUTHFUL)
async def test_a_shared_quota_in_the_headers_is_kept_by_both_scopes(form: Any) -> None:
    service = service_of(creates=TokenBucket(50, 10), shared=True, latency=0.02, rate_limit_headers=form)
    last, refused = await done(service, 100)
    assert refused == 0
    assert last <= 4.0


async def test_a_changing_limit_does_not_cost_a_rejection_for_each_request() -> None:
    limit = Changing(TokenBucket(10, 10), TokenBucket(5, 10), at=10.0)
    last, refused = await done(service_of(creates=limit, latency=0.02, rate_limit_headers="ratelimit"), 150)
    assert refused <= 1
    assert last <= 20.0


@pytest.mark.alternate_backends
@pytest.mark.parametrize("form", ["ratelimit", "x-ratelimit"])
@pytest.mark.parametrize("lie", ["empty", "plenty", "high", "low"])
@pytest.mark.parametrize("latency", [0.02, 0.2])
@pytest.mark.parametrize(
    ("limit", "floor"),
    [(TokenBucket(50, 10), 2.2), (TokenBucket(5, 10), 22.0), (SlidingWindow(20, 10), 50.0)],
)
async def test_false_headers_delay_no_task_beyond_its_bound(
    limit: Any, floor: float, latency: float, lie: Any, form: Any
) -> None:
    service = service_of(
        creates=limit, latency=latency, rate_limit_headers=form, false_rate_limit_headers=lie
    )
    last, refused = await done(service, 120)
    assert last <= 2 * floor + 60  # a minute is the most that a lie costs at a time
    assert refused <= 120
