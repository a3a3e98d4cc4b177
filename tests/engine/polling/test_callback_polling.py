"""What a callback leads to, and when its task is polled nevertheless."""

from __future__ import annotations

import math

import pytest

from ruxa_async._engine.classify import Reply
from ruxa_async._engine.engine import Engine
from ruxa_async._engine.job import Job, Phase, QueryStep
from ruxa_async._engine.polling import callback_polling
from ruxa_async._engine.polling.callback_polling import CallbackPolling, CallbackStep
from ruxa_async.results import TaskState
from ruxa_async.settings import Limits, Polling, Retries

MODEL = "google/nano-banana"
DONE = Reply(status=200, state=TaskState.SUCCESS)
RUNNING = Reply(status=200, state=TaskState.RUNNING)


def engine_of() -> Engine[Job]:
    return Engine(Limits(), Polling(), Retries())


def reliable(engine: Engine[Job]) -> bool:
    """Read the attribute in a function, because type checkers assume that it keeps its value."""
    return engine.callback_polling.reliable


def callback_id(number: int) -> bytes:
    """Return an id whose job is not a probe, once durations are known."""
    return b"\xff" + number.to_bytes(11, "big")


def sent(engine: Engine[Job], now: float, number: int = 1) -> Job:
    """Return a job whose create is on the wire."""
    job = Job(model=MODEL)
    engine.creates.submit(job, now)
    assert engine.take_create(now) is job
    engine.callback_polling.expect(job, callback_id(number))
    return job


def followed(engine: Engine[Job], now: float, number: int = 1) -> Job:
    job = sent(engine, now, number)
    engine.creates.on_reply(job, Reply(status=200, task_id=f"t{number}"), now)
    engine.polls.follow(job, now)
    return job


def lost(engine: Engine[Job], now: float, number: int = 1) -> Job:
    job = sent(engine, now, number)
    engine.creates.on_no_response(job, now)
    engine.callbacks.await_callback(job, now, 60.0)
    return job


def called(
    engine: Engine[Job], now: float, number: int = 1, *, over: bool = True, settles: bool = True
) -> CallbackStep:
    return engine.callbacks.on_callback(callback_id(number), now, over=over, settles=settles)[0]


# ---- one callback


def test_a_callback_wakes_its_task_for_one_query() -> None:
    engine = engine_of()
    job = followed(engine, 100.0)
    assert engine.query_ready_at(101.0) > 101.0
    assert called(engine, 101.0) is CallbackStep.WOKEN
    assert engine.take_query(101.0) is job
    assert engine.polls.on_reply(job, DONE, 101.1) is QueryStep.ENDED
    assert called(engine, 102.0) is CallbackStep.LATE
    assert engine.query_ready_at(102.0) == math.inf


def test_a_callback_of_a_running_task_triggers_no_query() -> None:
    engine = engine_of()
    job = followed(engine, 100.0)
    before = engine.query_ready_at(101.0)
    assert called(engine, 101.0, over=False) is CallbackStep.NOTED
    assert (engine.query_ready_at(101.0), job.callback_at) == (before, math.inf)


def test_a_callback_during_a_query_triggers_another_query() -> None:
    engine = engine_of()
    job = followed(engine, 100.0)
    called(engine, 101.0)
    assert engine.take_query(101.0) is job
    assert called(engine, 101.5) is CallbackStep.WOKEN
    assert engine.take_query(101.5) is None
    assert engine.polls.on_reply(job, RUNNING, 101.6) is QueryStep.PENDING
    assert engine.take_query(101.6) is job


def test_after_a_premature_callback_polling_ignores_callbacks() -> None:
    engine = engine_of()
    job = followed(engine, 100.0)
    called(engine, 105.0)
    engine.take_query(105.0)
    engine.polls.on_reply(job, RUNNING, 105.0)
    assert 105.0 < engine.query_ready_at(105.0) < 106.0


