"""Budgets: nothing is bought beyond them, running tasks end, resumed runs count earlier purchases."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anyio
import pytest
from harness import client_of, prompts, service_of

from ruxa_async import (
    Budget,
    BudgetExceededError,
    Completions,
    CustomRequest,
    Limits,
    NanoBanana,
    NanoBananaPro,
    Outcome,
    Resume,
    Retries,
    RuxaClient,
    SqliteJournal,
    SubmissionHalted,
    SubmissionUnknownError,
)
from ruxa_async.emulator import Durations, parse_fault

MODEL = "google/nano-banana"
PRICES = {MODEL: 3}


async def halted(ruxa: RuxaClient, count: int, **options: Any) -> tuple[int, SubmissionHalted]:
    """Return how many of *count* requests succeeded before the batch halted, and the error that halted it."""
    seen: list[Outcome] = []
    async with ruxa.as_completed(prompts(count), **options) as outcomes:
        with pytest.raises(SubmissionHalted) as caught:
            await take_all(outcomes, seen)
    return sum(outcome.ok for outcome in seen), caught.value


async def take_all(outcomes: Completions, seen: list[Outcome]) -> None:
    async for outcome in outcomes:
        seen.append(outcome)


@pytest.mark.parametrize(
    "budget", [Budget(max_tasks=3), Budget(max_credits=10, prices=PRICES)], ids=["tasks", "credits"]
)
async def test_batch_halts_before_the_budget_is_exceeded_and_delivers_what_runs(budget: Budget) -> None:
    service = service_of()
    pulled: list[NanoBanana] = []

    def source() -> Any:
        for request in prompts(1000):
            pulled.append(request)
            yield request

    async with client_of(service, budget=budget, limits=Limits(max_in_flight=5)) as ruxa:
        seen: list[Outcome] = []
        async with ruxa.as_completed(source()) as outcomes:
            with pytest.raises(SubmissionHalted) as caught:
                await take_all(outcomes, seen)
        assert ruxa.stats().spent_tasks == 3
    assert [outcome.ok for outcome in seen] == [True] * 3
    assert service.ledger.charged == 3
    cause = caught.value.cause
    assert isinstance(cause, BudgetExceededError)
    assert (cause.model, cause.tasks) == (MODEL, 3)
    assert [job.index for job in outcomes.unsubmitted] == [*range(3, len(pulled))]
    assert len(pulled) <= 10
    assert (outcomes.unfinished, outcomes.unknown) == ((), ())


async def test_budget_that_is_just_enough_halts_nothing() -> None:
    service = service_of()
    async with client_of(service, budget=Budget(max_tasks=8, max_credits=24, prices=PRICES)) as ruxa:
        outcomes = [outcome async for outcome in ruxa.as_completed(prompts(8))]
        assert all(outcome.ok for outcome in outcomes)
        assert (ruxa.stats().spent_tasks, ruxa.stats().spent_credits) == (8, 24.0)


async def test_rejected_creates_spend_nothing_and_the_whole_budget_is_used() -> None:
    service = service_of(faults=[parse_fault("error:create:nth=1,2,3,4,5:status=429")], latency=0.5)
    async with client_of(service, budget=Budget(max_tasks=6)) as ruxa:
        good, _ = await halted(ruxa, 20)
        assert ruxa.stats().throttled["create"] >= 5
    assert (good, service.ledger.charged) == (6, 6)


async def test_submit_and_generate_raise_an_error_that_says_what_to_do() -> None:
    service = service_of()
    async with client_of(service, budget=Budget(max_credits=4, prices=PRICES)) as ruxa:
        await ruxa.generate(NanoBanana(prompt="a cat"))
        for buying in (ruxa.submit, ruxa.generate):
            with pytest.raises(
                BudgetExceededError,
                match=r"for 3 credits would pass .*max_credits=4: 3 are spent.*--max-credits",
            ):
                await buying(NanoBanana(prompt="another"))
        with pytest.raises(
            BudgetExceededError, match=r"the price of sora-9 is not known.*--price sora-9=CREDITS"
        ):
            await ruxa.submit(CustomRequest(model="sora-9", input={"prompt": "x"}))
    assert service.ledger.charged == 1


async def test_unknown_outcome_counts_as_spent() -> None:
    service = service_of(faults=[parse_fault("reset_before:create:nth=1")])
    async with client_of(service, budget=Budget(max_tasks=1)) as ruxa:
        with pytest.raises(SubmissionUnknownError):
            await ruxa.submit(NanoBanana(prompt="a cat"))
        with pytest.raises(BudgetExceededError, match="1 are bought or may be"):
            await ruxa.submit(NanoBanana(prompt="a cat"))
        assert ruxa.stats().spent_credits is None
    assert service.ledger.charged == 0


async def test_every_resent_attempt_of_unknown_outcome_counts_as_spent() -> None:
    service = service_of(faults=[parse_fault("reset_after:create:nth=1")])
    budget = Budget(max_tasks=2)
    async with client_of(service, budget=budget, retries=Retries(resend_unknown=True)) as ruxa:
        await ruxa.generate(NanoBanana(prompt="a cat"))
        assert ruxa.stats().spent_tasks == service.ledger.charged == 2


async def test_reported_credits_replace_the_configured_price() -> None:
    service = service_of(dialect="sibling")
    async with client_of(service, budget=Budget(max_credits=20, prices={MODEL: 10})) as ruxa:
        for _ in range(4):  # 3 each, so that there is room for the fourth at 10
            await ruxa.generate(NanoBanana(prompt="a cat"))
        assert ruxa.stats().spent_credits == 12.0
        with pytest.raises(BudgetExceededError, match="12 are spent"):
            await ruxa.generate(NanoBanana(prompt="a cat"))


PRO = "google/nano-banana-pro"
#: What the emulated service charges; a user who states these prices never pays more.
PRO_PRICES = {PRO: 12, f"{PRO}[resolution=4k]": 24}


def pictures(count: int, resolution: str | None) -> list[NanoBananaPro]:
    return [NanoBananaPro(prompt=f"{resolution} {n}", resolution=resolution) for n in range(count)]


async def test_a_request_counts_at_the_price_of_its_parameters() -> None:
    service = service_of(prices=PRO_PRICES)
    async with client_of(service, budget=Budget(max_credits=83, prices=PRO_PRICES)) as ruxa:
        for request in (*pictures(2, "4k"), *pictures(1, "1k"), *pictures(1, None)):
            await ruxa.generate(request)
        assert ruxa.stats().spent_credits == service.ledger.credits_spent == 72.0
        with pytest.raises(
            BudgetExceededError, match=r"pro\[resolution=4k\] for 24 credits would pass"
        ) as caught:
            await ruxa.generate(NanoBananaPro(prompt="x", resolution="4k"))
    error = caught.value
    assert (error.model, error.price_key, error.price) == (PRO, f"{PRO}[resolution=4k]", 24.0)


async def test_parameters_without_a_price_are_not_bought_and_the_error_names_them() -> None:
    service = service_of()
    prices = {f"{PRO}[resolution=1k]": 12}
    async with client_of(service, budget=Budget(max_credits=100, prices=prices)) as ruxa:
        with pytest.raises(BudgetExceededError, match=re.escape(f"--price '{PRO}[resolution=4k]=CREDITS'")):
            await ruxa.generate(NanoBananaPro(prompt="x", resolution="4k"))
        with pytest.raises(BudgetExceededError, match=f"--price {PRO}=CREDITS"):
            await ruxa.generate(NanoBananaPro(prompt="x"))
    assert service.ledger.charged == 0


async def test_charges_are_learned_by_the_parameters_that_prices_name() -> None:
    service = service_of(dialect="sibling", prices={PRO: 15, f"{PRO}[resolution=4k]": 30})
    async with client_of(service, budget=Budget(max_credits=90, prices=PRO_PRICES)) as ruxa:
        for resolution in ("1k", "4k"):
            await ruxa.generate(NanoBananaPro(prompt="x", resolution=resolution))
        assert ruxa.stats().spent_credits == 45.0
        # 45 are left: one of 30 fits and then one of 15, but not a second one of 30.
        await ruxa.generate(NanoBananaPro(prompt="x", resolution="4k"))
        with pytest.raises(BudgetExceededError, match="for 30 credits"):
            await ruxa.generate(NanoBananaPro(prompt="x", resolution="4k"))
        await ruxa.generate(NanoBananaPro(prompt="x", resolution="2k"))
    assert service.ledger.credits_spent == 90


async def test_budget_is_checked_when_the_client_is_made() -> None:
    with pytest.raises(ValueError, match="budget=100 is not valid"):
        client_of(service_of(), budget=100)


# ---- over a journal, in real time


def test_resumed_run_counts_what_earlier_ones_bought_and_goes_on_with_more(tmp_path: Path) -> None:
    async def work() -> None:
        service = service_of(image=Durations(0.02, 0.0))

        async def run(budget: Budget) -> tuple[int, SubmissionHalted]:
            journal = SqliteJournal(tmp_path / "journal.db")
            async with client_of(service, budget=budget, journal=journal) as ruxa:
                first = await halted(ruxa, 12, resume="run")
                again = await halted(ruxa, 12, resume="run")  # entered once, however often it is gone through
                assert first[0] == again[0]
                return first

        assert (await run(Budget(max_tasks=4)))[0] == 4
        assert (await run(Budget(max_tasks=4)))[0] == 4
        assert service.ledger.charged == 4
        assert (await run(Budget(max_credits=21, prices=PRICES)))[0] == 7
        journal = SqliteJournal(tmp_path / "journal.db")
        async with client_of(
            service, budget=Budget(max_credits=99, prices={"x": 1}), journal=journal
        ) as ruxa:
            _, halt = await halted(ruxa, 12, resume="run")
            assert "the price of google/nano-banana is not known" in str(halt)
        assert service.ledger.charged == 7

    anyio.run(work)


@pytest.mark.parametrize("dialect", ["documented", "sibling"])
def test_a_resumed_run_counts_earlier_tasks_at_the_price_of_their_parameters(
    tmp_path: Path, dialect: str
) -> None:
    reports = dialect == "sibling"
    service = service_of(image=Durations(0.02, 0.0), dialect=dialect, prices=PRO_PRICES)
    dear, usual = pictures(2, "4k"), pictures(1, "1k")

    async def run(budget: Budget, requests: list[NanoBananaPro]) -> float | None:
        journal = SqliteJournal(tmp_path / "journal.db")
        async with client_of(service, budget=budget, journal=journal) as ruxa:
            async for _ in ruxa.as_completed(requests, resume="run"):
                pass
            return ruxa.stats().spent_credits

    async def work() -> None:
        assert await run(Budget(max_tasks=9), dear) == (48.0 if reports else None)
        assert await run(Budget(max_credits=60, prices=PRO_PRICES), [*dear, *usual]) == 60.0
        with pytest.raises(SubmissionHalted, match=re.escape(f"{PRO}[resolution=2k] is not known")):
            await run(Budget(max_credits=80, prices={f"{PRO}[resolution=4k]": 24}), pictures(1, "2k"))
        assert service.ledger.credits_spent == 60

    anyio.run(work)


def test_unknown_and_failed_attempts_of_earlier_runs_count_as_spent(tmp_path: Path) -> None:
    async def work() -> None:
        faults = [parse_fault("reset_before:create:nth=1")]
        service = service_of(image=Durations(0.02, 0.0), faults=faults)
        spent = []
        for resume in (Resume("run"), Resume("run", resend_unknown=True), Resume("run")):
            journal = SqliteJournal(tmp_path / "journal.db")
            async with client_of(service, budget=Budget(max_tasks=9), journal=journal) as ruxa:
                async for _ in ruxa.as_completed(prompts(2), resume=resume):
                    pass
                spent.append(ruxa.stats().spent_tasks)
        assert spent == [2, 3, 3]
        assert service.ledger.charged == 2

    anyio.run(work)
