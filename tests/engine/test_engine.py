"""The engine as a whole: which request it sends when, and what each reply leads to."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ruxa_async import Limits, Polling, RateLimit, Retries, TaskState
from ruxa_async._engine.classify import Phrase, Reply
from ruxa_async._engine.engine import CREATES_IN_A_ROW, Engine
from ruxa_async._engine.job import CreateStep, Job, Phase, QueryStep
from ruxa_async._engine.polling.schedule import PollingSchedule
from ruxa_async._engine.polls import LATE, REPLANS_PER_TASK
from ruxa_async.emulator import TokenBucket
from ruxa_async.settings import Scope

NO_LIMITS = Limits(max_in_flight=1000, max_concurrent_creates=1000, max_concurrent_queries=1000)
POLLING = Polling()
RETRIES = Retries()


@attrs.define(eq=False, kw_only=True)
class Named(Job):
    name: str = ""


def make(limits: Limits = NO_LIMITS, polling: Polling = POLLING, retries: Retries = RETRIES) -> Engine[Named]:
    return Engine(limits, polling, retries)


def accepted(task_id: str = "t") -> Reply:
    return Reply(200, 200, task_id=task_id)


def rejected(retry_after: float | None = None) -> Reply:
    return Reply(429, retry_after=retry_after)


def pending(state: TaskState = TaskState.RUNNING) -> Reply:
    return Reply(200, 200, state=state)


def ended(state: TaskState = TaskState.SUCCESS) -> Reply:
    return Reply(200, 200, state=state)


def submitted(engine: Engine[Named], names: str, now: float = 0.0) -> dict[str, Named]:
    jobs = {name: Named(name=name) for name in names}
    for job in jobs.values():
        engine.creates.submit(job, now)
    return jobs


def taken(engine: Engine[Named], now: float) -> str:
    """Take every create that may be sent; return the names of the jobs."""
    names = ""
    while (job := engine.take_create(now)) is not None:
        names += job.name
    return names


def taken_one(engine: Engine[Named], now: float) -> Named:
    job = engine.take_create(now)
    assert job is not None
    return job


def taken_query(engine: Engine[Named], now: float) -> Named:
    job = engine.take_query(now)
    assert job is not None
    return job


def followed(
    engine: Engine[Named],
    now: float = 0.0,
    *,
    single_shot: bool = False,
    poll_at: float | None = None,
    timeout: float | None = None,
    name: str = "",
) -> Named:
    """Return a job that another client created at *now*, followed from then on."""
    job = Named(name=name, task_id="t", single_shot=single_shot)
    job.accepted_at = now
    engine.polls.follow(job, now, poll_at=poll_at, timeout=timeout)
    return job


# ---- creates


def test_an_engine_without_work_is_never_ready() -> None:
    engine = make()
    assert engine.create_ready_at(1.0) == math.inf
    assert engine.query_ready_at(1.0) == math.inf
    assert engine.queues.deadlines.next_time() == math.inf
    assert engine.take_create(1.0) is None
    assert engine.take_query(1.0) is None
    assert engine.take_expired(1.0) is None
    assert engine.pop_queued() is None
    assert list(engine.creates.give_up_waiting(1.0)) == []
    assert engine.queued == 0


def test_a_create_goes_from_queued_to_over() -> None:
    engine = make()
    job = submitted(engine, "a", now=1.0)["a"]
    assert (job.phase, job.queued_at, engine.queued) == (Phase.QUEUED, 1.0, 1)
    assert engine.take_create(2.0) is job
    assert (job.phase, job.sent_at) == (Phase.CREATING, 2.0)
    assert (engine.queued, engine.counts.creates_on_wire, engine.counts.in_flight) == (0, 1, 1)
    assert engine.creates.on_reply(job, accepted("task_1"), 2.5) is CreateStep.ACCEPTED
    assert (job.task_id, job.accepted_at) == ("task_1", 2.5)
    assert (engine.counts.creates_on_wire, engine.counts.in_flight) == (0, 1)
    engine.polls.follow(job, 2.75)
    assert (job.phase, engine.counts.in_flight) == (Phase.FOLLOWED, 1)
    due = engine.query_ready_at(2.75)
    assert due == 2.5 + PollingSchedule(POLLING).next_poll(None, 0.25, 0.0)
    assert engine.take_query(due) is job
    assert engine.polls.on_reply(job, ended(), due + 0.25) is QueryStep.ENDED
    assert (job.phase, engine.counts.in_flight, engine.counts.queries_on_wire) == (Phase.OVER, 0, 0)
    counts = engine.counts
    assert (counts.creates_sent, counts.accepted, counts.queries_sent) == (1, 1, 1)
    assert (counts.refused, counts.unknown, counts.withdrawn) == (0, 0, 0)


def test_creates_are_sent_in_the_order_of_submission() -> None:
    engine = make(Limits(create_rate=RateLimit(1000, 1.0, burst=10)))
    submitted(engine, "abcd")
    assert taken(engine, 0.0) == "abcd"


def test_no_more_creates_are_on_the_wire_than_allowed() -> None:
    engine = make(Limits(max_concurrent_creates=2))
    jobs = submitted(engine, "abc")
    assert taken(engine, 0.0) == "ab"
    assert engine.create_ready_at(0.0) == math.inf
    engine.creates.on_reply(jobs["a"], accepted(), 1.0)
    assert taken(engine, 1.0) == "c"


def test_no_more_tasks_run_than_allowed() -> None:
    engine = make(Limits(max_in_flight=2))
    jobs = submitted(engine, "abcd")
    assert taken(engine, 0.0) == "ab"
    engine.creates.on_reply(jobs["a"], accepted(), 1.0)
    assert engine.create_ready_at(1.0) == math.inf  # it may be running already
    engine.polls.follow(jobs["a"], 1.0)
    assert engine.create_ready_at(1.0) == math.inf
    engine.release(jobs["a"])
    assert taken(engine, 1.0) == "c"
    engine.creates.on_reply(jobs["b"], Reply(422), 1.0)
    assert taken(engine, 1.0) == "d"


def test_a_configured_limit_is_used_up_after_a_takeover() -> None:
    engine = make(Limits(create_rate=RateLimit(2, 10.0), query_rate=RateLimit(1, 10.0)))
    submitted(engine, "abc", 100.0)
    engine.take_over(98.0, unknown=0, accepted=0)
    assert engine.create_ready_at(100.0) == 108.0
    assert taken(engine, 108.0) == "ab"
    assert engine.scopes.ready_at("query", 100.0) == 108.0


def test_creates_that_another_process_left_behind_may_run() -> None:
    engine = make(Limits(max_in_flight=5, max_concurrent_creates=5))
    submitted(engine, "abcdef")
    engine.take_over(-1.0, unknown=1, accepted=2)
    assert taken(engine, 0.0) == "ab"
    assert engine.create_ready_at(0.0) == 599.0
    assert taken(engine, 599.0) == "cde"


def test_creates_that_another_process_left_behind_leave_one_slot() -> None:
    engine = make(Limits(max_in_flight=2))
    submitted(engine, "abc")
    engine.take_over(0.0, unknown=7, accepted=0)
    assert taken(engine, 0.0) == "a"


def test_a_task_that_is_followed_again_is_counted_once() -> None:
    engine = make(Limits(max_in_flight=4, max_concurrent_creates=4))
    submitted(engine, "abcd")
    engine.take_over(0.0, unknown=1, accepted=1)
    for left in (2, 1):
        followed(engine)
        engine.creates.on_recovered()
        assert engine.creates.ready_at(0.0) == 0.0, left
    assert taken(engine, 0.0) == "a"
    assert engine.create_ready_at(0.0) == 600.0


def test_attached_tasks_occupy_slots_and_single_shots_do_not() -> None:
    engine = make(Limits(max_in_flight=1))
    submitted(engine, "a")
    look = followed(engine, single_shot=True)
    assert engine.counts.in_flight == 0
    attached = followed(engine)
    assert engine.counts.in_flight == 1
    assert engine.create_ready_at(0.0) == math.inf
    engine.release(look)
    assert engine.create_ready_at(0.0) == math.inf
    engine.release(attached)
    assert taken(engine, 0.0) == "a"


def test_following_or_releasing_twice_counts_once() -> None:
    engine = make()
    job = followed(engine)
    engine.polls.follow(job, 1.0)
    assert engine.counts.in_flight == 1
    engine.release(job)
    engine.release(job)
    assert engine.counts.in_flight == 0


def test_a_configured_create_rate_is_kept() -> None:
    engine = make(Limits(create_rate=RateLimit(2, 10.0)))
    jobs = submitted(engine, "abc")
    assert taken(engine, 0.0) == "ab"
    assert engine.create_ready_at(0.0) == math.inf
    for name in "ab":
        engine.creates.on_reply(jobs[name], accepted(), 1.0)
    assert engine.create_ready_at(1.0) == 11.0
    assert taken(engine, math.nextafter(11.0, 0.0)) == ""
    assert taken(engine, 11.0) == "c"


# ---- withdrawn creates


@pytest.mark.parametrize("gone", ["a", "b", "c", "ab", "bc", "ac", "abc"])
def test_a_withdrawn_job_is_never_taken(gone: str) -> None:
    engine = make()
    jobs = submitted(engine, "abc")
    assert all(engine.creates.withdraw(jobs[name]) for name in gone)
    assert engine.queued == 3 - len(gone)
    assert engine.counts.withdrawn == len(gone)
    assert taken(engine, 0.0) == "".join(name for name in "abc" if name not in gone)


def test_a_queue_of_withdrawn_jobs_is_empty() -> None:
    engine = make()
    for job in submitted(engine, "abc").values():
        assert engine.creates.withdraw(job)
    assert engine.create_ready_at(0.0) == math.inf
    assert engine.pop_queued() is None


def test_a_job_cannot_be_withdrawn_twice_nor_after_it_was_sent() -> None:
    engine = make()
    jobs = submitted(engine, "ab")
    taken_one(engine, 0.0)
    assert not engine.creates.withdraw(jobs["a"])
    assert engine.creates.withdraw(jobs["b"])
    assert not engine.creates.withdraw(jobs["b"])
    engine.creates.on_reply(jobs["a"], accepted(), 0.5)
    assert not engine.creates.withdraw(jobs["a"])
    engine.polls.follow(jobs["a"], 0.5)
    assert not engine.creates.withdraw(jobs["a"])
    assert engine.counts.withdrawn == 1


def test_a_job_that_waits_to_be_sent_again_can_be_withdrawn() -> None:
    engine = make()
    job = submitted(engine, "a")["a"]
    taken_one(engine, 0.0)
    engine.creates.on_reply(job, rejected(), 0.5)
    engine.creates.requeue(job)
    assert engine.creates.withdraw(job)
    assert engine.take_create(100.0) is None
    assert engine.counts.in_flight == 0


@pytest.mark.parametrize("released", ["a", "b", "ab"])
def test_a_released_job_is_never_bought(released: str) -> None:
    engine = make()
    jobs = submitted(engine, "abc")
    for name in released:
        engine.release(jobs[name])
    assert taken(engine, 0.0) == "".join(name for name in "abc" if name not in released)


def test_popping_empties_the_queue_from_its_head() -> None:
    engine = make()
    jobs = submitted(engine, "abc")
    engine.creates.withdraw(jobs["a"])
    assert [engine.pop_queued(), engine.pop_queued(), engine.pop_queued()] == [jobs["b"], jobs["c"], None]
    assert engine.counts.withdrawn == 3
    assert {job.phase for job in jobs.values()} == {Phase.OVER}


# ---- replies to a create


@pytest.mark.parametrize(
    ("reply", "step", "count"),
    [
        (Reply(422), CreateStep.REFUSED, "refused"),
        (Reply(200, 402), CreateStep.REFUSED, "refused"),
        (Reply(200, 500, phrase=Phrase.CREDITS), CreateStep.REFUSED, "refused"),
        (Reply(500), CreateStep.UNKNOWN, "unknown"),
        (Reply(200, 200), CreateStep.UNKNOWN, "unknown"),
        (Reply(503), CreateStep.UNKNOWN, "unknown"),
        (Reply(429), CreateStep.REQUEUE, None),
        (Reply(503, retry_after=5.0), CreateStep.REQUEUE, None),
        (Reply(402, phrase=Phrase.RATE), CreateStep.REQUEUE, None),
    ],
)
def test_a_create_that_is_not_accepted_frees_its_slot(
    reply: Reply, step: CreateStep, count: str | None
) -> None:
    engine = make()
    job = submitted(engine, "a")["a"]
    taken_one(engine, 0.0)
    assert engine.creates.on_reply(job, reply, 1.0) is step
    assert (engine.counts.creates_on_wire, engine.counts.in_flight) == (0, 0)
    counts = attrs.asdict(engine.counts)
    assert {name for name in ("accepted", "refused", "unknown") if counts[name]} == (
        {count} if count else set()
    )
    assert job.task_id is None


def test_a_rejected_create_returns_to_the_head_of_the_queue() -> None:
    engine = make(Limits(max_concurrent_creates=1))
    jobs = submitted(engine, "ab", now=1.0)
    taken_one(engine, 1.0)
    assert engine.creates.on_reply(jobs["a"], rejected(7.0), 2.0) is CreateStep.REQUEUE
    engine.creates.requeue(jobs["a"])
    assert (jobs["a"].phase, jobs["a"].queued_at, engine.queued) == (Phase.QUEUED, 1.0, 2)
    assert engine.create_ready_at(2.0) == 9.0
    assert taken(engine, 8.999) == ""
    assert taken(engine, 9.0) == "a"
    assert engine.counts.creates_sent == 2


def test_rejected_creates_are_sent_one_by_one_in_the_old_order() -> None:
    """After a rejection creates are sent one by one, until the limit is found."""
    engine = make()
    jobs = submitted(engine, "abcdefgh")
    away = taken(engine, 0.0)
    assert "abcdefgh".startswith(away)
    assert 1 < len(away) < 8
    for name in reversed(away):  # each returns to its place
        engine.creates.on_reply(jobs[name], rejected(), 0.25)
        engine.creates.requeue(jobs[name])
    assert engine.scopes.create.rejections == len(away)
    assert engine.create_ready_at(0.75) == 0.75
    assert taken(engine, 0.75) == "a"
    engine.creates.on_reply(jobs["a"], Reply(422), 1.0)  # refused, but accepted by the limit
    now = engine.create_ready_at(1.0)
    assert taken_one(engine, now) is jobs["b"]


def test_a_create_with_too_long_a_retry_after_is_given_up() -> None:
    engine = make()
    jobs = submitted(engine, "ab")
    taken_one(engine, 0.0)
    assert engine.creates.on_reply(jobs["a"], rejected(120.0), 0.0) is CreateStep.REQUEUE
    engine.creates.requeue(jobs["a"])
    assert not engine.creates.has_waited_too_long(jobs["b"], 0.0)
    job = taken_one(engine, 120.0)
    assert engine.creates.on_reply(job, rejected(120.5), 120.0) is CreateStep.GIVE_UP
    assert engine.creates.has_waited_too_long(jobs["b"], 120.0)
    assert not engine.creates.has_waited_too_long(jobs["b"], 120.5)
    assert (engine.counts.in_flight, engine.counts.refused) == (0, 0)


def test_all_jobs_that_would_wait_too_long_are_given_up_together() -> None:
    engine = make(Limits(max_concurrent_creates=1))
    jobs = submitted(engine, "abcd")
    taken_one(engine, 0.0)
    engine.creates.withdraw(jobs["c"])
    assert engine.creates.on_reply(jobs["a"], rejected(121.0), 0.0) is CreateStep.GIVE_UP
    assert list(engine.creates.give_up_waiting(0.0)) == [jobs["b"], jobs["d"]]
    assert engine.queued == 0
    assert engine.counts.withdrawn == 1
    assert engine.create_ready_at(0.0) == math.inf
    assert list(engine.creates.give_up_waiting(0.0)) == []


def refused_until_given_up(limits: Limits) -> list[float]:
    """Return when the only create of an engine is sent, which is always rejected."""
    engine = make(limits, retries=Retries(throttled_timeout=60.0))
    job, now = submitted(engine, "a")["a"], 0.0
    instants = []
    while True:
        assert engine.take_create(now) is job
        instants.append(now)
        if engine.creates.on_reply(job, rejected(), now) is CreateStep.GIVE_UP:
            return instants
        engine.creates.requeue(job)
        now = engine.create_ready_at(now)


def test_a_create_is_given_up_after_throttled_timeout_of_rejections() -> None:
    instants = refused_until_given_up(Limits())
    assert instants[:6] == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.225, 0.3375])
    assert len(instants) < 32  # it does not hammer
    assert instants[-2] < 60.0 <= instants[-1] <= 120.0


def test_a_create_within_a_configured_limit_is_given_up_as_soon() -> None:
    instants = refused_until_given_up(Limits(create_rate=RateLimit(1000, 1.0)))
    assert instants == pytest.approx([0.0, 0.001, 0.501, 1.501, 3.501, 7.501, 15.501, 31.501, 61.501])


def test_rejections_before_its_submission_do_not_count_against_a_job() -> None:
    engine = make(retries=Retries(throttled_timeout=60.0))
    old = submitted(engine, "a", now=0.0)["a"]
    taken_one(engine, 0.0)
    engine.creates.on_reply(old, rejected(), 0.0)
    engine.creates.requeue(old)
    young = submitted(engine, "b", now=50.0)["b"]
    assert (
        engine.creates.has_waited_too_long(old, 59.9),
        engine.creates.has_waited_too_long(young, 59.9),
    ) == (False, False)
    assert (
        engine.creates.has_waited_too_long(old, 60.0),
        engine.creates.has_waited_too_long(young, 60.0),
    ) == (True, False)
    assert list(engine.creates.give_up_waiting(60.0)) == [old]
    assert taken(engine, 60.0) == "b"


def test_a_create_of_which_no_byte_was_sent_is_retried_after_a_pause() -> None:
    engine = make()
    job = submitted(engine, "a")["a"]
    taken_one(engine, 0.0)
    assert engine.creates.on_not_sent(job, 1.0) is CreateStep.REQUEUE
    assert (engine.counts.creates_on_wire, engine.counts.in_flight, job.resends) == (0, 0, 0)
    engine.creates.requeue(job)
    assert engine.create_ready_at(1.0) == 1.5
    assert taken(engine, 1.5) == "a"


def test_an_unreachable_service_is_given_up_after_throttled_timeout() -> None:
    engine = make(retries=Retries(throttled_timeout=10.0))
    job = submitted(engine, "a")["a"]
    steps = []
    for now in (0.0, 5.0, 10.0):
        assert engine.take_create(now) is job
        steps.append(engine.creates.on_not_sent(job, now))
        engine.creates.requeue(job)
    assert steps == [CreateStep.REQUEUE, CreateStep.REQUEUE, CreateStep.GIVE_UP]


def test_a_lost_create_is_unknown_and_not_sent_again() -> None:
    engine = make()
    job = submitted(engine, "a")["a"]
    taken_one(engine, 0.0)
    assert engine.creates.on_no_response(job, 1.0) is CreateStep.UNKNOWN
    assert (engine.counts.creates_on_wire, engine.counts.in_flight, engine.counts.unknown, engine.queued) == (
        0,
        0,
        1,
        0,
    )
    assert engine.take_create(1000.0) is None


@pytest.mark.parametrize("answer", ["lost", "unreadable"])
def test_resend_unknown_sends_a_create_three_more_times(answer: str) -> None:
    engine = make(retries=Retries(resend_unknown=True))
    job = submitted(engine, "a")["a"]
    steps = []
    for now in (0.0, 1.0, 2.0, 3.0):
        assert engine.take_create(now) is job
        steps.append(
            engine.creates.on_no_response(job, now)
            if answer == "lost"
            else engine.creates.on_reply(job, Reply(500), now)
        )
        engine.creates.requeue(job)
    assert steps == [CreateStep.RESEND] * 3 + [CreateStep.UNKNOWN]
    assert engine.counts.unknown == 1


def test_an_aborted_create_counts_as_not_sent() -> None:
    engine = make(Limits(max_concurrent_creates=1))
    jobs = submitted(engine, "ab")
    taken_one(engine, 0.0)
    engine.creates.on_abort(jobs["a"], 0.5)
    assert (jobs["a"].phase, engine.counts.creates_on_wire, engine.counts.in_flight) == (Phase.OVER, 0, 0)
    assert engine.counts.creates_sent == 0
    assert engine.scopes.create.rejecting_for(0.5) == 0.0
    assert taken(engine, 0.5) == "b"


# ---- queries


def test_a_pending_task_is_queried_when_the_schedule_says() -> None:
    settings = Polling(min_interval=1.0, max_interval=8.0, price=0.5)
    engine, polling = make(polling=settings), PollingSchedule(settings)
    job, instants, expected = followed(engine), list[float](), list[float]()
    for _ in range(6):
        expected.append(polling.next_poll(None, instants[-1] if instants else 0.0))
        now = engine.query_ready_at(0.0)
        assert engine.take_query(math.nextafter(now, 0.0)) is None
        assert engine.take_query(now) is job
        instants.append(now)
        assert engine.polls.on_reply(job, pending(), now) is QueryStep.PENDING
        assert job.pending_at == now
    assert instants == expected
    assert all(1.0 <= b - a <= 8.0 for a, b in itertools.pairwise(instants))
    assert (job.queries, engine.counts.queries_sent) == (6, 6)


def test_a_task_was_pending_when_its_query_was_sent_not_when_the_reply_came() -> None:
    engine = make()
    job = followed(engine, 10.0, poll_at=12.0)
    taken_query(engine, 12.0)
    engine.polls.on_reply(job, pending(), 15.0)
    assert job.pending_at == 2.0


def test_ask_at_sets_the_time_of_the_first_query() -> None:
    engine = make()
    job = followed(engine, 5.0, poll_at=5.0)
    assert engine.query_ready_at(5.0) == 5.0
    assert engine.take_query(5.0) is job
    assert (engine.counts.queries_on_wire, job.ticket) == (1, 0)
    assert engine.take_query(5.0) is None


@pytest.mark.parametrize("state", [TaskState.SUCCESS, TaskState.FAIL])
def test_an_ended_task_is_not_queried(state: TaskState) -> None:
    engine = make()
    job = followed(engine, poll_at=0.0)
    taken_query(engine, 0.0)
    assert engine.polls.on_reply(job, ended(state), 1.0) is QueryStep.ENDED
    assert (job.phase, engine.counts.queries_on_wire, engine.counts.in_flight) == (Phase.OVER, 0, 0)
    assert engine.query_ready_at(1e9) == math.inf


def test_no_more_queries_are_on_the_wire_than_allowed() -> None:
    engine = make(Limits(max_concurrent_queries=2))
    first = followed(engine, poll_at=0.0)
    followed(engine, poll_at=0.0)
    third = followed(engine, poll_at=0.0)
    taken_query(engine, 0.0)
    taken_query(engine, 0.0)
    assert engine.counts.queries_on_wire == 2
    assert engine.query_ready_at(0.0) == math.inf
    assert engine.take_query(0.0) is None
    engine.polls.on_reply(first, ended(), 1.0)
    assert engine.take_query(1.0) is third


def test_the_task_due_longest_is_queried_first() -> None:
    engine = make(Limits(query_rate=RateLimit(1000, 1.0, burst=10)))
    for name, poll_at in (("a", 3.0), ("b", -1000.0), ("c", 1.0), ("d", 1.0)):
        followed(engine, poll_at=poll_at, name=name)
    assert [taken_query(engine, 5.0).name for _ in range(4)] == ["b", "c", "d", "a"]


def test_a_rejected_query_keeps_its_place_without_starving_others() -> None:
    """It is sent before the other one at most once each time that both are due."""
    engine = make(Limits(query_rate=RateLimit(1000, 1.0)))
    a = followed(engine, poll_at=0.0, name="a")
    b = followed(engine, poll_at=0.25, name="b")
    taken_query(engine, 0.0)
    assert engine.polls.on_reply(a, rejected(), 0.5) is QueryStep.AGAIN
    now, seen = 0.5, list[str]()
    for _ in range(30):
        now = engine.query_ready_at(now)
        b_was_due = next(job.name for job in [*engine.queues.queries] if job.name in "ab") == "b"
        job = taken_query(engine, now)
        assert not b_was_due or job is b
        seen.append(job.name)
        engine.polls.on_reply(job, rejected() if job is a else pending(), now)
    assert seen[:2] == ["a", "b"]
    assert seen.count("b") >= 3
    assert (a.failures, a.failing_since) == (0, None)


def test_a_rejected_query_pauses_all_queries_and_one_create_tests_the_limit() -> None:
    engine = make()
    a = followed(engine, poll_at=0.0)
    followed(engine, poll_at=0.0)
    c = submitted(engine, "cd")["c"]
    taken_query(engine, 0.0)
    assert engine.polls.on_reply(a, rejected(7.0), 1.0) is QueryStep.AGAIN
    assert engine.query_ready_at(1.0) == math.inf  # a create goes first
    assert taken(engine, 1.0) == "c"
    assert engine.creates.on_reply(c, accepted(), 1.0) is CreateStep.ACCEPTED
    assert engine.query_ready_at(1.0) == 8.0
    assert engine.create_ready_at(1.0) == 1.0
    assert (engine.scopes.query.rejections, engine.scopes.create.rejections) == (1, 0)


@pytest.mark.parametrize(
    "limits", [Limits(create_rate=RateLimit(1000, 1.0)), Limits(query_rate=RateLimit(1000, 1.0))]
)
def test_a_rejected_query_pauses_no_create_with_a_configured_limit(limits: Limits) -> None:
    engine = make(limits)
    a = followed(engine, poll_at=0.0)
    submitted(engine, "c")
    taken_query(engine, 0.0)
    engine.polls.on_reply(a, rejected(7.0), 1.0)
    assert engine.query_ready_at(1.0) == 8.0
    assert engine.create_ready_at(1.0) == 1.0


# ---- a limit shared by creates and queries


def on_one_quota(names: str = "abcdefghijklmnopqrstuvwxyz") -> tuple[Engine[Named], float]:
    """Return an engine on a shared limit with waiting creates, and the time."""
    engine = make()
    jobs = submitted(engine, names)
    followed(engine, poll_at=1e6, name="far")
    first = taken_one(engine, 1.0)
    engine.creates.on_reply(first, rejected(1.0), 1.0)
    engine.creates.requeue(jobs[names[0]])
    test = taken_query(engine, 1.0)
    assert test.name == "far"  # sent early, to test whether it is rejected too
    engine.polls.on_reply(test, rejected(1.0), 1.0)
    assert engine.scopes.shares_limited_quota
    engine.release(test)
    return engine, 1.0


def test_a_query_is_sent_early_to_test_whether_the_limit_is_shared() -> None:
    engine = make()
    job = followed(engine, poll_at=1e6)
    submitted(engine, "ab")
    create = taken_one(engine, 1.0)
    assert engine.query_ready_at(1.0) == 1e6
    engine.creates.on_reply(create, rejected(9.0), 1.0)
    engine.creates.requeue(create)
    assert engine.query_ready_at(1.0) == 1.0
    assert engine.take_query(1.0) is job
    assert engine.polls.on_reply(job, pending(), 1.0) is QueryStep.PENDING
    assert not engine.scopes.shares_limited_quota
    assert engine.query_ready_at(1.0) < math.inf
    assert engine.create_ready_at(1.0) == 10.0


def test_without_followed_tasks_no_query_tests_the_limit() -> None:
    engine = make()
    submitted(engine, "a")
    engine.creates.on_reply(taken_one(engine, 1.0), rejected(9.0), 1.0)
    assert engine.query_ready_at(1.0) == math.inf
    assert engine.take_query(1.0) is None


def test_on_a_shared_limit_every_fifth_request_is_a_due_query() -> None:
    engine, now = on_one_quota()
    for _ in range(6):
        followed(engine, poll_at=0.0)
    order = ""
    while len(order) < 26:
        create_at, query_at = engine.create_ready_at(now), engine.query_ready_at(now)
        assert math.inf in (create_at, query_at)  # never are both wanted
        now = min(create_at, query_at)
        job = engine.take_create(now)
        if job is not None:
            order += "c"
            assert engine.creates.on_reply(job, accepted(), now) is CreateStep.ACCEPTED
            engine.release(job)
        else:
            order += "q"
            engine.polls.on_reply(taken_query(engine, now), ended(), now)
    assert CREATES_IN_A_ROW == 4
    assert order == "ccccq" * 5 + "c"


def test_creates_do_not_wait_for_queries_that_are_not_due() -> None:
    engine, now = on_one_quota()
    followed(engine, poll_at=1e6)
    for _ in range(10):
        now = engine.create_ready_at(now)
        job = taken_one(engine, now)
        engine.creates.on_reply(job, Reply(422), now)


def test_queries_do_not_wait_for_creates_that_may_not_be_sent() -> None:
    """The creates could not be sent, and are retried after their own pause."""
    engine, now = on_one_quota()
    followed(engine, poll_at=0.0)
    now = engine.create_ready_at(now)
    job = taken_one(engine, now)
    engine.creates.on_not_sent(job, now)
    engine.creates.requeue(job)
    assert engine.create_ready_at(now) == now + 0.5
    assert engine.query_ready_at(now) < now + 0.5


def test_creates_do_not_wait_for_queries_that_may_not_be_sent() -> None:
    engine, now = on_one_quota()
    for _ in range(4):
        now = engine.create_ready_at(now)
        engine.creates.on_reply(taken_one(engine, now), Reply(422), now)
    query = followed(engine, poll_at=0.0)
    assert engine.create_ready_at(now) == math.inf  # it goes first
    now = engine.query_ready_at(now)
    taken_query(engine, now)
    engine.polls.on_failure(query, now, sent=False)
    followed(engine, poll_at=0.0)
    engine._creates_in_a_row = CREATES_IN_A_ROW
    assert engine.query_ready_at(now) == now + 0.5
    assert engine.create_ready_at(now) < now + 0.5


@pytest.mark.long
@settings(max_examples=150, deadline=None)
@given(
    shared=st.booleans(),
    rate=st.sampled_from([0.5, 2.0, 10.0]),
    size=st.sampled_from([1, 2, 10]),
    retry_after=st.sampled_from([None, None, 1.0, 7.0]),
    rtts=st.lists(st.sampled_from([0.0, 0.015625, 0.25, 2.0]), min_size=1, max_size=5),
    duration=st.sampled_from([0.0, 3.0, 20.0]),
)
def test_under_any_limit_all_tasks_end_and_creates_do_not_starve_queries(
    shared: bool, rate: float, size: int, retry_after: float | None, rtts: list[float], duration: float
) -> None:
    engine = make(Limits(max_in_flight=8), retries=Retries(throttled_timeout=1e9))
    names = "abcdefghijklmnopqrst"
    submitted(engine, names)
    creates = TokenBucket(rate, size).limiter()
    queries = creates if shared else TokenBucket(2 * rate, size).limiter()
    away: list[tuple[float, int, Named, Reply]] = []
    numbers, rtt, over, row, now = itertools.count(), itertools.cycle(rtts), 0, 0, 0.0
    for _ in range(20_000):
        while away and away[0][0] <= now:
            when, _number, job, reply = heapq.heappop(away)
            if job.phase is Phase.CREATING:
                if engine.creates.on_reply(job, reply, when) is CreateStep.ACCEPTED:
                    engine.polls.follow(job, when)
                else:
                    engine.creates.requeue(job)
            elif engine.polls.on_reply(job, reply, when) is QueryStep.ENDED:
                engine.polls.learn(job, when, None)
                over += 1
        if over == len(names):
            break
        due_query = engine.polls.count_due(now) > 0 and engine.scopes.ready_at("query", now) <= now
        bound = engine.scopes.shares_limited_quota
        back, number = now + next(rtt), next(numbers)
        if (bought := engine.take_create(now)) is not None:
            row = row + 1 if due_query and bound else 0
            assert row <= CREATES_IN_A_ROW
            reply = accepted() if creates.take(now) == 0 else rejected(retry_after)
            heapq.heappush(away, (back, number, bought, reply))
        elif (queried := engine.take_query(now)) is not None:
            row = 0
            state = ended() if now - queried.accepted_at >= duration else pending()
            reply = state if queries.take(now) == 0 else rejected(retry_after)
            heapq.heappush(away, (back, number, queried, reply))
        else:
            news = away[0][0] if away else math.inf
            wake = min(engine.create_ready_at(now), engine.query_ready_at(now), news)
            assert now < wake < math.inf, "nothing is on the wire, and nothing may leave ever again"
            now = wake
    assert over == len(names)
    assert (
        engine.counts.in_flight,
        engine.counts.creates_on_wire,
        engine.counts.queries_on_wire,
        engine.queued,
    ) == (
        0,
        0,
        0,
        0,
    )


# ---- learned durations


def watched(engine: Engine[Named], model: str | None, now: float, name: str = "") -> Named:
    job = Named(task_id="t", model=model, name=name)
    job.accepted_at = now
    engine.polls.follow(job, now)
    return job


def due(engine: Engine[Named]) -> dict[str, float]:
    """Return the time of each waiting query, by the name of its job."""
    times: dict[str, float] = {}

    def record(job: Named, at: float) -> float:
        times[job.name] = at
        return at

    engine.queues.queries.set_all(record)
    return times


def test_a_learned_duration_reschedules_the_queries_of_its_model_only() -> None:
    engine = make()
    for number in range(12):
        watched(engine, "m", 0.0, f"m{number}")
        watched(engine, "other", 0.0, f"o{number}")
    followed(engine, poll_at=7.0, name="wanted then")
    done = watched(engine, "m", 0.0, "done")
    before = due(engine)
    engine.release(done)
    engine.polls.learn(done, 5.0, 5.0)
    after = due(engine)
    mine = {name for name in before if name.startswith("m")}
    assert {name for name in after if after[name] != before[name]} <= mine
    assert len({after[name] for name in mine}) == 1  # all are as old
    assert any(after[name] != before[name] for name in mine)
    assert all(when >= 5.0 for when in after.values() if when not in before.values())
    assert done.name not in after


def test_no_query_is_rescheduled_to_the_past() -> None:
    engine = make()
    waiting = [watched(engine, "m", 0.0, str(number)) for number in range(8)]
    done = watched(engine, "m", 990.0)
    engine.release(done)
    engine.polls.learn(done, 1000.0, 10.0)
    assert all(due(engine)[job.name] >= 1000.0 for job in waiting)
    assert engine.query_ready_at(1000.0) == 1000.0


def test_rescheduling_is_bounded_per_task() -> None:
    engine = make()

    def watch(models: list[str]) -> None:
        for model in models:
            watched(engine, model, 0.0, model)

    def is_rescheduled(model: str) -> bool:
        """Tell whether the first end of a task of *model* moves the query of its waiting task."""
        done = Named(task_id="t", model=model)
        done.accepted_at = -20.0
        before = due(engine)[model]
        engine.polls.learn(done, 0.0, 20.0)
        return due(engine)[model] != before

    first, more = [f"model {number}" for number in range(40)], ["a", "b", "c"]
    watch(first)
    moved = [is_rescheduled(model) for model in first]
    assert moved == [True] * REPLANS_PER_TASK + [False] * (40 - REPLANS_PER_TASK)
    watch(more)  # each allows 16 more queries to be moved, and 43 wait
    assert [is_rescheduled(model) for model in more] == [True, False, False]


def test_a_query_with_a_set_time_is_not_rescheduled() -> None:
    engine = make()
    job = followed(engine, poll_at=7.0, name="attached")
    failing = watched(engine, None, -100.0, name="failing")
    assert taken_query(engine, 0.0) is failing
    engine.polls.on_reply(failing, Reply(500), 6.0)
    done = followed(engine, poll_at=7.0, name="done")
    engine.release(done)
    engine.polls.learn(done, 6.0, 3.0)
    assert due(engine) == {"attached": 7.0, "failing": 6.5}
    assert taken_query(engine, 7.0) is failing
    assert taken_query(engine, 7.0) is job
    engine.polls.on_reply(job, pending(), 7.0)
    assert job.scheduled_by_model


def test_an_end_that_changes_little_reschedules_nothing() -> None:
    engine = make()
    for number in range(6):
        done = watched(engine, "m", 0.0, f"done {number}")
        engine.release(done)
        engine.polls.learn(done, 10.0 + number, 10.0 + number)
    watched(engine, "m", 16.0, "waits")
    before = due(engine)
    done = watched(engine, "m", 5.0, "last")
    engine.release(done)
    engine.polls.learn(done, 17.0, 12.0)
    assert due(engine) == before


def test_late_queries_raise_the_price_and_punctual_ones_lower_it() -> None:
    engine = make()
    prices = [engine.schedule.price]
    for wait in (LATE, 2 * LATE, 2 * LATE, 0.0, LATE):
        job = followed(engine, poll_at=0.0)
        assert engine.take_query(wait) is job
        engine.polls.on_reply(job, ended(), wait)
        prices.append(engine.schedule.price)
    assert prices[0] == prices[1] == 1.0
    assert prices[1] < prices[2] < prices[3]
    assert prices[3] > prices[4] > prices[5] > 1.0


def test_a_query_that_is_sent_early_is_not_late() -> None:
    engine, _ = on_one_quota()
    assert engine.schedule.price == 1.0


def test_the_query_of_a_paid_task_waits_ten_minutes_at_most() -> None:
    engine = make()
    job = followed(engine, poll_at=0.0)
    taken_query(engine, 0.0)
    assert engine.polls.on_reply(job, rejected(86_400.0), 1.0) is QueryStep.AGAIN
    assert engine.query_ready_at(1.0) == 601.0


def test_a_configured_query_rate_is_kept() -> None:
    engine = make(Limits(query_rate=RateLimit(1, 2.0)))
    first = followed(engine, poll_at=0.0)
    followed(engine, poll_at=0.0)
    taken_query(engine, 0.0)
    engine.polls.on_reply(first, ended(), 0.5)
    assert engine.query_ready_at(0.5) == 2.5


@pytest.mark.parametrize(
    "reply",
    [Reply(500), Reply(408), Reply(200), Reply(200, state=TaskState.UNKNOWN), Reply(404), Reply(200, 422)],
)
def test_a_failing_query_is_retried_after_growing_pauses(reply: Reply) -> None:
    engine = make()
    job, now, pauses = followed(engine, poll_at=0.0), 0.0, list[float]()
    for _ in range(5):
        assert taken_query(engine, now) is job
        assert engine.polls.on_reply(job, reply, now) is QueryStep.AGAIN
        pauses.append(engine.query_ready_at(now) - now)
        now += pauses[-1]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert taken_query(engine, now) is job
    assert engine.polls.on_reply(job, pending(), now) is QueryStep.PENDING
    assert (job.failures, job.failing_since) == (0, None)


def test_retries_of_a_query_pause_up_to_30_s_and_end_with_query_retry_timeout() -> None:
    engine = make(retries=Retries(query_retry_timeout=200.0))
    job, now, instants = followed(engine, poll_at=0.0), 0.0, list[float]()
    while True:
        assert taken_query(engine, now) is job
        instants.append(now)
        if engine.polls.on_failure(job, now, sent=True) is QueryStep.STOP:
            break
        now = engine.query_ready_at(now)
    assert instants == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 61.5, 91.5, 121.5, 151.5, 181.5, 211.5]
    assert (job.phase, engine.counts.in_flight) == (Phase.OVER, 0)
    assert engine.query_ready_at(now) == math.inf


def test_a_success_restarts_the_query_retry_timeout() -> None:
    engine = make(retries=Retries(query_retry_timeout=10.0))
    job = followed(engine, poll_at=0.0)
    steps = []
    for now, reply in ((0.0, Reply(500)), (9.0, pending()), (12.0, Reply(500)), (21.9, Reply(500))):
        taken_query(engine, now)
        steps.append(engine.polls.on_reply(job, reply, now))
    assert steps == [QueryStep.AGAIN, QueryStep.PENDING, QueryStep.AGAIN, QueryStep.AGAIN]
    taken_query(engine, 23.0)
    assert engine.polls.on_reply(job, Reply(500), 23.0) is QueryStep.STOP


def test_a_failed_query_waits_at_least_the_shortest_interval() -> None:
    engine = make(polling=Polling(min_interval=5.0))
    job = followed(engine, poll_at=0.0)
    taken_query(engine, 0.0)
    engine.polls.on_failure(job, 0.0, sent=True)
    assert engine.query_ready_at(0.0) == 5.0


def test_an_unreachable_service_pauses_all_queries() -> None:
    engine = make()
    job = followed(engine, poll_at=0.0)
    followed(engine, poll_at=0.0)
    taken_query(engine, 0.0)
    assert engine.polls.on_failure(job, 1.0, sent=False) is QueryStep.AGAIN
    assert engine.query_ready_at(1.0) == 1.5


def test_a_lost_query_pauses_nothing() -> None:
    engine = make()
    job = followed(engine, poll_at=0.0)
    other = followed(engine, poll_at=0.0)
    taken_query(engine, 0.0)
    assert engine.polls.on_failure(job, 1.0, sent=True) is QueryStep.AGAIN
    assert engine.take_query(1.0) is other


@pytest.mark.parametrize("status", [404, 422])
@pytest.mark.parametrize(
    ("age", "step"), [(0.0, QueryStep.AGAIN), (29.9, QueryStep.AGAIN), (30.0, QueryStep.STOP)]
)
def test_a_task_may_be_unknown_for_thirty_seconds(status: int, age: float, step: QueryStep) -> None:
    engine = make()
    job = followed(engine, 100.0, poll_at=100.0)
    taken_query(engine, 100.0)
    assert engine.polls.on_reply(job, Reply(status), 100.0 + age) is step


@pytest.mark.parametrize("reply", [Reply(401), Reply(200, 403)])
def test_denied_tasks_are_queried_until_the_grace_ends(reply: Reply) -> None:
    engine = make()
    jobs = [followed(engine, poll_at=0.0, name=name) for name in "ab"]
    for at in (0.0, 40.0):
        for _ in jobs:
            assert engine.polls.on_reply(taken_query(engine, at), reply, at) is QueryStep.AGAIN
    assert engine.polls.on_reply(taken_query(engine, 80.0), reply, 80.0) is QueryStep.STOP
    assert {job.phase for job in jobs} == {Phase.FOLLOWED, Phase.OVER}


@pytest.mark.parametrize("reply", [Reply(401), Reply(200, 403)])
def test_a_denied_create_and_a_denied_query_are_final_together(reply: Reply) -> None:
    engine = make()
    task = followed(engine, poll_at=0.0)
    create = submitted(engine, "b")["b"]
    taken_one(engine, 0.0)
    assert engine.creates.on_reply(create, reply, 0.0) is CreateStep.REFUSED
    for at in (0.0, 40.0):
        assert engine.polls.on_reply(taken_query(engine, at), reply, at) is QueryStep.AGAIN
    assert engine.polls.on_reply(taken_query(engine, 80.0), reply, 80.0) is QueryStep.STOP
    assert task.phase is Phase.OVER


@pytest.mark.parametrize("good", ["query", "create"])
def test_a_success_restarts_the_grace_of_denied_tasks(good: str) -> None:
    engine = make()
    first, second = (followed(engine, poll_at=0.0, name=name) for name in "ab")
    for at in (0.0, 40.0):
        for _ in range(2):
            engine.polls.on_reply(taken_query(engine, at), Reply(403), at)
    if good == "query":
        assert engine.polls.on_reply(taken_query(engine, 70.0), pending(), 70.0) is QueryStep.PENDING
    else:
        create = submitted(engine, "c")["c"]
        taken_one(engine, 70.0)
        engine.creates.on_reply(create, accepted(), 70.0)
    assert engine.polls.on_reply(taken_query(engine, 100.0), Reply(403), 100.0) is QueryStep.AGAIN
    assert {first.phase, second.phase} == {Phase.FOLLOWED}


# ---- a failing service


def failing(engine: Engine[Named], now: float = 0.0) -> list[Named]:
    """Send three creates, each after the last one's 502, so that the circuit opens at *now*."""
    jobs = list(submitted(engine, "xyz", now).values())
    for _ in range(3):
        assert engine.creates.on_reply(taken_one(engine, now), Reply(502), now) is CreateStep.UNKNOWN
    assert engine.breaker.is_open
    return jobs


