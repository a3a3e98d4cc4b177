"""``RateLimit`` headers: how they are used, and how they prove wrong."""

from __future__ import annotations

import math

import pytest

from ruxa_async import Limits, RateLimit
from ruxa_async._api.rate_limit_headers import Quota
from ruxa_async._engine.rate_limits.limiter import ScopeLimiter
from ruxa_async._engine.rate_limits.scopes import Scopes
from ruxa_async._engine.rate_limits.server_hints import QuotaState, ServerHints

AT_ONCE = 0.0  # what a discovery answers that holds nothing back


def quota(
    left: int | None, reset: float | None = None, limit: int | None = 3, per: float | None = 10.0
) -> Quota:
    return Quota("d", limit, per, None, left, reset)


def plain(left: int | None, reset: float | None = None) -> Quota:
    return quota(left, reset, per=None)


def ready(hints: ServerHints, now: float, *, found: bool = False) -> float:
    return max(now, hints.ready_at(now, AT_ONCE, is_rate_known=found))


def accepted(hints: ServerHints, now: float, said: Quota | None = None, *, at: float | None = None) -> None:
    """Send a request *now* that is accepted *at* the same time, or later."""
    hints.on_send(now)
    answered(hints, now, said, at=at)


def answered(hints: ServerHints, sent: float, said: Quota | None = None, *, at: float | None = None) -> None:
    at = sent if at is None else at
    hints.on_accept(at, sent_at=sent)
    if said is not None:
        hints.on_quota(said, at, sent_at=sent)


def rejected(
    hints: ServerHints, now: float, said: Quota | None = None, *, at: float | None = None, wait: float = 0.0
) -> bool:
    hints.on_send(now)
    at = now if at is None else at
    explained = hints.on_reject(at, sent_at=now)
    if said is not None:
        hints.on_quota(said, at, sent_at=now, rejected_for=wait)
    return explained


def hints_from(said: Quota, now: float = 0.0) -> ServerHints:
    """Return hints from the response to a first request."""
    hints = ServerHints(0, now)
    hints.on_quota(said, now, sent_at=now)
    return hints


def test_a_quota_with_its_window_is_kept_as_a_configured_limit_is() -> None:
    hints = hints_from(quota(None))
    assert hints.paces
    assert hints.rate == 0.3
    for now in (1.0, 2.0, 3.0):
        assert ready(hints, now) == now
        accepted(hints, now)
    assert ready(hints, 4.0) == 11.0


def test_a_used_up_part_of_the_quota_is_free_after_one_window() -> None:
    hints = hints_from(quota(1))
    assert ready(hints, 0.0) == 0.0
    hints.on_send(0.0)
    assert ready(hints, 0.0) == 10.0


def test_more_is_sent_than_the_window_allows_while_the_service_says_that_more_remain() -> None:
    hints = hints_from(quota(3))
    for now in (0.0, 1.0, 2.0):
        accepted(hints, now, quota(2))
    assert ready(hints, 3.0) == 3.0


def test_a_named_burst_is_kept() -> None:
    hints = hints_from(Quota("d", 10, 1.0, 2, None))
    for _ in range(2):
        assert ready(hints, 0.0) == 0.0
        accepted(hints, 0.0)
    assert ready(hints, 0.0) == pytest.approx(0.1)


def test_four_requests_are_in_flight_until_one_is_accepted() -> None:
    hints = hints_from(quota(None, limit=100))
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
    hints = hints_from(quota(5, limit=10_001))
    assert not hints.paces
    assert ready(hints, 1.0) == 1.0


def test_a_new_limit_is_kept_from_then_on() -> None:
    hints = hints_from(quota(None))
    hints.on_send(1.0)
    answered(hints, 1.0, quota(None, limit=2, per=20.0))
    assert hints.rate == 0.1
    assert ready(hints, 1.0) == 1.0
    answered_before = ServerHints(2, 0.0)
    answered_before.on_quota(quota(3), 0.0, sent_at=0.0)
    answered_before.on_send(0.0)
    assert ready(answered_before, 0.0) == math.inf  # two were in flight when the limit was named


