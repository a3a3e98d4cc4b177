"""A chain of stages resumes: each stage is a run of the journal, and nothing is bought twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from client.test_resume import opened, prompts, service_of

from ruxa_async import (
    Budget,
    BudgetExceededError,
    Completions,
    Failed,
    KeyConflictError,
    NanoBananaPro,
    Outcome,
    Resume,
    RunInUseError,
    RuxaClient,
    Sora2,
    SubmissionHalted,
    Succeeded,
)
from ruxa_async.emulator import Durations, Service
from ruxa_async.journal import view_journal

Chain = Callable[[RuxaClient, str | Resume], Completions]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)  # a journal has a thread, so time is real here


def variants(sketch: Succeeded) -> list[NanoBananaPro]:
    return [
        NanoBananaPro(prompt=f"{style} {sketch.key}", image_input=sketch.generation.urls) for style in "ab"
    ]


async def film(painting: Succeeded) -> Sora2:
    return Sora2(prompt=f"film {painting.key}", input_reference=painting.generation.urls[0])


def chain(ruxa: RuxaClient, resume: str | Resume, count: int = 4) -> Completions:
    return ruxa.as_completed(prompts(range(count)), resume=resume).then(variants).then(film, name="film")


def quick(**settings: Any) -> Service:
    return service_of(video=Durations(0.05), **settings)


async def outcomes_of(
    path: Path, service: Service, chain: Chain = chain, *, resume: str | Resume = "catalogue"
) -> list[Outcome]:
    async with opened(path, service) as ruxa, chain(ruxa, resume) as outcomes:
        return [outcome async for outcome in outcomes]


async def recorded(path: Path, run: str) -> int:
    """Return how many tasks *run* has bought."""
    counts = (await view_journal(path / "journal", run=run)).counts
    assert counts is not None
    return sum(bought.tasks for bought in counts.models.values())


async def test_each_stage_has_a_run_of_its_own_and_a_second_pass_buys_nothing(tmp_path: Path) -> None:
    service = quick()
    first = await outcomes_of(tmp_path, service)
    assert all(outcome.ok for outcome in first)
    second = await outcomes_of(tmp_path, service)
    assert {(o.key, o.task_id) for o in second} == {(o.key, o.task_id) for o in first}
    assert {o.key for o in first} == {f"k{n}.{m}" for n in range(4) for m in (1, 2)}
    assert service.ledger.charged == 4 + 8 + 8
    names = ("catalogue", "catalogue/2", "catalogue/film")
    assert [await recorded(tmp_path, name) for name in names] == [4, 8, 8]


async def test_a_stage_that_is_added_later_buys_only_its_own(tmp_path: Path) -> None:
    service = quick()

    def sketches(ruxa: RuxaClient, resume: str | Resume) -> Completions:
        return ruxa.as_completed(prompts(range(4)), resume=resume)

    await outcomes_of(tmp_path, service, sketches)
    await outcomes_of(tmp_path, service)
    assert Counter(entry.model for entry in service.ledger.entries) == {
        "google/nano-banana": 4,
        "google/nano-banana-pro": 8,
        "sora-2": 8,
    }


@pytest.mark.parametrize("taken", [0, 1, 5])
async def test_a_chain_that_was_left_goes_on_where_it_stopped(tmp_path: Path, taken: int) -> None:
    service = quick(image=Durations(0.1, 0.7))
    async with opened(tmp_path, service) as ruxa, chain(ruxa, "catalogue") as outcomes:
        for _ in range(taken):
            await anext(outcomes)
    done = await outcomes_of(tmp_path, service)
    assert all(outcome.ok for outcome in done)
    assert len(done) == 8
    assert service.ledger.charged == 20
    assert service.ledger.duplicates() == []


async def test_options_of_resume_hold_for_all_stages(tmp_path: Path) -> None:
    def failures(outcomes: list[Outcome]) -> set[tuple[int, str | None]]:
        return {(outcome.stage, outcome.key) for outcome in outcomes if not outcome.ok}

    def many(ruxa: RuxaClient, resume: str | Resume) -> Completions:
        return chain(ruxa, resume, 12)

    service = quick(fail_share=0.3)
    matched: list[int] = []
    first = failures(await outcomes_of(tmp_path, service, many))
    bought = service.ledger.charged
    assert {stage for stage, _ in first} == {1, 2, 3}
    assert failures(await outcomes_of(tmp_path, service, many)) == first
    assert service.ledger.charged == bought
    options = Resume("catalogue", retry_failed=True, on_match=lambda index, _: matched.append(index))
    done = await outcomes_of(tmp_path, service, many, resume=options)
    assert service.ledger.charged >= bought + len(first)
    assert {*matched} == {*range(12)}
    assert len(matched) > len(done)


async def test_another_request_for_a_bought_key_is_a_conflict_and_not_sent(tmp_path: Path) -> None:
    def repainted(ruxa: RuxaClient, resume: str | Resume) -> Completions:
        return ruxa.as_completed(prompts(range(4)), resume=resume).then(
            lambda sketch: [NanoBananaPro(prompt="another", image_input=sketch.generation.urls)]
        )

    service = quick()
    await outcomes_of(tmp_path, service)
    bought = service.ledger.charged
    done = await outcomes_of(tmp_path, service, repainted)
    assert [type(o.error) for o in done if isinstance(o, Failed)] == [KeyConflictError] * 4
    assert {o.stage for o in done} == {2}
    assert service.ledger.charged == bought


async def test_a_chain_is_open_once_at_a_time_and_again_after_it_was_left(tmp_path: Path) -> None:
    service = quick()
    async with opened(tmp_path, service) as ruxa:
        async with chain(ruxa, "catalogue") as outcomes:
            await anext(outcomes)
            with pytest.raises(RunInUseError):
                await anext(ruxa.as_completed(prompts([1]), resume="catalogue/film"))
        async with ruxa.as_completed(prompts([1]), resume="catalogue/2") as outcomes:
            await anext(outcomes)


async def test_a_budget_counts_what_all_stages_bought_before(tmp_path: Path) -> None:
    service = quick()
    await outcomes_of(tmp_path, service)
    async with opened(tmp_path, service, budget=Budget(max_tasks=22)) as ruxa:
        with pytest.raises(SubmissionHalted) as caught:  # noqa: PT012 - the loop is what raises
            async with chain(ruxa, "catalogue", 12) as outcomes:
                async for outcome in outcomes:
                    assert outcome.ok
    assert isinstance(caught.value.cause, BudgetExceededError)
    assert service.ledger.charged == 22


async def test_a_stage_whose_run_is_in_use_stops_the_chain_before_anything_is_bought(tmp_path: Path) -> None:
    service = quick()
    async with opened(tmp_path, service) as ruxa, ruxa.as_completed(prompts([9]), resume="catalogue/2"):
        with pytest.raises(RunInUseError):
            async with chain(ruxa, "catalogue") as outcomes:
                await anext(outcomes)
    assert {entry.input["prompt"] for entry in service.ledger.entries} <= {"prompt 9"}


@pytest.mark.parametrize("name", ["", " ", "1", "film"])
async def test_a_name_is_used_once(tmp_path: Path, name: str) -> None:
    async with opened(tmp_path, quick()) as ruxa:
        stages = chain(ruxa, "catalogue")
        with pytest.raises(ValueError, match="a text that no other stage has"):
            stages.then(film, name=name)
        assert len(stages.then(film, name="2nd film").stages) == 4


async def test_only_a_function_makes_a_stage(tmp_path: Path) -> None:
    async with opened(tmp_path, quick()) as ruxa:
        with pytest.raises(TypeError, match="a function that makes requests"):
            ruxa.as_completed([]).then(None)  # type: ignore[arg-type]
