"""The engine if replies name a quota, if tests of the quota are due, and if a cap rejects creates."""

from __future__ import annotations

import math

import attrs
import pytest

from ruxa_async import Limits, Polling, Retries
from ruxa_async._api.rate_limit_headers import Quota
from ruxa_async._engine.classify import Reply
from ruxa_async._engine.engine import CREATES_IN_A_ROW, Engine
from ruxa_async._engine.job import CreateStep, Job, QueryStep
from ruxa_async._engine.rate_limits.concurrency_limit import ConcurrencyLimit
from ruxa_async.results import TaskState

QUOTA = Quota("d", 2, 10.0, None, 1, 10.0)
EMPTY = Quota("d", 2, 10.0, None, 0, 3600.0)


def make(jobs: int = 0, **polling: float) -> Engine[Job]:
    engine: Engine[Job] = Engine(Limits(max_in_flight=1000), Polling(**polling), Retries())
    for _ in range(jobs):
        engine.creates.submit(Job(), 0.0)
    return engine


def create(engine: Engine[Job], now: float) -> Job:
    job = engine.take_create(now)
    assert job is not None
    return job


def followed(engine: Engine[Job], now: float, poll_at: float | None = None) -> Job:
    job = Job(task_id="t")
    job.accepted_at = now
    engine.polls.follow(job, now, poll_at=poll_at)
    return job


def accepted(quota: Quota | None = None) -> Reply:
    return Reply(200, 200, task_id="t", quota=quota)


def test_the_quota_in_the_reply_to_a_create_is_kept() -> None:
    engine = make(3)
    assert engine.creates.on_reply(create(engine, 0.0), accepted(QUOTA), 0.0) is CreateStep.ACCEPTED
    assert engine.scopes.create.rate == 0.2
    engine.creates.on_reply(create(engine, 1.0), accepted(attrs.evolve(QUOTA, remaining=0)), 1.0)
    assert engine.create_ready_at(1.0) == 2.0  # only a test
    assert engine.scopes.query.rate is None


def test_the_quota_in_a_429_is_kept() -> None:
    engine = make(1)
    job = create(engine, 0.0)
    said = attrs.evolve(QUOTA, remaining=0)
    engine.creates.on_reply(job, Reply(429, retry_after=3.0, by_rate_limit_headers=True, quota=said), 0.0)
    engine.creates.requeue(job)
    assert engine.scopes.create.rate == 0.2
    assert engine.create_ready_at(0.0) == 3.0


def test_the_quota_in_the_reply_to_a_query_is_kept() -> None:
    engine = make()
    for number in range(2):
        followed(engine, 0.0, poll_at=0.0)
        query = engine.take_query(float(number))
        assert query is not None
        reply = (
            Reply(429, retry_after=1.0, quota=QUOTA)
            if number
            else Reply(200, 200, state=TaskState.RUNNING, quota=QUOTA)
        )
        engine.polls.on_reply(query, reply, float(number))
    assert engine.scopes.query.rate == 0.2
    assert engine.scopes.create.rate is None


def test_no_create_is_given_up_because_of_headers_that_proved_wrong() -> None:
    engine = make(4)
    engine.creates.on_reply(create(engine, 0.0), accepted(EMPTY), 0.0)
    for now in (1.0, 2.0):
        engine.creates.on_reply(create(engine, now), accepted(EMPTY), now)
    refusal = Reply(429, retry_after=3600.0, by_rate_limit_headers=True, quota=EMPTY)
    assert engine.creates.on_reply(create(engine, 3.0), refusal, 3.0) is CreateStep.REQUEUE


def test_headers_of_the_first_429_are_trusted() -> None:
    engine = make(1)
    refusal = Reply(429, retry_after=3600.0, by_rate_limit_headers=True, quota=EMPTY)
    assert engine.creates.on_reply(create(engine, 3.0), refusal, 3.0) is CreateStep.GIVE_UP


def test_a_query_that_tests_the_limit_keeps_the_least_interval() -> None:
    engine = make(2, min_interval=5.0)
    job = followed(engine, 0.0, poll_at=1.0)
    assert engine.take_query(1.0) is job
    assert engine.polls.on_reply(job, Reply(200, 200, state=TaskState.RUNNING), 1.0) is QueryStep.PENDING
    engine.creates.on_reply(create(engine, 3.0), Reply(429, retry_after=1.0), 3.0)
    assert engine.scopes.tests("query", 3.0)
    assert engine.take_query(3.0) is None
    assert engine.look_for_query_at(3.0) == (6.0, True)


def test_where_nothing_is_followed_nothing_tests_the_limit() -> None:
    engine = make(1)
    engine.creates.on_reply(create(engine, 0.0), Reply(429, retry_after=1.0), 0.0)
    assert engine.scopes.tests("query", 0.0)
    assert engine.look_for_query_at(0.0) == (math.inf, True)
    assert engine.polls.count_due(0.0) == 0


