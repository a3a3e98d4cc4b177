"""Each step emits an event, in order and with its time. A hook cannot disturb the work."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import anyio
import attrs
import pytest
from harness import client_of, prompts, service_of, sync_client_of

from ruxa_async import (
    APIError,
    Budget,
    BudgetExceededError,
    DownloadError,
    InsufficientCreditsError,
    MaybeSentError,
    NanoBanana,
    NotSentError,
    RateLimitedError,
    RuxaError,
    SubmissionHalted,
    SubmissionUnknownError,
    TaskFailedError,
    TaskState,
    TaskTimeout,
    events,
)
from ruxa_async.emulator import Durations, Fault, TokenBucket
from ruxa_async.events import ClientEvent, Event, ScopePaused

AnyEvent = Event | ClientEvent


def names(emitted: list[AnyEvent]) -> list[str]:
    return [type(event).__name__ for event in emitted]


async def test_a_generation_emits_its_events_in_order() -> None:
    emitted: list[AnyEvent] = []
    start = anyio.current_time()
    async with client_of(service_of(), on_event=emitted.append) as ruxa:
        made = await ruxa.generate(NanoBanana(prompt="a cat", key="mine"))
    first, last = emitted[0], emitted[-2]
    assert isinstance(first, events.JobQueued)
    assert (first.at, first.job.key, first.job.task_id) == (start, "mine", None)
    assert isinstance(last, events.TaskEnded)
    assert (last.job.task_id, last.error) == (made.task_id, None)
    assert last.status is not None
    assert last.status.state is TaskState.SUCCESS
    assert last.seconds == last.at - start
    assert last.queries == names(emitted).count("QuerySent")
    assert names(emitted)[-1] == "ClientClosed"
    assert names(emitted)[:3] == ["JobQueued", "CreateSent", "TaskAccepted"]
    changes = [event.status.raw_state for event in emitted if isinstance(event, events.TaskStateChanged)]
    assert changes[-1] == "success"
    assert len(changes) == len(set(changes))
    assert [event.at for event in emitted] == sorted(event.at for event in emitted)


async def test_a_rejection_emits_its_retry_after() -> None:
    emitted: list[AnyEvent] = []
    service = service_of(creates=TokenBucket(0.25, 1), retry_after="seconds")
    start = anyio.current_time()
    async with client_of(service, on_event=emitted.append) as ruxa:
        await ruxa.submit(NanoBanana(prompt="one"))
        await ruxa.submit(NanoBanana(prompt="two"))
    throttled = [event for event in emitted if isinstance(event, events.CreateThrottled)]
    assert [(event.at - start, event.retry_after) for event in throttled] == [(0.0, 4.0)]
    assert [event for event in emitted if isinstance(event, ScopePaused)] == [
        ScopePaused(start, "create", 4.0)
    ]
    sent = [event.at - start for event in emitted if isinstance(event, events.CreateSent)]
    assert sent == [0.0, 0.0, 4.0]


@pytest.mark.parametrize(
    ("settings", "kind", "error"),
    [
        ({"credits": 1.0}, events.CreateRefused, InsufficientCreditsError),
        ({"faults": [Fault("reset_after")]}, events.CreateUnknown, SubmissionUnknownError),
        ({"faults": [Fault("refused", nth=(1,))]}, events.CreateUnsent, NotSentError),
        ({"fail_share": 1.0}, events.TaskEnded, TaskFailedError),
        ({"faults": [Fault("reset_before", "query", nth=(1,))]}, events.QueryFailed, MaybeSentError),
        ({"queries": TokenBucket(0.01)}, events.QueryFailed, RateLimitedError),
        ({"faults": [Fault("error", "query", nth=(1,))]}, events.QueryFailed, APIError),
    ],
)
async def test_failures_emit_events_with_their_errors(
    settings: dict[str, object], kind: type[Event], error: type[Exception]
) -> None:
    emitted: list[AnyEvent] = []
    async with client_of(service_of(**settings), on_event=emitted.append) as ruxa:
        with anyio.move_on_after(60), contextlib.suppress(RuxaError):
            await ruxa.generate(NanoBanana(prompt="a cat"))
    of_kind = [event for event in emitted if type(event) is kind]
    assert isinstance(getattr(of_kind[0], "error", None), error)


async def test_leaving_emits_withdrawals_and_orphans() -> None:
    emitted: list[AnyEvent] = []
    async with client_of(service_of(creates=TokenBucket(0.01)), on_event=emitted.append) as ruxa:
        with anyio.move_on_after(1):
            await ruxa.generate(NanoBanana(prompt="accepted"))
        with anyio.move_on_after(1):
            await ruxa.generate(NanoBanana(prompt="refused for now"))
    assert [event.job.request for event in emitted if isinstance(event, events.TaskOrphaned)] == [
        NanoBanana(prompt="accepted")
    ]
    assert [event.job.request for event in emitted if isinstance(event, events.JobWithdrawn)] == [
        NanoBanana(prompt="refused for now")
    ]


async def test_events_of_a_batch_hold_the_index() -> None:
    emitted: list[AnyEvent] = []
    async with (
        client_of(service_of(), on_event=emitted.append) as ruxa,
        ruxa.as_completed(prompts(3)) as done,
    ):
        assert [outcome.ok async for outcome in done] == [True] * 3
    ended = [event.job for event in emitted if isinstance(event, events.TaskEnded)]
    assert sorted((job.index, job.key) for job in ended) == [
        (0, "prompt-0"),
        (1, "prompt-1"),
        (2, "prompt-2"),
    ]


async def test_a_hook_that_raises_is_logged_once_and_the_work_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def hook(event: AnyEvent) -> None:
        raise ZeroDivisionError("mine")

    async with client_of(service_of(), on_event=hook) as ruxa:
        await ruxa.generate(NanoBanana(prompt="a cat"))
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(logged) == 1
    assert logged[0].message.startswith("an event hook raised on JobQueued(")


ENDS = (
    events.CreateAbandoned,
    events.CreateRefused,
    events.CreateUnknown,
    events.JobWithdrawn,
    events.TaskEnded,
    events.TaskReleased,
)


@pytest.mark.parametrize("seconds", [0.5, 12, 60])
async def test_every_job_that_begins_ends_once(seconds: float) -> None:
    emitted: list[AnyEvent] = []
    faults = [Fault("reset_after", share=0.1), Fault("reset_before", "query", share=0.2)]
    service = service_of(fail_share=0.3, faults=faults, creates=TokenBucket(2, 4), credits=100.0)
    async with client_of(service) as ruxa:
        ruxa.add_event_hook(emitted.append)
        with anyio.move_on_after(seconds), contextlib.suppress(SubmissionHalted):
            async with ruxa.as_completed(prompts(40)) as outcomes:
                async for _ in outcomes:
                    pass
    of_jobs = [event for event in emitted if isinstance(event, Event)]
    begun = [event.job_id for event in of_jobs if isinstance(event, events.JobQueued)]
    ended = [event.job_id for event in of_jobs if isinstance(event, ENDS)]
    assert sorted(ended) == sorted(begun)
    assert type(emitted[-1]) is events.ClientClosed


async def test_a_request_that_is_not_bought_emits_why() -> None:
    emitted: list[AnyEvent] = []
    async with client_of(service_of(), budget=Budget(max_tasks=0), on_event=emitted.append) as ruxa:
        with pytest.raises(BudgetExceededError) as caught:
            await ruxa.generate(NanoBanana(prompt="a cat"))
    assert [event.error for event in emitted if isinstance(event, events.CreateAbandoned)] == [caught.value]


async def test_a_task_of_an_earlier_client_is_followed_and_released() -> None:
    emitted: list[AnyEvent] = []
    service = service_of()
    async with client_of(service) as ruxa:
        bought = await ruxa.submit(NanoBanana(prompt="a cat"))
    async with client_of(service, on_event=emitted.append) as ruxa:
        with pytest.raises(TaskTimeout):
            await ruxa.attach(bought.task_id).result(timeout=1)
        assert names(emitted)[0] == "TaskFollowed"
        await ruxa.attach(bought.task_id).result()
    assert names(emitted).count("TaskFollowed") == 2
    assert {event.job.task_id for event in emitted if isinstance(event, Event)} == {bought.task_id}


@pytest.mark.parametrize("lost", [False, True])
async def test_a_download_emits_its_end(lost: bool, tmp_path: Path) -> None:
    emitted: list[AnyEvent] = []
    async with client_of(service_of(), on_event=emitted.append) as ruxa:
        made = await ruxa.generate(NanoBanana(prompt="a cat"))
        if lost:
            (tmp_path / "folder").touch()  # a file where the folder should be
        with contextlib.suppress(DownloadError):
            await made.save(tmp_path / "folder")
    (ended,) = (event for event in emitted if isinstance(event, events.DownloadEnded))
    assert ended.generation == made
    assert isinstance(ended.error, DownloadError) if lost else ended.error is None
    assert ended.seconds >= 0


def test_the_client_without_async_calls_its_hooks() -> None:
    emitted: list[AnyEvent] = []
    with sync_client_of(service_of(image=Durations(0.05, 0.0))) as ruxa:
        ruxa.add_event_hook(emitted.append)
        ruxa.generate(NanoBanana(prompt="a cat"))
    assert names(emitted)[0] == "JobQueued"
    assert names(emitted)[-1] == "ClientClosed"


async def test_events_are_values() -> None:
    emitted: list[AnyEvent] = []
    async with client_of(service_of(), on_event=emitted.append) as ruxa:
        await ruxa.generate(NanoBanana(prompt="a cat"))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        emitted[0].at = 1.0  # type: ignore[misc]
    assert attrs.evolve(emitted[0]) == emitted[0]
