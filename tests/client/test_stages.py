"""`Completions.then`: each success becomes requests of the next stage; failures pass; leaving leaves all."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import anyio
import pytest
from client.test_client import DONE, accepted
from harness import client_of, prompts, service_of
from hypothesis import given, settings
from hypothesis import strategies as st

from ruxa_async import (
    ClientClosedError,
    Completions,
    Failed,
    InsufficientCreditsError,
    NanoBanana,
    NanoBananaPro,
    Outcome,
    Sora2,
    SubmissionHalted,
    Succeeded,
    TaskFailedError,
    TaskTimeout,
    Timeouts,
)
from ruxa_async._client.job import ClientJob
from ruxa_async.emulator import Durations, Service, TokenBucket
from ruxa_async.testing import virtual_time
from ruxa_async.transports import Request, Response

SKETCH, PAINTING = "google/nano-banana", "google/nano-banana-pro"


def paint(sketch: Succeeded) -> NanoBananaPro:
    return NanoBananaPro(
        prompt=f"paint {sketch.request.input()['prompt']}", image_input=sketch.generation.urls
    )


async def film(painting: Succeeded) -> Sora2:
    await anyio.sleep(0.1)
    return Sora2(prompt="film", input_reference=painting.generation.urls[0])


async def outcomes_of(completions: Completions) -> list[Outcome]:
    async with completions as outcomes:
        return [outcome async for outcome in outcomes]


def bought(service: Service, model: str) -> list[str]:
    return [entry.input["prompt"] for entry in service.ledger.entries if entry.model == model]


# ---- outcomes


async def test_each_success_goes_through_all_stages_with_its_key_and_index() -> None:
    service = service_of(image=Durations(10.0, 0.4))
    async with client_of(service) as ruxa:
        done = await outcomes_of(ruxa.as_completed(prompts(20)).then(paint).then(film))
    assert {(o.key, o.index, o.stage, o.request.model) for o in done} == {
        (f"prompt-{n}", n, 3, "sora-2") for n in range(20)
    }
    assert all(o.ok and o.request.key == o.key for o in done)
    assert service.ledger.charged == 60


async def test_a_failure_passes_the_later_stages_by_and_names_its_own() -> None:
    service = service_of(fail_share=0.4)
    async with client_of(service) as ruxa:
        done = await outcomes_of(ruxa.as_completed(prompts(40)).then(paint).then(film))
    assert sorted(o.index for o in done) == list(range(40))
    stages = Counter(o.stage for o in done if isinstance(o, Failed))
    assert {*stages} == {1, 2, 3}
    for outcome in done:
        match outcome:
            case Failed(stage=stage, error=error, request=request):
                assert isinstance(error, TaskFailedError)
                assert request.model == (SKETCH, PAINTING, "sora-2")[stage - 1]
            case Succeeded(stage=stage):
                assert stage == 3
    assert len(bought(service, PAINTING)) == 40 - stages[1]
    assert len(bought(service, "sora-2")) == 40 - stages[1] - stages[2]


async def test_a_row_without_key_has_none_and_a_key_of_its_own_is_kept() -> None:
    def named(sketch: Succeeded) -> NanoBananaPro:
        return NanoBananaPro(prompt="paint", key="mine" if sketch.index else None)

    async with client_of(service_of()) as ruxa:
        rows = [NanoBanana(prompt="a"), NanoBanana(prompt="b", key="b")]
        done = await outcomes_of(ruxa.as_completed(rows).then(named))
    assert {o.index: o.key for o in done} == {0: None, 1: "mine"}


async def test_an_iterable_fans_out_with_keys_of_the_parent_and_none_drops_the_row() -> None:
    def fan(sketch: Succeeded) -> Iterator[NanoBananaPro]:
        for n in range(sketch.index):
            yield NanoBananaPro(prompt=f"{sketch.index}/{n}")

    def drop_the_first(painting: Succeeded) -> list[Sora2] | None:
        return None if painting.key == "prompt-2.1" else [Sora2(prompt="film")]

    async with client_of(service_of()) as ruxa:
        done = await outcomes_of(ruxa.as_completed(prompts(4)).then(fan).then(drop_the_first))
    assert {o.key: o.index for o in done} == {
        "prompt-1.1.1": 1,
        "prompt-2.2.1": 2,
        "prompt-3.1.1": 3,
        "prompt-3.2.1": 3,
        "prompt-3.3.1": 3,
    }


Plan = list[tuple[bool, list[list[int]]]]


@settings(deadline=None)
@given(
    st.lists(st.none() | st.lists(st.none() | st.integers(0, 3), max_size=3), max_size=6),
    st.sampled_from(["asyncio", "trio"]),
    st.integers(1, 4),
)
def test_fan_out_and_drop_agree_with_loops(
    plan: list[list[int | None] | None], backend: str, window: int
) -> None:
    """*plan* has what becomes of each row: dropped, or pictures with how many films each (None: one, alone)."""

    def second(sketch: Succeeded) -> list[NanoBananaPro] | None:
        films = plan[sketch.index]
        return None if films is None else [NanoBananaPro(prompt=str(n)) for n in films]

    async def third(painting: Succeeded) -> Sora2 | list[Sora2]:
        count = painting.request.input()["prompt"]
        return Sora2(prompt="one") if count == "None" else [Sora2(prompt="of several")] * int(count)

    async def run() -> list[Outcome]:
        async with client_of(service_of()) as ruxa:
            first = ruxa.as_completed(prompts(len(plan), "row"), window=window)
            return await outcomes_of(first.then(second, window=window).then(third, window=window))

    expected = []
    for row, films in enumerate(plan):
        for n, count in enumerate(films or (), 1):
            expected += (
                [f"row-{row}.{n}"] if count is None else [f"row-{row}.{n}.{m + 1}" for m in range(count)]
            )
    name, options = virtual_time(backend)
    done = anyio.run(run, backend=name, backend_options=options)
    assert sorted(str(o.key) for o in done) == sorted(expected)
    assert all(o.stage == 3 and o.key and o.key.startswith(f"row-{o.index}.") for o in done)


# ---- flow


async def test_no_row_waits_for_a_whole_stage() -> None:
    slow = {"google/nano-banana": Durations(10.0, 0.0), PAINTING: Durations(10.0, 0.0)}
    service = service_of(durations=slow)
    async with client_of(service) as ruxa:

        async def rows() -> AsyncIterator[NanoBanana]:
            for request in prompts(3):
                yield request
                await anyio.sleep(100)

        ends = {}
        async with ruxa.as_completed(rows()).then(paint) as outcomes:
            async for outcome in outcomes:
                ends[outcome.index] = anyio.current_time()
    assert ends[0] < 40
    assert ends[1] < 140
    assert ends[2] < 240


async def test_a_slow_stage_holds_the_earlier_ones_and_the_source_back() -> None:
    pulled = 0

    def rows() -> Iterator[NanoBanana]:
        nonlocal pulled
        for request in prompts(1000):
            pulled += 1
            yield request

    service = service_of(durations={PAINTING: Durations(100_000.0, 0.0)})
    async with client_of(service) as ruxa:
        async with ruxa.as_completed(rows(), window=5).then(paint, window=3) as outcomes:
            await anyio.sleep(1000)
            assert len(bought(service, PAINTING)) == 3
            assert pulled == 5 + 3
        assert len(outcomes.unfinished) == 3
        assert len(outcomes.stages[0].unfinished) == 5


async def test_failures_that_nobody_takes_hold_the_source_back_too() -> None:
    source = prompts(1000)
    async with client_of(service_of(fail_share=1.0)) as ruxa:
        async with ruxa.as_completed(source, window=5).then(paint, window=3) as outcomes:
            await anyio.sleep(1000)
        taken = 1000 - len([*source])
    assert taken == 5 + 3
    assert outcomes.unsubmitted == ()
    assert len(outcomes.stages[0].unfinished) == 8  # bought, and their ends were not delivered


async def test_the_window_of_a_stage_bounds_its_tasks() -> None:
    service = service_of()
    async with client_of(service) as ruxa:
        done = await outcomes_of(ruxa.as_completed(prompts(12)).then(paint, window=2))
    assert len(done) == 12
    runs = [service.task(e.task_id) for e in service.ledger.entries if e.model == PAINTING]
    spans = [(task.created, task.ends) for task in runs if task is not None]
    assert max(sum(begun <= at < end for begun, end in spans) for at, _ in spans) == 2


async def test_the_time_out_of_a_stage_is_its_own() -> None:
    service = service_of(durations={PAINTING: Durations(100.0, 0.0)})
    async with client_of(service) as ruxa:
        done = await outcomes_of(ruxa.as_completed(prompts(3), task_timeout=50).then(paint, task_timeout=20))
        late = await outcomes_of(ruxa.as_completed(prompts(1), task_timeout=5).then(paint))
    assert [(type(o.error), o.stage) for o in done if isinstance(o, Failed)] == [(TaskTimeout, 2)] * 3
    assert [(type(o.error), o.stage) for o in late if isinstance(o, Failed)] == [(TaskTimeout, 1)]


async def test_several_tasks_share_the_outcomes_of_a_chain_and_end_together() -> None:
    taken: list[int] = []
    ended = 0

    async def consume(outcomes: Completions) -> None:
        nonlocal ended
        async for outcome in outcomes:
            taken.append(outcome.index)
        ended += 1

    async with (
        client_of(service_of()) as ruxa,
        ruxa.as_completed(prompts(20)).then(paint) as outcomes,
        anyio.create_task_group() as tg,
    ):
        for _ in range(4):
            tg.start_soon(consume, outcomes)
    assert sorted(taken) == list(range(20))
    assert ended == 4


async def test_memory_stays_bounded_over_many_rows() -> None:
    most = 0
    async with client_of(service_of(image=Durations(0.1, 0.0), fail_share=0.2)) as ruxa:
        chain = ruxa.as_completed(prompts(1000), window=10).then(paint, window=10).then(film, window=10)
        async with chain as outcomes:
            async for outcome in outcomes:
                if outcome.index % 100 == 0:
                    gc.collect()
                    most = max(most, sum(isinstance(each, ClientJob) for each in gc.get_objects()))
    assert 0 < most <= 3 * 11 + 3  # a window and a job under way for each stage


# ---- leaving


def listed(completions: Completions) -> list[set[str | None]]:
    """The task ids, or else the keys, that each stage lists."""
    return [
        {job.task_id or job.key for job in (*each.unfinished, *each.unknown, *each.unsubmitted)}
        for each in completions.stages
    ]


def lost(service: Service, completions: Completions, delivered: Iterable[Outcome]) -> set[str]:
    """Paid tasks that were not delivered, listed, or used by a request that was bought or is listed."""
    named: set[Any] = {outcome.task_id for outcome in delivered}.union(*listed(completions))
    requests = [job.request for each in completions.stages for job in (*each.unsubmitted, *each.unknown)]
    inputs = [entry.input for entry in service.ledger.entries] + [r.input() for r in requests if r]
    used = str(inputs)
    ids = {entry.task_id for entry in service.ledger.entries}
    return {task_id for task_id in ids - named if task_id not in used}


@pytest.mark.parametrize("taken", [0, 1, 7])
@pytest.mark.parametrize("after", [0.0, 3.0, 10.5, 15.0, 25.0])
async def test_leaving_the_last_stage_leaves_all_and_loses_nothing(taken: int, after: float) -> None:
    service = service_of(image=Durations(8.0, 0.7), fail_share=0.2, creates=TokenBucket(3.0, burst=3))
    delivered = []

    def twice(sketch: Succeeded) -> list[NanoBananaPro]:
        return [paint(sketch)] * 2

    async with client_of(service) as ruxa:
        async with ruxa.as_completed(prompts(60), window=15).then(twice, window=5) as outcomes:
            for _ in range(taken):
                delivered.append(await anext(outcomes))
            await anyio.sleep(after)
        charged = service.ledger.charged
        await anyio.sleep(1000)
        assert service.ledger.charged == charged
        assert lost(service, outcomes, delivered) == set()
        assert ruxa.orphans == ()
        assert ruxa.stats().in_flight == 0


async def test_an_error_in_the_body_makes_paid_tasks_of_all_stages_orphans() -> None:
    service = service_of()
    async with client_of(service) as ruxa:
        with pytest.raises(LookupError):  # noqa: PT012 - the body is what raises
            async with ruxa.as_completed(prompts(8)).then(paint, window=4) as outcomes:
                await anext(outcomes)
                raise LookupError
        paid = {job.task_id for each in outcomes.stages for job in each.unfinished}
        assert {job.task_id for job in ruxa.orphans} == paid
    assert len(outcomes.stages[0].unfinished) + len(outcomes.stages[1].unfinished) >= 3


async def test_a_cancellation_while_a_request_is_made_keeps_its_success_listed() -> None:
    async def never(_: Succeeded) -> None:
        await anyio.sleep_forever()

    service = service_of()
    async with client_of(service) as ruxa:
        with anyio.move_on_after(20):
            async with ruxa.as_completed(prompts(3)).then(never) as outcomes:
                await anext(outcomes)
    assert [job.key for job in outcomes.stages[0].unfinished] == ["prompt-0", "prompt-1", "prompt-2"]


async def test_a_chain_that_is_dropped_stops_all_stages() -> None:
    service = service_of()
    async with client_of(service) as ruxa:
        async for _ in ruxa.as_completed(prompts(1000), window=5).then(paint, window=5):
            break
        gc.collect()
        charged = service.ledger.charged
        await anyio.sleep(500)
        assert service.ledger.charged <= charged + 5  # creates that were on the wire
        ends = {job.task_id for job in ruxa.orphans}
    parents = {url for entry in service.ledger.entries for url in entry.input.get("image_input", [])}
    unused = [
        entry.task_id
        for entry in service.ledger.entries
        if entry.task_id not in ends and not any(entry.task_id in url for url in parents)
    ]
    assert len(unused) <= 1  # the one that was delivered


async def test_a_chain_that_is_dropped_stops_a_first_stage_that_somebody_holds() -> None:
    service = service_of()
    async with client_of(service) as ruxa:
        sketches = ruxa.as_completed(prompts(1000), window=5)
        async for _ in sketches.then(paint, window=5):
            break
        gc.collect()
        charged = service.ledger.charged
        await anyio.sleep(500)
        assert service.ledger.charged <= charged + 5  # creates that were on the wire
        assert ruxa.stats().in_flight == 0
    assert len(sketches.unfinished) == 5
    assert {job.task_id for job in sketches.unfinished} <= {job.task_id for job in ruxa.orphans}


async def test_requests_of_a_row_that_were_not_started_are_listed() -> None:
    def four(sketch: Succeeded) -> list[NanoBananaPro]:
        return [paint(sketch)] * 4

    async with (
        client_of(service_of()) as ruxa,
        ruxa.as_completed(prompts(1)).then(four, window=2) as outcomes,
    ):
        await anyio.sleep(15)
    assert {job.key for job in outcomes.unfinished} == {"prompt-0.1", "prompt-0.2"}
    assert {job.key for job in outcomes.unsubmitted} == {"prompt-0.3", "prompt-0.4"}


async def test_a_request_that_is_made_in_spite_of_a_cancellation_is_listed_and_not_bought() -> None:
    async def stubborn(sketch: Succeeded) -> NanoBananaPro:
        try:
            await anyio.sleep(100)
        except anyio.get_cancelled_exc_class():
            return paint(sketch)
        raise AssertionError

    service = service_of()
    async with client_of(service) as ruxa:
        async with ruxa.as_completed(prompts(1)).then(stubborn) as outcomes:
            await anyio.sleep(20)
        await anyio.sleep(100)
    assert bought(service, PAINTING) == []
    assert [job.key for job in outcomes.unsubmitted] == ["prompt-0"]


async def test_leaving_waits_for_the_creates_of_all_stages_for_one_drain_only() -> None:
    async def handle(request: Request) -> Response:
        if request.method == "GET":
            return DONE
        if b"paint" in (request.body or b"") or b"prompt 1" in (request.body or b""):
            await anyio.sleep_forever()
        return accepted("task_1")

    async with client_of(handle, timeouts=Timeouts(create_drain=10.0)) as ruxa:
        async with ruxa.as_completed(prompts(2)).then(paint) as outcomes:
            await anyio.sleep(30)
            left_at = anyio.current_time()
        assert anyio.current_time() - left_at == pytest.approx(10.0, abs=0.5)
        assert [[job.key for job in each.unknown] for each in outcomes.stages] == [["prompt-1"], ["prompt-0"]]


# ---- errors


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("bare", [False, True])
async def test_an_exception_of_the_function_is_raised_after_the_outcomes_under_way(
    bare: bool, asynchronous: bool
) -> None:
    error = LookupError("no such style")

    def broken(sketch: Succeeded) -> NanoBananaPro:
        if sketch.index == 3:
            raise error
        return paint(sketch)

    async def broken_later(sketch: Succeeded) -> NanoBananaPro:
        await anyio.sleep(0.1)
        return broken(sketch)

    async def rows() -> AsyncIterator[NanoBanana]:
        for request in prompts(1000):
            yield request
            await anyio.sleep(1)

    service = service_of()
    delivered = []
    async with client_of(service) as ruxa:
        outcomes = ruxa.as_completed(rows()).then(broken_later if asynchronous else broken).then(film)
        with pytest.raises(LookupError) as caught:  # noqa: PT012 - the loop is what raises
            if bare:
                async for outcome in outcomes:
                    delivered.append(outcome)
            else:
                async with outcomes:
                    async for outcome in outcomes:
                        delivered.append(outcome)
        assert caught.value is error
        assert {o.key for o in delivered} == {"prompt-0", "prompt-1", "prompt-2"}
        assert all(o.ok and o.stage == 3 for o in delivered)
        assert "prompt-3" in {job.key for job in outcomes.stages[0].unfinished}
        assert len(bought(service, SKETCH)) < 25  # none while the films of the first three were made
        assert lost(service, outcomes, delivered) == set()
        assert {job.task_id for job in ruxa.orphans} == {job.task_id for job in outcomes.stages[0].unfinished}
        charged = service.ledger.charged
        await anyio.sleep(500)
        assert service.ledger.charged == charged
        with pytest.raises(LookupError):
            await anext(outcomes)


@pytest.mark.parametrize("make", [lambda: KeyboardInterrupt("mine"), lambda: SystemExit(3)])
@pytest.mark.parametrize("later", [False, True])
async def test_an_interrupt_in_the_function_is_raised_at_once_after_leaving_all(
    make: Callable[[], BaseException], later: bool
) -> None:
    error = make()

    def interrupted(sketch: Succeeded) -> NanoBananaPro:
        if sketch.index == 2:
            raise error
        return paint(sketch)

    service = service_of(image=Durations(10.0, 0.5))
    delivered = []
    async with client_of(service) as ruxa:
        outcomes = ruxa.as_completed(prompts(6)).then(interrupted)
        outcomes = outcomes.then(film) if later else outcomes
        with pytest.raises(type(error)) as caught:  # noqa: PT012 - the loop is what raises
            async with outcomes:
                async for outcome in outcomes:
                    delivered.append(outcome)
        assert caught.value is error
        assert "prompt-2" in {job.key for job in outcomes.stages[0].unfinished}
        assert lost(service, outcomes, delivered) == set()
        assert len((await ruxa.generate(NanoBanana(prompt="later"))).urls) == 1


async def test_what_the_source_raises_ends_the_chain_after_its_last_outcome() -> None:
    error = LookupError("row 4")

    def rows() -> Iterator[NanoBanana]:
        yield from prompts(3)
        raise error

    seen = []
    async with client_of(service_of()) as ruxa:
        with pytest.raises(LookupError) as caught:  # noqa: PT012 - the loop is what raises
            async for outcome in ruxa.as_completed(rows()).then(paint).then(film):
                seen.append(outcome.stage)
    assert caught.value is error
    assert seen == [3, 3, 3]


@pytest.mark.parametrize("made", [7, "a prompt", [NanoBanana(prompt="a"), 7], b"x", {"prompt": "x"}])
async def test_what_is_no_request_is_a_type_error_and_buys_nothing(made: Any) -> None:
    service = service_of()
    async with client_of(service) as ruxa:
        with pytest.raises(TypeError, match="a function for `then` returns a request"):
            await outcomes_of(ruxa.as_completed(prompts(1)).then(lambda _: made))
        assert [job.key for job in ruxa.orphans] == ["prompt-0"]
    assert service.ledger.charged == 1


async def test_rows_that_a_halted_stage_has_made_go_on_to_the_end() -> None:
    service = service_of(image=Durations(10.0, 0.5), credits=12, prices={SKETCH: 3, PAINTING: 0})
    done = []
    async with client_of(service) as ruxa:
        with pytest.raises(SubmissionHalted) as caught:  # noqa: PT012 - the loop is what raises
            async for outcome in ruxa.as_completed(prompts(20), window=2).then(paint):
                done.append(outcome)
    assert isinstance(caught.value.cause, InsufficientCreditsError)
    assert [outcome.stage for outcome in done if outcome.ok] == [2] * 4
    assert caught.value.unfinished == ()


async def test_a_client_that_closes_ends_the_chain() -> None:
    errors = []

    async def consume(outcomes: Completions) -> None:
        try:
            async with outcomes:
                await anext(outcomes)
        except ClientClosedError as error:
            errors.append(error)

    async with anyio.create_task_group() as tg, client_of(service_of()) as ruxa:
        outcomes = ruxa.as_completed(prompts(5)).then(paint)
        tg.start_soon(consume, outcomes)
        await anyio.sleep(12)
    assert len(errors) == 1


async def test_the_outcomes_of_a_stage_with_a_next_one_cannot_be_taken() -> None:
    async with client_of(service_of()) as ruxa:
        sketches = ruxa.as_completed(prompts(2))
        paintings = sketches.then(paint)
        with pytest.raises(RuntimeError, match="these outcomes go to the stage"):
            await anext(sketches)
        with pytest.raises(RuntimeError, match="these outcomes go to the stage"):
            sketches.then(paint)
        assert len(await outcomes_of(paintings)) == 2


async def test_an_account_that_cannot_pay_halts_all_stages_and_the_error_lists_all() -> None:
    broke = service_of(image=Durations(10.0, 0.5), credits=40, prices={SKETCH: 1, PAINTING: 10})
    delivered = []
    async with client_of(broke) as ruxa:
        with pytest.raises(SubmissionHalted) as caught:  # noqa: PT012 - the loop is what raises
            async with ruxa.as_completed(prompts(500), window=10).then(paint) as outcomes:
                async for outcome in outcomes:
                    delivered.append(outcome)
    halted = caught.value
    assert isinstance(halted.cause, InsufficientCreditsError)
    assert {o.stage for o in delivered if isinstance(o, Failed)} == {2}
    assert {job.task_id for job in halted.unfinished} >= {
        job.task_id for job in outcomes.stages[0].unfinished
    }
    assert outcomes.stages[0].unfinished != ()
    assert broke.ledger.charged < 25