def test_creates_wait_while_the_circuit_is_open() -> None:
    engine = make()
    failing(engine, 10.0)
    submitted(engine, "ab", 10.0)
    assert engine.create_ready_at(10.0) == 11.0
    assert taken(engine, 10.9) == ""
    assert taken(engine, 11.0) == "a"


def test_one_query_a_second_checks_a_failing_service() -> None:
    engine = make()
    failing(engine, 10.0)
    job = followed(engine, 10.0, poll_at=500.0)
    assert engine.query_ready_at(10.0) == 10.0
    assert engine.look_for_query_at(10.0) == (10.0, False)
    assert taken_query(engine, 10.0) is job
    job.failures = 8  # so that its own pause is long
    assert engine.polls.on_failure(job, 10.0, sent=True) is QueryStep.AGAIN
    for at in (11.0, 12.0, 13.0):
        assert engine.look_for_query_at(at - 0.5) == (at, True)
        assert taken_query(engine, at) is job
        engine.polls.on_reply(job, Reply(502), at)


def test_without_followed_tasks_no_query_checks_the_service() -> None:
    engine = make()
    failing(engine)
    assert engine.query_ready_at(0.0) == math.inf


def test_failed_queries_are_due_when_the_circuit_closes() -> None:
    engine = make()
    failed, waiting = followed(engine, poll_at=0.0, name="f"), followed(engine, poll_at=400.0, name="w")
    for at in (0.0, 50.0, 100.0, 150.0):
        assert taken_query(engine, at) is failed
        engine.polls.on_failure(failed, at, sent=True)
    failing(engine, 150.0)
    probe = submitted(engine, "p", 150.0)["p"]
    taken_one(engine, 151.0)
    assert engine.creates.on_reply(probe, accepted(), 151.0) is CreateStep.ACCEPTED
    assert engine.query_ready_at(151.0) == 151.0
    assert taken_query(engine, 151.0) is failed
    assert engine.query_ready_at(151.0) == 400.0
    assert waiting.queries == 0


