from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruxa_async.emulator.limits import Limit, TokenBucket

_GAPS = st.lists(st.floats(0, 5, allow_nan=False), min_size=1, max_size=80)


def test_a_rested_bucket_admits_its_burst_and_then_says_how_long() -> None:
    bucket = TokenBucket(rate=2.0, burst=3).limiter()
    assert [bucket.take(0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_a_refused_request_takes_no_token() -> None:
    bucket = TokenBucket(rate=2.0).limiter()
    assert bucket.take(0.0) == 0.0
    assert [bucket.take(0.25), bucket.take(0.25)] == [0.25, 0.25]
    assert bucket.take(0.5) == 0.0


def test_a_bucket_fills_no_further_than_its_burst() -> None:
    bucket = TokenBucket(rate=10.0, burst=2).limiter()
    assert [bucket.take(0.0), bucket.take(0.0)] == [0.0, 0.0]
    assert [bucket.take(100.0) for _ in range(3)] == [0.0, 0.0, pytest.approx(0.1)]


def test_each_service_has_a_bucket_of_its_own() -> None:
    limit: Limit = TokenBucket(rate=1.0)
    assert limit.allowance == 1
    assert limit.limiter().take(0.0) == limit.limiter().take(0.0) == 0.0


@given(rate=st.floats(0.1, 50), burst=st.integers(1, 20), gaps=_GAPS)
def test_no_stretch_of_time_admits_more_than_burst_and_rate_allow(
    rate: float, burst: int, gaps: list[float]
) -> None:
    bucket, now, admitted = TokenBucket(rate, burst).limiter(), 0.0, []
    for gap in gaps:
        now += gap
        if bucket.take(now) == 0.0:
            admitted.append(now)
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            assert last - first + 1 <= burst + rate * (admitted[last] - admitted[first]) + 1e-6


@given(rate=st.floats(0.1, 50), burst=st.integers(1, 20), gaps=_GAPS)
def test_who_comes_back_when_told_is_admitted(rate: float, burst: int, gaps: list[float]) -> None:
    bucket, now = TokenBucket(rate, burst).limiter(), 0.0
    for gap in gaps:
        now += gap
        wait = bucket.take(now)
        if wait:
            now += wait
            assert bucket.take(now) == 0.0


@pytest.mark.parametrize("settings", [(0.0, 1), (-1.0, 1), (1.0, 0)])
def test_a_bucket_that_admits_nothing_is_an_error(settings: tuple[float, int]) -> None:
    with pytest.raises(ValueError):
        TokenBucket(*settings)
