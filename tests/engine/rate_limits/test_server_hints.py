"""What is done with what replies say of a quota, and what happens when it is not true."""

from __future__ import annotations

import math

import pytest

from ruxa_async import Limits, RateLimit
from ruxa_async._api.rate_limit_headers import Quota
from ruxa_async._engine.rate_limits.limiter import ScopeLimiter
from ruxa_async._engine.rate_limits.scopes import Scopes
from ruxa_async._engine.rate_limits.server_hints import QuotaState, ServerHints

BRISK = 0.0  # what a discovery says that lets everything leave at once


def quota(
    left: int | None, reset: float | None = None, limit: int | None = 3, per: float | None = 10.0
) -> Quota:
    return Quota("d", limit, per, None, left, reset)


def plain(left: int | None, reset: float | None = None) -> Quota:
    return quota(left, reset, per=None)


def ready(hints: ServerHints, now: float, *, found: bool = False) -> float:
    return max(now, hints.ready_at(now, BRISK, is_rate_known=found))


def passed(hints: ServerHints, now: float, said: Quota | None = None, *, at: float | None = None) -> None:
    """Have a request leave *now* that is let through *at* once, or later."""
    hints.on_send(now)
    answered(hints, now, said, at=at)


def answered(hints: ServerHints, sent: float, said: Quota | None = None, *, at: float | None = None) -> None:
    at = sent if at is None else at
    hints.on_accept(at, sent_at=sent)
    if said is not None:
        hints.on_quota(said, at, sent_at=sent)


def refused(
    hints: ServerHints, now: float, said: Quota | None = None, *, at: float | None = None, wait: float = 0.0
) -> bool:
    hints.on_send(now)
    at = now if at is None else at
    explained = hints.on_reject(at, None, sent_at=now)
    if said is not None:
        hints.on_quota(said, at, sent_at=now, rejected_for=wait)
    return explained


def advised(said: Quota, now: float = 0.0) -> ServerHints:
    """Return advice from the reply to a first request."""
    hints = ServerHints(0, now)
    hints.on_quota(said, now, sent_at=now)
    return hints


def test_a_quota_with_its_window_is_kept_as_a_limit_that_was_told() -> None:
    hints = advised(quota(None))
    assert hints.paces
    assert hints.rate == 0.3
    for now in (1.0, 2.0, 3.0):
        assert ready(hints, now) == now
        passed(hints, now)
    assert ready(hints, 4.0) == 11.0


def test_what_is_used_up_already_comes_free_after_a_window() -> None:
    hints = advised(quota(1))
    assert ready(hints, 0.0) == 0.0
    hints.on_send(0.0)
    assert ready(hints, 0.0) == 10.0


def test_more_leaves_than_the_window_allows_while_the_service_says_that_more_is_remaining_now() -> None:
    hints = advised(quota(3))
    for now in (0.0, 1.0, 2.0):
        passed(hints, now, quota(2))
    assert ready(hints, 3.0) == 3.0


def test_a_burst_that_was_told_is_kept() -> None:
    hints = advised(Quota("d", 10, 1.0, 2, None))
    for _ in range(2):
        assert ready(hints, 0.0) == 0.0
        passed(hints, 0.0)
    assert ready(hints, 0.0) == pytest.approx(0.1)


def test_few_are_unanswered_until_something_was_let_through() -> None:
    hints = advised(quota(None, limit=100))
    for sent in range(4):
        assert ready(hints, 0.0) == 0.0, sent
        hints.on_send(0.0)
    assert ready(hints, 0.0) == math.inf
    answered(hints, 0.0)
    for _ in range(2):
        assert ready(hints, 0.0) == 0.0
        hints.on_send(0.0)
    assert ready(hints, 0.0) == math.inf


def test_a_quota_too_large_to_be_paced_is_not() -> None:
    hints = advised(quota(5, limit=10_001))
    assert not hints.paces
    assert ready(hints, 1.0) == 1.0


def test_a_new_limit_is_kept_from_then_on() -> None:
    hints = advised(quota(None))
    hints.on_send(1.0)
    answered(hints, 1.0, quota(None, limit=2, per=20.0))
    assert hints.rate == 0.1
    assert ready(hints, 1.0) == 1.0
    answered_before = ServerHints(2, 0.0)
    answered_before.on_quota(quota(3), 0.0, sent_at=0.0)
    answered_before.on_send(0.0)
    assert ready(answered_before, 0.0) == math.inf  # two were on the wire when the limit was told


