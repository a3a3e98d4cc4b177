"""One limit for everything or one for each scope: how that is asked, and what follows from the answer."""

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


def refuse(rates: Scopes, scope: Scope, now: float, retry_after: float | None = None) -> None:
    rates.on_send(scope, now, (scope, now))
    rates.on_reject(scope, now, retry_after, sent_at=now, job=(scope, now))


def let_through(rates: Scopes, scope: Scope, now: float) -> None:
    rates.on_send(scope, now, (scope, now))
    rates.on_accept(scope, now, sent_at=now, job=(scope, now))


def split(first: Scope = "create", other: Scope = "query") -> Scopes:
    """Return rates that were found to be two."""
    rates = make()
    refuse(rates, first, 0.0, 1.0)
    let_through(rates, other, 0.0)
    assert not rates.binding
    return rates


def test_each_scope_has_its_gate() -> None:
    rates = make()
    assert rates.limiter("create") is rates.create
    assert rates.limiter("query") is rates.query
    assert rates.create is not rates.query


def test_before_a_refusal_nothing_binds_and_nothing_is_a_test() -> None:
    rates = make()
    let_through(rates, "create", 0.0)
    assert not rates.binding
    assert not rates.tests("create", 0.0)
    assert not rates.tests("query", 0.0)


@pytest.mark.parametrize(("scope", "other"), SCOPES)
def test_the_first_refusal_makes_the_next_of_the_other_scope_a_test_that_leaves_at_once(
    scope: Scope, other: Scope
) -> None:
    rates = make()
    refuse(rates, scope, 1.0, 7.0)
    assert rates.binding
    assert rates.tests(other, 1.0)
    assert not rates.tests(scope, 1.0)
    assert rates.ready_at(other, 1.0) == 1.0
    assert rates.ready_at(scope, 1.0) == 8.0
    rates.on_send(other, 1.0, (other, 1.0))
    assert not rates.tests(other, 1.0)  # one is enough
    assert rates.ready_at(other, 1.0) >= 8.0


def test_a_test_that_did_not_leave_at_once_is_none() -> None:
    rates = make()
    refuse(rates, "create", 1.0, 7.0)
    assert rates.ready_at("query", 1.05) == 1.05
    assert rates.ready_at("query", 1.06) == 8.0
    let_through(rates, "query", 9.0)
    assert rates.binding


@pytest.mark.parametrize(("scope", "other"), SCOPES)
@pytest.mark.parametrize(("told", "told_test"), [(7.0, 3.0), (3.0, 7.0), (None, 7.0), (7.0, None)])
def test_a_test_that_is_refused_too_closes_both_for_the_longest_that_was_told(
    scope: Scope, other: Scope, told: float | None, told_test: float | None
) -> None:
    rates = make()
    refuse(rates, scope, 1.0, told)
    refuse(rates, other, 1.0, told_test)
    assert rates.binding
    assert rates.create.closed_for(1.0) == rates.query.closed_for(1.0) == 7.0
    assert not rates.tests(scope, 1.0)


@pytest.mark.parametrize(("scope", "other"), SCOPES)
def test_a_test_that_is_let_through_splits_them_and_opens_its_gate(scope: Scope, other: Scope) -> None:
    rates = make()
    refuse(rates, scope, 1.0, 7.0)
    let_through(rates, other, 1.0)
    assert not rates.binding
    assert rates.ready_at(other, 1.0) == 1.0
    assert rates.ready_at(scope, 1.0) == 8.0
    assert rates.limiter(other).rate is None
    refuse(rates, scope, 8.0, 7.0)  # and what closes one is nothing to the other
    assert rates.ready_at(other, 8.0) == 8.0
    assert not rates.tests(other, 8.0)


