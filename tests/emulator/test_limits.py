from __future__ import annotations

import math
from email.utils import parsedate_to_datetime
from itertools import pairwise
from typing import Any

import pytest
from emulator.asking import create, created, query, said, service_of
from hypothesis import example, given
from hypothesis import strategies as st

from ruxa_async.emulator import (
    Changing,
    EmulatorSettings,
    FixedWindow,
    LeakyBucket,
    Limit,
    Limiter,
    Service,
    ServiceReply,
    Shape,
    SlidingWindow,
    TokenBucket,
    parse_limit,
)
from ruxa_async.emulator._rate_limit_headers import RETRY_AFTER_FORMS

# Seconds; differences within this are rounding errors.
_SLACK = 1e-6
_GAPS = st.lists(st.one_of(st.floats(0, 5), st.floats(0, 0.05)), min_size=1, max_size=80)
_STARTS = st.sampled_from([0.0, 0.3, 1e5, 1.7e9])
_RATES = st.floats(0.1, 50)
_PERS = st.floats(0.1, 20)

_SHAPES = st.one_of(
    st.builds(TokenBucket, _RATES, st.integers(1, 20)),
    st.builds(LeakyBucket, _RATES, st.integers(0, 20)),
    st.builds(SlidingWindow, st.integers(1, 20), _PERS),
    st.builds(FixedWindow, st.integers(1, 20), _PERS, st.floats(-20, 20)),
)
# One or two changes within the time that the gaps cover, from any shape to any other.
_CHANGING = st.one_of(
    st.builds(Changing, _SHAPES, _SHAPES, st.floats(0, 20)),
    st.builds(
        Changing, st.builds(Changing, _SHAPES, _SHAPES, st.floats(0, 10)), _SHAPES, st.floats(10.5, 20)
    ),
    st.builds(
        Changing, _SHAPES, st.builds(Changing, _SHAPES, _SHAPES, st.floats(10.5, 20)), st.floats(0, 10)
    ),
)
_LIMITS: dict[str, Shape] = {
    "token": TokenBucket(0.4, 3),
    "leaky": LeakyBucket(0.4, 2),
    "sliding": SlidingWindow(3, 10.0),
    "fixed": FixedWindow(3, 10.0, 4.0),
    "changing": Changing(TokenBucket(50.0, 3), SlidingWindow(3, 10.0), 0.0),
}


def _accepted(limiter: Limiter, gaps: list[float], start: float = 0.0) -> list[float]:
    """Return the times at which a client is accepted that sends after each of *gaps*."""
    now, accepted = start, []
    for gap in gaps:
        now += gap
        if limiter.take(now) == 0.0:
            accepted.append(now)
    return accepted


def _answers(limiter: Limiter, *instants: float) -> list[Any]:
    return [pytest.approx(limiter.take(now), abs=1e-9) for now in instants]


