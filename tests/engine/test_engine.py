"""The engine as a whole: what it lets go, in which order, and what it makes of every answer."""

from __future__ import annotations

import itertools
import math
from collections import deque
from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ruxa_async import Limits, Polling, RateLimit, Retries, TaskState
from ruxa_async._engine.engine import Engine
from ruxa_async._engine.job import CreateStep, Job, Phase, QueryStep
from ruxa_async._engine.retry import Phrase, Reply

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


def throttled(retry_after: float | None = None) -> Reply:
    return Reply(429, retry_after=retry_after)


def pending(state: TaskState = TaskState.RUNNING) -> Reply:
    return Reply(200, 200, state=state)


def ended(state: TaskState = TaskState.SUCCESS) -> Reply:
    return Reply(200, 200, state=state)


def submitted(engine: Engine[Named], names: str, now: float = 0.0) -> dict[str, Named]:
    jobs = {name: Named(name=name) for name in names}
    for job in jobs.values():
        engine.submit(job, now)
    return jobs


def taken(engine: Engine[Named], now: float) -> str:
    """Take every create that may leave; return their names."""
    names = ""
    while (job := engine.take_create(now)) is not None:
        names += job.name
    return names


def taken_one(engine: Engine[Named], now: float) -> Named:
    job = engine.take_create(now)
    assert job is not None
    return job


def asked(engine: Engine[Named], now: float) -> Named:
    job = engine.take_query(now)
    assert job is not None
    return job


def followed(
    engine: Engine[Named],
    now: float = 0.0,
    *,
    once: bool = False,
    ask_at: float | None = None,
    timeout: float | None = None,
    name: str = "",
) -> Named:
    """Return a job that was bought elsewhere at *now* and is followed from then on."""
    job = Named(name=name, task_id="t", once=once)
    job.accepted_at = now
    engine.follow(job, now, ask_at=ask_at, timeout=timeout)
    return job


# ---- creates


def test_an_engine_without_work_is_never_ready() -> None:
    engine = make()
    assert engine.create_ready_at(1.0) == math.inf
    assert engine.query_ready_at(1.0) == math.inf
    assert engine.next_deadline() == math.inf
    assert engine.take_create(1.0) is None
    assert engine.take_query(1.0) is None
    assert engine.take_expired(1.0) is None
    assert engine.pop_queued() is None
    assert list(engine.give_up_waiting(1.0)) == []
    assert engine.queued == 0


def test_a_create_goes_from_queued_to_over() -> None:
    engine = make()
    job = submitted(engine, "a", now=1.0)["a"]
    assert (job.phase, job.queued_at, engine.queued) == (Phase.QUEUED, 1.0, 1)
    assert engine.take_create(2.0) is job
    assert (job.phase, job.sent_at) == (Phase.CREATING, 2.0)
    assert (engine.queued, engine.creating, engine.in_flight) == (0, 1, 1)
    assert engine.create_answered(job, accepted("task_1"), 2.5) is CreateStep.ACCEPTED
    assert (job.task_id, job.accepted_at) == ("task_1", 2.5)
    assert (engine.creating, engine.in_flight) == (0, 1)
    engine.follow(job, 2.75)
    assert (job.phase, engine.in_flight) == (Phase.FOLLOWED, 1)
    assert engine.query_ready_at(2.75) == pytest.approx(2.75 + math.sqrt(0.6 * 0.25))
    assert engine.take_query(4.0) is job
    assert engine.query_answered(job, ended(), 4.25) is QueryStep.ENDED
    assert (job.phase, engine.in_flight, engine.asking) == (Phase.OVER, 0, 0)
    counts = engine.counts
    assert (counts.creates_sent, counts.accepted, counts.queries_sent) == (1, 1, 1)
    assert (counts.refused, counts.unknown, counts.withdrawn) == (0, 0, 0)


def test_creates_leave_in_the_order_of_their_submission() -> None:
    engine = make()
    submitted(engine, "abcd")
    assert taken(engine, 0.0) == "abcd"


def test_no_more_creates_are_on_the_wire_than_allowed() -> None:
    engine = make(Limits(max_concurrent_creates=2))
    jobs = submitted(engine, "abc")
    assert taken(engine, 0.0) == "ab"
    assert engine.create_ready_at(0.0) == math.inf
    engine.create_answered(jobs["a"], accepted(), 1.0)
    assert taken(engine, 1.0) == "c"


