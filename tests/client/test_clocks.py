"""A wrong clock, or one that is set while a client is open: dates of the service, times of outcomes."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any, TypeAlias

import anyio
import pytest
from harness import client_of, prompts, service_of

from ruxa_async import Limits, NanoBanana, Succeeded
from ruxa_async._client.clock import Clock
from ruxa_async.transports import Request, Response

HOUR = 3600.0
SERVICE_EPOCH = 1_700_000_000.0


class Dated:
    """A service that rejects its first creates until a date by its own clock."""

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
    """Set our clock an hour off that of the service."""
    off = float(request.param)
    monkeypatch.setattr(time, "time", lambda: SERVICE_EPOCH + off)
    return off


async def test_no_create_raises_because_our_clock_is_an_hour_off(our_clock: float) -> None:
    service = Dated(refused=3, wait=5.0, dated_queries=False)
    async with client_of(service) as ruxa:
        assert (await ruxa.submit(NanoBanana(prompt="a fox"))).task_id == "t-1"
    assert len(service.creates) == 4


async def test_an_earlier_date_header_sets_the_services_clock(our_clock: float) -> None:
    service = Dated(refused=1, wait=30.0, dated_queries=True)
    async with client_of(service, limits=Limits(max_concurrent_creates=1)) as ruxa:
        await anyio.sleep(2.25)
        await ruxa.status("t-0")
        await anyio.sleep(40.0)
        await ruxa.submit(NanoBanana(prompt="a fox"))
    first, second = service.creates
    assert 29.0 <= second - first <= 32.0


async def test_a_wait_above_the_maximum_by_the_services_clock_raises(our_clock: float) -> None:
    from ruxa_async import RateLimitedError

    service = Dated(refused=1, wait=HOUR, dated_queries=True)
    async with client_of(service) as ruxa:
        await ruxa.status("t-0")
        with pytest.raises(RateLimitedError) as caught:
            await ruxa.submit(NanoBanana(prompt="a fox"))
    assert caught.value.retry_after == pytest.approx(HOUR, abs=1.5)


# ---- times of outcomes


class SettableClock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


Clocks: TypeAlias = tuple[Clock, SettableClock, SettableClock]


@pytest.fixture
async def clocks() -> Clocks:
    """Return an open clock, and the wall clock and monotonic clock that it reads."""
    wall, monotonic = SettableClock(SERVICE_EPOCH), SettableClock(500.0)
    clock = Clock(wall, monotonic)
    clock.open()
    return clock, wall, monotonic


def advance(seconds: float, *clocks: SettableClock) -> None:
    for clock in clocks:
        clock.now += seconds


async def test_setting_the_wall_clock_moves_past_instants_and_changes_no_duration(clocks: Clocks) -> None:
    clock, wall, monotonic = clocks
    began = clock.now()
    await anyio.sleep(10)
    advance(10.0, wall, monotonic)
    assert clock.wall_now() == pytest.approx(SERVICE_EPOCH + 10)
    for step in (HOUR, -2 * HOUR):
        advance(step, wall)
        assert clock.wall_now() == pytest.approx(wall.now)
        assert clock.wall_now() - clock.wall(began) == pytest.approx(10)
        assert clock.steady(clock.now()) == pytest.approx(SERVICE_EPOCH + 10)


async def test_the_wall_clock_is_right_after_the_machine_slept(clocks: Clocks) -> None:
    clock, wall, _ = clocks
    advance(8 * HOUR, wall)  # the monotonic clock and the event loop's stand still meanwhile
    assert clock.wall_now() == pytest.approx(SERVICE_EPOCH + 8 * HOUR)


async def test_clock_steps_below_a_second_are_ignored(clocks: Clocks) -> None:
    clock, wall, _ = clocks
    before = clock.wall_now()
    advance(0.9, wall)
    assert clock.wall_now() == before
    advance(0.9, wall)
    assert clock.wall_now() == pytest.approx(wall.now)  # the sum is more than a second


async def test_finished_at_follows_a_wall_clock_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
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