def test_a_due_query_is_looked_for_when_the_limit_allows_it() -> None:
    engine = make(0)
    job = followed(engine, 0.0, poll_at=1.0)
    assert engine.look_for_query_at(0.5) == (1.0, True)
    assert engine.take_query(1.0) is job
    assert engine.polls.on_reply(job, Reply(429, retry_after=3.0), 1.5) is QueryStep.AGAIN
    assert engine.look_for_query_at(2.0) == (4.5, False)


def test_a_create_that_tests_the_limit_does_not_wait_for_its_turn() -> None:
    engine = make(2)
    query = followed(engine, 0.0, poll_at=0.0)
    assert engine.take_query(0.0) is query
    engine._creates_in_a_row = CREATES_IN_A_ROW
    followed(engine, 0.0, poll_at=0.0)
    engine.polls.on_reply(query, Reply(429), 0.0)
    assert engine.scopes.shares_limited_quota
    assert engine.scopes.tests("create", 0.0)
    assert engine.create_ready_at(0.0) == 0.0


@pytest.mark.parametrize("seen", [True, False])
def test_a_cap_on_running_tasks_is_found_and_kept(seen: bool) -> None:
    """Five tasks may run for ten seconds each. Ends that are not *seen* at once are found by queries."""
    engine = make(120, min_interval=0.25 if seen else 2.0)
    running: dict[Job, float] = {}
    refused, now = [], 0.0
    while engine.queued and now < 2000:
        while (job := engine.take_create(now)) is not None:
            if sum(ends > now for ends in running.values()) >= 5:
                refused.append(now)
                engine.creates.on_reply(job, Reply(429), now)
                engine.creates.requeue(job)
            else:
                engine.creates.on_reply(job, accepted(), now)
                running[job] = now + 10
                engine.polls.follow(job, now)
        while (query := engine.take_query(now)) is not None:
            over = running[query] <= now
            state = TaskState.SUCCESS if over else TaskState.RUNNING
            engine.polls.on_reply(query, Reply(200, 200, state=state), now)
            if over:
                engine.polls.learn(query, now, 10.0)
        now += 0.05
    assert engine.queued == 0
    assert now <= 1.35 * 120 / 5 * 10
    assert len([at for at in refused if at > 100]) <= 12
    assert engine.concurrency_limit.cap == 5


def test_a_create_accepted_in_spite_of_a_suspicion_makes_all_rested_tasks_due() -> None:
    """After three rejections while three ran, one is accepted: one may have ended unseen."""
    engine = make(6, min_interval=1.0)
    engine.scopes._is_shared = False
    for _ in range(3):
        job = create(engine, 0.0)
        engine.creates.on_reply(job, accepted(), 0.0)
        engine.polls.follow(job, 0.0)
        engine.queues.queries.set(job, 1e6)
    now = 0.0
    for _ in range(3):
        now = max(engine.create_ready_at(now), now + 1.0)
        job = create(engine, now)
        engine.creates.on_reply(job, Reply(429), now)
        engine.creates.requeue(job)
    now = max(engine.create_ready_at(now), now + 0.1)
    late = followed(engine, now - 0.1)
    engine.queues.queries.set(late, 1e6)
    assert engine.polls.count_due(now) == 0
    engine.creates.on_reply(create(engine, now), accepted(), now)
    assert engine.concurrency_limit.is_in_doubt
    assert engine.polls.count_due(now) == 3
    assert now - late.accepted_at < 1.0


def report(limit: ConcurrencyLimit, *creates: tuple[int, bool]) -> None:
    """Report creates to *limit*: the tasks that ran, and whether the create was rejected."""
    for number, (running, is_rejected) in enumerate(creates):
        create, now = object(), 0.1 * number
        limit.on_send(create, running)
        if is_rejected:
            limit.on_reject(create, running, now, sent_at=now, is_rate_known=True)
        else:
            limit.on_accept(create, running, now, sent_at=now)


def test_a_confirmed_cap_that_is_found_again_restores_the_rate() -> None:
    engine = make(2)
    limit = engine.concurrency_limit
    report(limit, (5, True), (5, True), (4, False), (5, False), (5, False), (5, True), (3, True), (3, True))
    assert (limit.is_confirmed, limit.is_suspected) == (True, True)
    learned_meanwhile = engine.scopes.create.limit
    engine.scopes.save()
    engine.creates.on_reply(create(engine, 1.0), accepted(), 1.1)
    assert engine.concurrency_limit.cap == 3
    assert engine.scopes.create.limit is not learned_meanwhile


def test_a_tentative_cap_explains_a_rejection_and_restores_nothing() -> None:
    """Three run at a tentative cap of four: the cap is lowered, and the discovery keeps what it learned."""
    engine = make(4)
    for _ in range(3):
        engine.creates.on_reply(create(engine, 0.0), accepted(), 0.0)
    report(engine.concurrency_limit, (4, True), (4, True), (3, False))
    assert engine.concurrency_limit.is_tentative
    engine.scopes.save()
    learned_meanwhile = engine.scopes.create.limit
    engine.creates.on_reply(create(engine, 1.0), Reply(429), 1.0)
    assert engine.concurrency_limit.is_tentative
    assert engine.concurrency_limit.cap == 3
    assert engine.scopes.create.limit is learned_meanwhile