def test_where_some_flows_in_on_the_way_more_than_that_must_be_let_through() -> None:
    """About ten let through in the last second, and 200 ms there and back: two may have flowed in."""
    rates = make()
    for index in range(10):
        rates.on_send("create", 0.1 * index, ("create", 0.1 * index))
        rates.on_accept("create", 0.1 * index + 0.2, sent_at=0.1 * index, job=("create", 0.1 * index))
    rates.on_send("create", 1.0, ("create", 1.0))
    rates.on_reject("create", 1.2, 1.0, sent_at=1.0, job=("create", 1.0))
    for tests in range(3):
        assert rates.tests("query", 1.2), tests
        rates.on_send("query", 1.2, ("query", 1.2))
    assert not rates.tests("query", 1.2)
    for _ in range(2):
        rates.on_accept("query", 1.4, sent_at=1.2, job=("query", 1.2))
        assert rates.binding
    rates.on_accept("query", 1.4, sent_at=1.2, job=("query", 1.2))
    assert not rates.binding


def test_one_of_them_that_is_refused_is_enough_for_one_quota() -> None:
    rates = make()
    for index in range(10):
        rates.on_send("create", 0.1 * index, ("create", 0.1 * index))
        rates.on_accept("create", 0.1 * index + 0.2, sent_at=0.1 * index, job=("create", 0.1 * index))
    rates.on_send("create", 1.0, ("create", 1.0))
    rates.on_reject("create", 1.2, 1.0, sent_at=1.0, job=("create", 1.0))
    for _ in range(3):
        rates.on_send("query", 1.2, ("query", 1.2))
    rates.on_accept("query", 1.4, sent_at=1.2, job=("query", 1.2))
    rates.on_reject("query", 1.4, 5.0, sent_at=1.2, job=("query", 1.2))
    rates.on_accept("query", 1.4, sent_at=1.2, job=("query", 1.2))
    assert rates.binding


def test_refusals_that_are_no_news_are_no_pairs() -> None:
    rates = split()
    scopes: list[Scope] = ["create", "query"] * 4
    for scope in scopes:
        rates.on_send(scope, 10.0, (scope, 10.0))
    for scope in scopes:
        rates.on_reject(scope, 10.1, None, sent_at=10.0, job=(scope, 10.0))
    assert not rates.binding


def test_after_a_split_nobody_waits_for_answers_of_the_other_scope() -> None:
    rates = make()
    rates.on_send("query", 0.0, ("query", 0.0))
    rates.on_send("query", 0.5, ("query", 0.5))
    refuse(rates, "create", 1.0)
    let_through(rates, "query", 1.0)
    assert rates.ready_at("create", 2.0) == 2.0
    rates.on_accept("query", 2.0, sent_at=0.5, job=("query", 0.5))
    rates.on_accept("query", 2.0, sent_at=0.0, job=("query", 0.0))
    assert rates.ready_at("query", 2.0) == 2.0
    refuse(rates, "query", 3.0)
    assert rates.ready_at("query", 3.0) < math.inf


def test_a_test_that_is_let_through_late_changes_nothing_more() -> None:
    """Another one was meanwhile: whoever left at the same moment is taken for the test, and one split is enough."""
    rates = split()
    refuse(rates, "query", 1.0)
    waits = rates.ready_at("query", 1.0)
    rates._test_jobs, rates._tests_to_accept = {("query", 2.0)}, 1
    let_through(rates, "query", 2.0)
    assert waits > 1.0
    assert not rates.binding


def test_no_test_leaves_before_the_time_that_its_own_scope_was_told() -> None:
    rates = make()
    refuse(rates, "create", 0.0, 100.0)
    for _ in range(17):
        rates.on_send("query", 1.0, ("query", 1.0))
        rates.on_reject("query", 1.0, None, sent_at=0.5, job=("query", 0.5))
    assert rates._test_scope == "create"
    assert not rates.tests("create", 1.0)
    assert rates.ready_at("create", 1.0) >= 100.0


def test_the_question_is_asked_again_after_sixteen_refusals() -> None:
    rates, now = make(), 0.0
    refuse(rates, "create", now, 1.0)
    refuse(rates, "query", now, 1.0)
    asked = []
    for number in range(1, 40):
        now += 2.0
        refuse(rates, "create", now, 1.0)
        if rates.tests("query", now):
            asked.append(number)
            refuse(rates, "query", now, 1.0)
    assert asked == [17, 34]
    now += 2.0
    rates._rejections_until_test = 0
    refuse(rates, "create", now, 1.0)
    let_through(rates, "query", now)  # this time there are two
    assert not rates.binding


