"""Limits that an earlier run had found: where a new run begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from engine import limits_sim
from engine.limits_sim import Run, simulate

from ruxa_async import Limits, RateLimit
from ruxa_async._engine.rate_limits.discovery import Discovery
from ruxa_async._engine.rate_limits.scopes import Scopes
from ruxa_async.emulator import FixedWindow, Limiter, SlidingWindow, TokenBucket

LIMITS: list[tuple[str, Callable[[], Limiter], int]] = [
    ("TB 20/10", lambda: TokenBucket(20, 10).limiter(), 300),
    ("TB 5/5", lambda: TokenBucket(5, 5).limiter(), 200),
    ("TB 2/1", lambda: TokenBucket(2, 1).limiter(), 100),
    ("sliding 20 in 10 s", lambda: SlidingWindow(20, 10).limiter(), 100),
    ("fixed 20 in 10 s", lambda: FixedWindow(20, 10, phase=-3).limiter(), 100),
]


def used_up(limit: Limiter) -> Limiter:
    """Return *limit* with its quota used up."""
    while not limit.take(0.0):
        pass
    return limit


def again(first: Run, limit: Limiter, count: int, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run at *limit*, beginning with what *first* has found."""
    known = first.discovery.export()
    monkeypatch.setattr(limits_sim, "Discovery", lambda: Discovery.restored(known, 0.0))
    try:
        return simulate(limit, rtt=0.05, count=count)
    finally:
        monkeypatch.undo()


@pytest.mark.parametrize(("fresh", "count"), [each[1:] for each in LIMITS], ids=[each[0] for each in LIMITS])
def test_a_second_run_has_few_rejections_at_a_quota_that_the_first_used_up(
    fresh: Callable[[], Limiter], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = simulate(fresh(), rtt=0.05, count=count)
    second = again(first, used_up(fresh()), count, monkeypatch)
    unknowing = simulate(used_up(fresh()), rtt=0.05, count=count)
    assert len(second.refused) <= 10
    assert len(second.refused) < len(unknowing.refused)
    assert second.passed[-1] <= 1.25 * unknowing.passed[-1]  # a rate does not say how much a window holds


def test_limit_that_was_raised_meanwhile_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    first = simulate(TokenBucket(5, 5).limiter(), rtt=0.05, count=100)
    second = again(first, TokenBucket(20, 10).limiter(), 600, monkeypatch)
    assert second.discovery.rate == pytest.approx(20, rel=0.05)


def test_limit_that_fell_meanwhile_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    first = simulate(TokenBucket(20, 10).limiter(), rtt=0.05, count=300)
    second = again(first, TokenBucket(5, 5).limiter(), 300, monkeypatch)
    assert second.discovery.rate == pytest.approx(5, rel=0.05)
    assert len(second.refused) <= 30


def test_without_an_estimate_nothing_is_exported() -> None:
    assert Discovery().export() is None
    assert Discovery.restored(None, 0.0).ready_at(0.0) == 0.0


@pytest.mark.parametrize("known", [{"rate": -1.0}, {"rate": float("nan")}])
def test_a_rate_that_no_run_exports_raises_value_error(known: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="is not a rate limit"):
        Discovery.restored(known, 0.0)


def rates(limits: Limits | None = None) -> Scopes:
    return Scopes(limits or Limits(), longest_query_wait=600.0)


FOUND: Any = {"rate": 4.0}


def test_one_quota_stays_one() -> None:
    later = rates()
    later.load({"shared": True, "create": FOUND, "query": FOUND}, 10.0)
    assert later.shares_limited_quota
    assert (later.create.rate, later.query.rate) == (4.0, 4.0)
    later.on_send("create", 10.25, "job")
    assert later.ready_at("query", 10.25) == pytest.approx(10.556, abs=0.001)
    assert later.export() == {"shared": True, "create": FOUND, "query": FOUND}


def test_two_quotas_stay_two() -> None:
    later = rates()
    later.load({"shared": False, "create": FOUND, "query": None}, 10.0)
    assert not later.shares_limited_quota
    assert (later.create.rate, later.query.rate) == (4.0, None)
    assert later.ready_at("query", 10.0) == 10.0
    assert later.ready_at("create", 10.0) == pytest.approx(10.278, abs=0.001)  # none of the quota remains


def test_nothing_found_binds_nothing() -> None:
    later = rates()
    later.load(rates().export(), 0.0)
    assert not later.shares_limited_quota
    assert later.create.rate is None


def test_a_configured_limit_overrides_a_remembered_one() -> None:
    configured = rates(Limits(create_rate=RateLimit(7)))
    configured.load({"shared": True, "create": FOUND, "query": FOUND}, 0.0)
    assert (configured.create.rate, configured.query.rate) == (7.0, None)
    assert configured.export()["create"] is None