def test_responses_in_any_order_say_how_many_remain() -> None:
    hints = ServerHints(0, 0.0)
    for _ in range(5):
        hints.on_send(0.0)
    for left in (4, 9, 5, 8, 6):  # the service counted them 9, 8, 7 ..., so four are left
        answered(hints, 0.0, plain(left, 30.0), at=1.0)
    assert hints.remaining == 4
    hints.on_send(1.0)
    assert hints.remaining == 3


def test_a_late_response_to_an_earlier_request_is_ignored() -> None:
    hints = ServerHints(2, 0.0)
    hints.on_send(1.0)
    answered(hints, 1.0, plain(0, 30.0), at=2.0)
    until = ready(hints, 2.0)
    answered(hints, 0.5, plain(9, 30.0), at=2.0)
    assert hints.remaining == 0
    assert ready(hints, 2.0) <= until


def test_requests_sent_since_do_not_remain() -> None:
    hints = hints_from(plain(2, 30.0))
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


def test_if_none_remain_only_a_test_is_sent_before_the_reset() -> None:
    hints = hints_from(plain(0, 30.0))
    assert ready(hints, 0.0) == 1.0  # the test
    assert rejected(hints, 1.0, plain(0, 29.0), wait=29.0)  # the headers are right
    accepted(hints, 31.0, plain(0, 30.0))
    assert ready(hints, 31.0) == 61.0  # and no further test for ten minutes
    accepted(hints, 700.0, plain(0, 30.0))
    assert ready(hints, 700.0) == 701.0


def test_no_test_is_sent_while_others_are_in_flight() -> None:
    hints = ServerHints(1, 0.0)
    hints.on_quota(plain(0, 30.0), 0.0, sent_at=0.0)
    assert ready(hints, 5.0) == 30.0


def test_a_reset_within_a_second_is_ignored() -> None:
    hints = hints_from(plain(0, 1.0))
    assert ready(hints, 0.0) == 0.0
    assert rejected(hints, 0.0, plain(0, 1.0)) is False
    assert not hints.ignored


@pytest.mark.parametrize(
    ("reset", "per", "until"), [(1e9, None, 60.0), (1e9, 10.0, 10.0), (1e9, 600.0, 60.0)]
)
def test_a_hold_ends_after_the_window_or_a_minute(reset: float, per: float | None, until: float) -> None:
    hints = ServerHints(1, 0.0)
    hints.on_quota(quota(0, reset, limit=1, per=per), 0.0, sent_at=0.0)
    assert ready(hints, 2.0) <= until
    hints.on_no_response(2.0)
    assert ready(hints, until) == until
    # rejections then are no contradiction: the reset is later
    for now in (until, 2 * until, 3 * until):
        rejected(hints, now, quota(0, reset, limit=1, per=per), wait=until)
    assert not hints.ignored


def test_if_our_own_requests_used_it_up_the_window_sets_the_end() -> None:
    hints = hints_from(quota(None))
    for now in (0.0, 0.1):
        accepted(hints, now)
    hints.on_send(0.2)
    answered(hints, 0.2, quota(0, 10.0))
    rejected(hints, 1.2)  # the test
    assert ready(hints, 5.0) == 9.2
    assert ready(hints, 9.2) == pytest.approx(10.0)


def test_if_other_clients_used_it_up_the_reset_sets_the_end() -> None:
    hints = hints_from(quota(None))
    accepted(hints, 0.0, quota(0, 5.0))
    rejected(hints, 1.0)  # the test
    assert ready(hints, 2.0) == 5.0
    assert ready(hints, 5.0) == 5.0


def test_after_the_reset_one_request_goes_ahead_of_the_window() -> None:
    """A fixed window may end less than its length after it was filled."""
    hints = hints_from(quota(None))
    for now in (0.0, 0.0, 0.0):
        hints.on_send(now)
    for _ in range(3):
        answered(hints, 0.0, quota(0, 4.0))
    rejected(hints, 1.0)  # the test
    assert ready(hints, 2.0) == 4.0
    assert ready(hints, 4.0) == 4.0
    hints.on_send(4.0)
    assert ready(hints, 4.0) > 4.0
    answered(hints, 4.0, quota(2, 10.0))
    assert ready(hints, 4.0) == 4.0