@pytest.mark.parametrize(("scope", "other"), SCOPES)
def test_refusals_in_pairs_bring_two_together_again(scope: Scope, other: Scope) -> None:
    rates = split()
    pair: list[tuple[Scope, float]] = [(scope, 10.0), (other, 10.1), (scope, 10.2)]
    for one, now in pair:
        refuse(rates, one, now)
        assert not rates.binding
    refuse(rates, other, 10.3)
    assert rates.binding
    rates.on_send("create", 20.0, ("create", 20.0))
    assert rates.query.limit is rates.create.limit
    rates.on_accept("create", 20.0, sent_at=20.0, job=("create", 20.0))
    refuse(rates, scope, 21.0, 5.0)
    assert rates.limiter(other).closed_for(21.0) == 5.0


@pytest.mark.parametrize(
    "refusals",
    [
        [("create", at / 10) for at in range(100, 140)],  # one scope alone
        [("create" if at % 2 else "query", float(at)) for at in range(10, 50)],  # too far apart
        [("create", 10.0), ("query", 10.1), ("create", 10.2), ("create", 10.7), ("query", 10.8)],  # no row
    ],
)
def test_other_refusals_do_not(refusals: list[tuple[Scope, float]]) -> None:
    rates = split()
    for scope, now in refusals:
        refuse(rates, scope, now)
    assert not rates.binding


@pytest.mark.parametrize(
    "limits",
    [
        Limits(create_rate=RateLimit(2, 10.0)),
        Limits(query_rate=RateLimit(2, 10.0)),
        Limits(create_rate=RateLimit(2, 10.0), query_rate=RateLimit(2, 10.0)),
    ],
)
@pytest.mark.parametrize(("scope", "other"), SCOPES)
def test_what_was_told_is_never_shared(limits: Limits, scope: Scope, other: Scope) -> None:
    rates = make(limits)
    for number in range(40):
        now = 100.0 * number
        refuse(rates, scope, now, 50.0)
        assert rates.ready_at(other, now) == now
        assert not rates.tests(other, now)
        assert not rates.binding


def test_the_query_of_a_paid_task_waits_a_minute_at_most_for_what_a_create_was_told() -> None:
    rates = make()
    refuse(rates, "create", 0.0, 86_400.0)
    assert rates.ready_at("query", 1.0) == 60.0
    assert rates.ready_at("create", 1.0) == 86_400.0


def test_a_refusal_for_the_cap_says_nothing_of_one_quota_or_two() -> None:
    rates = make()
    refuse(rates, "query", 0.0, 5.0)
    rates.on_send("create", 0.0, "test")
    rates.on_cap_reject(0.0, 2.0, job="test")
    assert rates.binding
    assert rates.create.closed_for(0.0) == 5.0  # as queries
    rates.on_send("create", 6.0, "other")
    rates.on_cap_reject(6.0, 2.0, job="other")
    assert rates.create.closed_for(6.0) == 2.0
    assert rates.query.closed_for(6.0) == 0.0


def test_what_was_learned_since_it_was_saved_can_be_forgotten_or_kept() -> None:
    rates = split()
    saved = rates.create.limit
    rates.restore()  # nothing was saved
    assert rates.create.limit is saved
    rates.save()
    refuse(rates, "create", 10.0)
    rates.save()  # what was saved first counts
    assert rates.ready_at("create", 10.0) > 10.0
    queries = rates.query.limit
    rates.restore()
    assert rates.query.limit is queries
    rates.save()
    refuse(rates, "create", 20.0)
    learned = rates.create.limit
    rates.discard_saved()
    rates.restore()
    assert rates.create.limit is learned


