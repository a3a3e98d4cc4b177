from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from emulator.asking import create, service_of

from ruxa_async.emulator import Changing, FixedWindow, LeakyBucket, SlidingWindow, TokenBucket
from ruxa_async.emulator._limit_state import QuotaStatus
from ruxa_async.emulator._rate_limit_headers import (
    RATE_LIMIT_HEADERS_FORMS,
    RETRY_AFTER_FORMS,
    rate_limit_headers,
    retry_hint,
)

_RESET = {"x-ratelimit-limit": "5", "x-ratelimit-remaining": "0"}
_FORMS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "none": ({}, {}),
    "seconds": ({"retry-after": "2"}, {}),
    "float": ({"retry-after": "1.251"}, {}),
    "ms": ({"retry-after-ms": "1251"}, {}),
    "x-ms": ({"x-ms-retry-after-ms": "1251"}, {}),
    # It is 0.9 s past a full second; 1.2501 s later it is past the second next one.
    "date": ({"retry-after": "Tue, 14 Nov 2023 22:13:23 GMT", "date": "Tue, 14 Nov 2023 22:13:20 GMT"}, {}),
    "ratelimit": ({"ratelimit": '"default";r=0;t=2'}, {}),
    "x-ratelimit": ({**_RESET, "x-ratelimit-reset": "2"}, {}),
    "x-ratelimit-epoch": ({**_RESET, "x-ratelimit-reset": "1700000003"}, {}),
    "body": ({}, {"retry_after": 1.251}),
}


@pytest.mark.parametrize("form", RETRY_AFTER_FORMS)
def test_every_form_of_retry_after_names_a_wait_rounded_up(form: Any) -> None:
    assert retry_hint(form, 1.2501, 1_700_000_000.9, allowance=5) == _FORMS[form]


_NOW = "Tue, 14 Nov 2023 22:13:20 GMT"
_LEFT = {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "5"}
_FIELDS: dict[str, dict[str, str]] = {
    "none": {},
    "ratelimit": {"ratelimit-policy": '"default";q=20;w=10', "ratelimit": '"default";r=5;t=2'},
    "draft7": {"ratelimit-policy": "20;w=10", "ratelimit": "limit=20, remaining=5, reset=2"},
    "draft3": {
        "ratelimit-limit": "20, 20;w=10",
        "ratelimit-remaining": "5",
        "ratelimit-reset": "2",
    },
    "x-ratelimit": {**_LEFT, "x-ratelimit-reset": "2", "date": _NOW},
    "x-ratelimit-epoch": {**_LEFT, "x-ratelimit-reset": "1700000003", "date": _NOW},
    "x-ratelimit-ms": {**_LEFT, "x-ratelimit-reset": "1700000002151", "date": _NOW},
}


@pytest.mark.parametrize("form", RATE_LIMIT_HEADERS_FORMS)
def test_every_form_of_rate_limit_headers_states_what_remains(form: Any) -> None:
    assert rate_limit_headers(form, QuotaStatus(20, 10, 5, 1.2501), 1_700_000_000.9) == _FIELDS[form]


@pytest.mark.parametrize(
    ("false", "policy", "field"),
    [
        ("none", "q=50;w=1;burst=10", "r=3;t=1"),
        ("empty", "q=50;w=1;burst=10", "r=0;t=3600"),
        ("plenty", "q=50;w=1;burst=10", "r=50;t=1"),
        ("high", "q=500;w=1;burst=10", "r=453;t=1"),
        ("low", "q=1;w=60", "r=0;t=60"),
    ],
)
def test_headers_can_be_false(false: Any, policy: str, field: str) -> None:
    said = rate_limit_headers("ratelimit", QuotaStatus(50, 1, 3, 0.1, burst=10), 0.0, false)
    assert said == {"ratelimit-policy": f'"default";{policy}', "ratelimit": f'"default";{field}'}


@pytest.mark.parametrize(("false", "remaining"), [("none", "5"), ("empty", "0"), ("plenty", "10")])
def test_false_rate_limit_headers_change_what_replies_state_and_not_the_limit(
    false: Any, remaining: str
) -> None:
    service = service_of(
        creates=TokenBucket(0.1, 10), rate_limit_headers="x-ratelimit", false_rate_limit_headers=false
    )
    replies = [create(service, 0.0) for _ in range(11)]
    assert replies[4].headers["x-ratelimit-remaining"] == remaining
    assert [reply.status for reply in replies] == [200] * 10 + [429]


def test_unknown_false_rate_limit_headers_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'none', 'empty', 'plenty', 'high', 'low'"):
        service_of(false_rate_limit_headers="bogus")


def test_a_window_that_is_not_whole_seconds_is_not_stated() -> None:
    assert rate_limit_headers("draft3", QuotaStatus(3, None, 1, 0.0), 0.0)["ratelimit-limit"] == "3"


@pytest.mark.parametrize(
    ("limit", "taken", "now", "quota"),
    [
        (TokenBucket(5.0, 10), 0, 0.0, QuotaStatus(10, 2, 10, 0.0)),
        (TokenBucket(5.0, 10), 10, 0.5, QuotaStatus(10, 2, 2, 0.1)),
        (TokenBucket(50.0, 10), 10, 0.0, QuotaStatus(50, 1, 0, 0.02, burst=10)),
        (TokenBucket(0.4, 1), 1, 0.0, QuotaStatus(2, 5, 0, 2.5, burst=1)),
        (TokenBucket(0.0001, 1), 1, 0.0, QuotaStatus(1, None, 0, 10_000.0)),
        (LeakyBucket(1.0, 4), 2, 0.0, QuotaStatus(5, 5, 3, 1.0)),
        (SlidingWindow(20, 10.0), 0, 0.0, QuotaStatus(20, 10, 20, 0.0)),
        (SlidingWindow(20, 10.0), 3, 4.0, QuotaStatus(20, 10, 17, 6.0)),
        (SlidingWindow(20, 2.5), 20, 1.0, QuotaStatus(20, None, 0, 1.5)),
        (FixedWindow(20, 10.0, phase=3.0), 20, 1.0, QuotaStatus(20, 10, 0, 2.0)),
        (FixedWindow(20, 10.0, phase=3.0), 20, 3.0, QuotaStatus(20, 10, 20, 10.0)),
        (
            Changing(SlidingWindow(20, 10.0), SlidingWindow(5, 10.0), at=5.0),
            4,
            4.0,
            QuotaStatus(20, 10, 16, 6.0),
        ),
        (
            Changing(SlidingWindow(20, 10.0), SlidingWindow(5, 10.0), at=5.0),
            4,
            6.0,
            QuotaStatus(5, 10, 1, 4.0),
        ),
    ],
)
def test_every_limit_states_what_remains(limit: Any, taken: int, now: float, quota: QuotaStatus) -> None:
    limiter = limit.limiter()
    assert [limiter.take(0.0) for _ in range(taken)] == [0.0] * taken
    status = limiter.quota(now)
    assert status.reset_in == pytest.approx(quota.reset_in)
    assert status == evolve(quota, reset_in=status.reset_in)
    assert limiter.wait(now) == pytest.approx(0.0 if status.remaining else status.reset_in)