def test_an_early_callback_makes_the_first_query_due() -> None:
    engine = engine_of()
    job = sent(engine, 100.0)
    assert called(engine, 100.5) is CallbackStep.EARLY
    engine.creates.on_reply(job, Reply(status=200, task_id="t"), 101.0)
    engine.polls.follow(job, 101.0)
    assert engine.take_query(101.0) is job


def test_an_early_callback_of_a_running_task_changes_nothing() -> None:
    engine = engine_of()
    job = sent(engine, 100.0)
    assert called(engine, 100.5, over=False) is CallbackStep.EARLY
    assert job.callback_at == math.inf


def test_a_callback_without_a_job_is_unclaimed() -> None:
    engine = engine_of()
    assert called(engine, 1.0) is CallbackStep.UNCLAIMED


def test_a_callback_for_a_released_task_is_late_and_for_an_uncharged_one_unclaimed() -> None:
    engine = engine_of()
    engine.release(followed(engine, 100.0, 1))
    assert called(engine, 101.0, 1) is CallbackStep.LATE
    engine.creates.on_abort(sent(engine, 100.0, 2), 100.0)
    assert called(engine, 101.0, 2) is CallbackStep.UNCLAIMED


def test_each_attempt_has_its_own_callback_id() -> None:
    engine = engine_of()
    job = sent(engine, 100.0, 1)
    engine.callback_polling.expect(job, callback_id(2))
    assert called(engine, 101.0, 1) is CallbackStep.UNCLAIMED
    assert called(engine, 101.0, 2) is CallbackStep.EARLY


def test_a_bounded_number_of_finished_jobs_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback_polling, "_REMEMBERED", 2)
    engine = engine_of()
    for number in (1, 2, 3):
        engine.release(followed(engine, 100.0, number))
    assert [called(engine, 101.0, number) for number in (1, 2, 3)] == [
        CallbackStep.UNCLAIMED,
        CallbackStep.LATE,
        CallbackStep.LATE,
    ]


# ---- creates of unknown outcome


def test_a_held_create_counts_as_running_until_its_time_is_up() -> None:
    engine = engine_of()
    job = lost(engine, 100.0)
    assert (job.phase, engine.counts.in_flight, engine.queues.deadlines.next_time()) == (
        Phase.AWAITING_CALLBACK,
        1,
        160.0,
    )
    assert engine.take_expired(159.0) is None
    assert engine.take_expired(160.0) is job
    assert (job.phase, engine.counts.in_flight) == (Phase.OVER, 0)
    assert called(engine, 161.0) is CallbackStep.UNCLAIMED


def test_a_callback_settles_a_held_create() -> None:
    engine = engine_of()
    job = lost(engine, 100.0)
    assert engine.counts.unknown == 1
    assert called(engine, 130.0) is CallbackStep.RECOVER
    assert (job.phase, engine.queues.deadlines.next_time()) == (Phase.CREATING, math.inf)
    engine.callbacks.recover(job, "t", 5.0, was_unknown=True)
    assert (job.task_id, job.accepted_at) == ("t", 100.0)
    assert (engine.counts.unknown, engine.counts.accepted) == (0, 1)
    engine.polls.follow(job, 130.5, timeout=90.0)
    assert engine.take_query(130.5) is job
    assert (engine.counts.in_flight, engine.queues.deadlines.next_time()) == (1, 190.0)


def test_a_callback_with_too_little_content_leaves_a_create_held() -> None:
    engine = engine_of()
    job = lost(engine, 100.0)
    assert called(engine, 130.0, settles=False) is CallbackStep.NOTED
    assert (job.phase, job.callback_at) == (Phase.AWAITING_CALLBACK, math.inf)


@pytest.mark.parametrize(
    ("settles", "step"), [(True, CallbackStep.RECOVER), (False, CallbackStep.AWAIT_NEXT)]
)
def test_a_rejected_create_that_a_callback_proves_accepted_is_not_sent_again(
    settles: bool, step: CallbackStep
) -> None:
    engine = engine_of()
    job = sent(engine, 100.0)
    engine.creates.on_reply(job, Reply(status=429), 100.1)
    engine.creates.requeue(job)
    assert called(engine, 100.2, settles=settles) is step
    assert engine.queued == 0
    assert engine.take_create(1_000.0) is None