def test_no_more_tasks_run_than_allowed() -> None:
    engine = make(Limits(max_in_flight=2))
    jobs = submitted(engine, "abcd")
    assert taken(engine, 0.0) == "ab"
    engine.create_answered(jobs["a"], accepted(), 1.0)
    assert engine.create_ready_at(1.0) == math.inf  # it may be running already
    engine.follow(jobs["a"], 1.0)
    assert engine.create_ready_at(1.0) == math.inf
    engine.release(jobs["a"])
    assert taken(engine, 1.0) == "c"
    engine.create_answered(jobs["b"], Reply(422), 1.0)
    assert taken(engine, 1.0) == "d"


def test_tasks_bought_elsewhere_take_up_room_and_single_looks_do_not() -> None:
    engine = make(Limits(max_in_flight=1))
    submitted(engine, "a")
    look = followed(engine, once=True)
    assert engine.in_flight == 0
    attached = followed(engine)
    assert engine.in_flight == 1
    assert engine.create_ready_at(0.0) == math.inf
    engine.release(look)
    assert engine.create_ready_at(0.0) == math.inf
    engine.release(attached)
    assert taken(engine, 0.0) == "a"


def test_following_or_releasing_twice_counts_once() -> None:
    engine = make()
    job = followed(engine)
    engine.follow(job, 1.0)
    assert engine.in_flight == 1
    engine.release(job)
    engine.release(job)
    assert engine.in_flight == 0


def test_a_known_create_rate_is_kept() -> None:
    engine = make(Limits(create_rate=RateLimit(2, 10.0)))
    jobs = submitted(engine, "abc")
    assert taken(engine, 0.0) == "ab"
    assert engine.create_ready_at(0.0) == math.inf
    for name in "ab":
        engine.create_answered(jobs[name], accepted(), 1.0)
    assert engine.create_ready_at(1.0) == 11.0
    assert taken(engine, math.nextafter(11.0, 0.0)) == ""
    assert taken(engine, 11.0) == "c"


# ---- creates that are taken back


@pytest.mark.parametrize("gone", ["a", "b", "c", "ab", "bc", "ac", "abc"])
def test_a_withdrawn_job_is_never_taken(gone: str) -> None:
    engine = make()
    jobs = submitted(engine, "abc")
    assert all(engine.withdraw(jobs[name]) for name in gone)
    assert engine.queued == 3 - len(gone)
    assert engine.counts.withdrawn == len(gone)
    assert taken(engine, 0.0) == "".join(name for name in "abc" if name not in gone)


def test_a_queue_of_withdrawn_jobs_is_no_work() -> None:
    engine = make()
    for job in submitted(engine, "abc").values():
        assert engine.withdraw(job)
    assert engine.create_ready_at(0.0) == math.inf
    assert engine.pop_queued() is None


def test_a_job_cannot_be_withdrawn_twice_nor_once_it_has_left() -> None:
    engine = make()
    jobs = submitted(engine, "ab")
    taken_one(engine, 0.0)
    assert not engine.withdraw(jobs["a"])
    assert engine.withdraw(jobs["b"])
    assert not engine.withdraw(jobs["b"])
    engine.create_answered(jobs["a"], accepted(), 0.5)
    assert not engine.withdraw(jobs["a"])
    engine.follow(jobs["a"], 0.5)
    assert not engine.withdraw(jobs["a"])
    assert engine.counts.withdrawn == 1


def test_a_job_that_waits_to_be_sent_again_can_be_withdrawn() -> None:
    engine = make()
    job = submitted(engine, "a")["a"]
    taken_one(engine, 0.0)
    engine.create_answered(job, throttled(), 0.5)
    engine.requeue(job)
    assert engine.withdraw(job)
    assert engine.take_create(100.0) is None
    assert engine.in_flight == 0


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
    engine.withdraw(jobs["a"])
    assert [engine.pop_queued(), engine.pop_queued(), engine.pop_queued()] == [jobs["b"], jobs["c"], None]
    assert engine.counts.withdrawn == 3
    assert {job.phase for job in jobs.values()} == {Phase.OVER}


# ---- answers to a create


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
def test_a_create_that_is_not_accepted_frees_its_room(
    reply: Reply, step: CreateStep, count: str | None
) -> None:
    engine = make()
    job = submitted(engine, "a")["a"]
    taken_one(engine, 0.0)
    assert engine.create_answered(job, reply, 1.0) is step
    assert (engine.creating, engine.in_flight) == (0, 0)
    counts = attrs.asdict(engine.counts)
    assert {name for name in ("accepted", "refused", "unknown") if counts[name]} == (
        {count} if count else set()
    )
    assert job.task_id is None


