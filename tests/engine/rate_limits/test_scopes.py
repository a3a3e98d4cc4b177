"""One quota for both scopes or one for each: how that is tested, and what follows."""

from __future__ import annotations

import math

import pytest

from ruxa_async import Limits, RateLimit
from ruxa_async._api.rate_limit_headers import Quota
from ruxa_async._engine.rate_limits.scopes import Scopes
from ruxa_async.settings import Scope

SCOPES: list[tuple[Scope, Scope]] = [("create", "query"), ("query", "create")]


def make(limits: Limits | None = None) -> Scopes:
    return Scopes(limits or Limits(), longest_query_wait=600.0)


def reject(scopes: Scopes, scope: Scope, now: float, retry_after: float | None = None) -> None:
    scopes.on_send(scope, now, (scope, now))
    scopes.on_reject(scope, now, retry_after, sent_at=now, job=(scope, now))


def accept(scopes: Scopes, scope: Scope, now: float) -> None:
    scopes.on_send(scope, now, (scope, now))
    scopes.on_accept(scope, now, sent_at=now, job=(scope, now))


def two_quotas(first: Scope = "create", other: Scope = "query") -> Scopes:
    """Return scopes that were found to have a quota each."""
    scopes = make()
    reject(scopes, first, 0.0, 1.0)
    accept(scopes, other, 0.0)
    assert not scopes.shares_limited_quota
    return scopes


def test_each_scope_has_its_limiter() -> None:
    scopes = make()
    assert scopes.limiter("create") is scopes.create
    assert scopes.limiter("query") is scopes.query
    assert scopes.create is not scopes.query


def test_before_a_rejection_nothing_binds_and_nothing_is_a_test() -> None:
    scopes = make()
    accept(scopes, "create", 0.0)
    assert not scopes.shares_limited_quota
    assert not scopes.tests("create", 0.0)
    assert not scopes.tests("query", 0.0)


@pytest.mark.parametrize(("scope", "other"), SCOPES)
def test_the_first_rejection_makes_the_next_of_the_other_scope_a_test_that_is_sent_at_once(
    scope: Scope, other: Scope
) -> None:
    scopes = make()
    reject(scopes, scope, 1.0, 7.0)
    assert scopes.shares_limited_quota
    assert scopes.tests(other, 1.0)
    assert not scopes.tests(scope, 1.0)
    assert scopes.ready_at(other, 1.0) == 1.0
    assert scopes.ready_at(scope, 1.0) == 8.0
    scopes.on_send(other, 1.0, (other, 1.0))
    assert not scopes.tests(other, 1.0)  # one is enough
    assert scopes.ready_at(other, 1.0) >= 8.0


def test_a_request_that_is_not_sent_at_once_is_no_test() -> None:
    scopes = make()
    reject(scopes, "create", 1.0, 7.0)
    assert scopes.ready_at("query", 1.05) == 1.05
    assert scopes.ready_at("query", 1.06) == 8.0
    accept(scopes, "query", 9.0)
    assert scopes.shares_limited_quota


@pytest.mark.parametrize(("scope", "other"), SCOPES)
@pytest.mark.parametrize(
    ("retry_after", "test_retry_after"), [(7.0, 3.0), (3.0, 7.0), (None, 7.0), (7.0, None)]
)
def test_a_rejected_test_pauses_both_scopes_for_the_longest_retry_after(
    scope: Scope, other: Scope, retry_after: float | None, test_retry_after: float | None
) -> None:
    scopes = make()
    reject(scopes, scope, 1.0, retry_after)
    reject(scopes, other, 1.0, test_retry_after)
    assert scopes.shares_limited_quota
    assert scopes.create.paused_for(1.0) == scopes.query.paused_for(1.0) == 7.0
    assert not scopes.tests(scope, 1.0)


@pytest.mark.parametrize(("scope", "other"), SCOPES)
def test_an_accepted_test_splits_the_scopes_and_ends_the_pause_of_its_own(scope: Scope, other: Scope) -> None:
    scopes = make()
    reject(scopes, scope, 1.0, 7.0)
    accept(scopes, other, 1.0)
    assert not scopes.shares_limited_quota
    assert scopes.ready_at(other, 1.0) == 1.0
    assert scopes.ready_at(scope, 1.0) == 8.0
    assert scopes.limiter(other).rate is None
    reject(scopes, scope, 8.0, 7.0)  # a pause of one scope is none of the other
    assert scopes.ready_at(other, 8.0) == 8.0
    assert not scopes.tests(other, 8.0)


