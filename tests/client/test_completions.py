"""`as_completed`: outcomes as they finish, lazy pulling, and leaving without a loss."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from client.test_client import Script, accepted, in_state, reply
from harness import client_of, prompts, service_of

from ruxa_async import (
    AuthenticationError,
    ClientClosedError,
    Failed,
    InsufficientCreditsError,
    Limits,
    NanoBanana,
    NotFoundError,
    PollingStoppedError,
    SubmissionHalted,
    SubmissionUnknownError,
    Succeeded,
    TaskFailedError,
    TaskTimeout,
)
from ruxa_async.emulator import Durations, Fault, TokenBucket


class Source:
    """Requests without end, counting how many were pulled."""

    def __init__(self) -> None:
        self.pulled = 0

    def __iter__(self) -> Iterator[NanoBanana]:
        while True:
            self.pulled += 1
            yield NanoBanana(prompt=f"prompt {self.pulled}")

    async def __aiter__(self) -> AsyncIterator[NanoBanana]:
        for request in self.__iter__():
            await anyio.sleep(0.01)
            yield request


# ---- outcomes


async def test_every_request_gives_one_outcome_with_its_index_and_key() -> None:
    service = service_of(image=Durations(10.0, 0.4), fail_share=0.3)
    requests = list(prompts(40))
    outcomes = []
    async with client_of(service) as ruxa, ruxa.as_completed(requests) as completed:
        async for outcome in completed:
            outcomes.append(outcome)
    assert sorted(outcome.index for outcome in outcomes) == list(range(40))
    assert all(outcome.request is requests[outcome.index] for outcome in outcomes)
    assert all(outcome.key == f"prompt-{outcome.index}" for outcome in outcomes)
    assert service.ledger.charged == 40
    assert service.ledger.duplicates() == []
    failed = [outcome for outcome in outcomes if not outcome.ok]
    assert 3 <= len(failed) <= 25
    assert all(isinstance(outcome.error, TaskFailedError) for outcome in failed)
    assert (ruxa.stats().succeeded, ruxa.stats().failed) == (40 - len(failed), len(failed))


async def test_outcomes_come_in_the_order_in_which_tasks_finish() -> None:
    service = service_of(image=Durations(10.0, 0.8))
    async with client_of(service) as ruxa, ruxa.as_completed(prompts(50)) as completed:
        finished = [(outcome.finished_at, outcome.index) async for outcome in completed]
    assert [at for at, _ in finished] == sorted(at for at, _ in finished)
    assert [index for _, index in finished] != list(range(50))


async def test_an_outcome_holds_its_task_id_times_and_queries() -> None:
    service = service_of()
    async with client_of(service) as ruxa, ruxa.as_completed(prompts(1)) as completed:
        (outcome,) = [outcome async for outcome in completed]
    assert isinstance(outcome, Succeeded)
    assert outcome.unwrap() is outcome.generation
    assert outcome.task_id == outcome.generation.task_id == service.ledger.entries[0].task_id
    assert outcome.queries == service.counts.queries
    assert 10.0 <= outcome.finished_at - outcome.submitted_at <= 13.0


async def test_errors_are_outcomes_and_the_batch_goes_on() -> None:
    script = Script(
        creates=[reply({"code": 422, "message": "bad"}), reply({"code": 200}), accepted()],
        queries=[in_state("success", resultJson='{"resultUrls":["https://files.example/1.png"]}')],
    )
    limits = Limits(max_concurrent_creates=1)
    async with client_of(script, limits=limits) as ruxa, ruxa.as_completed(prompts(3)) as completed:
        outcomes = {outcome.index: outcome async for outcome in completed}
    first, second, third = outcomes[0], outcomes[1], outcomes[2]
    assert isinstance(first, Failed)
    assert first.submitted_at is None
    assert isinstance(second, Failed)
    assert isinstance(second.error, SubmissionUnknownError)
    with pytest.raises(SubmissionUnknownError):
        second.unwrap()
    assert third.ok
    assert [record.index for record in completed.unknown] == [1]


@pytest.mark.parametrize("requests", [[], (), iter([])])
async def test_an_empty_source_gives_no_outcome(requests: Any) -> None:
    async with client_of(service_of()) as ruxa, ruxa.as_completed(requests) as completed:
        assert [outcome async for outcome in completed] == []
    assert (completed.unfinished, completed.unknown, completed.unsubmitted) == ((), (), ())


async def test_a_bare_async_for_works_too() -> None:
    async with client_of(service_of()) as ruxa:
        assert len([outcome async for outcome in ruxa.as_completed(prompts(5))]) == 5


async def test_two_batches_share_one_client() -> None:
    service = service_of()
    counts: list[int] = []

    async def run(prefix: str) -> None:
        async with ruxa.as_completed(prompts(30, prefix)) as completed:
            counts.append(len([outcome async for outcome in completed]))

    async with client_of(service, limits=Limits(max_in_flight=7)) as ruxa, anyio.create_task_group() as tg:
        tg.start_soon(run, "one")
        tg.start_soon(run, "two")
    assert counts == [30, 30]
    assert service.ledger.duplicates() == []


# ---- pulling


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_slow_consumer_holds_the_source_back_at_the_window(asynchronous: bool) -> None:
    source = Source()
    requests: Any = source.__aiter__() if asynchronous else iter(source)
    async with client_of(service_of()) as ruxa, ruxa.as_completed(requests, window=20) as completed:
        consumed = 0
        async for _ in completed:
            consumed += 1
            await anyio.sleep(5)
            assert source.pulled - consumed <= 20
            if consumed == 100:
                break
    assert source.pulled <= 120


async def test_the_window_is_twice_max_in_flight_by_default() -> None:
    source = Source()
    async with client_of(service_of(), limits=Limits(max_in_flight=4)) as ruxa:
        async with ruxa.as_completed(iter(source)) as completed:
            await anyio.sleep(60)
            assert source.pulled == 8
            assert ruxa.stats().accepted == 8
        assert len(completed.unfinished) == 8


async def test_a_window_does_not_raise_max_in_flight() -> None:
    service = service_of(max_running=5)
    limits = Limits(max_in_flight=5)
    async with (
        client_of(service, limits=limits) as ruxa,
        ruxa.as_completed(prompts(40), window=40) as completed,
    ):
        assert all([outcome.ok async for outcome in completed])
    assert service.counts.creates_throttled == 0


async def test_stages_chain() -> None:
    service = service_of()

    async with client_of(service) as ruxa, ruxa.as_completed(prompts(6, "draft")) as drafts:

        async def refined() -> AsyncIterator[NanoBanana]:
            async for draft in drafts:
                yield NanoBanana(prompt=f"refine {draft.index}", image_input=draft.unwrap().urls)

        async with ruxa.as_completed(refined()) as finals:
            assert len([outcome async for outcome in finals]) == 6
    assert service.ledger.charged == 12


async def test_an_error_of_the_source_is_raised_after_the_last_outcome() -> None:
    error = ZeroDivisionError("mine")

    def requests() -> Iterator[NanoBanana]:
        yield from prompts(3)
        raise error

    seen = []
    async with client_of(service_of()) as ruxa, ruxa.as_completed(requests()) as completed:
        with pytest.raises(ZeroDivisionError) as caught:  # noqa: PT012 - the loop is what raises
            async for outcome in completed:
                seen.append(outcome)
    assert caught.value is error
    assert len(seen) == 3


async def test_an_async_generator_is_closed_when_the_block_is_left() -> None:
    closed = False

    async def requests() -> AsyncIterator[NanoBanana]:
        nonlocal closed
        try:
            for request in Source():
                yield request
        finally:
            closed = True

    async with client_of(service_of()) as ruxa:
        async with ruxa.as_completed(requests(), window=5) as completed:
            await anext(completed)
        assert closed


async def test_the_rest_of_an_iterator_can_be_pulled_after_leaving() -> None:
    source = iter(prompts(100))
    async with client_of(service_of()) as ruxa:
        async with ruxa.as_completed(source, window=5) as completed:
            await anext(completed)
        assert next(source).key in ("prompt-5", "prompt-6")


async def test_a_source_of_other_values_raises_type_error() -> None:
    requests: Any = [NanoBanana(prompt="a"), "a cat"]
    async with client_of(service_of()) as ruxa:
        with pytest.raises(TypeError, match="a cat"):
            async for _ in ruxa.as_completed(requests):
                pass
        with pytest.raises(TypeError, match="iterable"):
            ruxa.as_completed(NanoBanana(prompt="a"))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="window"):
            ruxa.as_completed([], window=0)


async def test_pulling_a_huge_source_yields_to_the_event_loop() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with (
        client_of(service_of(), limits=Limits(max_in_flight=5000)) as ruxa,
        anyio.create_task_group() as tg,
    ):
        tg.start_soon(count)
        async with ruxa.as_completed(prompts(3000)):
            await anyio.lowlevel.checkpoint()
            while ruxa.stats().queued + ruxa.stats().creates_sent < 3000:
                await anyio.lowlevel.checkpoint()
        tg.cancel_scope.cancel()
    assert turns >= 3000 / 64


# ---- leaving early


async def test_leaving_early_lists_unfinished_tasks_and_stops_polling_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = service_of()
    limits = Limits(max_in_flight=10)
    async with client_of(service, limits=limits) as ruxa:
        async with ruxa.as_completed(prompts(100)) as completed:
            async for outcome in completed:
                first = outcome
                break
        await anyio.sleep(1)  # for queries that were on the wire
        asked = service.counts.queries
        assert ruxa.stats().in_flight == 0
        await anyio.sleep(100)
        assert service.counts.queries == asked
    listed = {record.task_id for record in completed.unfinished}
    assert listed | {first.task_id} == {entry.task_id for entry in service.ledger.entries}
    assert [record.index for record in completed.unfinished] == sorted(
        record.index for record in completed.unfinished if record.index is not None
    )
    assert completed.unknown == ()
    assert len(completed.unsubmitted) + service.ledger.charged <= 21
    assert ruxa.orphans == ()
    assert caplog.records == [], "who leaves in good order has the list, and needs no warnings"


async def test_leaving_early_waits_for_creates_on_the_wire() -> None:
    service = service_of(latency=3.0)
    async with client_of(service) as ruxa:
        start = anyio.current_time()
        async with ruxa.as_completed(prompts(100)) as completed:
            await anyio.sleep(1)
        assert anyio.current_time() - start == pytest.approx(3.0)
    assert service.ledger.charged == 4  # as many as may be unanswered before anything is known
    assert {record.task_id for record in completed.unfinished} == {e.task_id for e in service.ledger.entries}
    assert len(completed.unsubmitted) == 96


async def test_creates_answered_after_the_drain_are_unknown_and_become_orphans() -> None:
    service = service_of(latency=30.0)
    async with client_of(service) as ruxa:
        async with ruxa.as_completed(prompts(2)) as completed:
            await anyio.sleep(1)
        assert [record.index for record in completed.unknown] == [0, 1]
        assert completed.unfinished == ()
        await anyio.sleep(60)
    assert {record.task_id for record in ruxa.orphans} == {entry.task_id for entry in service.ledger.entries}


async def test_an_exception_in_the_block_leaves_orphans_with_warnings(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="ruxa_async")
    service = service_of()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is tested
        async with client_of(service) as ruxa, ruxa.as_completed(prompts(3)) as completed:
            await anyio.sleep(1)
            raise ZeroDivisionError
    assert len(completed.unfinished) == 3
    assert {record.task_id for record in ruxa.orphans} == {entry.task_id for entry in service.ledger.entries}
    assert len(caplog.records) == 3


async def test_a_throttled_create_is_not_sent_again_once_the_block_was_left() -> None:
    service = service_of(creates=TokenBucket(rate=0.2, burst=1))
    async with client_of(service) as ruxa:
        async with ruxa.as_completed(prompts(5)) as completed:
            await anyio.sleep(2)
        await anyio.sleep(100)
    assert service.ledger.charged == 1
    assert len(completed.unsubmitted) == 4


async def test_dropping_a_bare_iterator_stops_buying(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="ruxa_async")
    service = service_of()
    async with client_of(service, limits=Limits(max_in_flight=3)) as ruxa:
        async for _ in ruxa.as_completed(prompts(100)):
            break
        gc.collect()
        await anyio.sleep(1)  # for creates that were on the wire
        charged = service.ledger.charged
        await anyio.sleep(100)
        assert service.ledger.charged == charged <= 6
        assert len(ruxa.orphans) == charged - 1


async def test_the_callers_timeout_around_a_batch_is_its_own() -> None:
    service = service_of(image=Durations(10.0, 1.0))
    delivered = []
    with anyio.move_on_after(12):
        async with client_of(service) as ruxa, ruxa.as_completed(prompts(50)) as completed:
            async for outcome in completed:
                delivered.append(outcome.task_id)
    assert 0 < len(delivered) < 50
    assert len(delivered) + len(completed.unfinished) == service.ledger.charged


async def test_a_client_that_closes_ends_the_iteration() -> None:
    service = service_of()
    errors: list[Exception] = []

    async def iterate() -> None:
        try:
            async with ruxa.as_completed(prompts(300)) as completed:
                async for _ in completed:
                    pass
        except ClientClosedError as exc:
            errors.append(exc)
            listed.update(record.task_id for record in completed.unfinished)
            unsubmitted.extend(completed.unsubmitted)

    listed: set[str | None] = set()
    unsubmitted: list[Any] = []
    async with anyio.create_task_group() as tg, client_of(service) as ruxa:
        tg.start_soon(iterate)
        await anyio.sleep(5)
    assert len(errors) == 1
    assert listed == {entry.task_id for entry in service.ledger.entries}
    assert len(unsubmitted) == 100


# ---- time limits of tasks


async def test_a_task_timeout_is_an_outcome_with_its_task_id() -> None:
    service = service_of(image=Durations(100.0, 0.0))
    async with client_of(service) as ruxa, ruxa.as_completed(prompts(3), task_timeout=20) as completed:
        outcomes = [outcome async for outcome in completed]
    for outcome in outcomes:
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, TaskTimeout)
        assert outcome.submitted_at is not None
        assert outcome.finished_at - outcome.submitted_at == pytest.approx(20)
    assert {outcome.task_id for outcome in outcomes} == {entry.task_id for entry in service.ledger.entries}


# ---- halting


async def halted(service: Any, count: int = 200, **options: Any) -> tuple[SubmissionHalted, list[Any], Any]:
    seen = []
    async with client_of(service, **options) as ruxa, ruxa.as_completed(prompts(count)) as completed:
        with pytest.raises(SubmissionHalted) as caught:  # noqa: PT012 - the loop is what raises
            async for outcome in completed:
                seen.append(outcome)
        stats = ruxa.stats()
        assert stats.in_flight == stats.queued == 0
    return caught.value, seen, completed


async def test_an_empty_account_halts_the_batch_and_running_tasks_are_delivered() -> None:
    service = service_of(credits=30.0, latency=0.1)  # ten pictures of three credits
    error, seen, completed = await halted(service)
    assert isinstance(error.cause, InsufficientCreditsError)
    assert error.__cause__ is error.cause
    delivered = [outcome for outcome in seen if outcome.ok]
    assert len(delivered) == service.ledger.charged == 10
    assert all(isinstance(outcome.error, InsufficientCreditsError) for outcome in seen if not outcome.ok)
    assert service.counts.creates <= 32, "only what was on the wire still arrived"
    assert (error.unfinished, error.unknown) == ((), ())
    assert error.unsubmitted == completed.unsubmitted
    assert len(seen) + len(error.unsubmitted) >= 100


async def test_a_wrong_key_halts_at_once() -> None:
    script = Script(creates=[reply({"code": 401, "message": "bad key"})], queries=[in_state("running")])
    error, seen, _ = await halted(script)
    assert isinstance(error.cause, AuthenticationError)
    assert 1 <= len(seen) <= 16


async def test_three_unknown_models_in_a_row_halt_if_nothing_was_accepted() -> None:
    script = Script(creates=[reply({"code": 404, "message": "no such model"})], queries=[in_state("running")])
    error, seen, _ = await halted(script, limits=Limits(max_concurrent_creates=1))
    assert isinstance(error.cause, NotFoundError)
    assert len(seen) == len(script.asked["POST"]) == 3


async def test_an_unknown_model_among_good_ones_halts_nothing() -> None:
    missing = reply({"code": 404, "message": "no such model"})
    done = in_state("success", resultJson='{"resultUrls":["https://files.example/1.png"]}')
    script = Script(creates=[accepted(), *[missing] * 9, accepted()], queries=[done])
    limits = Limits(max_concurrent_creates=1)
    async with client_of(script, limits=limits) as ruxa, ruxa.as_completed(prompts(20)) as completed:
        outcomes = [outcome async for outcome in completed]
    assert sum(outcome.ok for outcome in outcomes) == 11


async def test_a_key_that_dies_midway_leaves_tasks_as_stopped() -> None:
    denied = reply({"code": 401, "message": "bad key"})
    script = Script(creates=[accepted("a"), accepted("b"), denied], queries=[denied])
    error, seen, completed = await halted(script, limits=Limits(max_concurrent_creates=1))
    stopped = [outcome for outcome in seen if isinstance(outcome.error, PollingStoppedError)]
    assert [outcome.task_id for outcome in stopped] == ["a", "b"]
    assert [record.task_id for record in error.unfinished] == ["a", "b"]
    assert completed.unfinished == error.unfinished


async def test_nothing_of_a_halt_sticks_to_the_client() -> None:
    done = in_state("success", resultJson='{"resultUrls":["https://files.example/1.png"]}')
    script = Script(creates=[reply({"code": 402}), accepted()], queries=[done])
    async with client_of(script, limits=Limits(max_concurrent_creates=1)) as ruxa:
        with pytest.raises(SubmissionHalted):
            async for _ in ruxa.as_completed(prompts(5)):
                pass
        async with ruxa.as_completed(prompts(3, "again")) as completed:
            assert all([outcome.ok async for outcome in completed])


async def test_after_its_end_an_iteration_stays_ended() -> None:
    async with client_of(service_of()) as ruxa, ruxa.as_completed(prompts(2)) as completed:
        assert len([outcome async for outcome in completed]) == 2
        with pytest.raises(StopAsyncIteration):
            await anext(completed)
    with pytest.raises(StopAsyncIteration):
        await anext(completed)


async def test_a_lost_reply_is_listed_and_the_rest_goes_on() -> None:
    service = service_of(faults=(Fault("reset_after", nth=(2, 5)),))
    async with client_of(service) as ruxa, ruxa.as_completed(prompts(10)) as completed:
        outcomes = [outcome async for outcome in completed]
    assert sum(outcome.ok for outcome in outcomes) == 8
    assert len(completed.unknown) == 2
    assert service.ledger.charged == 10
    assert len(service.ledger.missing(o.task_id for o in outcomes if o.task_id)) == 2