def test_a_throttled_create_goes_back_to_the_head_and_spends_nothing() -> None:
    engine = make(Limits(max_concurrent_creates=1))
    jobs = submitted(engine, "ab", now=1.0)
    taken_one(engine, 1.0)
    assert engine.create_answered(jobs["a"], throttled(7.0), 2.0) is CreateStep.REQUEUE
    assert not jobs["a"].resent
    engine.requeue(jobs["a"])
    assert (jobs["a"].phase, jobs["a"].queued_at, engine.queued) == (Phase.QUEUED, 1.0, 2)
    assert engine.create_ready_at(2.0) == 9.0
    assert taken(engine, 8.999) == ""
    assert taken(engine, 9.0) == "a"
    assert engine.counts.creates_sent == 2


def test_a_refused_pool_goes_on_with_one_create_and_then_with_more() -> None:
    engine = make()
    jobs = submitted(engine, "abcd")
    assert taken(engine, 0.0) == "abcd"
    for name in "bdca":  # each goes back to where it was
        engine.create_answered(jobs[name], throttled(), 0.25)
        engine.requeue(jobs[name])
    assert engine.creates.refusals == 4
    assert taken(engine, 0.75) == "a"
    engine.create_answered(jobs["a"], accepted(), 1.0)
    assert taken(engine, 1.0) == "bc"
    engine.create_answered(jobs["b"], accepted(), 1.25)
    engine.create_answered(jobs["c"], Reply(422), 1.25)  # the limit let it through all the same
    assert taken(engine, 1.25) == "d"


def test_a_create_told_to_wait_too_long_is_given_up() -> None:
    engine = make()
    jobs = submitted(engine, "ab")
    taken_one(engine, 0.0)
    assert engine.create_answered(jobs["a"], throttled(120.0), 0.0) is CreateStep.REQUEUE
    engine.requeue(jobs["a"])
    assert not engine.hopeless(jobs["b"], 0.0)
    job = taken_one(engine, 120.0)
    assert engine.create_answered(job, throttled(120.5), 120.0) is CreateStep.GIVE_UP
    assert engine.hopeless(jobs["b"], 120.0)
    assert not engine.hopeless(jobs["b"], 120.5)
    assert (engine.in_flight, engine.counts.refused) == (0, 0)


def test_all_who_would_wait_too_long_are_given_up_together() -> None:
    engine = make(Limits(max_concurrent_creates=1))
    jobs = submitted(engine, "abcd")
    taken_one(engine, 0.0)
    engine.withdraw(jobs["c"])
    assert engine.create_answered(jobs["a"], throttled(121.0), 0.0) is CreateStep.GIVE_UP
    assert list(engine.give_up_waiting(0.0)) == [jobs["b"], jobs["d"]]
    assert engine.queued == 0
    assert engine.counts.withdrawn == 1
    assert engine.create_ready_at(0.0) == math.inf
    assert list(engine.give_up_waiting(0.0)) == []


def test_a_create_is_given_up_after_throttled_for_seconds_of_refusals() -> None:
    engine = make(retries=Retries(throttled_for=60.0))
    job, now = submitted(engine, "a")["a"], 0.0
    instants = []
    while True:
        assert engine.take_create(now) is job
        instants.append(now)
        if engine.create_answered(job, throttled(), now) is CreateStep.GIVE_UP:
            break
        engine.requeue(job)
        now = engine.create_ready_at(now)
    assert instants == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 61.5]


def test_a_job_is_not_blamed_for_refusals_from_before_it_came() -> None:
    engine = make(retries=Retries(throttled_for=60.0))
    old = submitted(engine, "a", now=0.0)["a"]
    taken_one(engine, 0.0)
    engine.create_answered(old, throttled(), 0.0)
    engine.requeue(old)
    young = submitted(engine, "b", now=50.0)["b"]
    assert (engine.hopeless(old, 59.9), engine.hopeless(young, 59.9)) == (False, False)
    assert (engine.hopeless(old, 60.0), engine.hopeless(young, 60.0)) == (True, False)
    assert list(engine.give_up_waiting(60.0)) == [old]
    assert taken(engine, 60.0) == "b"


def test_a_create_of_which_no_byte_left_is_sent_again_after_a_pause() -> None:
    engine = make()
    job = submitted(engine, "a")["a"]
    taken_one(engine, 0.0)
    assert engine.create_unsent(job, 1.0) is CreateStep.REQUEUE
    assert (engine.creating, engine.in_flight, job.resends) == (0, 0, 0)
    engine.requeue(job)
    assert engine.create_ready_at(1.0) == 1.5
    assert taken(engine, 1.5) == "a"


def test_an_unreachable_service_is_given_up_after_throttled_for_seconds() -> None:
    engine = make(retries=Retries(throttled_for=10.0))
    job = submitted(engine, "a")["a"]
    steps = []
    for now in (0.0, 5.0, 10.0):
        assert engine.take_create(now) is job
        steps.append(engine.create_unsent(job, now))
        engine.requeue(job)
    assert steps == [CreateStep.REQUEUE, CreateStep.REQUEUE, CreateStep.GIVE_UP]


