"""Purchases by key: the same run and key is the same purchase, for callers at once and across restarts."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from callbacks.wired import receiver_of, wired
from harness import client_of, service_of
from journal.tools import Spoiler, of, rows, watching

from ruxa_async import (
    BudgetExceededError,
    ClientClosedError,
    ConfigurationError,
    Generation,
    InsufficientCreditsError,
    JournalError,
    KeyConflictError,
    Limits,
    NanoBanana,
    RequestValidationError,
    RuxaClient,
    RuxaError,
    SqliteJournal,
    SubmissionUnknownError,
    TaskFailedError,
    TaskTimeout,
    Timeouts,
)
from ruxa_async.emulator import Callbacks, Durations, Fault, Service, parse_fault
from ruxa_async.journal import LastingJournal
from ruxa_async.settings import Budget

RUN = "catalogue"
CAT, DOG = NanoBanana(prompt="a cat", key="cat"), NanoBanana(prompt="a dog", key="dog")
OTHER_CAT = NanoBanana(prompt="another cat", key="cat")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)  # a journal has a thread, so time is real here


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def service(**settings: Any) -> Service:
    settings.setdefault("image", Durations(0.03, 0.0))
    return service_of(**settings)


@asynccontextmanager
async def opened(at: Service, journal: LastingJournal | Path, **options: Any) -> AsyncIterator[RuxaClient]:
    options.setdefault("timeouts", Timeouts(create_drain=5))
    journal = SqliteJournal(journal) if isinstance(journal, Path) else journal
    async with client_of(at, journal=journal, **options) as ruxa:
        yield ruxa


class Callers:
    """Callers of one client, each in a scope of its own, and what became of them."""

    def __init__(self, ruxa: RuxaClient, tg: Any) -> None:
        self.ruxa, self.tg = ruxa, tg
        self.outcomes: list[Generation | RuxaError] = []
        self.scopes: list[anyio.CancelScope] = []
        self.left = 0

    def call(self, request: NanoBanana = CAT, times: int = 1) -> None:
        for _ in range(times):
            scope = anyio.CancelScope()
            self.scopes.append(scope)
            self.tg.start_soon(self._call, request, scope)

    async def _call(self, request: NanoBanana, scope: anyio.CancelScope) -> None:
        with scope:
            try:
                self.outcomes.append(await self.ruxa.generate(request, run=RUN))
            except RuxaError as exc:
                self.outcomes.append(exc)
        self.left += scope.cancelled_caught

    @property
    def ids(self) -> set[str | None]:
        return {outcome.task_id for outcome in self.outcomes if isinstance(outcome, Generation)}


@asynccontextmanager
async def calling(at: Service, path: Path | LastingJournal, **options: Any) -> AsyncIterator[Callers]:
    """Give callers of a client; on leaving, wait for all of them and close the client."""
    async with opened(at, path, **options) as ruxa, anyio.create_task_group() as tg:
        yield Callers(ruxa, tg)


async def until(condition: Any) -> None:
    with anyio.fail_after(30):
        while not condition():
            await anyio.sleep(0.002)


def states(path: Path) -> list[tuple[Any, ...]]:
    return rows(path, "SELECT state FROM jobs ORDER BY id")


# ---- sharing


async def test_callers_at_once_share_one_purchase(path: Path) -> None:
    at = service()
    async with calling(at, path) as callers:
        callers.call(times=10)
    assert len(callers.outcomes) == 10
    assert len(callers.ids) == at.ledger.charged == 1


async def test_submit_and_generate_share_a_purchase(path: Path) -> None:
    at = service()
    async with opened(at, path) as ruxa:
        task = await ruxa.submit(CAT, run=RUN)
        generation = await ruxa.generate(CAT, run=RUN)
        assert generation.task_id == task.task_id == (await task.result()).task_id
    assert at.ledger.charged == 1


async def test_each_key_and_each_run_is_its_own_purchase_and_without_a_run_each_call_buys(path: Path) -> None:
    at = service()
    async with opened(at, path) as ruxa:
        for _ in range(2):
            await ruxa.generate(CAT, run=RUN)
            await ruxa.generate(DOG, run=RUN)
            await ruxa.generate(CAT, run="another")
        assert at.ledger.charged == 3
        for _ in range(2):
            await ruxa.generate(CAT)
        assert at.ledger.charged == 5


async def test_equal_requests_without_a_key_are_one_purchase(path: Path) -> None:
    at = service()
    async with opened(at, path) as ruxa:
        for _ in range(2):
            await ruxa.generate(NanoBanana(prompt="a cat"), run=RUN)
        await ruxa.generate(NanoBanana(prompt="a dog"), run=RUN)
    assert at.ledger.charged == 2


async def test_each_caller_raises_an_error_of_its_own(path: Path) -> None:
    at = service(fail_share=1.0)
    async with calling(at, path) as callers:
        callers.call(times=3)
    assert len({id(error) for error in callers.outcomes}) == 3
    assert len({str(error) for error in callers.outcomes}) == 1
    for error in callers.outcomes:
        assert isinstance(error, TaskFailedError)
        assert error.task_id
    assert at.ledger.charged == 1


# ---- callers that leave


async def test_a_cancelled_caller_leaves_and_the_others_get_the_outcome(path: Path) -> None:
    at = service(latency=0.05)
    async with calling(at, path) as callers:
        callers.call(times=3)
        await until(lambda: at.counts.creates)
        callers.scopes[0].cancel()
    assert callers.left == 1
    assert len(callers.outcomes) == 2
    assert at.ledger.charged == 1
    assert callers.ruxa.orphans == ()


async def test_after_the_last_caller_left_a_queued_purchase_is_withdrawn(path: Path) -> None:
    at = service()
    async with calling(at, path, limits=Limits(max_in_flight=1)) as callers:
        await callers.ruxa.submit(NanoBanana(prompt="first"))
        callers.call(times=2)
        await until(lambda: callers.ruxa.stats().queued == 1)
        for scope in callers.scopes:
            scope.cancel()
        await until(lambda: callers.left == 2)
        assert callers.ruxa.stats().queued == 0
    assert at.ledger.charged == 1
    assert callers.ruxa.orphans == ()


async def test_after_the_last_caller_left_a_paid_task_is_an_orphan_and_the_next_caller_follows_it(
    path: Path,
) -> None:
    at = service(image=Durations(1.5, 0.0))
    async with calling(at, path) as callers:
        callers.call(times=2)
        await until(lambda: callers.ruxa.stats().accepted)
        for scope in callers.scopes:
            scope.cancel()
        await until(lambda: callers.left == 2 and callers.ruxa.orphans)  # its task id may not be durable yet
        (orphan,) = callers.ruxa.orphans
        generation = await callers.ruxa.generate(CAT, run=RUN)
        assert generation.task_id == orphan.task_id
    assert at.ledger.charged == 1


async def test_a_caller_that_comes_while_an_abandoned_create_is_on_the_wire_shares_it(path: Path) -> None:
    at = service(latency=0.3)
    async with calling(at, path) as callers:
        callers.call()
        await until(lambda: at.counts.creates)
        callers.scopes[0].cancel()
        await until(lambda: callers.left == 1)
        callers.call()
    assert len(callers.ids) == at.ledger.charged == 1
    assert callers.ruxa.orphans == ()


async def test_an_abandoned_create_on_the_wire_becomes_an_orphan(path: Path) -> None:
    at = service(latency=0.1)
    async with calling(at, path) as callers:
        callers.call()
        await until(lambda: at.counts.creates)
        callers.scopes[0].cancel()
        await until(lambda: callers.ruxa.orphans)
    assert callers.ruxa.orphans[0].task_id in {entry.task_id for entry in at.ledger.entries}


async def test_an_abandoned_create_without_a_reply_is_listed_as_unknown(path: Path) -> None:
    at = service(latency=0.1, faults=(Fault("reset_after", nth=(1,)),))
    async with calling(at, path) as callers:
        callers.call()
        await until(lambda: at.counts.creates)
        callers.scopes[0].cancel()
        await until(lambda: callers.ruxa.orphans)
    (orphan,) = callers.ruxa.orphans
    assert orphan.task_id is None
    assert isinstance(orphan.error, SubmissionUnknownError)


async def test_an_abandoned_create_that_is_rejected_is_not_sent_again_unless_a_caller_comes(
    path: Path,
) -> None:
    at = service(latency=0.2, faults=(parse_fault("error:create:nth=2:status=429"),))
    async with calling(at, path) as callers:
        await callers.ruxa.submit(NanoBanana(prompt="first"))
        callers.call()
        await until(lambda: at.counts.creates == 2)
        callers.scopes[0].cancel()
        await until(lambda: not callers.ruxa._keyed_purchases._open)
        assert at.ledger.charged == 1
        assert (await callers.ruxa.generate(CAT, run=RUN)).task_id
    assert at.ledger.charged == 2


class Hold:
    """Holds the journal's thread at a row that becomes *state*, or names the run *state*, until `go` is set."""

    def __init__(self, state: str) -> None:
        self.state = state
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self, sql: str, parameters: Sequence[Any]) -> None:
        becomes = sql.startswith("INSERT INTO jobs") if self.state == "intended" else self.state in parameters
        if becomes:
            self.reached.set()
            assert self.go.wait(30)


