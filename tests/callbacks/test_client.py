"""A client with callbacks: its queries, its outcomes, and the creates that callbacks recover."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import create_task_group, to_thread, wait_all_tasks_blocked
from callbacks.test_receiver import DONE, job
from callbacks.wired import PUBLIC, SECRET, post, receiver_of, wired
from harness import KEY, client_of, prompts, service_of
from journal.tools import Gate, watching

from ruxa_async import (
    Budget,
    BudgetExceededError,
    Callback,
    CallbackURL,
    ClientClosedError,
    Failed,
    JobRecord,
    Limits,
    NanoBanana,
    RateLimit,
    Retries,
    RuxaClient,
    SqliteJournal,
    SubmissionUnknownError,
    Succeeded,
    TaskFailedError,
    Timeouts,
)
from ruxa_async.emulator import CALLBACK_STYLES, Callbacks, Durations, Fault
from ruxa_async.journal import JobState, NullJournal
from ruxa_async.transports import MemoryTransport, Request, Response

LOST = Fault("reset_after", "create")
SPREAD = Durations(10.0, 0.4)


async def outcomes_of(ruxa: RuxaClient, count: int) -> list[Succeeded | Failed]:
    return [outcome async for outcome in ruxa.as_completed(prompts(count))]


@pytest.mark.parametrize("style", CALLBACK_STYLES)
async def test_a_callback_delivers_its_task(style: Any) -> None:
    async with wired(how=Callbacks(style=style)) as w:
        task = await w.ruxa.submit(NanoBanana(prompt="a fox"))
        began = anyio.current_time()
        picture = await task.result()
        # Ten seconds, and the tick at which queries leave.
        assert anyio.current_time() - began == pytest.approx(10.0, abs=0.02)
        assert picture.task_id == task.task_id
    assert w.service.counts.queries <= 5  # this one is a probe


@pytest.mark.long
async def test_a_thousand_tasks_with_callbacks_need_at_most_1100_queries() -> None:
    async with wired(image=SPREAD) as w:
        outcomes = await outcomes_of(w.ruxa, 1_000)
    assert all(outcome.ok for outcome in outcomes)
    assert w.service.counts.queries <= 1_100
    assert w.service.ledger.charged == 1_000


async def mean_lag(count: int, **how: Any) -> float:
    """Return the mean seconds from the end of a task to its delivery, when callbacks are posted like that."""
    total = 0.0
    async with wired(how=Callbacks(**how), image=SPREAD) as w:
        async for outcome in w.ruxa.as_completed(prompts(count)):
            assert outcome.task_id is not None
            task = w.service.task(outcome.task_id)
            assert task is not None
            total += anyio.current_time() - task.ends
        assert w.ruxa.stats().succeeded == count
    return total / count


@pytest.mark.long
async def test_tasks_finish_without_any_callback_and_sooner_with_half_of_them() -> None:
    without, half, with_all = [await mean_lag(400, lost=share) for share in (1.0, 0.5, 0.0)]
    assert without < 1.5
    assert half < 0.75 * without
    assert with_all < 0.01


async def test_false_callbacks_change_no_state() -> None:
    how = Callbacks(
        style="mixed", forged=1.0, malformed=0.5, duplicated=1.0, spread=3.0, progress=True, attempts=3
    )
    async with wired(how=how, image=SPREAD, fail_share=0.3) as w:
        outcomes = await outcomes_of(w.ruxa, 200)
        await anyio.sleep(10)
    for outcome in outcomes:
        assert outcome.task_id is not None
        task = w.service.task(outcome.task_id)
        assert task is not None
        assert outcome.ok is not task.fails
        if not outcome.ok:
            assert isinstance(outcome.error, TaskFailedError)
    assert len({outcome.task_id for outcome in outcomes}) == len(outcomes) == w.service.ledger.charged
    assert w.service.counts.callbacks_refused == 200  # the forged ones, and nobody tries those again


async def test_a_callback_before_the_reply_to_its_create_is_not_lost() -> None:
    async with wired(image=Durations(1.0), latency=3.0) as w:
        task = await w.ruxa.submit(NanoBanana(prompt="a fox"))
        began = anyio.current_time()
        await task.result()
        assert anyio.current_time() - began == pytest.approx(3.0, abs=0.02)  # one query
    assert w.service.counts.queries == 1


async def test_the_receiver_sets_the_name_of_the_url_field() -> None:
    for field in ("callback_url", "callBackUrl"):
        service = service_of()
        transport = MemoryTransport(service, record=True)
        receiver = receiver_of(field=field)
        async with RuxaClient(
            api_key=KEY, base_url="http://localhost", transport=transport, callbacks=receiver
        ) as ruxa:
            await ruxa.submit(NanoBanana(prompt="a fox"))
        body = (transport.requests[0].body or b"").decode()
        assert f'"{field}":"{PUBLIC}/' in body
        purchase = service.ledger.entries[0]
        assert purchase.callback is not None
        assert await post(receiver, purchase.callback, DONE) == 200


async def test_a_callback_url_is_sent_unchanged() -> None:
    service = service_of()
    async with client_of(service, callbacks=CallbackURL("https://hooks.example/mine")) as ruxa:
        await ruxa.submit(NanoBanana(prompt="a fox"))
    assert service.ledger.entries[0].callback == "https://hooks.example/mine"


# ---- recovery of creates whose replies were lost


@pytest.mark.parametrize("style", [style for style in CALLBACK_STYLES if style != "empty"])
async def test_a_callback_recovers_a_create_whose_reply_was_lost(style: Any) -> None:
    async with wired(how=Callbacks(style=style), faults=(LOST,)) as w:
        picture = await w.ruxa.generate(NanoBanana(prompt="a fox"))
        assert anyio.current_time() == pytest.approx(10.0, abs=0.05)
        purchase = w.service.ledger.entries[0]
        unnamed = style in ("flat", "no_id")
        assert picture.task_id == (None if unnamed else purchase.task_id)
        assert picture.urls == (f"https://emulator.test/files/{purchase.task_id}/0.png",)
        stats = w.ruxa.stats()
        assert (stats.accepted, stats.unknown, stats.in_flight, stats.succeeded) == (1, 0, 0, 1)
        assert w.ruxa.orphans == ()
    assert w.service.ledger.charged == 1


async def test_callbacks_recover_a_hundred_lost_creates_and_none_is_resent() -> None:
    # All are on the wire before the first reply is lost, or the circuit breaker would hold the others back.
    at_once = Limits(max_concurrent_creates=100, create_rate=RateLimit(1000, burst=1000))
    async with wired(
        how=Callbacks(style="mixed"), faults=(LOST,), image=SPREAD, latency=1.0, client={"limits": at_once}
    ) as w:
        # Every eighth body is empty, which proves that a create was accepted and no more.
        outcomes = await outcomes_of(w.ruxa, 100)
        recovered = [outcome for outcome in outcomes if outcome.ok]
        unknown = [outcome for outcome in outcomes if not outcome.ok]
    assert len(recovered) == 88
    assert all(isinstance(outcome.error, SubmissionUnknownError) for outcome in unknown)
    assert w.service.counts.creates == w.service.ledger.charged == 100


@pytest.mark.parametrize("style", ["query", "no_id", "flat", "sibling"])
async def test_a_callback_recovers_a_lost_create_whose_task_failed(style: Any) -> None:
    async with wired(how=Callbacks(style=style), faults=(LOST,), fail_share=1.0) as w:
        (outcome,) = await outcomes_of(w.ruxa, 1)
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, TaskFailedError)
        assert "could not make this" in outcome.error.fail_message
        assert (outcome.task_id is None) is (style in ("no_id", "flat"))
        task = await w.ruxa.submit(NanoBanana(prompt="another"))
        assert bool(task.task_id) is (style in ("query", "sibling"))
        with pytest.raises(TaskFailedError):
            await task.result()


async def test_an_early_callback_recovers_a_lost_create_at_once() -> None:
    async with wired(image=Durations(1.0), latency=3.0, faults=(LOST,)) as w:
        task = await w.ruxa.submit(NanoBanana(prompt="a fox"))
        assert anyio.current_time() == pytest.approx(3.0, abs=0.02)
        await task.result()


async def test_a_lost_create_without_a_callback_is_unknown_after_callback_wait() -> None:
    async with wired(
        how=Callbacks(lost=1.0), faults=(LOST,), client={"timeouts": Timeouts(callback_wait=7.0)}
    ) as w:
        with pytest.raises(SubmissionUnknownError, match="was reset"):
            await w.ruxa.submit(NanoBanana(prompt="a fox"))
        assert anyio.current_time() == pytest.approx(7.0, abs=0.02)
        assert w.ruxa.stats().unknown == 1
        assert w.ruxa.stats().in_flight == 0


async def test_a_callback_after_callback_wait_is_unclaimed() -> None:
    got: list[Callback] = []
    async with wired(
        receiver=receiver_of(on_unclaimed=got.append),
        faults=(LOST,),
        client={"timeouts": Timeouts(callback_wait=7.0)},
    ) as w:
        with pytest.raises(SubmissionUnknownError):
            await w.ruxa.submit(NanoBanana(prompt="a fox"))
        await anyio.sleep(10)
        assert [callback.task_id for callback in got] == [w.service.ledger.entries[0].task_id]


async def test_a_recovered_create_costs_the_budget_one_task() -> None:
    faults = (Fault("reset_after", "create", nth=(1,)),)
    async with wired(faults=faults, client={"budget": Budget(max_tasks=2)}) as w:
        async with anyio.create_task_group() as tg:
            tg.start_soon(w.ruxa.generate, NanoBanana(prompt="a fox"))
            await anyio.sleep(5)  # its reply is lost, and it awaits its callback
            assert w.ruxa.stats().spent_tasks == 1
        assert w.ruxa.stats().spent_tasks == 1  # proven, and counted once
        await w.ruxa.generate(NanoBanana(prompt="another"))
        for buying in (w.ruxa.submit, w.ruxa.generate):
            with pytest.raises(BudgetExceededError, match="2 are bought or may be"):
                await buying(NanoBanana(prompt="a third"))
        assert w.ruxa.stats().spent_tasks == w.service.counts.creates == w.service.ledger.charged == 2


async def test_a_create_that_awaits_its_callback_reserves_its_price() -> None:
    async with wired(faults=(LOST,), client={"budget": Budget(max_tasks=1)}) as w:
        async with anyio.create_task_group() as tg:
            tg.start_soon(w.ruxa.generate, NanoBanana(prompt="a fox"))
            await anyio.sleep(5)
            with pytest.raises(BudgetExceededError):
                await w.ruxa.submit(NanoBanana(prompt="another"))
            assert anyio.current_time() == pytest.approx(5.0, abs=0.05)
        assert w.service.counts.creates == 1


async def test_a_lost_create_without_a_callback_counts_as_spent() -> None:
    client = {"budget": Budget(max_tasks=1), "timeouts": Timeouts(callback_wait=7.0)}
    async with wired(how=Callbacks(lost=1.0), faults=(LOST,), client=client) as w:
        with pytest.raises(SubmissionUnknownError):
            await w.ruxa.submit(NanoBanana(prompt="a fox"))
        with pytest.raises(BudgetExceededError):
            await w.ruxa.submit(NanoBanana(prompt="another"))
        assert w.ruxa.stats().spent_tasks == w.service.counts.creates == 1


async def test_a_late_callback_is_not_counted_again() -> None:
    client = {"budget": Budget(max_tasks=2), "timeouts": Timeouts(callback_wait=7.0)}
    async with wired(faults=(LOST,), client=client) as w:
        with pytest.raises(SubmissionUnknownError):
            await w.ruxa.submit(NanoBanana(prompt="a fox"))
        await anyio.sleep(10)
        assert w.ruxa.stats().spent_tasks == w.service.ledger.charged == 1


async def test_each_lost_attempt_without_a_callback_counts_as_spent() -> None:
    client = {
        "budget": Budget(max_tasks=3),
        "timeouts": Timeouts(callback_wait=7.0),
        "retries": Retries(resend_unknown=True),
    }
    faults = (Fault("reset_after", "create", nth=(1,)),)
    async with wired(how=Callbacks(lost=1.0), faults=faults, client=client) as w:
        await w.ruxa.submit(NanoBanana(prompt="a fox"))
        assert w.ruxa.stats().spent_tasks == w.service.ledger.charged == 2


async def test_resending_waits_for_the_callback_first() -> None:
    retries = Retries(resend_unknown=True)
    async with wired(faults=(LOST,), client={"retries": retries}) as w:
        await w.ruxa.generate(NanoBanana(prompt="a fox"))
        assert w.service.ledger.charged == 1
    timeouts = Timeouts(callback_wait=7.0)
    faults = (Fault("reset_after", "create", nth=(1,)),)
    async with wired(
        how=Callbacks(lost=1.0), faults=faults, client={"retries": retries, "timeouts": timeouts}
    ) as w:
        began = anyio.current_time()
        await w.ruxa.submit(NanoBanana(prompt="a fox"))
        assert anyio.current_time() - began == pytest.approx(7.0, abs=0.02)
        assert w.service.ledger.charged == 2


async def test_a_create_that_was_accepted_despite_a_429_is_not_bought_again() -> None:
    service = service_of(callbacks=Callbacks())
    inner = MemoryTransport(service)

    async def lying(request: Request) -> Response:
        reply = await inner.send(request)
        return Response(429, {}, b"{}") if request.method == "POST" else reply

    receiver = receiver_of()
    async with client_of(lying, callbacks=receiver, limits=Limits(max_concurrent_creates=1)) as ruxa:
        async with anyio.create_task_group() as tg:

            async def called_back() -> None:
                await anyio.sleep(0.01)
                url = service.ledger.entries[0].callback
                assert url is not None
                body = b'{"taskId": "%s", "state": "generating"}' % service.ledger.entries[0].task_id.encode()
                assert await post(receiver, url, body) == 200

            tg.start_soon(called_back)
            picture = await ruxa.generate(NanoBanana(prompt="a fox"))
        assert picture.task_id == service.ledger.entries[0].task_id
    assert service.ledger.charged == 1


@pytest.mark.parametrize("template", [b'{"state": "success"}', b'{"taskId": "%s", "state": "success"}'])
async def test_a_callback_overrules_a_refusal_that_arrives_later(template: bytes) -> None:
    service = service_of(callbacks=Callbacks(lost=1.0))
    inner = MemoryTransport(service)
    receiver = receiver_of()

    async def lying(request: Request) -> Response:
        reply = await inner.send(request)
        if request.method == "GET":
            return reply
        purchase = service.ledger.entries[-1]
        body = template.replace(b"%s", purchase.task_id.encode())
        assert await post(receiver, purchase.callback or "", body) == 200
        return Response(402, {}, b'{"code": 402}')

    async with client_of(lying, callbacks=receiver, timeouts=Timeouts(callback_wait=7.0)) as ruxa:
        if b"taskId" in template:
            await ruxa.generate(NanoBanana(prompt="a fox"))
        else:
            with pytest.raises(SubmissionUnknownError):
                await ruxa.generate(NanoBanana(prompt="a fox"))
    assert service.ledger.charged == 1


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("status", [422, 429, 503])
@pytest.mark.parametrize("resend", [False, True])
async def test_a_recovered_create_is_counted_once_for_every_reply(
    status: int, named: bool, resend: bool
) -> None:
    service = service_of(callbacks=Callbacks(lost=1.0))
    inner = MemoryTransport(service)
    receiver = receiver_of()
    counts: list[Any] = []

    async def lying(request: Request) -> Response:
        reply = await inner.send(request)
        if request.method == "GET":
            return reply
        purchase = service.ledger.entries[-1]
        body = b'{"taskId": "%s", "state": "success"}' % purchase.task_id.encode() if named else b"{}"
        assert await post(receiver, purchase.callback or "", body) == 200
        return Response(status, {}, b"{}")

    ruxa: RuxaClient
    options: dict[str, Any] = {
        "retries": Retries(resend_unknown=resend and status == 503),
        "timeouts": Timeouts(callback_wait=7.0),
        "on_event": lambda _: counts.append(ruxa.stats()),
    }
    async with client_of(lying, callbacks=receiver, **options) as ruxa:
        if named:
            await ruxa.generate(NanoBanana(prompt="a fox"))
        else:
            with pytest.raises(SubmissionUnknownError):
                await ruxa.generate(NanoBanana(prompt="a fox"))
        last = ruxa.stats()
    for stats in (*counts, last):
        assert min(stats.accepted, stats.refused, stats.unknown, stats.creates_sent) >= 0
    assert (last.accepted, last.refused, last.unknown) == ((1, 0, 0) if named else (0, 0, 1))
    assert last.in_flight == 0


# ---- leaving


async def test_a_create_that_awaits_its_callback_is_unknown_when_the_client_is_left() -> None:
    async with anyio.create_task_group() as tg:
        async with wired(how=Callbacks(lost=1.0), faults=(LOST,)) as w:

            async def buy() -> None:
                with pytest.raises(SubmissionUnknownError):
                    await w.ruxa.submit(NanoBanana(prompt="a fox"))

            tg.start_soon(buy)
            await anyio.sleep(1)
        assert anyio.current_time() == pytest.approx(1.0, abs=0.1)
    assert w.service.ledger.charged == 1


class SlowJournal(NullJournal):
    async def accepted(self, job: JobRecord) -> None:
        await anyio.sleep(2)


async def test_a_client_that_is_left_recovers_pending_creates_first() -> None:
    client = {"journal": SlowJournal()}
    async with anyio.create_task_group() as tg:
        async with wired(how=Callbacks(lost=1.0), faults=(LOST,), client=client) as w:
            for _ in range(2):
                tg.start_soon(submitted_or_closed, w.ruxa)
            await anyio.sleep(1)
            for purchase in w.service.ledger.entries:
                body = b'{"taskId": "%s", "state": "generating"}' % purchase.task_id.encode()
                assert await post(w.receiver, purchase.callback or "", body) == 200
            await anyio.sleep(1)  # one is being written down, and the other waits for that
        assert anyio.current_time() == pytest.approx(4.0, abs=0.1)
    assert w.ruxa.stats().accepted == 2


async def submitted_or_closed(ruxa: RuxaClient) -> None:
    with suppress(ClientClosedError):
        await ruxa.submit(NanoBanana(prompt="a fox"))


async def test_a_lost_create_of_a_cancelled_caller_is_an_orphan() -> None:
    async with wired(faults=(LOST,)) as w:
        with anyio.move_on_after(2):
            await w.ruxa.generate(NanoBanana(prompt="a fox"))
        assert not [*w.ruxa.orphans]
        await anyio.sleep(10)
        (orphan,) = w.ruxa.orphans
        assert orphan.task_id == w.service.ledger.entries[0].task_id
        assert w.ruxa.stats().in_flight == 0


async def test_a_batch_that_is_left_lists_creates_that_await_callbacks_as_unknown() -> None:
    async with wired(how=Callbacks(lost=1.0), faults=(LOST,)) as w:
        async with w.ruxa.as_completed(prompts(3)) as outcomes:
            await anyio.sleep(2)
        assert [job.key for job in outcomes.unknown] == ["prompt-0", "prompt-1", "prompt-2"]
        assert anyio.current_time() == pytest.approx(2.0, abs=0.1)
    assert len(w.ruxa.orphans) == 3


async def test_a_receiver_serves_several_clients() -> None:
    receiver = receiver_of()
    async with wired(receiver=receiver) as one, wired(receiver=receiver) as two:
        async with anyio.create_task_group() as tg:
            for w in (one, two):
                tg.start_soon(w.ruxa.generate, NanoBanana(prompt="a fox"))
        assert anyio.current_time() == pytest.approx(10.0, abs=0.05)


async def test_a_callback_without_an_id_stops_a_resend() -> None:
    service = service_of(callbacks=Callbacks(lost=1.0))
    inner = MemoryTransport(service)

    async def lying(request: Request) -> Response:
        await inner.send(request)
        return Response(429, {"retry-after": "5"}, b"{}")

    receiver = receiver_of()
    async with client_of(lying, callbacks=receiver, timeouts=Timeouts(callback_wait=7.0)) as ruxa:
        async with anyio.create_task_group() as tg:

            async def called_back() -> None:
                await anyio.sleep(1)
                assert await post(receiver, service.ledger.entries[0].callback or "", b"") == 200

            tg.start_soon(called_back)
            with pytest.raises(SubmissionUnknownError, match="the service called back, so it was accepted"):
                await ruxa.submit(NanoBanana(prompt="a fox"))
        assert anyio.current_time() == pytest.approx(8.0, abs=0.02)
    assert service.ledger.charged == 1


async def test_a_callback_in_another_event_loop_raises() -> None:
    receiver = receiver_of()
    async with client_of(service_of(), callbacks=receiver):
        wrong: list[BaseException] = []

        async def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="in another event loop"):
                await post(receiver, receiver.url(job(1)), DONE)
            wrong.append(RuntimeError())

        thread = threading.Thread(target=anyio.run, args=(elsewhere,))
        thread.start()
        thread.join()
        assert len(wrong) == 1


async def test_no_token_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    events: list[Any] = []
    async with wired(
        faults=(Fault("reset_after", "create", share=0.5),),
        image=SPREAD,
        client={"on_event": events.append, "timeouts": Timeouts(callback_wait=1.0)},
    ) as w:
        outcomes = await outcomes_of(w.ruxa, 30)
        shown = "".join(map(repr, [*outcomes, *events, w.ruxa, w.receiver, *w.ruxa.orphans])) + caplog.text
    tokens = [(purchase.callback or "").rpartition("/")[2] for purchase in w.service.ledger.entries]
    assert len(tokens) == 30
    assert not any(token in shown for token in tokens)
    assert SECRET not in shown


# ---- the journal


class Journalled:
    """What the tests of this section share; in real time, because a journal has a thread."""

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> Any:
        return request.param


class TestJournal(Journalled):
    async def test_a_recovered_create_is_recorded_as_accepted_and_ended(self, tmp_path: Path) -> None:
        for style in ("query", "no_id"):
            async with (
                SqliteJournal(tmp_path / f"{style}.sqlite") as journal,
                wired(
                    how=Callbacks(style=style),
                    faults=(LOST,),
                    image=Durations(0.05),
                    client={"journal": journal},
                ) as w,
            ):
                outcomes = [o async for o in w.ruxa.as_completed(prompts(3), resume="run")]
                assert all(o.ok for o in outcomes)
                counts = await journal.counts("run")
                assert counts.jobs[JobState.SUCCEEDED] == 3
                again = [o async for o in w.ruxa.as_completed(prompts(3), resume="run")]
                assert sorted(urls(again)) == sorted(urls(outcomes))
                assert w.service.ledger.charged == 3

    @pytest.mark.parametrize(("has_id", "state"), [(True, JobState.ADOPTED), (False, JobState.SUCCEEDED)])
    async def test_a_callback_before_the_reply_is_in_the_journal_when_it_is_answered(
        self, tmp_path: Path, has_id: bool, state: JobState
    ) -> None:
        """The service sends it only once: a kill at this moment must not lose it."""
        slow = Fault("slow", "create", seconds=5.0)
        service = service_of(faults=(slow, LOST), callbacks=Callbacks(lost=1.0))
        receiver = receiver_of()
        async with (
            SqliteJournal(tmp_path / "journal.sqlite") as journal,
            wired(service, receiver, client={"journal": journal}) as w,
            w.ruxa.as_completed(prompts(3), resume="run"),
        ):
            await until(lambda: service.ledger.charged == 3)
            for purchase in service.ledger.entries:
                body = {"state": "success", "resultUrls": ["https://files.example/a.png"]}
                named = {"taskId": purchase.task_id, **body} if has_id else body
                assert await post(receiver, purchase.callback or "", json.dumps(named).encode()) == 200
            counts = await journal.counts("run")
            assert counts.jobs[state] == 3

    async def test_a_callback_while_the_journal_is_read_for_its_job_is_not_missed(
        self, tmp_path: Path
    ) -> None:
        service = service_of(faults=(LOST,), callbacks=Callbacks(style="no_id", lost=1.0))
        receiver, gate = receiver_of(), HeldMatch()
        answers: list[int] = []
        client = {"timeouts": Timeouts(callback_wait=0.1), **journalled(tmp_path)}
        async with wired(service, receiver, client=client) as w:
            [_ async for _ in w.ruxa.as_completed(prompts(1), resume="run")]
        (purchase,) = service.ledger.entries
        journal = SqliteJournal(tmp_path / "journal.sqlite", connect=watching(gate))
        async with client_of(service, callbacks=receiver, journal=journal) as ruxa, create_task_group() as tg:

            async def call_back() -> None:
                await to_thread.run_sync(gate.reached.wait, 30)
                tg.start_soon(answer)
                await wait_all_tasks_blocked()
                gate.open()

            async def answer() -> None:
                body = b'{"state": "success", "resultUrls": ["https://files.example/a.png"]}'
                answers.append(await post(receiver, purchase.callback or "", body))

            tg.start_soon(call_back)
            with anyio.fail_after(20):  # far below callback_wait
                (outcome,) = [each async for each in ruxa.as_completed(prompts(1), resume="run")]
        assert outcome.ok
        assert answers == [200]
        assert service.ledger.charged == 1

    async def test_a_failure_without_an_id_is_delivered_again(self, tmp_path: Path) -> None:
        async with (
            SqliteJournal(tmp_path / "journal.sqlite") as journal,
            wired(
                how=Callbacks(style="flat"),
                faults=(LOST,),
                fail_share=1.0,
                image=Durations(0.05),
                client={"journal": journal},
            ) as w,
        ):
            for _ in range(2):
                (outcome,) = [o async for o in w.ruxa.as_completed(prompts(1), resume="run")]
                assert isinstance(outcome, Failed)
                assert isinstance(outcome.error, TaskFailedError)
            assert w.service.ledger.charged == 1

    @pytest.mark.parametrize("style", ["query", "no_id", "flat", "flat_id"])
    async def test_a_late_callback_settles_an_unknown_create_in_the_journal(
        self, tmp_path: Path, style: Any
    ) -> None:
        async with (
            SqliteJournal(tmp_path / "journal.sqlite") as journal,
            wired(
                how=Callbacks(style=style),
                faults=(LOST,),
                image=Durations(0.3),
                client={"journal": journal, "timeouts": Timeouts(callback_wait=0.1)},
            ) as w,
        ):
            (outcome,) = [o async for o in w.ruxa.as_completed(prompts(1), resume="run")]
            assert isinstance(outcome, Failed)
            assert isinstance(outcome.error, SubmissionUnknownError)
            await until(lambda: w.service.counts.callbacks == 1)
            while await journal.unknowns():
                await anyio.sleep(0.01)
            (outcome,) = [o async for o in w.ruxa.as_completed(prompts(1), resume="run")]
            assert outcome.ok
            assert w.service.ledger.charged == 1

    async def test_an_unknown_create_of_an_earlier_client_awaits_its_callback(self, tmp_path: Path) -> None:
        service = service_of(faults=(LOST,), image=Durations(0.5), callbacks=Callbacks(style="no_id"))
        receiver = receiver_of()
        async with (
            wired(service, receiver, client=journalled(tmp_path)) as w,
            w.ruxa.as_completed(prompts(5), resume="run"),
        ):
            await until(lambda: service.ledger.charged == 5)
        async with wired(service, receiver, client=journalled(tmp_path)) as w:
            outcomes = [o async for o in w.ruxa.as_completed(prompts(5), resume="run")]
        assert [o.ok for o in outcomes] == [True] * 5
        assert service.ledger.charged == 5

    async def test_an_unknown_create_of_an_earlier_client_fails_after_callback_wait(
        self, tmp_path: Path
    ) -> None:
        service = service_of(faults=(LOST,), callbacks=Callbacks(lost=1.0))
        client = {"timeouts": Timeouts(callback_wait=0.2)}
        async with wired(service, client={**client, **journalled(tmp_path)}) as w:
            first = [o async for o in w.ruxa.as_completed(prompts(2), resume="run")]
        async with wired(service, client={**client, **journalled(tmp_path)}) as w:
            outcomes = [o async for o in w.ruxa.as_completed(prompts(2), resume="run")]
            assert len(w.ruxa.orphans) == 0
        for outcome in (*first, *outcomes):
            assert isinstance(outcome, Failed)
            assert isinstance(outcome.error, SubmissionUnknownError)
        assert service.ledger.charged == 2

    async def test_an_unknown_create_with_an_expired_token_does_not_wait(self, tmp_path: Path) -> None:
        service = service_of(faults=(LOST,), callbacks=Callbacks(lost=1.0))
        client = {"timeouts": Timeouts(callback_wait=0.1)}
        async with wired(service, client={**client, **journalled(tmp_path)}) as w:
            [o async for o in w.ruxa.as_completed(prompts(1), resume="run")]
        await anyio.sleep(0.1)
        receiver = receiver_of(max_age=0.05)
        async with wired(service, receiver, client={**journalled(tmp_path)}) as w:
            with anyio.fail_after(20):  # far below the minute that it would be waited for
                outcomes = [o async for o in w.ruxa.as_completed(prompts(1), resume="run")]
        assert [o.ok for o in outcomes] == [False]

    async def test_a_callback_for_another_process_is_recorded(self, tmp_path: Path) -> None:
        got: list[Callback] = []
        receiver = receiver_of(on_unclaimed=got.append)
        async with (
            SqliteJournal(tmp_path / "journal.sqlite") as journal,
            client_of(service_of(), callbacks=receiver, journal=journal),
        ):
            for body in (DONE, b"", DONE):
                assert await post(receiver, receiver.url(job(len(body))), body) == 200
            await until(lambda: len(got) == 2)
            kept = await journal.callbacks()
        assert [each.callback_id for each in kept] == [job(len(DONE)), job(0)]
        assert [each.task_id for each in kept] == ["t1", None]
        assert kept[0].status is not None
        assert kept[0].status.urls == ("https://files.example/a.png",)
        assert kept[1].status is None

    async def test_a_callback_makes_a_create_recorded_as_not_bought_unknown(self, tmp_path: Path) -> None:
        async with SqliteJournal(tmp_path / "journal.sqlite") as journal:
            await journal.bind(base_url="http://localhost", api_key=KEY)
            for number, (task_id, state) in enumerate([(None, JobState.UNKNOWN), ("t1", JobState.ADOPTED)]):
                callback_id = job(number)
                request = NanoBanana(prompt="a fox")
                entry = await journal.intend(JobRecord(request=request, callback_id=callback_id))
                await journal.not_bought(JobRecord(request=request, entry=entry, callback_id=callback_id))
                assert await journal.called_back(callback_id, task_id, None) is (task_id is not None)
                assert (await journal.counts()).jobs[state] == 1
            await journal.unbind()


class HeldMatch(Gate):
    """Holds the journal's thread back before the COMMIT after it looked a request up."""

    def __call__(self, sql: str, parameters: Sequence[Any]) -> None:
        if "passed VALUES" in sql:
            self.shut()
        super().__call__(sql, parameters)


def urls(outcomes: list[Succeeded | Failed]) -> list[str]:
    return [url for outcome in outcomes for url in outcome.unwrap().urls]


def journalled(path: Path) -> dict[str, Any]:
    return {"journal": SqliteJournal(path / "journal.sqlite")}


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not true():
            await anyio.sleep(0.01)