def test_a_lost_create_is_unknown_and_never_sent_again_by_itself() -> None:
    engine = make()
    job = submitted(engine, "a")["a"]
    taken_one(engine, 0.0)
    assert engine.create_lost(job, 1.0) is CreateStep.UNKNOWN
    assert (engine.creating, engine.in_flight, engine.counts.unknown, engine.queued) == (0, 0, 1, 0)
    assert engine.take_create(1000.0) is None


@pytest.mark.parametrize("answer", ["lost", "unreadable"])
def test_an_unknown_create_is_sent_again_three_times_where_the_user_said_so(answer: str) -> None:
    engine = make(retries=Retries(resend_unknown=True))
    job = submitted(engine, "a")["a"]
    steps, marks = [], []
    for now in (0.0, 1.0, 2.0, 3.0):
        assert engine.take_create(now) is job
        assert not job.resent
        steps.append(
            engine.create_lost(job, now) if answer == "lost" else engine.create_answered(job, Reply(500), now)
        )
        marks.append(job.resent)
        engine.requeue(job)
    assert steps == [CreateStep.REQUEUE] * 3 + [CreateStep.UNKNOWN]
    assert marks == [True, True, True, False]
    assert engine.counts.unknown == 1


def test_an_aborted_create_counts_as_never_sent() -> None:
    engine = make(Limits(max_concurrent_creates=1))
    jobs = submitted(engine, "ab")
    taken_one(engine, 0.0)
    engine.create_aborted(jobs["a"], 0.5)
    assert (jobs["a"].phase, engine.creating, engine.in_flight) == (Phase.OVER, 0, 0)
    assert engine.counts.creates_sent == 0
    assert engine.creates.shut_for(0.5) == 0.0
    assert taken(engine, 0.5) == "b"


# ---- queries


def test_a_pending_task_is_asked_at_growing_gaps() -> None:
    engine = make(polling=Polling(min_interval=1.0, max_interval=8.0, price=0.5))
    job, instants = followed(engine), list[float]()
    for _ in range(6):
        now = engine.query_ready_at(0.0)
        assert engine.take_query(math.nextafter(now, 0.0)) is None
        assert engine.take_query(now) is job
        instants.append(now)
        assert engine.query_answered(job, pending(), now) is QueryStep.PENDING
    assert instants[:3] == [1.0, 2.0, 2.0 + math.sqrt(2.0)]
    assert [b - a for a, b in itertools.pairwise(instants)] == pytest.approx(
        [math.sqrt(age) for age in instants[:-1]]
    )
    assert (job.queries, engine.counts.queries_sent) == (6, 6)


def test_the_first_query_may_be_asked_for_at_once() -> None:
    engine = make()
    job = followed(engine, 5.0, ask_at=5.0)
    assert engine.query_ready_at(5.0) == 5.0
    assert engine.take_query(5.0) is job
    assert job.asking
    assert engine.take_query(5.0) is None


@pytest.mark.parametrize("state", [TaskState.SUCCESS, TaskState.FAIL])
def test_an_ended_task_is_asked_no_more(state: TaskState) -> None:
    engine = make()
    job = followed(engine, ask_at=0.0)
    asked(engine, 0.0)
    assert engine.query_answered(job, ended(state), 1.0) is QueryStep.ENDED
    assert (job.phase, job.asking, engine.in_flight) == (Phase.OVER, False, 0)
    assert engine.query_ready_at(1e9) == math.inf


def test_no_more_queries_are_on_the_wire_than_allowed() -> None:
    engine = make(Limits(max_concurrent_queries=2))
    first = followed(engine, ask_at=0.0)
    followed(engine, ask_at=0.0)
    third = followed(engine, ask_at=0.0)
    asked(engine, 0.0)
    asked(engine, 0.0)
    assert engine.asking == 2
    assert engine.query_ready_at(0.0) == math.inf
    assert engine.take_query(0.0) is None
    engine.query_answered(first, ended(), 1.0)
    assert engine.take_query(1.0) is third


def test_who_has_been_due_longest_is_asked_first() -> None:
    engine = make()
    for name, ask_at in (("a", 3.0), ("b", -1000.0), ("c", 1.0), ("d", 1.0)):
        followed(engine, ask_at=ask_at, name=name)
    assert [asked(engine, 5.0).name for _ in range(4)] == ["b", "c", "d", "a"]