def rejected_after_ten() -> Scopes:
    """Accept ten creates, one each 0.1 s, and reject the next; a round trip takes 200 ms."""
    scopes = make()
    for index in range(10):
        scopes.on_send("create", 0.1 * index, ("create", 0.1 * index))
        scopes.on_accept("create", 0.1 * index + 0.2, sent_at=0.1 * index, job=("create", 0.1 * index))
    scopes.on_send("create", 1.0, ("create", 1.0))
    scopes.on_reject("create", 1.2, 1.0, sent_at=1.0, job=("create", 1.0))
    return scopes


def test_more_tests_are_sent_than_tokens_flow_in_during_a_round_trip() -> None:
    """About ten are accepted a second, and a round trip takes 200 ms: two tokens may have flowed in."""
    scopes = rejected_after_ten()
    for tests in range(3):
        assert scopes.tests("query", 1.2), tests
        scopes.on_send("query", 1.2, ("query", 1.2))
    assert not scopes.tests("query", 1.2)
    for _ in range(2):
        scopes.on_accept("query", 1.4, sent_at=1.2, job=("query", 1.2))
        assert scopes.shares_limited_quota
    scopes.on_accept("query", 1.4, sent_at=1.2, job=("query", 1.2))
    assert not scopes.shares_limited_quota


def test_one_rejected_test_of_several_shows_one_quota() -> None:
    scopes = rejected_after_ten()
    for _ in range(3):
        scopes.on_send("query", 1.2, ("query", 1.2))
    scopes.on_accept("query", 1.4, sent_at=1.2, job=("query", 1.2))
    scopes.on_reject("query", 1.4, 5.0, sent_at=1.2, job=("query", 1.2))
    scopes.on_accept("query", 1.4, sent_at=1.2, job=("query", 1.2))
    assert scopes.shares_limited_quota


def test_rejections_of_requests_sent_before_the_last_are_no_pairs() -> None:
    scopes = two_quotas()
    order: list[Scope] = ["create", "query"] * 4
    for scope in order:
        scopes.on_send(scope, 10.0, (scope, 10.0))
    for scope in order:
        scopes.on_reject(scope, 10.1, None, sent_at=10.0, job=(scope, 10.0))
    assert not scopes.shares_limited_quota


def test_after_a_split_no_scope_waits_for_responses_of_the_other() -> None:
    scopes = make()
    scopes.on_send("query", 0.0, ("query", 0.0))
    scopes.on_send("query", 0.5, ("query", 0.5))
    reject(scopes, "create", 1.0)
    accept(scopes, "query", 1.0)
    assert scopes.ready_at("create", 2.0) == 2.0
    scopes.on_accept("query", 2.0, sent_at=0.5, job=("query", 0.5))
    scopes.on_accept("query", 2.0, sent_at=0.0, job=("query", 0.0))
    assert scopes.ready_at("query", 2.0) == 2.0
    reject(scopes, "query", 3.0)
    assert scopes.ready_at("query", 3.0) < math.inf


def test_a_test_that_is_accepted_after_a_split_changes_nothing() -> None:
    """A request sent at the same moment is taken for the test, after another one has split the scopes."""
    scopes = two_quotas()
    reject(scopes, "query", 1.0)
    waits = scopes.ready_at("query", 1.0)
    scopes._test_jobs, scopes._tests_to_accept = {("query", 2.0)}, 1
    accept(scopes, "query", 2.0)
    assert waits > 1.0
    assert not scopes.shares_limited_quota


def test_no_test_is_sent_before_the_retry_after_of_its_own_scope() -> None:
    scopes = make()
    reject(scopes, "create", 0.0, 100.0)
    for _ in range(17):
        scopes.on_send("query", 1.0, ("query", 1.0))
        scopes.on_reject("query", 1.0, None, sent_at=0.5, job=("query", 0.5))
    assert scopes._test_scope == "create"
    assert not scopes.tests("create", 1.0)
    assert scopes.ready_at("create", 1.0) >= 100.0


