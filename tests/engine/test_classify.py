"""What a reply means: every row of the tables, in the status, in the envelope, and combined."""

from __future__ import annotations

import itertools

import pytest

from ruxa_async import TaskState
from ruxa_async._engine.classify import (
    CreateVerdict,
    Phrase,
    QueryVerdict,
    Refusal,
    Reply,
    classify_create,
    classify_query,
    refusal_of,
)

ACCEPTED, THROTTLED = CreateVerdict.ACCEPTED, CreateVerdict.REJECTED
REFUSED, UNKNOWN = CreateVerdict.REFUSED, CreateVerdict.UNKNOWN

REFUSED_CODES = (400, 401, 402, 403, 404, 422, 455, 505)
FINE_CODES = (0, 200, 201, 202)
#: Every place where a code may stand, as (status, code).
PLACES = (
    lambda code: (code, None),
    lambda code: (code, code),
    lambda code: (200, code),
    lambda code: (500, code),
    lambda code: (code, 200),
    lambda code: (code, 500),
)
EVERY_STATUS = (*FINE_CODES[1:], *REFUSED_CODES, 302, 408, 418, 429, 500, 501, 502, 503, 504)
EVERY_CODE = (None, 0, *EVERY_STATUS)


def everywhere(*codes: int) -> list[tuple[int, int | None]]:
    return list(dict.fromkeys(place(code) for code in codes for place in PLACES))


# ---- creates


@pytest.mark.parametrize("phrase", [None, *Phrase])
@pytest.mark.parametrize("retry_after", [None, 0.0, 3.0])
def test_a_task_id_means_accepted_regardless_of_the_rest(
    phrase: Phrase | None, retry_after: float | None
) -> None:
    for status, code in itertools.product(EVERY_STATUS, EVERY_CODE):
        reply = Reply(status, code, phrase=phrase, task_id="t", retry_after=retry_after)
        assert classify_create(reply) is ACCEPTED, reply


def test_an_empty_task_id_is_still_an_id() -> None:
    assert classify_create(Reply(500, task_id="")) is ACCEPTED


@pytest.mark.parametrize(("status", "code"), everywhere(429))
@pytest.mark.parametrize("retry_after", [None, 0.0, 7.0])
def test_429_is_a_rejection_in_the_status_and_in_the_envelope(
    status: int, code: int | None, retry_after: float | None
) -> None:
    assert classify_create(Reply(status, code, retry_after=retry_after)) is THROTTLED


@pytest.mark.parametrize(("status", "code"), everywhere(503))
@pytest.mark.parametrize("retry_after", [0.0, 7.0, 1e9])
def test_503_with_retry_after_is_a_rejection(status: int, code: int | None, retry_after: float) -> None:
    assert classify_create(Reply(status, code, retry_after=retry_after)) is THROTTLED


@pytest.mark.parametrize(("status", "code"), everywhere(503))
def test_503_without_retry_after_may_have_been_charged(status: int, code: int | None) -> None:
    assert classify_create(Reply(status, code)) is UNKNOWN


@pytest.mark.parametrize(("status", "code"), everywhere(*REFUSED_CODES))
@pytest.mark.parametrize("retry_after", [None, 7.0])
def test_a_refusal_is_a_refusal_in_the_status_and_in_the_envelope(
    status: int, code: int | None, retry_after: float | None
) -> None:
    assert classify_create(Reply(status, code, retry_after=retry_after)) is REFUSED