def test_a_throttled_query_keeps_its_place_and_starves_nobody() -> None:
    engine = make()
    a = followed(engine, ask_at=0.0, name="a")
    followed(engine, ask_at=0.25, name="b")
    asked(engine, 0.0)
    assert engine.query_answered(a, throttled(), 0.5) is QueryStep.AGAIN
    now, seen = 0.5, list[tuple[str, float]]()
    for _ in range(11):
        now = engine.query_ready_at(now)
        job = asked(engine, now)
        seen.append((job.name, now))
        engine.query_answered(job, throttled() if job is a else pending(), now)
    # b was due at 0.25, 3.1 and 7.3: a goes before it at most once each time
    assert seen == [
        *[("a", 1.0), ("b", 2.0)],
        *[("a", 2.0), ("a", 2.5), ("a", 3.5), ("b", 5.5)],
        *[("a", 5.5), ("a", 6.0), ("a", 7.0), ("a", 9.0), ("b", 13.0)],
    ]
    assert (a.failures, a.failing_since) == (0, None)


def test_a_throttled_query_closes_the_gate_for_all_queries_and_no_create() -> None:
    engine = make()
    a = followed(engine, ask_at=0.0)
    followed(engine, ask_at=0.0)
    submitted(engine, "c")
    asked(engine, 0.0)
    assert engine.query_answered(a, throttled(7.0), 1.0) is QueryStep.AGAIN
    assert engine.query_ready_at(1.0) == 8.0
    assert engine.create_ready_at(1.0) == 1.0
    assert (engine.queries.refusals, engine.creates.refusals) == (1, 0)


def test_the_query_of_a_paid_task_waits_ten_minutes_at_most() -> None:
    engine = make()
    job = followed(engine, ask_at=0.0)
    asked(engine, 0.0)
    assert engine.query_answered(job, throttled(86_400.0), 1.0) is QueryStep.AGAIN
    assert engine.query_ready_at(1.0) == 601.0


def test_a_known_query_rate_is_kept() -> None:
    engine = make(Limits(query_rate=RateLimit(1, 2.0)))
    first = followed(engine, ask_at=0.0)
    followed(engine, ask_at=0.0)
    asked(engine, 0.0)
    engine.query_answered(first, ended(), 0.5)
    assert engine.query_ready_at(0.5) == 2.5


@pytest.mark.parametrize(
    "reply",
    [Reply(500), Reply(408), Reply(200), Reply(200, state=TaskState.UNKNOWN), Reply(404), Reply(200, 422)],
)
def test_a_query_without_news_is_asked_again_after_growing_pauses(reply: Reply) -> None:
    engine = make()
    job, now, pauses = followed(engine, ask_at=0.0), 0.0, list[float]()
    for _ in range(5):
        assert asked(engine, now) is job
        assert engine.query_answered(job, reply, now) is QueryStep.AGAIN
        pauses.append(engine.query_ready_at(now) - now)
        now += pauses[-1]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert asked(engine, now) is job
    assert engine.query_answered(job, pending(), now) is QueryStep.PENDING
    assert (job.failures, job.failing_since) == (0, None)


def test_pauses_after_failed_queries_grow_to_thirty_seconds_and_end_with_patience() -> None:
    engine = make(retries=Retries(query_patience=200.0))
    job, now, instants = followed(engine, ask_at=0.0), 0.0, list[float]()
    while True:
        assert asked(engine, now) is job
        instants.append(now)
        if engine.query_failed(job, now, sent=True) is QueryStep.STOP:
            break
        now = engine.query_ready_at(now)
    assert instants == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 61.5, 91.5, 121.5, 151.5, 181.5, 211.5]
    assert (job.phase, engine.in_flight) == (Phase.OVER, 0)
    assert engine.query_ready_at(now) == math.inf


def test_one_good_answer_renews_the_patience() -> None:
    engine = make(retries=Retries(query_patience=10.0))
    job = followed(engine, ask_at=0.0)
    steps = []
    for now, reply in ((0.0, Reply(500)), (9.0, pending()), (12.0, Reply(500)), (21.9, Reply(500))):
        asked(engine, now)
        steps.append(engine.query_answered(job, reply, now))
    assert steps == [QueryStep.AGAIN, QueryStep.PENDING, QueryStep.AGAIN, QueryStep.AGAIN]
    asked(engine, 23.0)
    assert engine.query_answered(job, Reply(500), 23.0) is QueryStep.STOP


def test_a_failed_query_waits_at_least_the_shortest_interval() -> None:
    engine = make(polling=Polling(min_interval=5.0))
    job = followed(engine, ask_at=0.0)
    asked(engine, 0.0)
    engine.query_failed(job, 0.0, sent=True)
    assert engine.query_ready_at(0.0) == 5.0


def test_an_unreachable_service_closes_the_gate_for_all_queries() -> None:
    engine = make()
    job = followed(engine, ask_at=0.0)
    followed(engine, ask_at=0.0)
    asked(engine, 0.0)
    assert engine.query_failed(job, 1.0, sent=False) is QueryStep.AGAIN
    assert engine.query_ready_at(1.0) == 1.5