def test_a_query_that_succeeds_again_advances_the_next_create() -> None:
    engine = make()
    failing(engine, 10.0)
    submitted(engine, "abc", 10.0)
    for at in (11.0, 13.0, 17.0):
        engine.creates.on_no_response(taken_one(engine, at), at)
    followed(engine, 17.0, poll_at=17.0)
    engine.polls.on_reply(taken_query(engine, 17.0), Reply(502), 17.0)
    submitted(engine, "d", 17.0)
    assert engine.create_ready_at(18.0) == 25.0
    engine.polls.on_reply(taken_query(engine, 18.0), pending(), 18.1)
    assert engine.create_ready_at(18.1) == 18.1


def test_a_failing_service_is_given_up_after_throttled_timeout() -> None:
    engine = make(retries=Retries(throttled_timeout=60.0))
    failing(engine, 0.0)
    early, late = submitted(engine, "a", 0.0)["a"], submitted(engine, "b", 30.0)["b"]
    assert engine.creates.give_up_waiting(59.9) == []
    assert engine.creates.give_up_waiting(60.0) == [early]
    assert engine.creates.give_up_waiting(90.0) == [late]


@pytest.mark.parametrize("answered", [False, True])
def test_a_service_that_was_never_reached_is_given_up_earlier(answered: bool) -> None:
    engine = make(retries=Retries(throttled_timeout=60.0, unreachable_timeout=5.0))
    if answered:
        engine.polls.on_reply(followed_and_queried(engine), pending(), 0.0)
    assert engine.counts.reached is answered
    job = submitted(engine, "a")["a"]
    taken_one(engine, 0.0)
    engine.creates.on_not_sent(job, 0.0)
    engine.creates.requeue(job)
    assert engine.creates.has_waited_too_long(job, 5.0) is not answered
    assert engine.creates.has_waited_too_long(job, 60.0)


