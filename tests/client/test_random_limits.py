"""Random limits, round-trip times and hints: every task is delivered once and in time."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from harness import client_of, prompts, service_of
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ruxa_async import Limits
from ruxa_async.emulator import Durations, FixedWindow, LeakyBucket, Service, SlidingWindow, TokenBucket
from ruxa_async.testing import virtual_time

#: The longest that a run may take, beside what its limit alone makes it take. Half of all such runs take less
#: than 1.2 times, the worst are windows of ten seconds whose ends nobody tells.
WORST = 6.0


@st.composite
def limited_services(draw: st.DrawFn) -> tuple[dict[str, Any], int, float]:
    """Draw the settings of a service, a number of tasks, and the seconds that its limit needs for them."""
    rate = draw(st.sampled_from((2, 5, 10, 50, 100)), label="rate")
    burst = draw(st.sampled_from((1, 2, 5, 10, 50)), label="burst")
    per = draw(st.sampled_from((1, 2, 10)), label="per")
    limit = draw(
        st.sampled_from(
            (
                TokenBucket(rate, burst),
                LeakyBucket(rate, burst),
                SlidingWindow(rate * per, per),
                FixedWindow(rate * per, per),
            )
        ),
        label="limit",
    )
    drawn: dict[str, Any] = {
        "creates": limit,
        "shared": draw(st.booleans(), label="shared"),
        "latency": draw(st.sampled_from((0.001, 0.02, 0.1, 0.3)), label="latency"),
        "retry_after": draw(st.sampled_from(("none", "seconds", "ms")), label="hint"),
        "image": Durations(draw(st.sampled_from((1.0, 10.0)), label="duration"), 0.3),
    }
    if not drawn["shared"] and draw(st.booleans(), label="queries limited"):
        drawn["queries"] = TokenBucket(10, 10)
    count = min(4 * rate + burst, 80)
    queries = 3 * count if drawn["shared"] else count if "queries" in drawn else 0
    floor = (count + queries) / min(rate, 10 if "queries" in drawn else rate) + drawn["image"].median
    return drawn, count, floor


async def delivered(service: Service, count: int) -> tuple[int, float]:
    """Return how many of *count* tasks succeeded at *service*, and after how many seconds the last one."""
    good = 0
    async with (
        client_of(service, limits=Limits(max_in_flight=1000)) as ruxa,
        ruxa.as_completed(prompts(count)) as outcomes,
    ):
        async for outcome in outcomes:
            good += outcome.ok
        return good, anyio.current_time()


@pytest.mark.long
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(drawn=limited_services())
@settings(max_examples=30, deadline=None, derandomize=True, phases=(Phase.generate,))
def test_every_task_is_delivered_once_and_in_time_under_any_limit(
    backend: str, drawn: tuple[dict[str, Any], int, float]
) -> None:
    options, count, floor = drawn
    service = service_of(**options)
    name, backend_options = virtual_time(backend)
    good, seconds = anyio.run(delivered, service, count, backend=name, backend_options=backend_options)
    assert good == count == service.ledger.charged
    assert not service.ledger.duplicates()
    assert seconds <= WORST * floor + 15