def test_a_query_lost_on_its_way_closes_nothing() -> None:
    engine = make()
    job = followed(engine, ask_at=0.0)
    other = followed(engine, ask_at=0.0)
    asked(engine, 0.0)
    assert engine.query_failed(job, 1.0, sent=True) is QueryStep.AGAIN
    assert engine.take_query(1.0) is other


@pytest.mark.parametrize("status", [404, 422])
@pytest.mark.parametrize(
    ("age", "step"), [(0.0, QueryStep.AGAIN), (29.9, QueryStep.AGAIN), (30.0, QueryStep.STOP)]
)
def test_a_task_may_be_unknown_for_thirty_seconds(status: int, age: float, step: QueryStep) -> None:
    engine = make()
    job = followed(engine, 100.0, ask_at=100.0)
    asked(engine, 100.0)
    assert engine.query_answered(job, Reply(status), 100.0 + age) is step


@pytest.mark.parametrize("reply", [Reply(401), Reply(200, 403)])
def test_a_key_that_may_not_ask_stops_the_asking(reply: Reply) -> None:
    engine = make()
    job = followed(engine, ask_at=0.0)
    asked(engine, 0.0)
    assert engine.query_answered(job, reply, 0.0) is QueryStep.STOP
    assert job.phase is Phase.OVER


@pytest.mark.parametrize("reply", [pending(), ended(), Reply(404), Reply(401), Reply(500), Reply(200)])
def test_a_single_look_takes_whatever_comes(reply: Reply) -> None:
    engine = make()
    job = followed(engine, once=True, ask_at=0.0)
    asked(engine, 0.0)
    assert engine.query_answered(job, reply, 0.0) is QueryStep.ENDED
    assert (job.phase, engine.in_flight) == (Phase.OVER, 0)


def test_a_single_look_that_is_throttled_looks_again() -> None:
    engine = make()
    job = followed(engine, once=True, ask_at=0.0)
    asked(engine, 0.0)
    assert engine.query_answered(job, throttled(3.0), 0.0) is QueryStep.AGAIN
    assert engine.query_ready_at(0.0) == 3.0
    assert engine.take_query(3.0) is job


@pytest.mark.parametrize("sent", [True, False])
def test_a_single_look_that_fails_is_over(sent: bool) -> None:
    engine = make()
    job = followed(engine, once=True, ask_at=0.0)
    asked(engine, 0.0)
    assert engine.query_failed(job, 0.0, sent=sent) is QueryStep.STOP
    assert job.phase is Phase.OVER


@pytest.mark.parametrize("reply", [pending(), ended(), Reply(401), Reply(500), throttled(4.0)])
def test_the_answer_for_a_job_released_meanwhile_plans_nothing(reply: Reply) -> None:
    engine = make()
    job = followed(engine, ask_at=0.0)
    other = followed(engine, ask_at=0.0)
    asked(engine, 0.0)
    engine.release(job)
    assert engine.query_answered(job, reply, 1.0) is QueryStep.AGAIN
    assert (job.phase, job.asking, engine.asking) == (Phase.OVER, False, 0)
    assert engine.query_ready_at(1.0) == (5.0 if reply.retry_after else 1.0)  # the limit is news all the same
    assert engine.take_query(5.0) is other


def test_the_failure_for_a_job_released_meanwhile_plans_nothing() -> None:
    engine = make()
    job = followed(engine, ask_at=0.0)
    asked(engine, 0.0)
    engine.release(job)
    assert engine.query_failed(job, 1.0, sent=True) is QueryStep.AGAIN
    assert engine.query_ready_at(1e9) == math.inf


def test_a_query_that_we_cut_off_frees_its_slot_and_is_not_planned_again() -> None:
    engine = make(Limits(max_concurrent_queries=1))
    job = followed(engine, ask_at=0.0)
    asked(engine, 0.0)
    engine.query_aborted(job, 1.0)
    assert (job.phase, job.asking, engine.asking) == (Phase.FOLLOWED, False, 0)
    assert engine.query_ready_at(1.0) == math.inf


# ---- deadlines


def test_a_task_is_followed_until_its_deadline_counted_from_its_acceptance() -> None:
    engine = make()
    job = Named(task_id="t")
    job.accepted_at = 10.0
    engine.follow(job, 12.0, timeout=60.0)
    assert engine.next_deadline() == 70.0
    assert engine.take_expired(69.999) is None
    assert engine.take_expired(70.0) is job
    assert (job.phase, engine.in_flight) == (Phase.OVER, 0)
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
    assert engine.in_flight == 1


