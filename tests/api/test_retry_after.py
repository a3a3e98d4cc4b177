"""The wait in the headers of a reply: every form, and hostile ones."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruxa_async._api.retry_after import LONGEST, ServiceClock, retry_after

#: Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110.
NOW = 784_111_777.0
#: The local clock is two hours off, so that a test that should use the reply's Date and does not is seen.
WRONG_CLOCK = NOW + 7200
DATE = {"date": "Sun, 06 Nov 1994 08:49:37 GMT"}
NINES = "9" * 400
NAMES = (
    "retry-after-ms",
    "x-ms-retry-after-ms",
    "retry-after",
    "ratelimit",
    "ratelimit-reset",
    "x-ratelimit-reset",
    "x-rate-limit-reset",
)


def seconds_of(wall_now: float = NOW, /, **headers: str) -> float | None:
    return retry_after({name.replace("_", "-"): text for name, text in headers.items()}, wall_now=wall_now)


PLAIN: list[tuple[str, float | None]] = [
    ("0", 0.0),
    ("1", 1.0),
    ("120", 120.0),
    ("000120", 120.0),
    (" 7 ", 7.0),
    ("\t7", 7.0),
    ("0.5", 0.5),
    ("1.25", 1.25),
    ("2.000", 2.0),
    ("999999999", 999_999_999.0),
    ("1000000000", LONGEST),
    ("1000000001", LONGEST),
    (NINES, LONGEST),  # infinite as a float
    (f"{NINES}.{NINES}", LONGEST),
    ("9" * 401, None),
    ("9" * 8000, None),
    ("0." + "0" * 400 + "1", None),
    ("-1", None),
    ("-0", None),
    ("-0.5", None),
    ("+5", None),
    ("nan", None),
    ("NaN", None),
    ("inf", None),
    ("-inf", None),
    ("Infinity", None),
    ("1e3", None),
    ("1e400", None),
    ("1E5", None),
    ("1_000", None),
    ("1,000", None),
    ("5, 7", None),
    ("5;7", None),
    ("5 7", None),
    ("5s", None),
    ("5 seconds", None),
    ("6m0s", None),
    (".5", None),
    ("5.", None),
    ("1.2.3", None),
    ("0x10", None),
    ("0b1", None),
    ("٣", None),
    ("\uff11\uff12", None),
    ("²", None),
    ("½", None),
    ("", None),
    (" ", None),
    ("\x00", None),
    ("5\x00", None),
    ('"5"', None),
    ("soon", None),
    ("null", None),
    ("None", None),
    ("<script>", None),
    (":", None),
    ("12:30", None),
    ("Sun", None),
    ("GMT", None),
    ("١٢:٣٠", None),
]


@pytest.mark.parametrize(("text", "seconds"), PLAIN)
def test_retry_after_in_seconds(text: str, seconds: float | None) -> None:
    assert seconds_of(retry_after=text) == seconds


DATES: list[tuple[str, float | None]] = [
    ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
    ("Sun, 06 Nov 1994 08:49:38 GMT", 1.0),
    ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
    ("Mon, 07 Nov 1994 08:49:37 GMT", 86_400.0),
    ("Sun, 06 Nov 1994 08:49:36 GMT", 0.0),
    ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ("Sunday, 06-Nov-94 08:50:37 GMT", 60.0),
    ("Sun Nov  6 08:50:37 1994", 60.0),
    ("Sun Nov 06 08:50:37 1994", 60.0),
    ("06 Nov 1994 08:50:37 GMT", 60.0),
    ("Sun, 06 Nov 1994 08:50:37", 60.0),  # no zone counts as GMT, wherever we are
    ("Sun, 06 Nov 1994 09:50:37 +0100", 60.0),
    ("Sun, 06 Nov 1994 03:50:37 EST", 60.0),
    ("sun, 06 nov 1994 08:50:37 gmt", 60.0),
    ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST),
    ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ("Fri, 31 Dec " + "9" * 5000 + " 23:59:59 GMT", None),
    ("Sun, 06 Nov 1994 08:49:37 -" + NINES, None),
    ("Sun, 06 Nov 1994 08:49:37 +" + "9" * 300, 0.0),
    ("Sun, 06 Nov 1994 08:49:37 -" + "9" * 300, LONGEST),
    ("Sun, 06 Foo 1994 08:49:37 GMT", None),
    ("Sun, 06 Nov", None),
    ("06 Nov 1994 aa:bb:cc GMT", None),
    ("1994-11-06T08:50:37Z", None),
    (", , ,", None),
    ("Sun, ", None),
]


@pytest.mark.parametrize(("text", "seconds"), DATES)
def test_retry_after_as_a_date_is_compared_with_the_date_of_the_reply(
    text: str, seconds: float | None
) -> None:
    assert seconds_of(WRONG_CLOCK, retry_after=text, **DATE) == seconds


@pytest.mark.parametrize(("text", "seconds"), DATES)
def test_retry_after_as_a_date_is_compared_with_our_clock_where_the_reply_has_none(
    text: str, seconds: float | None
) -> None:
    assert seconds_of(NOW, retry_after=text) == seconds


@pytest.mark.parametrize("date", ["", "yesterday", "\x00", "-1", "Fri, 31 Dec 99999 23:59:59 GMT", NINES])
def test_a_date_that_cannot_be_read_leaves_our_own_clock(date: str) -> None:
    assert seconds_of(NOW, retry_after="Sun, 06 Nov 1994 08:50:37 GMT", date=date) == 60.0


@pytest.mark.parametrize(
    "date",
    ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 09:49:37 +0100"],
)
def test_the_date_of_the_reply_may_have_any_form(date: str) -> None:
    assert seconds_of(WRONG_CLOCK, retry_after="Sun, 06 Nov 1994 08:50:37 GMT", date=date) == 60.0


@pytest.mark.parametrize("name", ["retry-after-ms", "x-ms-retry-after-ms"])
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("1", 0.001),
        ("1500", 1.5),
        ("1500.5", 1.5005),
        ("1000000000000", LONGEST),
        (NINES, LONGEST),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("1e400", None),
        ("1_000", None),
        ("٣", None),
        ("", None),
        ("5, 7", None),
        ("Sun, 06 Nov 1994 08:50:37 GMT", None),
    ],
)
def test_the_ms_forms_are_milliseconds(name: str, text: str, seconds: float | None) -> None:
    assert retry_after({name: text}, wall_now=NOW) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ('"default";r=0;t=30', 30.0),
        ('"default";r=50;t=30', 30.0),
        ('"default"; r=0; t=30', 30.0),
        ('"default";t=30;r=0', 30.0),
        ('"default";r=0; t = 30', 30.0),
        ('"default";r=0;t=0', 0.0),
        ("default;r=0;t=5", 5.0),
        ('"burst";r=0;t=5, "daily";r=9;t=900', 5.0),
        ("limit=100, remaining=0, reset=12", 12.0),
        ("limit=100,remaining=0,reset = 12", 12.0),
        ("reset=12", 12.0),
        (f'"default";r=0;t={NINES}', LONGEST),
        ('"default";r=0;t=' + "9" * 8000, LONGEST),
        ('"default";r=0', None),
        ('"default";r=0;t=-5', None),
        ('"default";r=0;t=inf', None),
        ('"default";r=0;t=nan', None),
        ('"default";r=0;t=٣', None),
        ('"default";r=0;t=', None),
        ('"default";r=0;tt=5', None),
        ("preset=12", None),
        ("t=5", None),
        ("5", None),
        ("", None),
        (";" * 8000, None),
    ],
)
def test_the_ratelimit_field_of_the_drafts(text: str, seconds: float | None) -> None:
    assert seconds_of(ratelimit=text) == seconds


@pytest.mark.parametrize("name", ["ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset"])
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("30", 30.0),
        ("1.5", 1.5),
        ("99999999", 99_999_999.0),  # three years: still a delta
        ("100000000", 0.0),  # 1973: an instant, long past
        ("784111777", 0.0),
        ("784111837", 60.0),
        ("784111837.5", 60.5),
        ("784111776", 0.0),
        ("784111837000", 60.0),  # the same in milliseconds
        ("784111837250", 60.25),
        ("784111776000", 0.0),
        ("99999999999", LONGEST),  # the last instant in seconds, the year 5138
        ("100000000000", 0.0),  # the first in milliseconds, 1973
        ("4102444800000", LONGEST),
        (NINES, LONGEST),
        ("-30", None),
        ("nan", None),
        ("inf", None),
        ("1e400", None),
        ("1_000", None),
        ("٣", None),
        ("\uff11\uff12", None),
        ("6m0s", None),
        ("5, 7", None),
        ("", None),
    ],
)
def test_reset_fields_are_deltas_or_instants(name: str, text: str, seconds: float | None) -> None:
    assert retry_after({name: text}, wall_now=NOW) == seconds
    assert retry_after({name: text, **DATE}, wall_now=WRONG_CLOCK) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"date": "Sun, 06 Nov 1994 08:49:37 GMT"}, None),
        ({"x-request-id": "5"}, None),
        ({"retry-after-ms": "1500", "x-ms-retry-after-ms": "9000", "retry-after": "30"}, 1.5),
        ({"x-ms-retry-after-ms": "9000", "retry-after": "30"}, 9.0),
        ({"retry-after-ms": "junk", "x-ms-retry-after-ms": "9000"}, 9.0),
        ({"retry-after-ms": "junk", "retry-after": "30"}, 30.0),
        ({"retry-after": "30", "ratelimit": '"d";r=0;t=5', "x-ratelimit-reset": "7"}, 30.0),
        ({"retry-after": "0", "ratelimit": '"d";r=0;t=5'}, 0.0),
        ({"retry-after": "junk", "ratelimit": '"d";r=0;t=5'}, 5.0),
        ({"retry-after": "-1", "x-ratelimit-reset": "7"}, 7.0),
        ({"ratelimit": '"d";r=0;t=5', "ratelimit-reset": "7"}, 5.0),
        ({"ratelimit": '"d";r=0', "ratelimit-reset": "7"}, 7.0),
        ({"ratelimit-reset": "7", "x-ratelimit-reset": "8"}, 7.0),
        ({"ratelimit-reset": "junk", "x-ratelimit-reset": "8"}, 8.0),
        ({"ratelimit-reset": "junk", "x-ratelimit-reset": "junk", "x-rate-limit-reset": "9"}, 9.0),
    ],
)
def test_the_readable_field_of_highest_precedence_wins(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(headers, wall_now=NOW) == seconds


def test_every_header_counts_alone() -> None:
    texts = dict.fromkeys(NAMES, "4") | {"ratelimit": '"d";r=0;t=4'}
    heard = {name: retry_after({name: text}, wall_now=NOW) for name, text in texts.items()}
    assert heard == {name: 0.004 if name.endswith("-ms") else 4.0 for name in NAMES}


ALPHABET = "0123456789.,:;=+-_ \t\x00eExtrsGMTNovSun\"'٣１²½"
TEXTS = st.one_of(
    st.text(max_size=60),
    st.text(ALPHABET, max_size=60),
    st.from_regex(
        r"(Sun, )?[0-9]{1,30}[ -](Nov|Foo)[ -][0-9]{1,9} [0-9]{1,9}(:[0-9]{1,9}){0,3} [A-Z+0-9-]{0,9}"
    ),
    st.integers().map(str),
    st.floats().map(str),
)


@pytest.mark.long
@settings(max_examples=500, deadline=None)
@given(
    headers=st.dictionaries(st.sampled_from([*NAMES, "date"]), TEXTS, max_size=5),
    wall_now=st.floats(min_value=-1e12, max_value=1e12),
)
def test_no_text_raises_or_asks_for_a_negative_or_endless_wait(
    headers: dict[str, str], wall_now: float
) -> None:
    seconds = retry_after(headers, wall_now=wall_now)
    assert seconds is None or (math.isfinite(seconds) and 0 <= seconds <= LONGEST)


@settings(max_examples=200, deadline=None)
@given(seconds=st.integers(min_value=0, max_value=10**12), name=st.sampled_from(["retry-after", "ratelimit"]))
def test_whole_seconds_are_taken_as_they_are(seconds: int, name: str) -> None:
    text = str(seconds) if name == "retry-after" else f'"d";r=0;t={seconds}'
    assert retry_after({name: text}, wall_now=NOW) == min(seconds, LONGEST)


def test_rate_limit_fields_count_only_in_a_429() -> None:
    headers = {"x-ratelimit-reset": "30", "ratelimit": '"default";r=5;t=20'}
    assert retry_after(headers, wall_now=NOW) == 20
    assert retry_after(headers, wall_now=NOW, rate_limit_headers=False) is None
    assert retry_after({**headers, "retry-after": "7"}, wall_now=NOW, rate_limit_headers=False) == 7


@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        ('"burst";r=3;t=5, "daily";r=0;t=900', 900),
        ('"daily";r=0;t=900, "burst";r=3;t=5', 900),
        ('"burst";r=0;t=5, "daily";r=0;t=900', 900),
        ('"burst";r=0;t=5, "daily";r=10;t=900', 5),
        ('"burst";t=5, "daily";r=0;t=900', 900),
        ('"burst";t=5', 5),
        ("limit=10, remaining=0, reset=12", 12),
    ],
)
def test_of_several_limits_the_ones_that_are_used_up_count(field: str, seconds: float) -> None:
    assert retry_after({"ratelimit": field}, wall_now=NOW) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:51:37 GMT", 120.0),
        ("Sun, 06 Nov 1994 08:51:38 GMT", None),
        ("Sun, 06 Nov 1994 08:49:36 GMT", None),
        ("Sun, 06 Nov 1994 09:49:42 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("30", 30.0),
    ],
)
def test_a_date_far_from_our_own_clock_is_ignored(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}, wall_now=NOW, estimated=True) == seconds


@pytest.mark.parametrize(("text", "seconds"), [("784111837", 60.0), ("784115377", None), ("30", 30.0)])
def test_a_reset_far_from_our_own_clock_is_ignored(text: str, seconds: float | None) -> None:
    assert retry_after({"x-ratelimit-reset": text}, wall_now=NOW, estimated=True) == seconds


def test_the_date_of_the_reply_itself_counts_however_far_it_is_from_our_clock() -> None:
    headers = {"retry-after": "Sun, 06 Nov 1994 09:49:37 GMT", **DATE}
    assert retry_after(headers, wall_now=WRONG_CLOCK, estimated=True) == 3600.0


def test_the_services_clock_goes_on_from_the_last_date_that_it_sent() -> None:
    clock = ServiceClock()
    assert clock.read({}, WRONG_CLOCK) == (WRONG_CLOCK, True)
    assert clock.read(DATE, WRONG_CLOCK) == (WRONG_CLOCK, True)  # the reply's own date comes first
    assert clock.read({}, WRONG_CLOCK + 5) == (NOW + 5, False)
    assert clock.read({"date": "yesterday"}, WRONG_CLOCK + 6) == (WRONG_CLOCK + 6, True)
    assert clock.read({}, WRONG_CLOCK + 7) == (WRONG_CLOCK + 7, True)