def followed_and_queried(engine: Engine[Named]) -> Named:
    followed(engine, poll_at=0.0)
    return taken_query(engine, 0.0)


@pytest.mark.parametrize("reply", [pending(), ended(), Reply(404), Reply(401), Reply(500), Reply(200)])
def test_a_single_shot_ends_with_any_reply(reply: Reply) -> None:
    engine = make()
    job = followed(engine, single_shot=True, poll_at=0.0)
    taken_query(engine, 0.0)
    assert engine.polls.on_reply(job, reply, 0.0) is QueryStep.ENDED
    assert (job.phase, engine.counts.in_flight) == (Phase.OVER, 0)


def test_a_rejected_single_shot_is_retried() -> None:
    engine = make()
    job = followed(engine, single_shot=True, poll_at=0.0)
    taken_query(engine, 0.0)
    assert engine.polls.on_reply(job, rejected(3.0), 0.0) is QueryStep.AGAIN
    assert engine.query_ready_at(0.0) == 3.0
    assert engine.take_query(3.0) is job


@pytest.mark.parametrize("sent", [True, False])
def test_a_failed_single_shot_is_over(sent: bool) -> None:
    engine = make()
    job = followed(engine, single_shot=True, poll_at=0.0)
    taken_query(engine, 0.0)
    assert engine.polls.on_failure(job, 0.0, sent=sent) is QueryStep.STOP
    assert job.phase is Phase.OVER