def test_a_reply_that_a_callback_contradicts_counts_as_unknown() -> None:
    engine = engine_of()
    job = sent(engine, 100.0)
    step = engine.creates.on_reply(job, Reply(status=422), 101.0)
    assert (engine.counts.refused, engine.counts.unknown) == (1, 0)
    engine.callbacks.doubt(step)
    assert (engine.counts.refused, engine.counts.unknown) == (0, 1)


def test_a_withdrawn_job_expects_no_callback() -> None:
    engine = engine_of()
    job = sent(engine, 100.0)
    engine.creates.on_not_sent(job, 100.0)
    engine.creates.requeue(job)
    assert engine.pop_queued() is job
    assert called(engine, 101.0) is CallbackStep.UNCLAIMED


# ---- how far they are relied on


def taught(engine: Engine[Job], seconds: float = 10.0, tasks: int = 40) -> float:
    """Run *tasks* of *seconds* each, with callbacks; return the time of the last end."""
    now = 1_000.0
    for number in range(1_000, 1_000 + tasks):
        job = followed(engine, now, number)
        called(engine, now + seconds, number)
        assert engine.take_query(now + seconds) is job
        engine.polls.on_reply(job, DONE, now + seconds)
        engine.polls.learn(job, now + seconds, None)
        now += 2 * seconds
    return now


def end_unseen(engine: Engine[Job], job: Job, now: float) -> None:
    """Let a query find that *job* ended, without a callback."""
    assert engine.take_query(now) is job
    engine.polls.on_reply(job, DONE, now)


def test_the_first_tasks_of_a_model_are_probes_and_the_others_wait() -> None:
    engine = engine_of()
    ages = []
    for number in range(15):
        job = followed(engine, 100.0, number)
        ages.append(due(engine, job) - 100.0)
    assert ages[:12] == [2.0] * 12
    assert all(age > 30.0 for age in ages[12:])


def test_a_probe_is_polled_at_growing_ages() -> None:
    engine = engine_of()
    job = followed(engine, 100.0)
    asked = []
    for _ in range(6):
        now = engine.query_ready_at(100.0)
        asked.append(now - 100.0)
        assert engine.take_query(now) is job
        engine.polls.on_reply(job, RUNNING, now)
    assert asked == pytest.approx([2.0, 3.0, 4.5, 6.75, 10.125, 15.1875])


def test_a_task_of_a_known_model_is_queried_when_99_percent_have_ended() -> None:
    engine = engine_of()
    now = taught(engine)
    followed(engine, now, 1)
    median = engine.schedule.median(MODEL)
    assert median is not None
    assert median == pytest.approx(10.0, rel=0.1)
    age = engine.query_ready_at(now) - now
    assert age == pytest.approx(engine.schedule.latest_usual_age(MODEL) + 1.0)
    assert age > 1.1 * median


def test_one_in_48_is_a_probe_from_the_median_on() -> None:
    engine = engine_of()
    now = taught(engine)
    job = Job(model=MODEL)
    job.callback_id, job.callback_at = b"\x04" + bytes(11), math.inf
    probes = [b for b in range(256) if engine.callback_polling.first_poll(_with(b), 0.0) < 11.0]
    assert probes == list(range(5))
    assert engine.callback_polling.first_poll(job, 0.0) == engine.schedule.median(MODEL)
    assert now > 0


def _with(first: int) -> Job:
    job = Job(model=MODEL)
    job.callback_id, job.callback_at = bytes([first]) + bytes(11), math.inf
    return job