def test_answers_in_any_order_say_how_much_is_remaining_now() -> None:
    hints = ServerHints(0, 0.0)
    for _ in range(5):
        hints.on_send(0.0)
    for left in (4, 9, 5, 8, 6):  # the service counted them 9, 8, 7 ..., so four are left
        answered(hints, 0.0, plain(left, 30.0), at=1.0)
    assert hints._remaining_now() == 4
    hints.on_send(1.0)
    assert hints._remaining_now() == 3


def test_a_late_answer_to_an_earlier_request_is_no_news() -> None:
    hints = ServerHints(2, 0.0)
    hints.on_send(1.0)
    answered(hints, 1.0, plain(0, 30.0), at=2.0)
    until = ready(hints, 2.0)
    answered(hints, 0.5, plain(9, 30.0), at=2.0)
    assert hints._remaining_now() == 0
    assert ready(hints, 2.0) <= until


def test_what_left_since_is_not_left_any_more() -> None:
    hints = advised(plain(2, 30.0))
    hints.on_send(1.0)
    assert ready(hints, 1.0) == 1.0
    hints.on_send(2.0)
    assert ready(hints, 2.0) == math.inf  # only an answer can tell
    hints.on_not_sent(2.0)
    assert ready(hints, 2.0) == 2.0
    hints.on_send(3.0)
    hints.on_no_response(4.0)
    hints.on_no_response(4.0)
    assert ready(hints, 4.0) == 4.0  # one goes ahead


def test_where_nothing_is_left_nothing_leaves_before_the_reset_but_one_that_tests_it() -> None:
    hints = advised(plain(0, 30.0))
    assert ready(hints, 0.0) == 1.0  # the test
    assert refused(hints, 1.0, plain(0, 29.0), wait=29.0)  # it was right
    passed(hints, 31.0, plain(0, 30.0))
    assert ready(hints, 31.0) == 61.0  # and no further test for ten minutes
    passed(hints, 700.0, plain(0, 30.0))
    assert ready(hints, 700.0) == 701.0


def test_no_test_leaves_while_others_are_unanswered() -> None:
    hints = ServerHints(1, 0.0)
    hints.on_quota(plain(0, 30.0), 0.0, sent_at=0.0)
    assert ready(hints, 5.0) == 30.0


def test_a_reset_within_a_second_says_nothing() -> None:
    hints = advised(plain(0, 1.0))
    assert ready(hints, 0.0) == 0.0
    assert refused(hints, 0.0, plain(0, 1.0)) is False
    assert not hints.ignored


@pytest.mark.parametrize(
    ("reset", "per", "until"), [(1e9, None, 60.0), (1e9, 10.0, 10.0), (1e9, 600.0, 60.0)]
)
def test_nothing_is_held_back_for_longer_than_the_window_or_a_minute(
    reset: float, per: float | None, until: float
) -> None:
    hints = ServerHints(1, 0.0)
    hints.on_quota(quota(0, reset, limit=1, per=per), 0.0, sent_at=0.0)
    assert ready(hints, 2.0) <= until
    hints.on_no_response(2.0)
    assert ready(hints, until) == until
    # that it is refused then is no surprise: the reset was told to be later
    for now in (until, 2 * until, 3 * until):
        refused(hints, now, quota(0, reset, limit=1, per=per), wait=until)
    assert not hints.ignored


def test_where_our_own_requests_explain_it_the_window_says_when_it_ends() -> None:
    hints = advised(quota(None))
    for now in (0.0, 0.1):
        passed(hints, now)
    hints.on_send(0.2)
    answered(hints, 0.2, quota(0, 10.0))
    refused(hints, 1.2)  # the test
    assert ready(hints, 5.0) == 9.2
    assert ready(hints, 9.2) == pytest.approx(10.0)


def test_where_others_used_it_up_the_reset_says() -> None:
    hints = advised(quota(None))
    passed(hints, 0.0, quota(0, 5.0))
    refused(hints, 1.0)  # the test
    assert ready(hints, 2.0) == 5.0
    assert ready(hints, 5.0) == 5.0