@pytest.mark.parametrize("reply", [pending(), ended(), Reply(401), Reply(500), rejected(4.0)])
def test_a_reply_for_a_released_job_schedules_nothing(reply: Reply) -> None:
    engine = make()
    job = followed(engine, poll_at=0.0)
    other = followed(engine, poll_at=0.0)
    taken_query(engine, 0.0)
    engine.release(job)
    assert engine.polls.on_reply(job, reply, 1.0) is QueryStep.AGAIN
    assert (job.phase, job.ticket, engine.counts.queries_on_wire) == (Phase.OVER, 0, 0)
    assert engine.query_ready_at(1.0) == (
        5.0 if reply.retry_after else 1.0
    )  # the limiter learns from it all the same
    assert engine.take_query(5.0) is other


def test_a_failure_for_a_released_job_schedules_nothing() -> None:
    engine = make()
    job = followed(engine, poll_at=0.0)
    taken_query(engine, 0.0)
    engine.release(job)
    assert engine.polls.on_failure(job, 1.0, sent=True) is QueryStep.AGAIN
    assert engine.query_ready_at(1e9) == math.inf


def test_an_aborted_query_frees_its_slot_and_is_not_rescheduled() -> None:
    engine = make(Limits(max_concurrent_queries=1))
    job = followed(engine, poll_at=0.0)
    taken_query(engine, 0.0)
    engine.polls.on_abort(1.0)
    assert (job.phase, job.ticket, engine.counts.queries_on_wire) == (Phase.FOLLOWED, 0, 0)
    assert engine.query_ready_at(1.0) == math.inf