def test_a_full_bucket_accepts_its_burst_and_then_returns_the_wait() -> None:
    bucket = TokenBucket(rate=2.0, burst=3).limiter()
    assert [bucket.take(0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_a_rejected_request_takes_no_token() -> None:
    bucket = TokenBucket(rate=2.0).limiter()
    assert bucket.take(0.0) == 0.0
    assert [bucket.take(0.25), bucket.take(0.25)] == [0.25, 0.25]
    assert bucket.take(0.5) == 0.0


def test_a_bucket_fills_no_further_than_its_burst() -> None:
    bucket = TokenBucket(rate=10.0, burst=2).limiter()
    assert [bucket.take(0.0), bucket.take(0.0)] == [0.0, 0.0]
    assert [bucket.take(100.0) for _ in range(3)] == [0.0, 0.0, pytest.approx(0.1)]


def test_a_leaky_bucket_accepts_one_more_than_its_burst_at_once() -> None:
    bucket = LeakyBucket(rate=2.0, burst=2).limiter()
    assert _answers(bucket, 0, 0, 0, 0, 0.25, 0.5, 0.5, 1.5, 1.5) == [0, 0, 0, 0.5, 0.25, 0, 0.5, 0, 0]
    assert _answers(LeakyBucket(rate=4.0).limiter(), 7, 7, 7.25, 7.25) == [0, 0.25, 0, 0.25]


def test_a_sliding_window_accepts_again_when_the_oldest_request_has_left_it() -> None:
    window = SlidingWindow(count=3, per=10.0).limiter()
    assert _answers(window, 0, 4, 9, 9, 9.5, 10, 10, 14, 14, 30) == [0, 0, 0, 1, 0.5, 0, 4, 0, 5, 0]


def test_fixed_windows_start_at_multiples_of_the_period_after_the_phase() -> None:
    window = FixedWindow(count=2, per=10.0).limiter()
    assert _answers(window, 9, 9.5, 9.5, 10, 10, 10, 39, 39, 39) == [0, 0, 0.5, 0, 0, 10, 0, 0, 1]
    shifted = FixedWindow(count=1, per=10.0, phase=3.0).limiter()
    assert _answers(shifted, 0, 1, 3, 4, 13) == [0, 2, 0, 9, 0]


def test_halving_a_rate_keeps_what_is_in_the_bucket() -> None:
    limiter = Changing(TokenBucket(4.0, 4), TokenBucket(2.0, 4), at=10.0).limiter()
    assert _answers(limiter, *[9.5] * 5) == [0, 0, 0, 0, 0.25]
    assert _answers(limiter, 10, 10, 10, 10.5, 10.5) == [0, 0, 0.5, 0, 0.5]


@pytest.mark.parametrize(
    ("before", "after", "first", "wait"),
    [
        # 4 of 4 are used at 9.5; by 10, a bucket of 2/s has gained one.
        (TokenBucket(2.0, 4), TokenBucket(5.0, 8), 5, 0.2),
        (TokenBucket(2.0, 4), LeakyBucket(5.0, 2), 0, 0.2),
        (TokenBucket(2.0, 4), SlidingWindow(4, 10.0), 1, 10.0),
        (TokenBucket(2.0, 4), FixedWindow(5, 4.0), 2, 2.0),
        (LeakyBucket(2.0, 3), TokenBucket(0.5, 2), 0, 2.0),
        # What a window counted is kept for as long as the new limit says.
        (SlidingWindow(4, 5.0), SlidingWindow(6, 2.0), 2, 1.5),
        (SlidingWindow(4, 5.0), SlidingWindow(3, 2.0), 0, 1.5),
        (SlidingWindow(4, 5.0), TokenBucket(1.0, 10), 6, 1.0),
        (SlidingWindow(4, 5.0), FixedWindow(6, 8.0), 2, 6.0),
        (SlidingWindow(4, 0.4), TokenBucket(1.0, 4), 4, 1.0),
        (FixedWindow(4, 8.0), FixedWindow(6, 8.0), 2, 6.0),
        (FixedWindow(4, 8.0), FixedWindow(2, 16.0), 0, 6.0),
        (FixedWindow(4, 8.0), SlidingWindow(5, 3.0), 1, 3.0),
        (FixedWindow(4, 8.0), LeakyBucket(2.0, 5), 2, 0.5),
        # This window ends as the limit changes, and that one begins then.
        (FixedWindow(4, 5.0), TokenBucket(2.0, 3), 3, 0.5),
        (TokenBucket(2.0, 4), FixedWindow(5, 2.5), 2, 2.5),
    ],
)
def test_what_counts_against_the_client_carries_over(
    before: Shape, after: Shape, first: int, wait: float
) -> None:
    limiter = Changing(before, after, at=10.0).limiter()
    assert _answers(limiter, *[9.5] * 4) == [0] * 4
    assert _answers(limiter, *[10.0] * (first + 1)) == [0] * first + [wait]


def test_the_wait_takes_a_coming_change_into_account() -> None:
    def waits(at: float) -> list[Any]:
        limiter = Changing(SlidingWindow(1, 60.0), TokenBucket(0.5, 1), at).limiter()
        # Rejected requests change nothing.
        return _answers(limiter, 0, 1, 2, 2)

    assert waits(10.0) == [0, 11, 10, 10]  # no token at 10, one at 12
    assert waits(60.0) == [0, 59, 58, 58]
    assert waits(70.0) == [0, 59, 58, 58]
    opening = Changing(TokenBucket(0.01), LeakyBucket(5.0, 8), at=10.0).limiter()
    assert _answers(opening, 0, 4, 10) == [0, 6, 0]


def test_a_limit_changes_more_than_once_and_without_a_request_in_between() -> None:
    steps = Changing(Changing(TokenBucket(4.0), TokenBucket(2.0), 10.0), TokenBucket(1.0), 20.0)
    again = Changing(TokenBucket(4.0), Changing(TokenBucket(2.0), TokenBucket(1.0), 20.0), 10.0)
    for each in (steps, again):
        assert _answers(each.limiter(), 0, 0, 15, 15, 25, 25) == [0, 0.25, 0, 0.5, 0, 1]
        assert _answers(each.limiter(), 25, 25) == [0, 1]
        assert each.allowance == 1
    with pytest.raises(ValueError, match="ever later"):
        Changing(steps, TokenBucket(1.0), 20.0)
    with pytest.raises(ValueError, match="ever later"):
        Changing(TokenBucket(1.0), steps, 15.0)


@pytest.mark.parametrize("limit", _LIMITS.values(), ids=_LIMITS)
def test_each_service_has_a_limiter_of_its_own(limit: Limit) -> None:
    assert isinstance(limit, Limit)
    assert limit.allowance == 3
    first, second = limit.limiter(), limit.limiter()
    assert [first.take(5.0) for _ in range(3)] == [second.take(5.0) for _ in range(3)] == [0.0] * 3
    assert first.take(5.0) == second.take(5.0) > 0


@given(rate=_RATES, burst=st.integers(1, 20), gaps=_GAPS)
def test_no_interval_accepts_more_than_burst_and_rate_allow(
    rate: float, burst: int, gaps: list[float]
) -> None:
    for limit in (TokenBucket(rate, burst), LeakyBucket(rate, burst - 1)):
        accepted = _accepted(limit.limiter(), gaps)
        for first in range(len(accepted)):
            for last in range(first, len(accepted)):
                assert last - first + 1 <= burst + rate * (accepted[last] - accepted[first]) + 1e-6


@given(rate=_RATES, burst=st.integers(0, 20), gaps=_GAPS)
def test_a_leaky_bucket_decides_as_nginx_does(rate: float, burst: int, gaps: list[float]) -> None:
    bucket, now, last, excess = LeakyBucket(rate, burst).limiter(), 0.0, None, 0.0
    for gap in gaps:
        now += gap
        # ngx_http_limit_req_lookup, with seconds and requests where it counts thousandths.
        would = 0.0 if last is None else max(0.0, excess - rate * (now - last) + 1)
        wait = bucket.take(now)
        if abs(would - burst) > _SLACK:  # else a rounding error decides
            assert (wait == 0.0) == (would <= burst)
        if wait == 0.0:
            last, excess = now, would


@given(count=st.integers(1, 20), per=_PERS, gaps=_GAPS, start=_STARTS)
def test_a_sliding_window_decides_as_a_plain_count_does(
    count: int, per: float, gaps: list[float], start: float
) -> None:
    window, now = SlidingWindow(count, per).limiter(), start
    accepted: list[float] = []
    for gap in gaps:
        now += gap
        free = sum(since > now - per for since in accepted) < count
        if window.take(now) == 0.0:
            assert free or sum(since > now - per + 1e-5 for since in accepted) < count
            accepted.append(now)
        else:
            assert not free


@given(count=st.integers(1, 20), per=_PERS, phase=st.floats(-20, 20), gaps=_GAPS)
@example(count=1, per=0.1, phase=0.0, gaps=[0.1, 0.1, 0.1])
def test_a_fixed_window_decides_as_a_plain_count_does(
    count: int, per: float, phase: float, gaps: list[float]
) -> None:
    accepted = _accepted(FixedWindow(count, per, phase).limiter(), gaps)
    # A request within a rounding error before a window belongs to it.
    seen = [math.floor((now - phase + 1e-9) / per) for now in accepted]
    asked = [math.floor((sum(gaps[: place + 1]) - phase + 1e-9) / per) for place in range(len(gaps))]
    for window in set(asked):
        assert seen.count(window) == min(count, asked.count(window))


@given(limit=st.one_of(_SHAPES, _CHANGING), gaps=_GAPS, start=_STARTS)
def test_the_returned_wait_is_exact(limit: Shape, gaps: list[float], start: float) -> None:
    limiter, now = limit.limiter(), start
    early = _SLACK * max(1.0, start / 1e6)  # the resolution of the clock, with a margin
    for gap in gaps:
        now += gap
        wait = limiter.take(now)
        assert 0.0 <= wait < math.inf
        if wait > 2 * early:
            assert limiter.take(now + wait / 2) == pytest.approx(wait / 2, abs=early)
            assert limiter.take(now + wait - early) > 0.0
        if wait:
            now += wait
            assert limiter.take(now) == 0.0


@given(limit=st.one_of(_SHAPES, _CHANGING), gaps=_GAPS)
def test_rejected_requests_change_nothing(limit: Shape, gaps: list[float]) -> None:
    patient, eager = limit.limiter(), limit.limiter()
    now = 0.0
    for earlier, later in pairwise([0.0, *gaps]):
        now += later
        wait = patient.take(now)
        assert eager.take(now) == pytest.approx(wait, abs=_SLACK)
        for _ in range(2 if wait > _SLACK else 0):
            now += min(earlier, wait / 3)
            eager.take(now)


@given(before=_SHAPES, after=_SHAPES, gaps=_GAPS)
def test_a_changed_limit_accepts_no_more_than_the_new_one(
    before: Shape, after: Shape, gaps: list[float]
) -> None:
    changed = Changing(before, after, at=0.0)
    fresh, carried = _accepted(after.limiter(), gaps), _accepted(changed.limiter(), gaps)
    assert carried == fresh  # nothing was used before
    busy = Changing(before, after, at=1.0).limiter()
    _accepted(busy, [0.05] * 19)
    used = _accepted(busy, gaps, start=1.0)
    assert len(used) <= len(_accepted(after.limiter(), gaps, start=1.0))


class _Counted(float):
    """An instant that counts the operations on it."""

    work = 0

    def __sub__(self, other: float) -> float:
        _Counted.work += 1
        return float(self) - other

    def __add__(self, other: float) -> float:
        _Counted.work += 1
        return float(self) + other


@pytest.mark.long
@pytest.mark.parametrize("limit", _LIMITS.values(), ids=_LIMITS)
def test_each_of_a_hundred_thousand_requests_takes_at_most_four_steps(limit: Shape) -> None:
    limiter = limit.limiter()
    _Counted.work = 0
    assert sum(limiter.take(_Counted(place / 1000)) == 0.0 for place in range(100_000)) in range(30, 45)
    assert _Counted.work <= 4 * 100_000


@pytest.mark.long
@pytest.mark.parametrize(
    ("limit", "asked"),
    [
        # While requests remain, for a log of any length.
        (SlidingWindow(100_000, 1e6), 100_000),
        (FixedWindow(100_000, 1e6), 100_000),
        (TokenBucket(1e-6, 100_000), 100_000),
        (Changing(SlidingWindow(50_000, 1e6), SlidingWindow(100_000, 1e6), 50.0), 100_000),
    ],
)
def test_large_limits_cost_no_more(limit: Shape, asked: int) -> None:
    limiter = limit.limiter()
    assert sum(limiter.take(place / 1000) == 0.0 for place in range(asked)) == asked
    assert limiter.take(asked / 1000) > 0


def _hint(service: Service, reply: ServiceReply, now: float) -> float:
    """Return the instant that *reply* to a request at *now* names for the next request."""
    headers, form = reply.headers, service.settings.retry_after
    if form == "date":
        return parsedate_to_datetime(headers["retry-after"]).timestamp() - service.epoch
    if form == "x-ratelimit-epoch":
        return float(headers["x-ratelimit-reset"]) - service.epoch
    if form == "body":
        return now + float(said(reply)["retry_after"])
    names = {"ms": "retry-after-ms", "x-ms": "x-ms-retry-after-ms", "x-ratelimit": "x-ratelimit-reset"}
    text = headers[names.get(form, "ratelimit" if form == "ratelimit" else "retry-after")]
    return now + float(text.rpartition("=")[2]) / (1000 if form.endswith("ms") else 1)


@pytest.mark.parametrize("form", [form for form in RETRY_AFTER_FORMS if form != "none"])
@pytest.mark.parametrize("limit", _LIMITS.values(), ids=_LIMITS)
def test_a_client_that_obeys_retry_after_is_accepted_and_waits_little_longer(limit: Limit, form: str) -> None:
    service = service_of(creates=limit, retry_after=form)
    accepted: list[float] = []
    now = 0.3141
    while len(accepted) < 8:
        reply = create(service, now)
        if reply.status == 200:
            accepted.append(now)
            continue
        later = _hint(service, reply, now)
        exact = limit.limiter()
        assert [exact.take(at) for at in accepted] == [0.0] * len(accepted)
        wait = exact.take(now)
        assert now + wait - 1e-6 <= later <= now + max(1.0, math.ceil(wait) + 1)
        now = later
    assert service.counts.creates_throttled <= 5


@pytest.mark.parametrize("limit", _LIMITS.values(), ids=_LIMITS)
def test_creates_and_queries_can_share_a_limit_of_any_shape(limit: Limit) -> None:
    service = service_of(creates=limit, shared=True, retry_after="float")
    task_id = created(service, 5.0)
    assert [query(service, 5.0, task_id).status for _ in range(2)] == [200, 200]
    creating, asking = create(service, 5.0), query(service, 5.0, task_id)
    assert (creating.status, asking.status) == (429, 429)
    assert creating.headers["retry-after"] == asking.headers["retry-after"]
    back = 5.0 + float(asking.headers["retry-after"])
    assert (query(service, back - 0.01, task_id).status, query(service, back, task_id).status) == (429, 200)
    assert (service.counts.creates_throttled, service.counts.queries_throttled) == (1, 2)


@pytest.mark.parametrize("form", RETRY_AFTER_FORMS)
def test_rejections_of_the_running_cap_name_no_wait_in_any_form(form: str) -> None:
    service = service_of(max_running=1, retry_after=form, creates=TokenBucket(100.0, 100))
    created(service, 0.0)
    reply = create(service, 1.0)
    assert reply.status == 429
    assert not [name for name in reply.headers if "retry" in name or "ratelimit" in name]
    assert "retry_after" not in said(reply)
    assert (service.counts.creates_capped, service.counts.creates_throttled) == (1, 1)


def test_the_running_cap_counts_only_tasks_that_run() -> None:
    service = service_of(max_running=2, creates=TokenBucket(1.0, 2), fail_share=1.0)
    task_id = created(service, 0.0)
    # Refused for its parameters, and rejected by the rate: neither runs.
    assert create(service, 0.0, prompt=" ").status == 422
    assert create(service, 0.0).status == 429
    assert service.running(0.0) == 1
    created(service, 5.0)
    assert create(service, 6.0).status == 429
    assert service.counts.creates_capped == 1
    assert query(service, 9.9, task_id).status == 200  # queries are not capped and end no task
    assert create(service, 9.9).status == 429
    # A failed task does not run, even if no query has shown its end.
    assert (service.running(10.0), create(service, 10.0).status) == (1, 200)
    assert [service.running(at) for at in (14.9, 15.0, 20.0)] == [2, 1, 0]


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        *[(TokenBucket, each) for each in [(0.0, 1), (-1.0, 1), (1.0, 0), (math.nan, 1), (math.inf, 1)]],
        *[(LeakyBucket, each) for each in [(0.0, 1), (1.0, -1)]],
        *[(SlidingWindow, each) for each in [(0, 1.0), (1, 0.0), (1, math.nan)]],
        *[(FixedWindow, each) for each in [(0, 1.0), (1, -1.0), (1, 1.0, math.inf)]],
        (Changing, (TokenBucket(1.0), TokenBucket(1.0), math.nan)),
    ],
)
def test_a_limit_that_accepts_nothing_or_everything_is_an_error(
    shape: Any, settings: tuple[Any, ...]
) -> None:
    with pytest.raises(ValueError):
        shape(*settings)