def test_after_the_reset_one_goes_ahead_whatever_the_window_says() -> None:
    """A fixed window may end sooner than a window's length after it was filled."""
    hints = advised(quota(None))
    for now in (0.0, 0.0, 0.0):
        hints.on_send(now)
    for _ in range(3):
        answered(hints, 0.0, quota(0, 4.0))
    refused(hints, 1.0)  # the test
    assert ready(hints, 2.0) == 4.0
    assert ready(hints, 4.0) == 4.0
    hints.on_send(4.0)
    assert ready(hints, 4.0) > 4.0
    answered(hints, 4.0, quota(2, 10.0))
    assert ready(hints, 4.0) == 4.0


def test_a_reset_that_was_told_too_soon_is_waited_for_longer_from_then_on() -> None:
    hints = ServerHints(1, 0.0)
    hints.on_quota(plain(0, 5.0), 0.0, sent_at=0.0)
    hints.on_no_response(0.0)
    hints._test_at = math.inf
    assert ready(hints, 0.0) == 5.0
    assert refused(hints, 5.0, plain(0, 1.0), wait=1.0)
    passed(hints, 6.0, plain(0, 5.0))
    hints._test_at = math.inf
    assert ready(hints, 6.0) == 12.0  # a second more than told
    assert not refused(hints, 12.0)  # again, so the discovery hears of it


def test_what_a_refusal_asks_for_wins() -> None:
    hints = ServerHints(0, 0.0)
    hints.on_send(0.0)
    hints.on_send(0.0)
    answered(hints, 0.0, plain(0, 50.0))
    hints.on_reject(0.0, None, sent_at=0.0)
    hints.on_quota(plain(0, 50.0), 0.0, sent_at=0.0, rejected_for=2.0)
    assert ready(hints, 0.0) == 0.0  # the gate in front waits for two seconds


def test_two_refusals_of_what_was_allowed_and_the_fields_are_ignored() -> None:
    hints = advised(quota(3))
    assert refused(hints, 1.0, quota(3))
    assert hints.contradictions == (1, 0)
    refused(hints, 2.0, quota(3))
    assert hints.ignored
    assert not hints.paces
    assert ready(hints, 2.0) == 2.0
    assert hints.ready_at(2.0, 7.0, is_rate_known=True) == 7.0
    assert not refused(hints, 3.0, quota(0, 50.0))
    passed(hints, 4.0, quota(0, 50.0))
    assert ready(hints, 4.0) == 4.0
    assert hints.trusted_wait(3600.0) is None


def test_refusals_at_the_same_time_are_one() -> None:
    hints = advised(quota(3))
    for _ in range(3):
        hints.on_send(1.0)
    for _ in range(3):
        hints.on_reject(1.5, None, sent_at=1.0)
    assert hints.contradictions == (1, 0)
    hints.on_send(2.0)
    hints.on_reject(2.5, None, sent_at=2.0)
    assert hints.ignored


def test_where_a_rate_must_be_found_a_refusal_of_what_was_said_to_be_left_counts_too() -> None:
    hints = advised(plain(50, 30.0))
    assert not refused(hints, 1.0, plain(50, 30.0))  # the discovery learns from it
    hints.on_quota(plain(50, 30.0), 2.0, sent_at=2.0)
    assert not refused(hints, 3.0)
    assert hints.ignored


def test_nothing_left_for_ever_is_found_out() -> None:
    hints = advised(quota(0, 3600.0, limit=1, per=60.0))
    assert hints.trusted_wait(3600.0) == 3600.0
    assert ready(hints, 0.0) == 1.0
    passed(hints, 1.0, quota(0, 3600.0, limit=1, per=60.0))
    assert not hints.ignored
    assert hints.trusted_wait(3600.0) == 60.0
    assert ready(hints, 1.0) == 2.0
    passed(hints, 2.0, quota(0, 3600.0, limit=1, per=60.0))
    assert hints.ignored


def test_a_test_that_is_refused_after_one_that_was_not_does_not_end_the_doubt() -> None:
    hints = advised(plain(0, 50.0))
    passed(hints, 1.0, plain(0, 50.0))
    assert refused(hints, 2.0)
    passed(hints, 60.0, plain(0, 50.0))
    assert ready(hints, 60.0) == 61.0