async def test_a_caller_that_comes_while_a_withdrawal_is_recorded_gets_a_purchase(path: Path) -> None:
    at, intent, withdrawal = service(), Hold("intended"), Hold("not_bought")

    def both(sql: str, parameters: Sequence[Any]) -> None:
        intent(sql, parameters)
        withdrawal(sql, parameters)

    async with calling(at, SqliteJournal(path, connect=watching(both))) as callers:
        callers.call()
        await until(intent.reached.is_set)
        callers.scopes[0].cancel()
        await until(lambda: callers.left == 1)
        intent.go.set()
        await until(withdrawal.reached.is_set)
        callers.call()
        await anyio.wait_all_tasks_blocked()
        withdrawal.go.set()
    assert len(callers.ids) == at.ledger.charged == 1


async def test_a_look_up_that_nobody_waits_for_buys_nothing(path: Path) -> None:
    at, look_up = service(), Hold(RUN)
    async with calling(at, SqliteJournal(path, connect=watching(look_up))) as callers:
        callers.call()
        await until(look_up.reached.is_set)
        callers.scopes[0].cancel()
        await until(lambda: callers.left == 1)
        look_up.go.set()
        await until(lambda: not callers.ruxa._keyed_purchases._open)
        async for _ in callers.ruxa.as_completed([], resume=RUN):
            raise AssertionError
    assert at.counts.creates == 0