def test_after_a_reset_that_came_too_early_the_next_is_waited_for_longer() -> None:
    hints = ServerHints(1, 0.0)
    hints.on_quota(plain(0, 5.0), 0.0, sent_at=0.0)
    hints.on_no_response(0.0)
    hints._test_at = math.inf
    assert ready(hints, 0.0) == 5.0
    assert rejected(hints, 5.0, plain(0, 1.0), wait=1.0)
    accepted(hints, 6.0, plain(0, 5.0))
    hints._test_at = math.inf
    assert ready(hints, 6.0) == 12.0  # a second later than named
    assert not rejected(hints, 12.0)  # again, so the discovery learns from it


def test_the_wait_of_a_429_overrules_the_reset() -> None:
    hints = ServerHints(0, 0.0)
    hints.on_send(0.0)
    hints.on_send(0.0)
    answered(hints, 0.0, plain(0, 50.0))
    hints.on_reject(0.0, sent_at=0.0)
    hints.on_quota(plain(0, 50.0), 0.0, sent_at=0.0, rejected_for=2.0)
    assert ready(hints, 0.0) == 0.0  # the limiter pauses for two seconds


def test_headers_are_ignored_after_two_rejections_of_allowed_requests() -> None:
    hints = hints_from(quota(3))
    assert rejected(hints, 1.0, quota(3))
    assert hints.contradictions == (1, 0)
    rejected(hints, 2.0, quota(3))
    assert hints.ignored
    assert not hints.paces
    assert ready(hints, 2.0) == 2.0
    assert hints.ready_at(2.0, 7.0, is_rate_known=True) == 7.0
    assert not rejected(hints, 3.0, quota(0, 50.0))
    accepted(hints, 4.0, quota(0, 50.0))
    assert ready(hints, 4.0) == 4.0
    assert hints.trusted_wait(3600.0) is None


def test_rejections_at_the_same_time_are_one_contradiction() -> None:
    hints = hints_from(quota(3))
    for _ in range(3):
        hints.on_send(1.0)
    for _ in range(3):
        hints.on_reject(1.5, sent_at=1.0)
    assert hints.contradictions == (1, 0)
    hints.on_send(2.0)
    hints.on_reject(2.5, sent_at=2.0)
    assert hints.ignored


def test_a_rejection_though_requests_remain_is_a_contradiction_without_a_window_too() -> None:
    hints = hints_from(plain(50, 30.0))
    assert not rejected(hints, 1.0, plain(50, 30.0))  # the discovery learns from it
    hints.on_quota(plain(50, 30.0), 2.0, sent_at=2.0)
    assert not rejected(hints, 3.0)
    assert hints.ignored


def test_headers_that_never_say_that_requests_remain_are_found_out() -> None:
    hints = hints_from(quota(0, 3600.0, limit=1, per=60.0))
    assert hints.trusted_wait(3600.0) == 3600.0
    assert ready(hints, 0.0) == 1.0
    accepted(hints, 1.0, quota(0, 3600.0, limit=1, per=60.0))
    assert not hints.ignored
    assert hints.trusted_wait(3600.0) == 60.0
    assert ready(hints, 1.0) == 2.0
    accepted(hints, 2.0, quota(0, 3600.0, limit=1, per=60.0))
    assert hints.ignored


def test_tests_go_on_after_one_was_accepted() -> None:
    hints = hints_from(plain(0, 50.0))
    accepted(hints, 1.0, plain(0, 50.0))
    assert rejected(hints, 2.0)
    accepted(hints, 60.0, plain(0, 50.0))
    assert ready(hints, 60.0) == 61.0


def test_a_test_whose_response_takes_until_the_reset_shows_nothing() -> None:
    hints = hints_from(plain(0, 5.0))
    accepted(hints, 1.0, at=4.5)
    assert hints.contradictions == (0, 0)


def test_with_a_discovered_rate_nothing_is_sent_only_while_the_quota_is_surely_empty() -> None:
    hints = ServerHints(1, 0.0)
    hints.on_quota(plain(0, 5.0), 0.0, sent_at=0.0)
    assert ready(hints, 2.0, found=True) == 4.0
    assert ready(hints, 2.0) == 5.0
    assert ready(hints, 4.0, found=True) == 4.0