# ---- deadlines


def test_a_task_is_followed_until_its_deadline_counted_from_its_acceptance() -> None:
    engine = make()
    job = Named(task_id="t")
    job.accepted_at = 10.0
    engine.polls.follow(job, 12.0, timeout=60.0)
    assert engine.queues.deadlines.next_time() == 70.0
    assert engine.take_expired(69.999) is None
    assert engine.take_expired(70.0) is job
    assert (job.phase, engine.counts.in_flight) == (Phase.OVER, 0)
    assert engine.query_ready_at(70.0) == math.inf
    assert engine.take_expired(70.0) is None


def test_deadlines_pass_in_their_order() -> None:
    engine = make()
    for name, timeout in (("a", 3.0), ("b", 1.0), ("c", 2.0), ("d", None)):
        followed(engine, name=name, timeout=timeout)
    expired = ""
    while (job := engine.take_expired(10.0)) is not None:
        expired += job.name
    assert expired == "bca"
    assert engine.counts.in_flight == 1


def test_a_task_that_ended_before_its_deadline_does_not_expire() -> None:
    engine = make()
    first = followed(engine, timeout=1.0)
    second = followed(engine, timeout=1.0)
    engine.release(first)
    assert engine.take_expired(1.0) is second
    assert engine.take_expired(1.0) is None