async def test_a_journal_that_fails_to_record_the_task_leaves_its_id(path: Path) -> None:
    spoiler = Spoiler()
    at = service(latency=0.1)
    async with calling(at, SqliteJournal(path, connect=watching(spoiler))) as callers:
        callers.call(times=2)
        await until(lambda: at.counts.creates)
        spoiler.spoil("UPDATE jobs SET state = 'accepted'", sqlite3.SQLITE_IOERR)
        await until(lambda: len(callers.outcomes) == 2)
        spoiler.heal()
    assert [type(outcome) for outcome in callers.outcomes] == [ClientClosedError] * 2
    assert {orphan.task_id for orphan in callers.ruxa.orphans} == {e.task_id for e in at.ledger.entries}


async def test_a_lost_create_whose_callback_comes_is_delivered_to_every_caller(path: Path) -> None:
    lost, receiver = parse_fault("reset_after:create:nth=1"), receiver_of()
    at = service(faults=(lost,), image=Durations(0.5, 0.0), callbacks=Callbacks())
    ids: set[str | None] = set()
    client = {"journal": SqliteJournal(path), "timeouts": Timeouts(create_drain=0.01)}
    async with wired(at, receiver, client=client) as w, anyio.create_task_group() as tg:
        tg.start_soon(_ignore_closing, w.ruxa)
        await until(lambda: at.ledger.charged)

    async def call(ruxa: RuxaClient) -> None:
        ids.add((await ruxa.generate(CAT, run=RUN)).task_id)

    client = {"journal": SqliteJournal(path)}
    async with wired(at, receiver, client=client) as w, anyio.create_task_group() as tg:
        for _ in range(3):
            tg.start_soon(call, w.ruxa)
    assert ids == {entry.task_id for entry in at.ledger.entries}
    assert at.ledger.charged == 1