@pytest.mark.parametrize(
    ("phrase", "verdict"),
    [(Phrase.CREDITS, REFUSED), (Phrase.MODEL, REFUSED), (Phrase.RATE, THROTTLED)],
)
@pytest.mark.parametrize("retry_after", [None, 5.0])
def test_a_known_phrase_decides_under_any_code(
    phrase: Phrase, verdict: CreateVerdict, retry_after: float | None
) -> None:
    for status, code in itertools.product(EVERY_STATUS, EVERY_CODE):
        reply = Reply(status, code, phrase=phrase, retry_after=retry_after)
        assert classify_create(reply) is verdict, reply


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *everywhere(408, 500, 501, 502, 504, 520, 524),
        *((status, code) for status in FINE_CODES[1:] for code in (None, *FINE_CODES)),
        *((status, None) for status in (301, 302, 307, 308, 304, 405, 409, 410, 413, 418, 425, 451)),
        (200, -1),
        (200, 999),
        (200, 10**9),
    ],
)
@pytest.mark.parametrize("retry_after", [None, 7.0])
def test_all_other_replies_may_have_been_charged(
    status: int, code: int | None, retry_after: float | None
) -> None:
    assert classify_create(Reply(status, code, retry_after=retry_after)) is UNKNOWN


def test_no_code_outside_the_table_is_ever_sent_again_or_called_uncharged() -> None:
    outside = [code for code in range(600) if code not in {429, 503, *REFUSED_CODES}]
    verdicts = {
        classify_create(Reply(status, code, retry_after=7.0))
        for number in outside
        for status, code in ((number, None), (200, number), (number, number))
    }
    assert verdicts == {UNKNOWN}


@pytest.mark.parametrize(
    ("status", "code", "phrase", "retry_after", "verdict"),
    [
        (429, 402, None, None, THROTTLED),
        (402, 429, None, None, THROTTLED),
        (429, 500, None, None, THROTTLED),
        (500, 429, None, None, THROTTLED),
        (503, 422, None, 5.0, THROTTLED),
        (503, 422, None, None, REFUSED),
        (422, 503, None, None, REFUSED),
        (500, 503, None, 5.0, THROTTLED),
        (408, 402, None, None, REFUSED),
        (402, 408, None, None, REFUSED),
        (504, 455, None, None, REFUSED),
        (429, None, Phrase.CREDITS, 5.0, REFUSED),
        (429, 429, Phrase.MODEL, None, REFUSED),
        (402, 402, Phrase.RATE, None, THROTTLED),
        (200, 200, Phrase.CREDITS, None, REFUSED),
        (200, None, Phrase.RATE, None, THROTTLED),
        (500, 500, Phrase.MODEL, None, REFUSED),
    ],
)
def test_precedence_where_the_parts_of_a_reply_disagree(
    status: int,
    code: int | None,
    phrase: Phrase | None,
    retry_after: float | None,
    verdict: CreateVerdict,
) -> None:
    assert classify_create(Reply(status, code, phrase=phrase, retry_after=retry_after)) is verdict


def test_retry_after_alone_makes_no_reply_a_rejection() -> None:
    for status, code in itertools.product((200, 408, 500, 501, 502, 504), (None, 200, 500)):
        assert classify_create(Reply(status, code, retry_after=1.0)) is UNKNOWN


# ---- what a refusal says about the next create


@pytest.mark.parametrize(
    ("status", "code", "phrase", "why"),
    [
        (401, None, None, Refusal.KEY),
        (200, 401, None, Refusal.KEY),
        (401, 403, None, Refusal.KEY),
        (403, 401, None, Refusal.KEY),
        (402, None, None, Refusal.CREDITS),
        (200, 402, None, Refusal.CREDITS),
        (401, 402, None, Refusal.CREDITS),
        (402, 404, None, Refusal.CREDITS),
        (200, 500, Phrase.CREDITS, Refusal.CREDITS),
        (401, 401, Phrase.CREDITS, Refusal.CREDITS),
        (402, None, Phrase.MODEL, Refusal.CREDITS),
        (403, None, None, Refusal.ACCESS),
        (200, 403, None, Refusal.ACCESS),
        (404, None, None, Refusal.ACCESS),
        (200, 404, None, Refusal.ACCESS),
        (500, 500, Phrase.MODEL, Refusal.ACCESS),
        (401, None, Phrase.MODEL, Refusal.ACCESS),
        (400, None, None, Refusal.REQUEST),
        (422, None, None, Refusal.REQUEST),
        (200, 422, None, Refusal.REQUEST),
        (455, None, None, Refusal.REQUEST),
        (505, None, None, Refusal.REQUEST),
        (200, 200, None, Refusal.REQUEST),
    ],
)
def test_refusal_says_whether_it_is_about_the_account(
    status: int, code: int | None, phrase: Phrase | None, why: Refusal
) -> None:
    assert refusal_of(Reply(status, code, phrase=phrase)) is why