def test_only_the_last_departures_are_remembered() -> None:
    hints = hints_from(quota(3))
    for index in range(2000):
        accepted(hints, float(index))
    assert len(hints.quota_state._sent_at) <= 512


# ---- two scopes


def make_scopes(limits: Limits | None = None) -> Scopes:
    return Scopes(limits or Limits(), longest_query_wait=600.0)


def accept_with(scopes: Scopes, scope: str, now: float, said: Quota) -> None:
    scopes.on_send(scope, now, (scope, now))  # type: ignore[arg-type]
    scopes.on_accept(scope, now, sent_at=now, job=(scope, now))  # type: ignore[arg-type]
    scopes.on_quota(scope, said, now, sent_at=now)  # type: ignore[arg-type]


def test_headers_of_a_query_concern_queries() -> None:
    scopes = make_scopes()
    accept_with(scopes, "query", 0.0, quota(0, 10.0, limit=1))
    assert scopes.ready_at("create", 0.0) == 0.0
    assert scopes.ready_at("query", 0.0) > 0.0
    assert not scopes.shares_limited_quota


def test_scopes_with_the_same_quota_in_their_headers_share_it() -> None:
    scopes = make_scopes()
    accept_with(scopes, "query", 0.0, quota(2))
    scopes.on_send("query", 0.0, "on the wire")
    accept_with(scopes, "create", 0.0, quota(None))
    assert scopes.shares_limited_quota
    assert scopes.create.rate == scopes.query.rate == 0.3
    assert scopes.ready_at("create", 0.0) == 0.0
    scopes.on_send("create", 0.0, "the last of three")
    assert scopes.ready_at("create", 0.0) == scopes.ready_at("query", 0.0) == 10.0
    scopes.on_accept("query", 1.0, sent_at=0.0, job="on the wire")
    assert scopes.ready_at("create", 1.0) == scopes.ready_at("query", 1.0) == 10.0
    accept_with(scopes, "create", 10.0, quota(None, limit=5))
    assert scopes.create.rate == 0.5
    assert scopes.query.rate == 0.3
    accept_with(scopes, "query", 10.0, quota(None, limit=5))
    accept_with(scopes, "query", 10.0, Quota(remaining=3))
    assert scopes.create.hints is not None
    assert scopes.query.hints is not None
    assert scopes.create.hints.quota_state is scopes.query.hints.quota_state


def test_scopes_go_on_sharing_a_quota_that_is_named_again() -> None:
    scopes = make_scopes()
    accept_with(scopes, "query", 0.0, quota(2))
    accept_with(scopes, "create", 0.0, quota(1))
    accept_with(scopes, "query", 1.0, quota(0))
    assert scopes.create.hints is not None
    assert scopes.query.hints is not None
    assert scopes.create.hints.quota_state is scopes.query.hints.quota_state
    assert scopes.shares_limited_quota


def test_scopes_with_two_quotas_share_no_headers() -> None:
    scopes = make_scopes()
    accept_with(scopes, "create", 0.0, quota(3))
    accept_with(scopes, "query", 0.0, quota(3))
    scopes.on_send("create", 0.0, "a")
    scopes.on_reject("create", 0.0, 5.0, sent_at=0.0, job="a")
    assert scopes.tests("query", 0.0)
    accept_with(scopes, "query", 0.0, quota(2))
    assert not scopes.shares_limited_quota
    assert scopes.create.hints is not None
    assert scopes.query.hints is not None
    assert scopes.create.hints.quota_state is not scopes.query.hints.quota_state
    accept_with(scopes, "query", 1.0, quota(2))
    accept_with(scopes, "create", 6.0, quota(2))
    assert scopes.create.hints.quota_state is not scopes.query.hints.quota_state


def test_a_configured_limit_overrides_headers() -> None:
    scopes = make_scopes(Limits(create_rate=RateLimit(1, 7.0)))
    accept_with(scopes, "create", 0.0, quota(0, 50.0))
    assert scopes.ready_at("create", 0.0) == 7.0
    assert scopes.create.hints is None