def test_the_test_is_repeated_after_sixteen_rejections() -> None:
    scopes, now = make(), 0.0
    reject(scopes, "create", now, 1.0)
    reject(scopes, "query", now, 1.0)
    asked = []
    for number in range(1, 40):
        now += 2.0
        reject(scopes, "create", now, 1.0)
        if scopes.tests("query", now):
            asked.append(number)
            reject(scopes, "query", now, 1.0)
    assert asked == [17, 34]
    while not scopes.tests("query", now):
        now += 2.0
        reject(scopes, "create", now, 1.0)
    accept(scopes, "query", now)  # this time there are two quotas
    assert not scopes.shares_limited_quota


@pytest.mark.parametrize(("scope", "other"), SCOPES)
def test_rejections_in_pairs_merge_two_quotas(scope: Scope, other: Scope) -> None:
    scopes = two_quotas()
    pair: list[tuple[Scope, float]] = [(scope, 10.0), (other, 10.1), (scope, 10.2)]
    for one, now in pair:
        reject(scopes, one, now)
        assert not scopes.shares_limited_quota
    reject(scopes, other, 10.3)
    assert scopes.shares_limited_quota
    scopes.on_send("create", 20.0, ("create", 20.0))
    assert scopes.query.limit is scopes.create.limit
    scopes.on_accept("create", 20.0, sent_at=20.0, job=("create", 20.0))
    reject(scopes, scope, 21.0, 5.0)
    assert scopes.limiter(other).paused_for(21.0) == 5.0


@pytest.mark.parametrize(
    "rejections",
    [
        [("create", at / 10) for at in range(100, 140)],  # one scope alone
        [("create" if at % 2 else "query", float(at)) for at in range(10, 50)],  # too far apart
        [("create", 10.0), ("query", 10.1), ("create", 10.2), ("create", 10.7), ("query", 10.8)],  # no row
    ],
)
def test_other_rejections_do_not_merge_two_quotas(rejections: list[tuple[Scope, float]]) -> None:
    scopes = two_quotas()
    for scope, now in rejections:
        reject(scopes, scope, now)
    assert not scopes.shares_limited_quota


@pytest.mark.parametrize(
    "limits",
    [
        Limits(create_rate=RateLimit(2, 10.0)),
        Limits(query_rate=RateLimit(2, 10.0)),
        Limits(create_rate=RateLimit(2, 10.0), query_rate=RateLimit(2, 10.0)),
    ],
)
@pytest.mark.parametrize(("scope", "other"), SCOPES)
def test_a_configured_limit_is_not_shared_at_first(limits: Limits, scope: Scope, other: Scope) -> None:
    scopes = make(limits)
    for number in range(40):
        now = 100.0 * number
        reject(scopes, scope, now, 50.0)
        assert scopes.ready_at(other, now) == now
        assert not scopes.tests(other, now)
        assert not scopes.shares_limited_quota


def test_a_query_waits_a_minute_at_most_for_the_retry_after_of_a_create() -> None:
    scopes = make()
    reject(scopes, "create", 0.0, 86_400.0)
    assert scopes.ready_at("query", 1.0) == 60.0
    assert scopes.ready_at("create", 1.0) == 86_400.0


def test_a_rejection_by_the_cap_is_no_result_of_a_test() -> None:
    scopes = make()
    reject(scopes, "query", 0.0, 5.0)
    scopes.on_send("create", 0.0, "test")
    scopes.on_cap_reject(0.0, 2.0, job="test")
    assert scopes.shares_limited_quota
    assert scopes.create.paused_for(0.0) == 5.0  # as queries
    scopes.on_send("create", 6.0, "other")
    scopes.on_cap_reject(6.0, 2.0, job="other")
    assert scopes.create.paused_for(6.0) == 2.0
    assert scopes.query.paused_for(6.0) == 0.0


def test_what_is_learned_after_a_save_can_be_undone_or_kept() -> None:
    scopes = two_quotas()
    saved = scopes.create.limit
    scopes.restore()  # nothing was saved
    assert scopes.create.limit is saved
    scopes.save()
    reject(scopes, "create", 10.0)
    scopes.save()  # the first save counts
    assert scopes.ready_at("create", 10.0) > 10.0
    queries = scopes.query.limit
    scopes.restore()
    assert scopes.query.limit is queries
    scopes.save()
    reject(scopes, "create", 20.0)
    learned = scopes.create.limit
    scopes.discard_saved()
    scopes.restore()
    assert scopes.create.limit is learned


