"""Events in their order, and the figures of `stats`."""

from __future__ import annotations

import anyio
import pytest
from client.test_client import CAT, DONE, Script, accepted, in_state, reply
from harness import client_of, prompts, service_of

from ruxa_async import (
    MaybeSentError,
    NotSentError,
    RateLimitedError,
    RuxaClient,
    SubmissionUnknownError,
    TaskTimeout,
)
from ruxa_async.events import (
    ClientEvent,
    CreateRefused,
    CreateThrottled,
    CreateUnknown,
    CreateUnsent,
    Event,
    JobQueued,
    QueryFailed,
    ScopePaused,
    TaskEnded,
    TaskOrphaned,
    TaskStateChanged,
)


def names(events: list[Event | ClientEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


async def test_a_job_emits_its_events_in_order() -> None:
    events: list[Event | ClientEvent] = []
    script = Script(creates=[accepted()], queries=[in_state("generating"), in_state("generating"), DONE])
    async with client_of(script, on_event=events.append) as ruxa:
        await ruxa.generate(CAT)
    assert names(events) == [
        "JobQueued",
        "CreateSent",
        "TaskAccepted",
        "QuerySent",
        "TaskStateChanged",
        "QuerySent",
        "QuerySent",
        "TaskStateChanged",
        "TaskEnded",
        "ClientClosed",
    ]
    assert [event.at for event in events] == sorted(event.at for event in events)
    queued, ended = events[0], events[-2]
    assert isinstance(queued, JobQueued)
    assert (queued.job.key, queued.job.request, queued.job.task_id) == ("cat", CAT, None)
    assert isinstance(ended, TaskEnded)
    assert ended.status is not None
    assert (ended.job.task_id, ended.error, ended.queries) == ("task_1", None, 3)
    assert ended.seconds == pytest.approx(ended.at - events[2].at)


async def test_failing_creates_emit_events() -> None:
    events: list[Event | ClientEvent] = []
    throttled = reply({}, 429, **{"retry-after": "4"})
    script = Script(
        creates=[
            NotSentError("down"),
            throttled,
            reply({"code": 422, "message": "bad"}),
            MaybeSentError("cut"),
        ],
        queries=[DONE],
    )
    async with client_of(script, on_event=events.append) as ruxa:
        with pytest.raises(Exception, match="bad"):
            await ruxa.submit(CAT)
        with pytest.raises(SubmissionUnknownError):
            await ruxa.submit(CAT)
    unsent, throttle, limiter, refused, unknown, _ = [
        event for event in events if not isinstance(event, JobQueued) and type(event).__name__ != "CreateSent"
    ]
    assert isinstance(unsent, CreateUnsent)
    assert isinstance(throttle, CreateThrottled)
    assert throttle.retry_after == 4
    assert isinstance(limiter, ScopePaused)
    assert (limiter.scope, limiter.seconds) == ("create", 4)
    assert isinstance(refused, CreateRefused)
    assert isinstance(unknown, CreateUnknown)


async def test_failing_queries_emit_events() -> None:
    events: list[Event | ClientEvent] = []
    throttled = reply({}, 429, **{"retry-after": "4"})
    async with client_of(
        Script(creates=[accepted()], queries=[MaybeSentError("cut"), throttled, DONE]), on_event=events.append
    ) as ruxa:
        await ruxa.generate(CAT)
    errors = [event.error for event in events if isinstance(event, QueryFailed)]
    assert [type(error) for error in errors] == [MaybeSentError, RateLimitedError]
    assert [(event.scope, event.seconds) for event in events if isinstance(event, ScopePaused)] == [
        ("query", 4)
    ]


async def test_orphans_and_withdrawals_emit_events() -> None:
    events: list[Event | ClientEvent] = []
    async with client_of(service_of(latency=1.0), on_event=events.append) as ruxa:
        with anyio.move_on_after(0.5):
            await ruxa.submit(CAT)
        await anyio.sleep(2)
    (orphan,) = [event for event in events if isinstance(event, TaskOrphaned)]
    assert orphan.job == ruxa.orphans[0]
    events.clear()
    async with client_of(Script(creates=[reply({}, 429)], queries=[DONE]), on_event=events.append) as ruxa:
        with anyio.move_on_after(10.1):
            await ruxa.submit(CAT)
    assert names(events)[-2:] == ["JobWithdrawn", "ClientClosed"]


async def test_a_stopped_task_emits_its_error() -> None:
    events: list[Event | ClientEvent] = []
    async with client_of(service_of(), on_event=events.append) as ruxa:
        async for _ in ruxa.as_completed(prompts(1), task_timeout=3):
            pass
    ended, _ = events[-2:]
    assert isinstance(ended, TaskEnded)
    assert ended.status is None
    assert isinstance(ended.error, TaskTimeout)
    assert [e.status.raw_state for e in events if isinstance(e, TaskStateChanged)] == ["waiting", "queuing"]


async def test_stats_count_what_happened() -> None:
    service = service_of(fail_share=0.5, seed=3)
    async with client_of(service) as ruxa:
        async for _ in ruxa.as_completed(prompts(20)):
            pass
        await ruxa.submit(CAT)
        stats = ruxa.stats()
    assert stats.in_flight == 1
    assert stats.creates_sent == stats.accepted == service.counts.creates == 21
    assert stats.queries_sent == service.counts.queries
    assert stats.succeeded + stats.failed == 20
    assert stats.failed > 0
    assert (stats.queued, stats.refused, stats.unknown, stats.stopped, stats.orphaned) == (0, 0, 0, 0, 0)
    assert stats.throttled == {"create": 0, "query": 0}
    assert stats.durations["google/nano-banana"] == pytest.approx(10, abs=3)
    assert stats.rates == {"create": None, "query": None}


async def test_the_repr_of_a_client_shows_its_state_and_not_its_key() -> None:
    ruxa: RuxaClient = client_of(service_of())
    assert repr(ruxa) == "<RuxaClient http://localhost new, 0 in flight, 0 queued>"
    async with ruxa:
        await ruxa.submit(CAT)
        assert repr(ruxa) == "<RuxaClient http://localhost open, 1 in flight, 0 queued>"
    assert "sk-" not in repr(ruxa)
    assert "sk-" not in repr(vars(ruxa))