def test_a_test_whose_answer_took_until_the_reset_shows_nothing() -> None:
    hints = advised(plain(0, 5.0))
    passed(hints, 1.0, at=4.5)
    assert hints.contradictions == (0, 0)


def test_where_a_rate_was_found_the_reset_only_says_how_long_nothing_comes_for_sure() -> None:
    hints = ServerHints(1, 0.0)
    hints.on_quota(plain(0, 5.0), 0.0, sent_at=0.0)
    assert ready(hints, 2.0, found=True) == 4.0
    assert ready(hints, 2.0) == 5.0
    assert ready(hints, 4.0, found=True) == 4.0


def test_only_the_last_requests_are_remembered() -> None:
    hints = advised(quota(3))
    for index in range(2000):
        passed(hints, float(index))
    assert len(hints.quota_state._sent_at) <= 512


# ---- two scopes


def rates(limits: Limits | None = None) -> Scopes:
    return Scopes(limits or Limits(), longest_query_wait=600.0)


def told(made: Scopes, scope: str, now: float, said: Quota) -> None:
    made.on_send(scope, now, (scope, now))  # type: ignore[arg-type]
    made.on_accept(scope, now, sent_at=now, job=(scope, now))  # type: ignore[arg-type]
    made.on_quota(scope, said, now, sent_at=now)  # type: ignore[arg-type]


def test_what_a_query_is_told_concerns_queries() -> None:
    made = rates()
    told(made, "query", 0.0, quota(0, 10.0, limit=1))
    assert made.ready_at("create", 0.0) == 0.0
    assert made.ready_at("query", 0.0) > 0.0
    assert not made.binding


def test_scopes_that_are_told_the_same_quota_share_it() -> None:
    made = rates()
    told(made, "query", 0.0, quota(2))
    made.on_send("query", 0.0, "on the wire")
    told(made, "create", 0.0, quota(None))
    assert made.binding
    assert made.create.rate == made.query.rate == 0.3
    assert made.ready_at("create", 0.0) == 0.0
    made.on_send("create", 0.0, "the last of three")
    assert made.ready_at("create", 0.0) == made.ready_at("query", 0.0) == 10.0
    made.on_accept("query", 1.0, sent_at=0.0, job="on the wire")
    assert made.ready_at("create", 1.0) == made.ready_at("query", 1.0) == 10.0
    told(made, "create", 10.0, quota(None, limit=5))
    assert made.create.rate == 0.5
    assert made.query.rate == 0.3
    told(made, "query", 10.0, quota(None, limit=5))
    told(made, "query", 10.0, Quota(remaining=3))
    assert made.create.hints is not None
    assert made.query.hints is not None
    assert made.create.hints.quota_state is made.query.hints.quota_state


def test_scopes_go_on_sharing_a_quota_that_they_are_told_again() -> None:
    made = rates()
    told(made, "query", 0.0, quota(2))
    told(made, "create", 0.0, quota(1))
    told(made, "query", 1.0, quota(0))
    assert made.create.hints is not None
    assert made.query.hints is not None
    assert made.create.hints.quota_state is made.query.hints.quota_state
    assert made.binding


def test_scopes_that_are_found_to_be_two_share_nothing() -> None:
    made = rates()
    told(made, "create", 0.0, quota(3))
    told(made, "query", 0.0, quota(3))
    made.on_send("create", 0.0, "a")
    made.on_reject("create", 0.0, 5.0, sent_at=0.0, job="a")
    assert made.tests("query", 0.0)
    told(made, "query", 0.0, quota(2))
    assert not made.binding
    assert made.create.hints is not None
    assert made.query.hints is not None
    assert made.create.hints.quota_state is not made.query.hints.quota_state
    told(made, "query", 1.0, quota(2))
    told(made, "create", 6.0, quota(2))
    assert made.create.hints.quota_state is not made.query.hints.quota_state


def test_a_limit_that_the_user_told_is_kept_whatever_replies_say() -> None:
    made = rates(Limits(create_rate=RateLimit(1, 7.0)))
    told(made, "create", 0.0, quota(0, 50.0))
    assert made.ready_at("create", 0.0) == 7.0
    assert made.create.hints is None