async def _ignore_closing(ruxa: RuxaClient) -> None:
    with suppress(SubmissionUnknownError, ClientClosedError):
        await ruxa.generate(CAT, run=RUN)


async def test_a_submitted_task_is_followed_to_its_end_whoever_leaves(path: Path) -> None:
    at = service(image=Durations(0.2, 0.0))
    async with calling(at, path) as callers:
        task = await callers.ruxa.submit(CAT, run=RUN)
        callers.call()
        await anyio.wait_all_tasks_blocked()
        callers.scopes[0].cancel()
        assert (await task.result()).task_id == task.task_id
    assert callers.ruxa.orphans == ()
    assert at.ledger.charged == 1


async def test_a_caller_whose_wait_ends_leaves_the_task_to_the_next(path: Path) -> None:
    at = service(image=Durations(0.5, 0.0))
    async with opened(at, path, timeouts=Timeouts(task=0.3)) as ruxa:
        with pytest.raises(TaskTimeout) as caught:
            await ruxa.generate(CAT, run=RUN)
        assert ruxa.orphans == ()
        generation = await ruxa.generate(CAT, run=RUN)  # its wait begins now
        assert generation.task_id == caught.value.task_id
    assert at.ledger.charged == 1


async def test_a_closing_client_ends_every_wait_and_buys_nothing_more(path: Path) -> None:
    at = service()
    errors: list[BaseException] = []

    async def call(ruxa: RuxaClient) -> None:
        try:
            await ruxa.generate(CAT, run=RUN)
        except ClientClosedError as exc:
            errors.append(exc)

    async with anyio.create_task_group() as tg, opened(at, path, limits=Limits(max_in_flight=1)) as ruxa:
        await ruxa.submit(NanoBanana(prompt="first"))
        tg.start_soon(call, ruxa)
        await until(lambda: ruxa.stats().queued == 1)
    assert len(errors) == 1
    assert at.ledger.charged == 1


async def test_a_client_that_closes_during_the_look_up_buys_nothing(path: Path) -> None:
    at = service()
    errors: list[BaseException] = []

    async def call(ruxa: RuxaClient) -> None:
        try:
            await ruxa.generate(CAT, run=RUN)
        except ClientClosedError as exc:
            errors.append(exc)

    async with anyio.create_task_group() as tg, opened(at, path) as ruxa:
        tg.start_soon(call, ruxa)
        while not ruxa._keyed_purchases._open:
            await checkpoint()  # not a pause, in which the look-up may end
    assert len(errors) == 1
    assert at.ledger.charged == 0


# ---- restarts, by what the journal holds


async def test_an_ended_purchase_comes_from_the_journal_with_its_files(path: Path, tmp_path: Path) -> None:
    at = service()
    async with opened(at, path) as ruxa:
        first = await ruxa.generate(CAT, run=RUN)
        (saved,) = await first.save(tmp_path)
    creates, queries = at.counts.creates, at.counts.queries
    async with opened(at, path) as ruxa:
        again = await ruxa.generate(CAT, run=RUN)
        assert (again.task_id, again.urls) == (first.task_id, first.urls)
        assert await again.save(tmp_path) == [saved]
        assert (await ruxa.submit(CAT, run=RUN)).done
    assert (at.counts.creates, at.counts.queries) == (creates, queries)