def test_at_first_one_lost_callback_makes_callbacks_unreliable() -> None:
    engine = engine_of()
    probe = followed(engine, 100.0, 1)
    others = [followed(engine, 100.0, number) for number in range(2, 20)]
    end_unseen(engine, probe, 102.0)
    assert not engine.callback_polling.reliable
    # The other 18 are rescheduled like tasks without a callback.
    assert engine.query_ready_at(102.0) < 103.0
    assert {job.ticket > 0 for job in others} == {True}


def test_lost_callbacks_of_other_tasks_do_not_count() -> None:
    engine = engine_of()
    now = taught(engine)
    for number in range(20):
        job = followed(engine, now, number)
        now = engine.query_ready_at(now)
        end_unseen(engine, job, now)
    assert engine.callback_polling.reliable


def test_probes_notice_when_callbacks_stop_and_when_they_return() -> None:
    engine = engine_of()
    now = taught(engine)
    misses = 0
    while reliable(engine):
        job = sent(engine, now, misses)
        engine.callback_polling.expect(job, bytes([misses % 5]) + misses.to_bytes(11, "big"))
        engine.creates.on_reply(job, Reply(status=200, task_id="t"), now)
        engine.polls.follow(job, now)
        now = engine.query_ready_at(now)
        end_unseen(engine, job, now)
        misses += 1
    assert misses == 2
    hits = 0
    while not reliable(engine):
        job = followed(engine, now, hits)
        called(engine, now + 0.1, hits)
        end_unseen(engine, job, now + 0.1)
        now += 1.0
        hits += 1
    assert 15 <= hits <= 30


def test_a_callback_that_arrives_after_the_query_is_not_lost() -> None:
    engine = engine_of()
    end_unseen(engine, followed(engine, 100.0), 102.0)
    assert not engine.callback_polling.reliable
    assert called(engine, 102.1) is CallbackStep.LATE
    assert called(engine, 102.2) is CallbackStep.LATE
    # At most one loss counts then, as at the beginning.
    assert engine.callback_polling._loss == pytest.approx(0.2 + 0.8 / 6 - 1 / 6)


def test_tasks_without_a_callback_are_polled_and_do_not_count() -> None:
    engine = engine_of()
    taught(engine)
    callback_polling: CallbackPolling[Job] = engine.callback_polling
    job = Job(model=MODEL, task_id="t")
    assert not callback_polling.waits_for(job)
    assert not callback_polling.on_end(job)
    callback_polling.forget(job)
    engine.polls.follow(job, 0.0)
    assert engine.query_ready_at(0.0) < engine.schedule.median(MODEL)  # type: ignore[operator]


def due(engine: Engine[Job], job: Job) -> float:
    return next(
        at for at, ticket, item in engine.queues.queries._heap if item is job and ticket == job.ticket
    )


def test_waiting_tasks_are_rescheduled_when_their_model_is_learned() -> None:
    engine = engine_of()
    jobs = [followed(engine, 100.0, number) for number in range(14)]
    probe, waiting = jobs[1], jobs[-1]
    assert due(engine, waiting) == pytest.approx(140.8, abs=0.1)
    for _ in range(12):
        asked = engine.take_query(102.0)
        assert asked is not None
        engine.polls.on_reply(asked, RUNNING, 102.0)
    called(engine, 102.5, 0)
    assert engine.take_query(102.5) is jobs[0]
    engine.polls.on_reply(jobs[0], DONE, 102.5)
    engine.polls.learn(jobs[0], 102.5, None)
    assert due(engine, waiting) == pytest.approx(100.0 + engine.schedule.latest_usual_age(MODEL) + 1.0)
    assert due(engine, waiting) < 140.0
    assert due(engine, probe) == pytest.approx(103.0)


def test_the_latest_usual_age_follows_the_prior_until_a_task_ended() -> None:
    polling = engine_of().schedule
    assert polling.latest_usual_age("google/nano-banana") == pytest.approx(39.76, abs=0.1)
    assert polling.latest_usual_age("sora-2") == pytest.approx(477.1, abs=1.0)
    assert polling.latest_usual_age("something-else") == pytest.approx(410.0, abs=10.0)