def test_on_one_quota_both_scopes_forget_together() -> None:
    rates = make()
    rates.save()
    refuse(rates, "create", 1.0)
    rates.restore()
    assert rates.create.limit is rates.query.limit
    assert rates.ready_at("create", 2.0) == 2.0


# ---- one of them told


def told_creates() -> Scopes:
    return Scopes(Limits(create_rate=RateLimit(10, 1.0)), longest_query_wait=600.0)


def refused_in_pairs(rates: Scopes, pairs: int) -> None:
    for at in range(pairs):
        for scope in ("create", "query"):
            rates.on_send(scope, 0.2 * at, (scope, at))
            rates.on_reject(scope, 0.2 * at + 0.01, None, sent_at=0.2 * at, job=(scope, at))


def test_a_told_limit_that_refuses_in_pairs_with_the_other_scope_is_kept_by_both() -> None:
    rates = told_creates()
    refused_in_pairs(rates, 3)
    assert rates.binding
    assert rates.query.rate == rates.create.rate == 10.0
    refused_in_pairs(rates, 1)
    assert rates.binding


def test_what_is_on_the_wire_counts_in_the_limit_that_is_shared_from_now_on() -> None:
    rates = told_creates()
    rates.on_send("query", 0.0, "job")
    refused_in_pairs(rates, 3)
    rates.on_accept("query", 40.0, sent_at=0.0, job="job")
    now = 60.0
    assert rates.ready_at("query", now) == now


def test_a_told_limit_of_queries_is_shared_as_well() -> None:
    rates = Scopes(Limits(query_rate=RateLimit(10, 1.0)), longest_query_wait=600.0)
    refused_in_pairs(rates, 3)
    assert rates.create.rate == 10.0


def test_two_told_limits_are_never_one() -> None:
    rates = Scopes(
        Limits(create_rate=RateLimit(10, 1.0), query_rate=RateLimit(5, 1.0)), longest_query_wait=600.0
    )
    refused_in_pairs(rates, 5)
    assert not rates.binding
    assert (rates.create.rate, rates.query.rate) == (10.0, 5.0)


def refuse_queries_while_creates_run_at_their_limit(rates: Scopes, times: int) -> None:
    for at in range(times):
        for _ in range(2):
            let_through(rates, "create", float(at))
        refuse(rates, "query", float(at) + 0.01)


def creates_at(count: int, burst: int) -> Scopes:
    told = Limits(create_rate=RateLimit(count, 1.0, burst))
    return Scopes(told, longest_query_wait=600.0)


def test_what_is_refused_though_nothing_of_it_was_let_through_is_used_up_by_what_was_told() -> None:
    found = []
    for times in (1, 2):
        rates = creates_at(2, 2)
        refuse_queries_while_creates_run_at_their_limit(rates, times)
        found.append((rates.binding, rates.query.rate))
    assert found == [(False, None), (True, 2.0)]


def test_what_was_let_through_before_may_have_met_a_limit_of_its_own() -> None:
    rates = creates_at(2, 2)
    let_through(rates, "query", 0.0)
    refuse_queries_while_creates_run_at_their_limit(rates, 9)
    assert not rates.binding


def test_a_limit_that_was_told_and_is_not_used_up_explains_no_refusal() -> None:
    rates = creates_at(20, 20)
    refuse_queries_while_creates_run_at_their_limit(rates, 9)
    assert not rates.binding


def test_headers_of_a_scope_that_gets_a_configured_limit_hold_nothing_back_any_more() -> None:
    rates = creates_at(2, 2)
    quota = Quota("d", 100, 1.0, None, 99, None)
    refuse_queries_while_creates_run_at_their_limit(rates, 1)
    rates.on_quota("query", quota, 0.02, sent_at=0.01, rejected_for=0.0)
    for _ in range(4):
        rates.on_send("query", 0.5, "in flight")
    for _ in range(2):
        let_through(rates, "create", 1.0)
    refuse(rates, "query", 1.01)
    assert rates.binding
    for _ in range(4):
        rates.on_accept("query", 2.0, sent_at=0.5, job="in flight")
    assert rates.ready_at("query", 20.0) == 20.0