async def test_a_failed_purchase_raises_its_recorded_error(path: Path) -> None:
    at = service(fail_share=1.0)
    errors = []
    for _ in range(2):
        async with opened(at, path) as ruxa:
            with pytest.raises(TaskFailedError) as caught:
                await ruxa.generate(CAT, run=RUN)
            errors.append((caught.value.task_id, str(caught.value)))
            assert (await ruxa.submit(CAT, run=RUN)).done
    assert errors[0] == errors[1]
    assert at.ledger.charged == 1


async def test_an_accepted_purchase_is_followed_after_a_restart(path: Path) -> None:
    at = service(image=Durations(0.2, 0.0))
    async with opened(at, path) as ruxa:
        task = await ruxa.submit(CAT, run=RUN)
    async with calling(at, path) as callers:
        callers.call(times=3)
    assert callers.ids == {task.task_id}
    assert at.ledger.charged == 1


async def test_an_unknown_purchase_is_raised_not_sent_and_bought_once_it_is_forgotten(path: Path) -> None:
    at = service(faults=(Fault("reset_after", nth=(1,)),))
    for _ in range(2):
        async with opened(at, path) as ruxa:
            for _ in range(2):
                with pytest.raises(SubmissionUnknownError):
                    await ruxa.generate(CAT, run=RUN)
                with pytest.raises(SubmissionUnknownError):
                    await ruxa.submit(CAT, run=RUN)
    assert at.counts.creates == 1
    async with SqliteJournal(path) as journal:
        await journal.forget("cat")
        async with opened(at, journal) as ruxa:
            await ruxa.generate(CAT, run=RUN)
    assert at.counts.creates == 2


async def test_an_adopted_purchase_is_followed(path: Path) -> None:
    at = service(faults=(Fault("reset_after", nth=(1,)),))
    async with SqliteJournal(path) as journal, opened(at, journal) as ruxa:
        with pytest.raises(SubmissionUnknownError):
            await ruxa.generate(CAT, run=RUN)
        (entry,) = at.ledger.entries
        await journal.adopt("cat", entry.task_id)
        assert (await ruxa.generate(CAT, run=RUN)).task_id == entry.task_id
    assert at.ledger.charged == 1


