"""The quota in the headers of a reply: every form, and hostile ones."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruxa_async._api.rate_limit_headers import Quota, read_quota

NOW = 1_700_000_000.0
DATE = {"date": "Tue, 14 Nov 2023 22:13:20 GMT"}
NINES = "9" * 400


def read(**headers: str) -> Quota | None:
    return read_quota({name.replace("_", "-"): text for name, text in headers.items()}, wall_now=NOW)


STRUCTURED: list[tuple[str, str, Quota | None]] = [
    ('"d";r=50;t=30', '"d";q=100;w=60', Quota("d", 100, 60.0, None, 50, 30.0)),
    ("d;r=50;t=30", "d;q=100;w=60", Quota("d", 100, 60.0, None, 50, 30.0)),
    ('"d"; r=50; t=30', ' "d" ; q = 100 ; w = 60', Quota("d", 100, 60.0, None, 50, 30.0)),
    ('"d";r=5', '"d";q=50;w=1;burst=10', Quota("d", 50, 1.0, 10, 5, None)),
    ('"d";r=5', '"d";q=10;w=1;burst=1000', Quota("d", 10, 1.0, 10, 5, None)),
    ('"d";r=5', '"d";q=10;w=0.5', Quota("d", 10, 0.5, None, 5, None)),
    ('"d";r=0;t=9', "", Quota("d", remaining=0, reset=9.0)),
    ("", '"d";q=100;w=60', Quota("d", 100, 60.0)),
    # of two, the least left, and the shortest window
    (
        '"day";r=2;t=900, "burst";r=5;t=1',
        '"day";q=1000;w=86400, "burst";q=10;w=1',
        Quota("burst", 10, 1.0, None, 2, 900.0),
    ),
    ('"a";r=0;t=3, "b";r=0;t=7', "", Quota("b", remaining=0, reset=7.0)),
    # a unit other than requests is ignored
    (
        '"bytes";r=0;t=99, "d";r=3;t=1',
        '"bytes";q=9;w=9;qu="content-bytes", "d";q=5;w=2;qu="requests"',
        Quota("d", 5, 2.0, None, 3, 1.0),
    ),
    ('"bytes";r=0;t=99', '"bytes";q=9;w=9;qu="content-bytes"', None),
    ('"a,b;c";r=1;t=2', '"a,b;c";q=3;w=4', Quota("a,b;c", 3, 4.0, None, 1, 2.0)),
    # the drafts before
    ("limit=100, remaining=50, reset=5", "", Quota("", 100, None, None, 50, 5.0)),
    ("limit=100, remaining=50, reset=5", "100;w=60", Quota("", 100, 60.0, None, 50, 5.0)),
    ("remaining=0, reset=5", "10;w=1, 50;w=60", Quota("", 10, 1.0, None, 0, 5.0)),
    ("limit=10", '10;w=1;comment="a, b"', Quota("", 10, 1.0)),
    # nothing that can be read
    ("", "", None),
    ("junk", "junk", None),
    ('"d";r=;t=', '"d";q=;w=', None),
    ('"d";r=-1;t=5', '"d";q=-1;w=5', None),
    ('"d";r=1.5', "", None),
    ('"d";r=1e3', '"d";q=0;w=60', None),
    ('"d";r=٣', "", None),
    ("limit=, remaining=, reset=", "", None),
    ("reset=5", "", None),
    ('"', '"', None),
    (";;;,,,", "=;=,=", None),
    ('"d', '"d;q=1', None),
    ("", '"d";q=100;w=0', None),
    ("", '"d";q=100;w=1e9', None),
    ("", '"d";q=100', None),
    ("", f'"d";q=100;w={NINES}', None),
    (f'"d";r={NINES};t=1', "", None),
    (f'"d";r=1;t={NINES}', "", Quota("d", remaining=1, reset=1e9)),
    ('"d";r=9999999999', "", Quota("d", remaining=10**9)),
    (2000 * " " + '"d";r=1', "", None),
]


@pytest.mark.parametrize(("field", "policy", "quota"), STRUCTURED)
def test_the_fields_of_the_draft_are_read(field: str, policy: str, quota: Quota | None) -> None:
    assert read(ratelimit=field, ratelimit_policy=policy) == quota


def test_either_field_of_the_draft_may_stand_alone() -> None:
    assert read(ratelimit='"d";r=1;t=2') == Quota("d", remaining=1, reset=2.0)
    assert read(ratelimit_policy='"d";q=1;w=2') == Quota("d", 1, 2.0)


NUMBERS: list[tuple[str, str, str, Quota | None]] = [
    ("100", "50", "5", Quota("", 100, None, None, 50, 5.0)),
    ("100", "50", "", Quota("", 100, None, None, 50, None)),
    ("100", "", "", Quota("", 100)),
    ("", "0", "5", Quota("", None, None, None, 0, 5.0)),
    ("100, 100;w=60", "50", "5", Quota("", 100, 60.0, None, 50, 5.0)),
    ("10, 10;w=1, 50;w=60", "5", "0.5", Quota("", 10, 1.0, None, 5, 0.5)),
    ("100", "50", "1700000030", Quota("", 100, None, None, 50, 30.0, 2.0)),
    ("100", "50", "1700000030000", Quota("", 100, None, None, 50, 30.0, 2.0)),
    ("100", "50", "1699999000", Quota("", 100, None, None, 50, 0.0, 2.0)),
    ("100", "50", NINES, Quota("", 100, None, None, 50, 1e9)),
    ("100", "50", "junk", Quota("", 100, None, None, 50, None)),
    ("100", "50", "-5", Quota("", 100, None, None, 50, None)),
    ("100", "-1", "5", Quota("", 100, None, None, None, 5.0)),
    ("0", "0", "5", Quota("", None, None, None, 0, 5.0)),
    ("many", "some", "5", None),
    ("", "", "5", None),
]


@pytest.mark.parametrize("prefix", ["ratelimit", "x-ratelimit", "x-rate-limit"])
@pytest.mark.parametrize(("limit", "remaining", "reset", "quota"), NUMBERS)
def test_limit_remaining_and_reset_headers_are_read(
    prefix: str, limit: str, remaining: str, reset: str, quota: Quota | None
) -> None:
    headers = {f"{prefix}-limit": limit, f"{prefix}-remaining": remaining, f"{prefix}-reset": reset}
    assert read_quota({**DATE, **headers}, wall_now=NOW + 7200) == quota


def test_a_reply_without_these_headers_has_no_quota() -> None:
    assert read() is None
    assert read(date=DATE["date"], content_type="application/json", retry_after="5") is None
    assert read(x_ratelimit_remaining="3") == Quota("", remaining=3)


TEXTS = st.one_of(
    st.text(max_size=80),
    st.text('0123456789.,:;=+-_ \t"abqrtwlimitremainingreset٣²\\', max_size=120),
    st.integers().map(str),
)
NAMES = st.sampled_from(
    [
        "ratelimit",
        "ratelimit-policy",
        "date",
        *(f"{a}-{b}" for a in ("ratelimit", "x-ratelimit") for b in ("limit", "remaining", "reset")),
    ]
)


@settings(max_examples=500, deadline=None)
@given(headers=st.dictionaries(NAMES, TEXTS, max_size=6), wall_now=st.floats(-1e12, 1e12))
def test_no_text_raises_or_gives_an_impossible_quota(headers: dict[str, str], wall_now: float) -> None:
    quota = read_quota(headers, wall_now=wall_now)
    if quota is not None:
        assert quota.limit is None or 1 <= quota.limit <= 10**9
        assert quota.remaining is None or 0 <= quota.remaining <= 10**9
        assert quota.reset is None or 0 <= quota.reset <= 1e9
        assert quota.per is None or 0 < quota.per < math.inf
        assert quota.burst is None or (quota.limit is not None and 1 <= quota.burst <= quota.limit)
        assert quota.limit is not None or quota.remaining is not None