def test_a_cap_that_accepts_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="max_running"):
        EmulatorSettings(max_running=0)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("token:rate=2,burst=20", TokenBucket(2.0, 20)),
        (" token : rate = .5 ", None),
        ("token:rate=.5", TokenBucket(0.5)),
        ("leaky:burst=3,rate=2", LeakyBucket(2.0, 3)),
        ("sliding:count=20,per=10", SlidingWindow(20, 10.0)),
        ("fixed:count=20,per=10", FixedWindow(20, 10.0, 100.0)),
        ("fixed:count=20,per=10,phase=2.5", FixedWindow(20, 10.0, 102.5)),
        ("token:rate=50@30=leaky:rate=25", Changing(TokenBucket(50.0), LeakyBucket(25.0), 130.0)),
        (
            "token:rate=4@1=token:rate=2@2.5=sliding:count=1,per=2",
            Changing(Changing(TokenBucket(4.0), TokenBucket(2.0), 101.0), SlidingWindow(1, 2.0), 102.5),
        ),
    ],
)
def test_a_limit_is_read_from_text(text: str, limit: Shape | None) -> None:
    if limit is None:
        with pytest.raises(ValueError, match="use one of token"):
            parse_limit(text)
    else:
        assert parse_limit(text, start=100.0) == limit


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "use one of token, leaky, sliding, fixed"),
        ("token", "does not say rate"),
        ("sliding:", "does not say count and per"),
        ("token:2,20", "'2' in the limit 'token:2,20' is not known: use rate, burst"),
        ("leaky:rate=2,count=3", "'count' .* is not known: use rate, burst"),
        ("token:rate=2,rate=3", "'rate' stands twice"),
        ("token:rate=fast", "must be a number, not 'fast'"),
        ("sliding:count=1.5,per=1", "must be a whole number, not '1.5'"),
        ("token:rate=1@30", "is not a change: say @seconds=shape"),
        ("token:rate=1@soon=token:rate=2", "must be a number, not 'soon'"),
        ("token:rate=1@30=", "use one of token"),
        ("token:rate=1@5=token:rate=2@5=token:rate=1", "ever later"),
        ("token:rate=0", "'rate' must be a number above 0"),
    ],
)
def test_an_invalid_limit_is_refused_with_what_is_accepted(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_limit(text)