async def test_a_purchase_that_was_being_sent_at_a_kill_is_unknown(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        purchase = await journal.open_purchase(RUN, CAT)
        await journal.intend(of(purchase.match.entry))
    at = service()
    async with opened(at, path) as ruxa:
        with pytest.raises(SubmissionUnknownError):
            await ruxa.generate(CAT, run=RUN)
    assert at.counts.creates == 0


async def test_a_refused_purchase_is_bought_by_the_next_call_even_for_another_request(path: Path) -> None:
    at = service(credits=0.0)
    async with opened(at, path) as ruxa:
        for request in (CAT, CAT, OTHER_CAT):
            with pytest.raises(InsufficientCreditsError):
                await ruxa.generate(request, run=RUN)
    assert states(path) == [("not_bought",)]
    richer = service()
    async with opened(richer, path) as ruxa:
        await ruxa.generate(CAT, run=RUN)
        with pytest.raises(KeyConflictError):
            await ruxa.generate(OTHER_CAT, run=RUN)
    assert richer.ledger.charged == 1


# ---- what is refused


async def test_a_key_of_another_request_is_a_conflict_while_it_is_bought_and_afterwards(path: Path) -> None:
    at = service(latency=0.05)
    async with calling(at, path) as callers:
        callers.call()
        await until(lambda: at.counts.creates)
        callers.call(OTHER_CAT)
        await until(lambda: len(callers.outcomes) == 2)
        callers.call(OTHER_CAT)
    assert [type(outcome) for outcome in callers.outcomes] == [KeyConflictError, Generation, KeyConflictError]
    assert at.ledger.charged == 1


async def test_a_run_needs_a_journal_that_lasts_and_a_name(path: Path) -> None:
    async with client_of(service()) as ruxa:
        for call in (ruxa.generate, ruxa.submit):
            with pytest.raises(ConfigurationError, match="run= need a journal that lasts"):
                await call(CAT, run=RUN)
    at = service()
    async with opened(at, path) as ruxa:
        for call in (ruxa.generate, ruxa.submit):
            for name in ("", " "):
                with pytest.raises(ValueError, match="is not valid"):
                    await call(CAT, run=name)
            with pytest.raises(RequestValidationError):
                await call(NanoBanana(prompt="a cat", extra={"seed": float("nan")}), run=RUN)
            with pytest.raises(TypeError, match="submit takes a request"):
                await call("a cat", run=RUN)  # type: ignore[arg-type]
    with pytest.raises(ClientClosedError):
        await ruxa.generate(CAT, run=RUN)
    assert at.counts.creates == 0


async def test_a_pass_and_keyed_purchases_of_one_run_exclude_each_other(path: Path) -> None:
    at = service(image=Durations(0.1, 0.0))
    async with opened(at, path) as ruxa:
        task = await ruxa.submit(CAT, run=RUN)
        with pytest.raises(JournalError, match="purchases by key"):
            _ = [outcome async for outcome in ruxa.as_completed([CAT], resume=RUN)]
        await task.result()
        async with ruxa.as_completed([CAT, DOG], resume=RUN) as outcomes:
            async for outcome in outcomes:
                assert outcome.ok
                with pytest.raises(JournalError, match="has not ended"):
                    await ruxa.generate(DOG, run=RUN)
        await ruxa.generate(DOG, run=RUN)
    assert at.ledger.charged == 2


async def test_a_batch_that_was_dropped_on_the_wire_is_not_bought_again(path: Path) -> None:
    at = service(latency=0.2)
    async with opened(at, path) as ruxa:
        outcomes = ruxa.as_completed([CAT], resume=RUN)
        with anyio.move_on_after(0.1):
            await outcomes.__anext__()
        outcomes._pipeline.leave_now()  # what the garbage collector does
        with pytest.raises(SubmissionUnknownError, match="being sent just now"):
            await ruxa.generate(CAT, run=RUN)
        await until(lambda: ruxa.orphans)
        await ruxa.generate(CAT, run=RUN)
    assert at.ledger.charged == 1


async def test_two_clients_of_one_journal_do_not_buy_a_key_twice(path: Path) -> None:
    at = service(image=Durations(0.1, 0.0))
    async with (
        SqliteJournal(path) as journal,
        opened(at, journal) as first,
        opened(at, journal) as second,
    ):
        task = await first.submit(CAT, run=RUN)
        with pytest.raises(JournalError, match="another client of this journal"):
            await second.generate(CAT, run=RUN)
        await task.result()
        assert (await second.generate(CAT, run=RUN)).task_id == task.task_id
    assert at.ledger.charged == 1


# ---- budget


async def test_the_budget_counts_what_the_run_bought_before_once(path: Path) -> None:
    at = service()
    async with opened(at, path, budget=Budget(max_tasks=2)) as ruxa:
        await ruxa.generate(CAT, run=RUN)
    async with calling(at, path, budget=Budget(max_tasks=2)) as callers:
        for name in range(5):
            callers.call(NanoBanana(prompt=f"picture {name}", key=f"k{name}"))
        callers.call(CAT)
    assert len(callers.ids) == 2
    assert sum(isinstance(outcome, BudgetExceededError) for outcome in callers.outcomes) == 4
    assert at.ledger.charged == 2


async def test_a_task_that_is_followed_is_not_counted_again(path: Path) -> None:
    at = service(image=Durations(0.1, 0.0))
    async with opened(at, path) as ruxa:
        task = await ruxa.submit(CAT, run=RUN)
    async with opened(at, path, budget=Budget(max_tasks=2)) as ruxa:
        assert (await ruxa.generate(CAT, run=RUN)).task_id == task.task_id
        await ruxa.generate(DOG, run=RUN)
        with pytest.raises(BudgetExceededError):
            await ruxa.generate(NanoBanana(prompt="a bird"), run=RUN)
    assert at.ledger.charged == 2