def test_a_task_that_ended_before_its_deadline_does_not_expire() -> None:
    engine = make()
    first = followed(engine, timeout=1.0)
    second = followed(engine, timeout=1.0)
    engine.release(first)
    assert engine.take_expired(1.0) is second
    assert engine.take_expired(1.0) is None


def test_a_deadline_passes_while_the_query_is_on_the_wire() -> None:
    engine = make()
    job = followed(engine, ask_at=0.0, timeout=1.0)
    asked(engine, 0.5)
    assert engine.take_expired(1.0) is job
    assert engine.query_answered(job, ended(), 1.5) is QueryStep.AGAIN
    assert engine.asking == 0


# ---- any order of anything

TICK = 1 / 1024
CREATE_REPLIES = {
    "accepted": accepted(),
    "accepted in an error": Reply(500, 500, task_id="t"),
    "throttled": throttled(),
    "throttled for 3 s": throttled(3.0),
    "throttled for 121 s": throttled(121.0),
    "refused": Reply(422),
    "out of credits": Reply(200, 402),
    "unknown": Reply(502),
}
QUERY_REPLIES = {
    "pending": pending(),
    "waiting": pending(TaskState.WAITING),
    "success": ended(),
    "fail": ended(TaskState.FAIL),
    "throttled": throttled(),
    "throttled for an hour": throttled(3600.0),
    "missing": Reply(404),
    "denied": Reply(401),
    "unclear": Reply(502),
}
RATES = st.sampled_from([None, RateLimit(2, 1.0), RateLimit(5, 10.0, burst=2)])