def test_on_one_quota_both_scopes_are_restored_together() -> None:
    scopes = make()
    scopes.save()
    reject(scopes, "create", 1.0)
    scopes.restore()
    assert scopes.create.limit is scopes.query.limit
    assert scopes.ready_at("create", 2.0) == 2.0


# ---- one limit is configured


def configured_creates() -> Scopes:
    return Scopes(Limits(create_rate=RateLimit(10, 1.0)), longest_query_wait=600.0)


def rejected_in_pairs(scopes: Scopes, pairs: int) -> None:
    for at in range(pairs):
        for scope in ("create", "query"):
            scopes.on_send(scope, 0.2 * at, (scope, at))
            scopes.on_reject(scope, 0.2 * at + 0.01, None, sent_at=0.2 * at, job=(scope, at))


def test_a_configured_limit_that_rejects_in_pairs_with_the_other_scope_is_kept_by_both() -> None:
    scopes = configured_creates()
    rejected_in_pairs(scopes, 3)
    assert scopes.shares_limited_quota
    assert scopes.query.rate == scopes.create.rate == 10.0
    rejected_in_pairs(scopes, 1)
    assert scopes.shares_limited_quota


def test_requests_in_flight_count_in_a_limit_that_becomes_shared() -> None:
    scopes = configured_creates()
    scopes.on_send("query", 0.0, "job")
    rejected_in_pairs(scopes, 3)
    scopes.on_accept("query", 40.0, sent_at=0.0, job="job")
    now = 60.0
    assert scopes.ready_at("query", now) == now


def test_a_configured_limit_of_queries_is_shared_as_well() -> None:
    scopes = Scopes(Limits(query_rate=RateLimit(10, 1.0)), longest_query_wait=600.0)
    rejected_in_pairs(scopes, 3)
    assert scopes.create.rate == 10.0


def test_two_configured_limits_are_never_merged() -> None:
    scopes = Scopes(
        Limits(create_rate=RateLimit(10, 1.0), query_rate=RateLimit(5, 1.0)), longest_query_wait=600.0
    )
    rejected_in_pairs(scopes, 5)
    assert not scopes.shares_limited_quota
    assert (scopes.create.rate, scopes.query.rate) == (10.0, 5.0)


def reject_queries_while_creates_run_at_their_limit(scopes: Scopes, times: int) -> None:
    for at in range(times):
        for _ in range(2):
            accept(scopes, "create", float(at))
        reject(scopes, "query", float(at) + 0.01)


def creates_at(count: int, burst: int) -> Scopes:
    configured = Limits(create_rate=RateLimit(count, 1.0, burst))
    return Scopes(configured, longest_query_wait=600.0)


def test_a_scope_that_was_never_accepted_shares_a_configured_limit_that_is_used_up() -> None:
    found = []
    for times in (1, 2):
        scopes = creates_at(2, 2)
        reject_queries_while_creates_run_at_their_limit(scopes, times)
        found.append((scopes.shares_limited_quota, scopes.query.rate))
    assert found == [(False, None), (True, 2.0)]


def test_a_scope_that_was_accepted_before_may_have_a_limit_of_its_own() -> None:
    scopes = creates_at(2, 2)
    accept(scopes, "query", 0.0)
    reject_queries_while_creates_run_at_their_limit(scopes, 9)
    assert not scopes.shares_limited_quota


def test_a_configured_limit_that_is_not_used_up_explains_no_rejection() -> None:
    scopes = creates_at(20, 20)
    reject_queries_while_creates_run_at_their_limit(scopes, 9)
    assert not scopes.shares_limited_quota


def test_headers_are_dropped_when_a_scope_gets_a_configured_limit() -> None:
    scopes = creates_at(2, 2)
    quota = Quota("d", 100, 1.0, None, 99, None)
    reject_queries_while_creates_run_at_their_limit(scopes, 1)
    scopes.on_quota("query", quota, 0.02, sent_at=0.01, rejected_for=0.0)
    for _ in range(4):
        scopes.on_send("query", 0.5, "in flight")
    for _ in range(2):
        accept(scopes, "create", 1.0)
    reject(scopes, "query", 1.01)
    assert scopes.shares_limited_quota
    for _ in range(4):
        scopes.on_accept("query", 2.0, sent_at=0.5, job="in flight")
    assert scopes.ready_at("query", 20.0) == 20.0