# ---- queries


@pytest.mark.parametrize("phrase", [None, *Phrase])
@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (TaskState.SUCCESS, QueryVerdict.ENDED),
        (TaskState.FAIL, QueryVerdict.ENDED),
        (TaskState.WAITING, QueryVerdict.PENDING),
        (TaskState.RUNNING, QueryVerdict.PENDING),
    ],
)
def test_a_known_state_counts_regardless_of_the_codes(
    phrase: Phrase | None, state: TaskState, verdict: QueryVerdict
) -> None:
    for status, code in itertools.product(EVERY_STATUS, EVERY_CODE):
        reply = Reply(status, code, phrase=phrase, state=state, retry_after=5.0)
        assert classify_query(reply) is verdict, reply


@pytest.mark.parametrize("state", [None, TaskState.UNKNOWN])
@pytest.mark.parametrize(
    ("status", "code", "phrase", "retry_after", "verdict"),
    [
        *((s, c, None, None, QueryVerdict.REJECTED) for s, c in everywhere(429)),
        *((s, c, None, 5.0, QueryVerdict.REJECTED) for s, c in everywhere(503)),
        *((s, c, None, None, QueryVerdict.UNCLEAR) for s, c in everywhere(503)),
        *((s, c, None, None, QueryVerdict.DENIED) for s, c in everywhere(401, 403)),
        *((s, c, None, None, QueryVerdict.MISSING) for s, c in everywhere(404, 422)),
        *((s, c, None, None, QueryVerdict.UNCLEAR) for s, c in everywhere(400, 402, 408, 455, 500, 501, 505)),
        *((s, None, None, 5.0, QueryVerdict.UNCLEAR) for s in (200, 201, 302, 408, 500, 502, 504)),
        (200, 200, Phrase.RATE, None, QueryVerdict.REJECTED),
        (401, 404, Phrase.RATE, None, QueryVerdict.REJECTED),
        (500, 500, Phrase.CREDITS, None, QueryVerdict.UNCLEAR),
        (500, 500, Phrase.MODEL, None, QueryVerdict.UNCLEAR),
        (429, 401, None, None, QueryVerdict.REJECTED),
        (401, 429, None, None, QueryVerdict.REJECTED),
        (503, 403, None, 5.0, QueryVerdict.REJECTED),
        (503, 403, None, None, QueryVerdict.DENIED),
        (404, 401, None, None, QueryVerdict.DENIED),
        (403, 422, None, None, QueryVerdict.DENIED),
        (500, 422, None, None, QueryVerdict.MISSING),
    ],
)
def test_a_query_without_a_known_state(
    state: TaskState | None,
    status: int,
    code: int | None,
    phrase: Phrase | None,
    retry_after: float | None,
    verdict: QueryVerdict,
) -> None:
    reply = Reply(status, code, phrase=phrase, state=state, retry_after=retry_after)
    assert classify_query(reply) is verdict


def test_only_a_state_or_a_refused_key_ends_polling() -> None:
    final = {
        number
        for number in range(600)
        for status, code in ((number, None), (200, number), (number, number))
        if classify_query(Reply(status, code)) in (QueryVerdict.ENDED, QueryVerdict.DENIED)
    }
    assert final == {401, 403}


# ---- the reply


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [(429, None, True), (200, 429, True), (429, 429, True), (200, 200, False), (200, None, False)],
)
def test_a_reply_says_a_code_by_its_status_or_its_envelope(status: int, code: int | None, says: bool) -> None:
    assert Reply(status, code).says(frozenset({429, 430})) is says


def test_a_reply_shows_no_body_in_its_repr() -> None:
    reply = Reply(200, body=b"prompt of somebody", data={"param": "prompt of somebody"})
    assert "somebody" not in repr(reply)