class EngineMachine(RuleBasedStateMachine):
    """Everything a driver may do, in any order, beside a model that only keeps lists."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.made = 0
        self.deadlines: dict[str, float] = {}
        self.queue: deque[Named] = deque()
        self.creating: list[Named] = []
        self.paid: list[Named] = []  # accepted, not followed yet
        self.put_off: list[Named] = []  # to be queued again
        self.followed: list[Named] = []
        self.asking: list[Named] = []
        self.cut_off: list[Named] = []  # still followed, and never asked again: the client closes
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
        retries=st.builds(Retries, throttled_for=st.sampled_from([5.0, 600.0]), resend_unknown=st.booleans()),
    )
    def open(self, limits: Limits, retries: Retries) -> None:
        self.limits = limits
        self.engine = make(limits, retries=retries)

    def some(self, data: st.DataObject, jobs: list[Named]) -> Named:
        return jobs.pop(data.draw(st.integers(0, len(jobs) - 1)))

    def new(self, *, once: bool = False) -> Named:
        self.made += 1
        return Named(name=str(self.made), once=once)

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
        self.engine.submit(job, self.now)
        self.queue.append(job)

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        everyone = [
            *self.queue, *self.creating, *self.paid, *self.put_off, *self.followed, *self.asking, *self.over
        ]  # fmt: skip
        if not everyone:
            return
        job = data.draw(st.sampled_from(everyone))
        assert self.engine.withdraw(job) is (job in self.queue)
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
        job = self.engine.take_create(self.now)
        assert (job is None) is (ready > self.now)
        if job is not None:
            assert job is self.queue.popleft()
            assert self.engine.in_flight <= self.limits.max_in_flight
            self.creating.append(job)

    def created(self, job: Named, step: CreateStep) -> None:
        if step is CreateStep.ACCEPTED:
            self.paid.append(job)
        elif step is CreateStep.REQUEUE:
            self.put_off.append(job)
        else:
            self.engine.release(job)
            self.over.append(job)

    @precondition(lambda self: self.creating)
    @rule(data=st.data(), kind=st.sampled_from(sorted(CREATE_REPLIES)))
    def create_answered(self, data: st.DataObject, kind: str) -> None:
        job = self.some(data, self.creating)
        step = self.engine.create_answered(job, CREATE_REPLIES[kind], self.now)
        assert (step is CreateStep.ACCEPTED) is kind.startswith("accepted")
        self.created(job, step)

    @precondition(lambda self: self.creating)
    @rule(data=st.data(), how=st.sampled_from(["unsent", "lost", "aborted"]))
    def create_failed(self, data: st.DataObject, how: str) -> None:
        job = self.some(data, self.creating)
        if how == "unsent":
            self.created(job, self.engine.create_unsent(job, self.now))
        elif how == "lost":
            self.created(job, self.engine.create_lost(job, self.now))
        else:
            self.engine.create_aborted(job, self.now)
            self.over.append(job)

    @precondition(lambda self: self.put_off)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        job = self.some(data, self.put_off)
        self.engine.requeue(job)
        self.queue = deque(sorted([*self.queue, job], key=lambda waiting: int(waiting.name)))

    @rule()
    def give_up_waiting(self) -> None:
        hopeless = [job for job in self.queue if self.engine.hopeless(job, self.now)]
        assert list(self.engine.give_up_waiting(self.now)) == hopeless
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
            self.engine.follow(job, self.now, timeout=timeout)
            self.followed.append(job)
            if timeout is not None:
                self.deadlines[job.name] = job.accepted_at + timeout

    @rule(once=st.booleans(), behind=st.sampled_from([0.0, 0.0, 1e6, -10.0]))
    def attach(self, once: bool, behind: float) -> None:
        job = self.new(once=once)
        job.accepted_at = self.now
        self.engine.follow(job, self.now, ask_at=self.now - behind)
        self.followed.append(job)

    @rule()
    def take_query(self) -> None:
        ready = self.engine.query_ready_at(self.now)
        job = self.engine.take_query(self.now)
        assert (job is None) is (ready > self.now)
        if job is not None:
            assert job in self.followed
            self.followed.remove(job)
            self.asking.append(job)

    def asked(self, job: Named, step: QueryStep) -> None:
        planned = job.phase is Phase.FOLLOWED
        assert planned is (step in (QueryStep.PENDING, QueryStep.AGAIN) and job not in self.over)
        if planned:
            self.followed.append(job)
        elif job not in self.over:
            self.over.append(job)

    @precondition(lambda self: self.asking)
    @rule(data=st.data(), kind=st.sampled_from(sorted(QUERY_REPLIES)))
    def query_answered(self, data: st.DataObject, kind: str) -> None:
        job = self.some(data, self.asking)
        self.asked(job, self.engine.query_answered(job, QUERY_REPLIES[kind], self.now))

    @precondition(lambda self: self.asking)
    @rule(data=st.data(), sent=st.booleans())
    def query_failed(self, data: st.DataObject, sent: bool) -> None:
        job = self.some(data, self.asking)
        self.asked(job, self.engine.query_failed(job, self.now, sent=sent))

    @precondition(lambda self: self.asking)
    @rule(data=st.data())
    def query_aborted(self, data: st.DataObject) -> None:
        job = self.some(data, self.asking)
        self.engine.query_aborted(job, self.now)
        if job not in self.over:
            self.cut_off.append(job)

    @precondition(lambda self: self.followed or self.asking)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from([*self.followed, *self.asking]))
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

    # ---- what is always true

    @invariant()
    def every_task_that_may_run_is_counted_once(self) -> None:
        tasks = {*self.creating, *self.paid, *self.followed, *self.asking, *self.cut_off} - {*self.over}
        assert self.engine.in_flight == sum(not job.once for job in tasks)

    @invariant()
    def the_wire_is_within_its_limits(self) -> None:
        assert self.engine.creating == len(self.creating) <= self.limits.max_concurrent_creates
        assert self.engine.asking == len(self.asking) <= self.limits.max_concurrent_queries

    @invariant()
    def the_queue_is_what_waits(self) -> None:
        assert self.engine.queued == len(self.queue)

    @invariant()
    def every_followed_job_is_planned_or_being_asked(self) -> None:
        assert all(job.ticket and not job.asking for job in self.followed)
        assert all(job.asking and not job.ticket for job in self.asking)
        assert all(job.ticket for job in self.queue)
        assert not any(job.ticket for job in [*self.creating, *self.paid, *self.over])

    @invariant()
    def nothing_is_ready_in_the_past(self) -> None:
        assert self.engine.create_ready_at(self.now) >= self.now
        assert self.engine.query_ready_at(self.now) >= self.now

    # ---- however it went, all of it comes to an end

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
                assert self.engine.create_answered(job, accepted(), self.now) is CreateStep.ACCEPTED
                self.engine.follow(job, self.now)
                self.followed.append(job)
            elif (job := self.engine.take_query(self.now)) is not None:
                self.followed.remove(job)
                assert self.engine.query_answered(job, ended(), self.now) is QueryStep.ENDED
        assert not self.queue
        assert not self.followed
        assert (self.engine.in_flight, self.engine.creating, self.engine.asking, self.engine.queued) == (
            0,
        ) * 4

    def settle(self) -> None:
        """Bring in what is away, and let go of what would never be asked."""
        for job in self.creating:
            self.created(job, self.engine.create_answered(job, Reply(422), self.now))
        for job in self.asking:
            if self.engine.query_answered(job, pending(), self.now) is QueryStep.PENDING:
                self.followed.append(job)
        for job in [*self.paid, *self.cut_off]:
            self.engine.release(job)
        for job in self.put_off:
            self.engine.requeue(job)
            self.queue = deque(sorted([*self.queue, job], key=lambda waiting: int(waiting.name)))


EngineMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestEngineInAnyOrder: Any = EngineMachine.TestCase
