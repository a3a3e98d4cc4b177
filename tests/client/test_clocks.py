"""A clock that is wrong, or is set while a client is open: what the service names, and what outcomes say."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import anyio
import pytest
from harness import client_of, prompts, service_of

from ruxa_async import Limits, NanoBanana, Succeeded
from ruxa_async._client.job import ClientJob
from ruxa_async._client.outcomes import Delivery
from ruxa_async._engine.engine import Engine
from ruxa_async.settings import Polling, Retries
from ruxa_async.transports import Request, Response

HOUR = 3600.0
SERVICE_EPOCH = 1_700_000_000.0


class Dated:
    """A service that refuses its first creates until a date that it names, by its own clock."""

    def __init__(self, *, refused: int, wait: float, dated_queries: bool) -> None:
        self._refused = refused
        self._wait = wait
        self._dated = dated_queries
        self.creates: list[float] = []

    def __call__(self, request: Request) -> Response:
        now = anyio.current_time()
        clock = SERVICE_EPOCH + now
        if request.method == "POST":
            self.creates.append(now)
            if len(self.creates) <= self._refused:
                headers = {"retry-after": formatdate(clock + self._wait, usegmt=True)}
                return Response(429, headers, b'{"code":429}')
            return Response(200, {}, b'{"code":200,"data":{"taskId":"t-1"}}')
        headers = {"date": formatdate(clock, usegmt=True)} if self._dated else {}
        return Response(200, headers, b'{"code":200,"data":{"taskId":"t-1","state":"generating"}}')


@pytest.fixture(params=[-HOUR, 0.0, HOUR], ids=["slow", "right", "fast"])
def our_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Have our clock be an hour off that of the service."""
    off = float(request.param)
    monkeypatch.setattr(time, "time", lambda: SERVICE_EPOCH + off)
    return off


async def test_a_clock_that_is_an_hour_off_makes_no_create_raise(our_clock: float) -> None:
    service = Dated(refused=3, wait=5.0, dated_queries=False)
    async with client_of(service) as ruxa:
        assert (await ruxa.submit(NanoBanana(prompt="a fox"))).task_id == "t-1"
    assert len(service.creates) == 4


async def test_a_date_that_the_service_sent_before_says_what_its_clock_shows(our_clock: float) -> None:
    service = Dated(refused=1, wait=30.0, dated_queries=True)
    async with client_of(service, limits=Limits(max_concurrent_creates=1)) as ruxa:
        await anyio.sleep(2.25)
        await ruxa.status("t-0")
        await anyio.sleep(40.0)
        await ruxa.submit(NanoBanana(prompt="a fox"))
    first, second = service.creates
    assert 29.0 <= second - first <= 32.0


async def test_a_wait_that_is_too_long_by_the_services_own_clock_still_raises(our_clock: float) -> None:
    from ruxa_async import RateLimitedError

    service = Dated(refused=1, wait=HOUR, dated_queries=True)
    async with client_of(service) as ruxa:
        await ruxa.status("t-0")
        with pytest.raises(RateLimitedError) as caught:
            await ruxa.submit(NanoBanana(prompt="a fox"))
    assert caught.value.retry_after == pytest.approx(HOUR, abs=1.5)


# What outcomes say


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def delivery() -> tuple[Delivery, Clock, Clock]:
    wall, monotonic = Clock(SERVICE_EPOCH), Clock(500.0)
    engine: Engine[ClientJob] = Engine(Limits(), Polling(), Retries())
    return Delivery(engine, None, wall, monotonic), wall, monotonic


def advance(seconds: float, *clocks: Clock) -> None:
    for clock in clocks:
        clock.now += seconds


async def test_a_clock_that_is_set_is_followed_and_no_duration_changes(
    delivery: tuple[Delivery, Clock, Clock],
) -> None:
    telling, wall, monotonic = delivery
    telling.open()
    began = telling.now()
    await anyio.sleep(10)
    advance(10.0, wall, monotonic)
    assert telling.wall_now() == pytest.approx(SERVICE_EPOCH + 10)
    for set_by in (HOUR, -2 * HOUR):
        advance(set_by, wall)
        assert telling.wall_now() == pytest.approx(wall.now)
        assert telling.wall_now() - telling.wall(began) == pytest.approx(10)
        assert telling.steady(telling.now()) == pytest.approx(SERVICE_EPOCH + 10)


async def test_a_machine_that_slept_is_followed(delivery: tuple[Delivery, Clock, Clock]) -> None:
    telling, wall, _ = delivery
    telling.open()
    advance(8 * HOUR, wall)  # the monotonic clock stands still meanwhile, and so does that of the event loop
    assert telling.wall_now() == pytest.approx(SERVICE_EPOCH + 8 * HOUR)


async def test_readings_that_differ_by_less_than_a_second_change_nothing(
    delivery: tuple[Delivery, Clock, Clock],
) -> None:
    telling, wall, _ = delivery
    telling.open()
    before = telling.wall_now()
    advance(0.9, wall)
    assert telling.wall_now() == before
    advance(0.9, wall)
    assert telling.wall_now() == pytest.approx(wall.now)  # together they make more than a second


async def test_an_outcome_ends_by_the_clock_of_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    real, set_by = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + set_by)
    began = time.time()
    outcomes: list[Any] = []
    async with client_of(service_of()) as ruxa, ruxa.as_completed(prompts(2)) as completions:
        set_by = 10 * HOUR
        outcomes.extend([outcome async for outcome in completions])
    for outcome in outcomes:
        assert isinstance(outcome, Succeeded)
        assert 9 * HOUR < outcome.finished_at - began < 11 * HOUR
        assert 9 <= outcome.finished_at - outcome.submitted_at < 60