def test_contradictions_are_taken_back_when_the_cap_explains_the_rejections() -> None:
    scopes = make_scopes()
    accept_with(scopes, "create", 0.0, quota(3))
    scopes.save()
    for now in (1.0, 3.0):
        scopes.on_send("create", now, now)
        scopes.on_reject("create", now, None, sent_at=now, job=now)
    assert scopes.create.hints is not None
    assert scopes.create.hints.ignored
    scopes.restore()
    assert not scopes.create.hints.ignored


# ---- in the limiter


def limiter_with(said: Quota) -> ScopeLimiter:
    limiter = ScopeLimiter(None)
    limiter.on_send(0.0)
    limiter.on_accept(0.0, sent_at=0.0)
    hints = limiter.ensure_hints(0.0)
    assert hints is not None
    hints.on_quota(said, 0.0, sent_at=0.0)
    return limiter


def test_a_limiter_keeps_a_named_quota_and_pauses_after_a_rejection() -> None:
    limiter = limiter_with(quota(None, limit=50, per=1.0))
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
    assert limiter.rate is None  # after the second contradiction


def test_a_rejection_that_the_headers_explain_does_not_count_as_the_overdue_response() -> None:
    limiter = limiter_with(quota(None, limit=50, per=1.0))
    limiter.on_send(1.0)  # its response never comes
    limiter.on_send(10.0)
    limiter.on_reject(10.0, None, sent_at=10.0)
    assert limiter.limit.ready_at(10.0) == 10.0  # the first is waited for no more


def test_scopes_with_the_same_quota_without_a_window_share_what_remains() -> None:
    scopes = make_scopes()
    accept_with(scopes, "query", 0.0, plain(5, 30.0))
    accept_with(scopes, "create", 0.0, plain(4, 30.0))
    assert scopes.shares_limited_quota
    assert scopes.create.rate is None
    accept_with(scopes, "create", 1.0, quota(3, limit=9, per=None))
    assert scopes.create.hints is not None
    assert scopes.query.hints is not None
    assert scopes.create.hints.quota_state is not scopes.query.hints.quota_state


def test_a_scope_that_leaves_a_shared_quota_takes_its_requests_in_flight_along() -> None:
    scopes = make_scopes()
    accept_with(scopes, "query", 0.0, quota(None))
    accept_with(scopes, "create", 0.0, quota(None))
    scopes.on_send("create", 0.0, "on the wire")
    assert scopes.create.hints is not None
    assert scopes.query.hints is not None
    scopes.create.hints.part(1.0)
    assert scopes.create.hints.quota_state.in_flight == 1
    assert scopes.query.hints.quota_state.in_flight == 0


def test_no_scope_joins_a_quota_that_is_ignored() -> None:
    scopes = make_scopes()
    accept_with(scopes, "query", 0.0, quota(3))
    assert scopes.query.hints is not None
    scopes.query.hints.contradictions = (2, 0)
    accept_with(scopes, "create", 0.0, quota(3))
    assert not scopes.shares_limited_quota


def test_a_limiter_says_how_long_nothing_is_sent() -> None:
    limiter = limiter_with(quota(None, limit=1))
    limiter.on_send(0.0)
    assert limiter.wait(0.0) == 0.0  # only an answer can tell
    limiter.on_accept(1.0, sent_at=0.0)
    assert limiter.wait(2.0) == 9.0
    limiter.on_send(11.0)
    limiter.on_cap_reject(11.0, 20.0)
    assert limiter.wait(11.0) == 20.0
    limiter.on_send(31.0)
    limiter.on_cap_reject(31.0, None)
    assert limiter.paused_for(31.0) == 0.0


def test_requests_that_are_taken_over_take_places_in_a_shared_quota() -> None:
    books = QuotaState(0, 0.0)
    books.update(Quota(limit=3, per=10.0), 0.0)
    assert books.limit is not None
    books.take_over(3, 0.0)
    assert books.limit.ready_at(0.0) == math.inf
    books.take_over(-1, 1.0)
    assert books.limit.ready_at(1.0) == 11.0
