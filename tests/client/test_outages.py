"""Outages: creates wait, few outcomes are unknown, nothing is lost, and full speed returns."""

from __future__ import annotations

import math

import anyio
import pytest
from harness import client_of, prompts, service_of
from outages import KINDS, Observer, lasting

from ruxa_async import Limits, NanoBanana, NotSentError, Outcome, RateLimit, Retries, SubmissionUnknownError
from ruxa_async.emulator import Durations, Fault, Service, TokenBucket
from ruxa_async.events import CircuitClosed, CircuitOpened

TASKS, RATE = 300, 50
LIMITS = Limits(max_in_flight=TASKS, create_rate=RateLimit(RATE, burst=20))
#: Beginnings, in seconds: without an outage the creates take about 6 s.
BEGINNINGS = {"start": 0.0, "middle": 2.0, "end": 5.0}


def failing(kind: str, begin: float, seconds: float, *, only_creates: bool = False) -> Service:
    """Return a service of 50 creates a second that fails for *seconds* from *begin* on."""
    faults = lasting(KINDS[kind], begin, seconds)[: 1 if only_creates else 2]
    return service_of(image=Durations(1.0, 0.2), creates=TokenBucket(RATE, 20), latency=0.05, faults=faults)


async def bought(service: Service, observer: Observer) -> list[Outcome]:
    async with (
        client_of(service, limits=LIMITS, on_event=observer.on_event) as ruxa,
        ruxa.as_completed(prompts(TASKS)) as outcomes,
    ):
        return [outcome async for outcome in outcomes]


@pytest.mark.alternate_backends
@pytest.mark.parametrize("seconds", [2.0, 6.0, 120.0])
@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("kind", KINDS)
async def test_an_outage_leaves_few_creates_of_unknown_outcome(
    kind: str, beginning: str, seconds: float
) -> None:
    begin, observer = BEGINNINGS[beginning], Observer()
    service = failing(kind, begin, seconds)
    outcomes = await bought(service, observer)
    unknown = [each for each in outcomes if not each.ok]
    observer.check()
    assert observer.outages
    assert all(isinstance(each.error, SubmissionUnknownError) for each in unknown)
    assert len(unknown) == observer.unknown <= 24
    assert len(outcomes) == TASKS
    delivered = {each.task_id or "" for each in outcomes if each.ok}
    assert len(service.ledger.missing(delivered)) <= len(unknown)
    assert service.ledger.duplicates() == []


@pytest.mark.alternate_backends
@pytest.mark.parametrize("seconds", [2.0, 6.0, 120.0])
@pytest.mark.parametrize("kind", KINDS)
async def test_full_speed_is_back_two_seconds_after_the_outage_where_tasks_run(
    kind: str, seconds: float
) -> None:
    observer = Observer()
    began = anyio.current_time()
    await bought(failing(kind, 2.0, seconds), observer)
    back = began + 2.0 + seconds + 2.0
    assert sum(back <= at < back + 1.0 for at in observer.accepted_at) >= 0.9 * RATE


@pytest.mark.parametrize("seconds", [6.0, 120.0])
async def test_full_speed_is_back_two_seconds_after_the_first_answer_where_no_task_runs(
    seconds: float,
) -> None:
    """There is no task to query, so a probe finds that the service is back."""
    observer = Observer()
    await bought(failing("bad_gateway", 0.0, seconds), observer)
    back = observer.outages[0].ended + 2.0
    assert sum(back <= at < back + 1.0 for at in observer.accepted_at) >= 0.9 * RATE


async def test_probes_become_rare_while_only_creates_fail() -> None:
    """Queries are answered, so they do not show whether creates are."""
    observer = Observer()
    service = failing("bad_gateway", 2.0, 600.0, only_creates=True)
    async with (
        client_of(
            service, limits=LIMITS, on_event=observer.on_event, retries=Retries(throttled_timeout=1e6)
        ) as ruxa,
        ruxa.as_completed(prompts(TASKS)) as outcomes,
    ):
        assert len([outcome async for outcome in outcomes]) == TASKS
    (outage,) = observer.outages
    # At once, after 1, 3, 7, 15, 31 and 63 s, then each minute; the last one is accepted.
    assert outage.probes == 1 + 6 + 9
    assert observer.unknown == outage.on_wire + outage.probes - 1


async def test_a_single_unknown_outcome_delays_no_other_create() -> None:
    times = []
    for faults in ((), (Fault("reset_after", nth=(100,)),)):
        service = service_of(
            image=Durations(1.0, 0.0), creates=TokenBucket(RATE, 20), latency=0.05, faults=faults
        )
        began = anyio.current_time()
        assert len(await bought(service, Observer())) == TASKS
        times.append(anyio.current_time() - began)
    assert times[1] == pytest.approx(times[0], abs=0.1)


async def test_creates_that_waited_for_throttled_timeout_fail_unsent() -> None:
    service = failing("bad_gateway", 0.0, math.inf)
    async with client_of(service, retries=Retries(throttled_timeout=60)) as ruxa:
        async with anyio.create_task_group() as tg:
            errors: list[Exception] = []

            async def generate(number: int) -> None:
                try:
                    await ruxa.generate(NanoBanana(prompt=f"prompt {number}"))
                except (SubmissionUnknownError, NotSentError) as exc:
                    errors.append(exc)

            for number in range(20):
                tg.start_soon(generate, number)
        unsent = [error for error in errors if isinstance(error, NotSentError)]
        assert len(errors) == 20
        assert len(unsent) == 20 - ruxa.stats().unknown
        assert len(unsent) >= 1
        assert "the service is failing" in str(unsent[0])
        assert "nothing was charged" in str(unsent[0])
    assert service.ledger.charged == 0


async def test_events_and_stats_say_that_the_service_is_failing() -> None:
    events: list[object] = []
    service = failing("bad_gateway", 2.0, 6.0)
    async with client_of(service, limits=LIMITS, on_event=events.append) as ruxa:
        seen = []
        async with ruxa.as_completed(prompts(TASKS)) as outcomes:
            async for _ in outcomes:
                stats = ruxa.stats()
                seen.append((stats.is_circuit_open, stats.outages))
        stats = ruxa.stats()
    (opened,) = (event for event in events if isinstance(event, CircuitOpened))
    (closed,) = (event for event in events if isinstance(event, CircuitClosed))
    assert "502" in str(opened.error)
    assert closed.seconds == pytest.approx(closed.at - opened.at)
    assert (stats.is_circuit_open, stats.outages, stats.outage_seconds) == (False, 1, closed.seconds)
    assert (True, 1) in seen