def test_a_deadline_passes_while_the_query_is_on_the_wire() -> None:
    engine = make()
    job = followed(engine, poll_at=0.0, timeout=1.0)
    taken_query(engine, 0.5)
    assert engine.take_expired(1.0) is job
    assert engine.polls.on_reply(job, ended(), 1.5) is QueryStep.AGAIN
    assert engine.counts.queries_on_wire == 0


# ---- random sequences of operations

TICK = 1 / 1024
CREATE_REPLIES = {
    "accepted": accepted(),
    "accepted in an error": Reply(500, 500, task_id="t"),
    "rejected": rejected(),
    "rejected for 3 s": rejected(3.0),
    "rejected for 121 s": rejected(121.0),
    "refused": Reply(422),
    "out of credits": Reply(200, 402),
    "unknown": Reply(502),
}
MODELS = (None, "google/nano-banana", "sora-2")
QUERY_REPLIES = {
    "pending": pending(),
    "waiting": pending(TaskState.WAITING),
    "success": ended(),
    "fail": ended(TaskState.FAIL),
    "rejected": rejected(),
    "rejected for an hour": rejected(3600.0),
    "missing": Reply(404),
    "denied": Reply(401),
    "unclear": Reply(502),
}
RATES = st.sampled_from([None, None, None, RateLimit(2, 1.0), RateLimit(5, 10.0, burst=2)])