def test_doubts_about_the_fields_go_when_it_was_the_cap_that_refused() -> None:
    made = rates()
    told(made, "create", 0.0, quota(3))
    made.save()
    for now in (1.0, 3.0):
        made.on_send("create", now, now)
        made.on_reject("create", now, None, sent_at=now, job=now)
    assert made.create.hints is not None
    assert made.create.hints.ignored
    made.restore()
    assert not made.create.hints.ignored


# ---- in the gate


def gate_told(said: Quota) -> ScopeLimiter:
    limiter = ScopeLimiter(None)
    limiter.on_send(0.0)
    limiter.on_accept(0.0, sent_at=0.0)
    hints = limiter.ensure_hints(0.0)
    assert hints is not None
    hints.on_quota(said, 0.0, sent_at=0.0)
    return limiter


def test_a_gate_goes_by_a_quota_and_pauses_where_it_is_refused_all_the_same() -> None:
    limiter = gate_told(quota(None, limit=50, per=1.0))
    assert limiter.rate == 50.0
    assert not limiter.has_discovered_rate
    limiter.on_send(1.0)
    limiter.on_reject(1.0, None, sent_at=1.0)
    assert limiter.ready_at(1.0) == 1.5
    limiter.on_send(2.0)
    limiter.on_no_response(2.0)
    limiter.on_send(3.0)
    limiter.on_not_sent(3.0)
    assert limiter.ready_at(3.0) > 3.0
    limiter.on_send(9.0)
    limiter.on_reject(9.0, 4.0, sent_at=9.0)
    assert limiter.ready_at(9.0) == 13.0
    assert limiter.rate is None  # that was the second time


def test_a_rejection_that_the_headers_explain_does_not_stand_for_an_overdue_response() -> None:
    limiter = gate_told(quota(None, limit=50, per=1.0))
    limiter.on_send(1.0)  # its response never comes
    limiter.on_send(10.0)
    limiter.on_reject(10.0, None, sent_at=10.0)
    assert limiter.limit.ready_at(10.0) == 10.0  # the first is waited for no more


def test_scopes_that_are_told_the_same_numbers_without_a_window_share_what_is_remaining_now() -> None:
    made = rates()
    told(made, "query", 0.0, plain(5, 30.0))
    told(made, "create", 0.0, plain(4, 30.0))
    assert made.binding
    assert made.create.rate is None
    told(made, "create", 1.0, quota(3, limit=9, per=None))
    assert made.create.hints is not None
    assert made.query.hints is not None
    assert made.create.hints.quota_state is not made.query.hints.quota_state


def test_who_leaves_a_shared_quota_takes_what_is_unanswered_along() -> None:
    made = rates()
    told(made, "query", 0.0, quota(None))
    told(made, "create", 0.0, quota(None))
    made.on_send("create", 0.0, "on the wire")
    assert made.create.hints is not None
    assert made.query.hints is not None
    made.create.hints.part(1.0)
    assert made.create.hints.quota_state.in_flight == 1
    assert made.query.hints.quota_state.in_flight == 0


def test_nobody_joins_a_quota_that_is_ignored() -> None:
    made = rates()
    told(made, "query", 0.0, quota(3))
    assert made.query.hints is not None
    made.query.hints.contradictions = (2, 0)
    told(made, "create", 0.0, quota(3))
    assert not made.binding


def test_a_gate_says_how_long_nothing_leaves() -> None:
    limiter = gate_told(quota(None, limit=1))
    limiter.on_send(0.0)
    assert limiter.wait(0.0) == 0.0  # only an answer can tell
    limiter.on_accept(1.0, sent_at=0.0)
    assert limiter.wait(2.0) == 9.0
    limiter.on_send(11.0)
    limiter.on_cap_reject(11.0, 20.0)
    assert limiter.wait(11.0) == 20.0
    limiter.on_send(31.0)
    limiter.on_cap_reject(31.0, None)
    assert limiter.closed_for(31.0) == 0.0


def test_what_left_for_another_scope_takes_places_in_the_books_that_are_kept_for_both() -> None:
    books = QuotaState(0, 0.0)
    books.update(Quota(limit=3, per=10.0), 0.0)
    assert books.limit is not None
    books.take_over(3, 0.0)
    assert books.limit.ready_at(0.0) == math.inf
    books.take_over(-1, 1.0)
    assert books.limit.ready_at(1.0) == 11.0
