from __future__ import annotations

from typing import Any

import pytest

from ruxa_async.emulator import Changing, FixedWindow, LeakyBucket, SlidingWindow, TokenBucket
from ruxa_async.emulator._limiters import Standing
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
    # The clock reads 0.9 s after the full second: in 1.2501 s it is past the second one.
    "date": ({"retry-after": "Tue, 14 Nov 2023 22:13:23 GMT", "date": "Tue, 14 Nov 2023 22:13:20 GMT"}, {}),
    "ratelimit": ({"ratelimit": '"default";r=0;t=2'}, {}),
    "x-ratelimit": ({**_RESET, "x-ratelimit-reset": "2"}, {}),
    "x-ratelimit-epoch": ({**_RESET, "x-ratelimit-reset": "1700000003"}, {}),
    "body": ({}, {"retry_after": 1.251}),
}


@pytest.mark.parametrize("form", RETRY_AFTER_FORMS)
def test_a_wait_of_1_2501_seconds_is_said_in_every_form_and_never_too_short(form: Any) -> None:
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
def test_what_is_left_is_said_in_every_form(form: Any) -> None:
    assert rate_limit_headers(form, Standing(20, 10, 5, 1.2501), 1_700_000_000.9) == _FIELDS[form]


@pytest.mark.parametrize(
    ("lie", "policy", "field"),
    [
        ("none", "q=50;w=1;burst=10", "r=3;t=1"),
        ("empty", "q=50;w=1;burst=10", "r=0;t=3600"),
        ("plenty", "q=50;w=1;burst=10", "r=50;t=1"),
        ("high", "q=500;w=1;burst=10", "r=453;t=1"),
        ("low", "q=1;w=60", "r=0;t=60"),
    ],
)
def test_the_fields_can_lie(lie: Any, policy: str, field: str) -> None:
    said = rate_limit_headers("ratelimit", Standing(50, 1, 3, 0.1, burst=10), 0.0, lie)
    assert said == {"ratelimit-policy": f'"default";{policy}', "ratelimit": f'"default";{field}'}


def test_a_window_of_no_whole_seconds_is_not_named() -> None:
    assert rate_limit_headers("draft3", Standing(3, None, 1, 0.0), 0.0)["ratelimit-limit"] == "3"


@pytest.mark.parametrize(
    ("limit", "taken", "now", "standing"),
    [
        (TokenBucket(5.0, 10), 0, 0.0, Standing(10, 2, 10, 0.0)),
        (TokenBucket(5.0, 10), 10, 0.5, Standing(10, 2, 2, 0.1)),
        (TokenBucket(50.0, 10), 10, 0.0, Standing(50, 1, 0, 0.02, burst=10)),
        (TokenBucket(0.4, 1), 1, 0.0, Standing(2, 5, 0, 2.5, burst=1)),
        (TokenBucket(0.0001, 1), 1, 0.0, Standing(1, None, 0, 10_000.0)),
        (LeakyBucket(1.0, 4), 2, 0.0, Standing(5, 5, 3, 1.0)),
        (SlidingWindow(20, 10.0), 0, 0.0, Standing(20, 10, 20, 0.0)),
        (SlidingWindow(20, 10.0), 3, 4.0, Standing(20, 10, 17, 6.0)),
        (SlidingWindow(20, 2.5), 20, 1.0, Standing(20, None, 0, 1.5)),
        (FixedWindow(20, 10.0, phase=3.0), 20, 1.0, Standing(20, 10, 0, 2.0)),
        (FixedWindow(20, 10.0, phase=3.0), 20, 3.0, Standing(20, 10, 20, 10.0)),
        (
            Changing(SlidingWindow(20, 10.0), SlidingWindow(5, 10.0), at=5.0),
            4,
            4.0,
            Standing(20, 10, 16, 6.0),
        ),
        (Changing(SlidingWindow(20, 10.0), SlidingWindow(5, 10.0), at=5.0), 4, 6.0, Standing(5, 10, 1, 4.0)),
    ],
)
def test_every_limit_says_how_the_client_stands(
    limit: Any, taken: int, now: float, standing: Standing
) -> None:
    limiter = limit.limiter()
    assert [limiter.take(0.0) for _ in range(taken)] == [0.0] * taken
    said = limiter.standing(now)
    assert said.more_in == pytest.approx(standing.more_in)
    assert (said.limit, said.per, said.left, said.burst) == (
        standing.limit,
        standing.per,
        standing.left,
        standing.burst,
    )
    assert limiter.wait(now) == pytest.approx(0.0 if said.left else said.more_in)