class EngineMachine(RuleBasedStateMachine):
    """All operations of a driver in any order, compared with a model that keeps lists."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.made = 0
        self.row = 0  # creates since the last query
        self.told_until: dict[Scope, float] = {"create": -math.inf, "query": -math.inf}
        self.deadlines: dict[str, float] = {}
        self.queue: deque[Named] = deque()
        self.creating: list[Named] = []
        self.paid: list[Named] = []  # accepted, not followed yet
        self.put_off: list[Named] = []  # to be queued again
        self.followed: list[Named] = []
        self.queried: list[Named] = []
        self.cut_off: list[Named] = []  # still followed, and never queried again: the client closes
        self.over: list[Named] = []

    @initialize(
        limits=st.builds(
            Limits,
            max_in_flight=st.integers(1, 6),
            max_concurrent_creates=st.integers(1, 4),
            max_concurrent_queries=st.integers(1, 3),
            create_rate=RATES,
            query_rate=RATES,
        ),
        retries=st.builds(
            Retries, throttled_timeout=st.sampled_from([5.0, 600.0]), resend_unknown=st.booleans()
        ),
    )
    def open(self, limits: Limits, retries: Retries) -> None:
        self.limits = limits
        self.engine = make(limits, retries=retries)

    def some(self, data: st.DataObject, jobs: list[Named]) -> Named:
        return jobs.pop(data.draw(st.integers(0, len(jobs) - 1)))

    def new(self, *, single_shot: bool = False) -> Named:
        self.made += 1
        return Named(name=str(self.made), single_shot=single_shot, model=MODELS[self.made % 3])

    # ---- time

    @rule(ticks=st.one_of(st.integers(0, 300), st.integers(0, 40_000)))
    def wait(self, ticks: int) -> None:
        self.now += ticks * TICK

    @rule()
    def wait_until_ready(self) -> None:
        ready = min(self.engine.create_ready_at(self.now), self.engine.query_ready_at(self.now))
        if ready < math.inf:
            self.now = math.ceil(ready / TICK) * TICK

    # ---- creates

    @rule()
    def submit(self) -> None:
        job = self.new()
        self.engine.creates.submit(job, self.now)
        self.queue.append(job)

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        everyone = [
            *self.queue, *self.creating, *self.paid, *self.put_off, *self.followed, *self.queried, *self.over
        ]  # fmt: skip
        if not everyone:
            return
        job = data.draw(st.sampled_from(everyone))
        assert self.engine.creates.withdraw(job) is (job in self.queue)
        if job in self.queue:
            self.queue.remove(job)
            self.over.append(job)

    @rule()
    def pop_queued(self) -> None:
        job = self.engine.pop_queued()
        assert job is (self.queue.popleft() if self.queue else None)
        if job is not None:
            self.over.append(job)

    @rule()
    def take_create(self) -> None:
        ready = self.engine.create_ready_at(self.now)
        could_ask = self.engine.polls.count_due(self.now) > 0
        blocked = self.engine.scopes.ready_at("query", self.now)
        job = self.engine.take_create(self.now)
        assert (job is None) is (ready > self.now)
        if job is not None:
            assert job is self.queue.popleft()
            assert self.engine.counts.in_flight <= self.limits.max_in_flight
            self.creating.append(job)
            self.row += 1
            if self.engine.scopes.shares_limited_quota and could_ask:
                assert self.row <= CREATES_IN_A_ROW or blocked > self.now
            self.nothing_leaves_before_its_time("create")

    def created(self, job: Named, step: CreateStep) -> None:
        if step is CreateStep.ACCEPTED:
            self.paid.append(job)
        elif step in (CreateStep.REQUEUE, CreateStep.RESEND):
            self.put_off.append(job)
        else:
            self.engine.release(job)
            self.over.append(job)

    @precondition(lambda self: self.creating)
    @rule(data=st.data(), kind=st.sampled_from(sorted(CREATE_REPLIES)))
    def create_answered(self, data: st.DataObject, kind: str) -> None:
        job = self.some(data, self.creating)
        step = self.engine.creates.on_reply(job, CREATE_REPLIES[kind], self.now)
        self.note_retry_after("create", CREATE_REPLIES[kind])
        assert (step is CreateStep.ACCEPTED) is kind.startswith("accepted")
        self.created(job, step)

    @precondition(lambda self: self.creating)
    @rule(data=st.data(), how=st.sampled_from(["unsent", "lost", "aborted"]))
    def create_failed(self, data: st.DataObject, how: str) -> None:
        job = self.some(data, self.creating)
        if how == "unsent":
            self.created(job, self.engine.creates.on_not_sent(job, self.now))
        elif how == "lost":
            self.created(job, self.engine.creates.on_no_response(job, self.now))
        else:
            self.engine.creates.on_abort(job, self.now)
            self.over.append(job)

    @precondition(lambda self: self.put_off)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        job = self.some(data, self.put_off)
        self.engine.creates.requeue(job)
        self.queue = deque(sorted([*self.queue, job], key=lambda waiting: int(waiting.name)))

    @rule()
    def give_up_waiting(self) -> None:
        hopeless = [job for job in self.queue if self.engine.creates.has_waited_too_long(job, self.now)]
        assert list(self.engine.creates.give_up_waiting(self.now)) == hopeless
        for job in hopeless:
            self.queue.remove(job)
            self.over.append(job)

    # ---- queries

    @precondition(lambda self: self.paid)
    @rule(data=st.data(), timeout=st.sampled_from([None, None, 1.0, 60.0]), orphan=st.booleans())
    def follow(self, data: st.DataObject, timeout: float | None, orphan: bool) -> None:
        job = self.some(data, self.paid)
        if orphan:
            self.engine.release(job)
            self.over.append(job)
        else:
            self.engine.polls.follow(job, self.now, timeout=timeout)
            self.followed.append(job)
            if timeout is not None:
                self.deadlines[job.name] = job.accepted_at + timeout

    @rule(single_shot=st.booleans(), behind=st.sampled_from([0.0, 0.0, 1e6, -10.0]))
    def attach(self, single_shot: bool, behind: float) -> None:
        job = self.new(single_shot=single_shot)
        job.accepted_at = self.now
        self.engine.polls.follow(job, self.now, poll_at=self.now - behind)
        self.followed.append(job)

    @rule()
    def take_query(self) -> None:
        ready = self.engine.query_ready_at(self.now)
        job = self.engine.take_query(self.now)
        assert (job is None) is (ready > self.now)
        if job is not None:
            assert job in self.followed
            self.followed.remove(job)
            self.queried.append(job)
            self.row = 0
            self.nothing_leaves_before_its_time("query")

    def nothing_leaves_before_its_time(self, scope: Scope) -> None:
        """A Retry-After of a scope holds even for a request that tests the limit of the other."""
        assert self.now >= self.told_until[scope]

    def note_retry_after(self, scope: Scope, reply: Reply) -> None:
        if reply.retry_after:
            longest = 600.0 if scope == "query" else math.inf
            until = self.now + min(reply.retry_after, longest)
            self.told_until[scope] = max(self.told_until[scope], until)

    @precondition(lambda self: self.over)
    @rule(data=st.data(), took=st.sampled_from([None, 0.5, 20.0]))
    def learn(self, data: st.DataObject, took: float | None) -> None:
        job = data.draw(st.sampled_from(self.over))
        before = due(self.engine)
        self.engine.polls.learn(job, self.now, took)
        after = due(self.engine)
        assert after.keys() == before.keys()
        models = {waiting.name: waiting.model for waiting in self.followed}
        for name in after:
            if after[name] != before[name]:
                assert models[name] == job.model
                assert after[name] >= self.now

    def taken_query(self, job: Named, step: QueryStep) -> None:
        planned = job.phase is Phase.FOLLOWED
        assert planned is (step in (QueryStep.PENDING, QueryStep.AGAIN) and job not in self.over)
        if planned:
            self.followed.append(job)
        elif job not in self.over:
            self.over.append(job)

    @precondition(lambda self: self.queried)
    @rule(data=st.data(), kind=st.sampled_from(sorted(QUERY_REPLIES)))
    def query_answered(self, data: st.DataObject, kind: str) -> None:
        job = self.some(data, self.queried)
        self.taken_query(job, self.engine.polls.on_reply(job, QUERY_REPLIES[kind], self.now))
        self.note_retry_after("query", QUERY_REPLIES[kind])

    @precondition(lambda self: self.queried)
    @rule(data=st.data(), sent=st.booleans())
    def query_failed(self, data: st.DataObject, sent: bool) -> None:
        job = self.some(data, self.queried)
        self.taken_query(job, self.engine.polls.on_failure(job, self.now, sent=sent))

    @precondition(lambda self: self.queried)
    @rule(data=st.data())
    def query_aborted(self, data: st.DataObject) -> None:
        job = self.some(data, self.queried)
        self.engine.polls.on_abort(self.now)
        if job not in self.over:
            self.cut_off.append(job)

    @precondition(lambda self: self.followed or self.queried)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from([*self.followed, *self.queried]))
        if job in self.followed:
            self.followed.remove(job)
        self.engine.release(job)
        if job not in self.over:
            self.over.append(job)

    @rule()
    def take_expired(self) -> None:
        job = self.engine.take_expired(self.now)
        if job is not None:
            assert self.deadlines[job.name] <= self.now
            assert job not in self.over
            for place in (self.followed, self.cut_off):
                if job in place:
                    place.remove(job)
            self.over.append(job)

    # ---- invariants

    @invariant()
    def every_task_that_may_run_is_counted_once(self) -> None:
        tasks = {*self.creating, *self.paid, *self.followed, *self.queried, *self.cut_off} - {*self.over}
        assert self.engine.counts.in_flight == sum(not job.single_shot for job in tasks)

    @invariant()
    def the_wire_is_within_its_limits(self) -> None:
        assert self.engine.counts.creates_on_wire == len(self.creating) <= self.limits.max_concurrent_creates
        assert self.engine.counts.queries_on_wire == len(self.queried) <= self.limits.max_concurrent_queries

    @invariant()
    def the_queue_is_what_waits(self) -> None:
        assert self.engine.queued == len(self.queue)

    @invariant()
    def every_followed_job_is_planned_or_being_queried(self) -> None:
        assert all(job.ticket for job in self.followed)
        assert not any(job.ticket for job in self.queried)
        assert all(job.ticket for job in self.queue)
        assert not any(job.ticket for job in [*self.creating, *self.paid, *self.over])

    @invariant()
    def nothing_is_ready_in_the_past(self) -> None:
        assert self.engine.create_ready_at(self.now) >= self.now
        assert self.engine.query_ready_at(self.now) >= self.now

    # ---- every sequence can be completed

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        self.settle()
        outstanding = len(self.queue) + len(self.followed)
        for _ in range(2 * outstanding):
            ready = min(self.engine.create_ready_at(self.now), self.engine.query_ready_at(self.now))
            if ready == math.inf:
                break
            self.now = max(self.now, math.ceil(ready / TICK) * TICK)
            if (job := self.engine.take_create(self.now)) is not None:
                assert job is self.queue.popleft()
                assert self.engine.creates.on_reply(job, accepted(), self.now) is CreateStep.ACCEPTED
                self.engine.polls.follow(job, self.now)
                self.followed.append(job)
            elif (job := self.engine.take_query(self.now)) is not None:
                self.followed.remove(job)
                assert self.engine.polls.on_reply(job, ended(), self.now) is QueryStep.ENDED
        assert not self.queue
        assert not self.followed
        assert (
            self.engine.counts.in_flight,
            self.engine.counts.creates_on_wire,
            self.engine.counts.queries_on_wire,
            self.engine.queued,
        ) == (0,) * 4

    def settle(self) -> None:
        """Answer requests on the wire, and release jobs that would never be queried."""
        for job in self.creating:
            self.created(job, self.engine.creates.on_reply(job, Reply(422), self.now))
        for job in self.queried:
            if self.engine.polls.on_reply(job, pending(), self.now) is QueryStep.PENDING:
                self.followed.append(job)
        for job in [*self.paid, *self.cut_off]:
            self.engine.release(job)
        for job in self.put_off:
            self.engine.creates.requeue(job)
            self.queue = deque(sorted([*self.queue, job], key=lambda waiting: int(waiting.name)))


EngineMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestEngineInAnyOrder: Any = pytest.mark.long(EngineMachine.TestCase)
