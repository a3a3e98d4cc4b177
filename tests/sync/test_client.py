"""The client without async has the names and the rules of the async one."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from harness import URL, client_options, prompts, service_of, sync_client_of

import ruxa_async
from ruxa_async import (
    Budget,
    BudgetExceededError,
    CallbackReceiver,
    CallbackURL,
    ClientClosedError,
    ConfigurationError,
    Failed,
    JobRecord,
    NanoBanana,
    Sora2,
    SqliteJournal,
    SubmissionHalted,
    Succeeded,
    TaskFailedError,
    TaskState,
    TaskTimeout,
)
from ruxa_async import sync as no_async
from ruxa_async.emulator import Durations, Service
from ruxa_async.sync import Completions, GenerationTask, RuxaClient
from ruxa_async.transports import MemoryTransport

CAT = NanoBanana(prompt="a cat", key="cat")
SLOW = Durations(3600.0, 0.0)


def task_ids(service: Service) -> list[str]:
    return [entry.task_id for entry in service.ledger.entries]


def names_of(cls: type[object]) -> set[str]:
    return {name for name in vars(cls) if not name.startswith("_")}


# ---- the same names


@pytest.mark.parametrize("name", no_async.__all__)
def test_each_class_has_the_public_names_of_its_async_twin(name: str) -> None:
    extra = {"RuxaClient": {"save", "read", "close"}}.get(name, set())
    missing = {"RuxaClient": {"aclose"}}.get(name, set())
    assert names_of(getattr(no_async, name)) == names_of(getattr(ruxa_async, name)) - missing | extra


@pytest.mark.parametrize(
    ("cls", "twin"),
    [
        (RuxaClient, ruxa_async.RuxaClient),
        (GenerationTask, ruxa_async.GenerationTask),
        (Completions, ruxa_async.Completions),
    ],
)
def test_parameters_have_the_names_and_defaults_of_the_async_twin(cls: Any, twin: Any) -> None:
    methods = names_of(cls) & names_of(twin) | ({"__init__"} if cls is RuxaClient else set())
    for name in methods:
        if callable(getattr(cls, name)):
            ours, theirs = (inspect.signature(getattr(each, name)).parameters for each in (cls, twin))
            assert [(each.name, each.default, each.kind) for each in ours.values()] == [
                (each.name, each.default, each.kind) for each in theirs.values()
            ], name


# ---- buying


def test_generate_returns_the_generation_and_save_and_read_download_it(
    ruxa: RuxaClient, service: Service, tmp_path: Path
) -> None:
    picture = ruxa.generate(CAT)
    assert picture.task_id == task_ids(service)[0]
    (path,) = ruxa.save(picture, tmp_path)
    assert path == tmp_path / "cat.png"
    assert ruxa.read(picture) == [path.read_bytes()]
    (named,) = ruxa.save(picture, tmp_path, name="{model}-{n}")
    assert named.read_bytes() == path.read_bytes()


def test_submit_returns_a_task_whose_result_can_be_awaited_later(ruxa: RuxaClient, service: Service) -> None:
    task = ruxa.submit(CAT)
    assert isinstance(task, GenerationTask)
    assert (task.task_id, task.model, task.key) == (task_ids(service)[0], CAT.model, "cat")
    assert task.request is CAT
    assert task.result().task_id == task.result(timeout=0).task_id == task.task_id
    assert task.done
    assert task.status is not None
    assert task.status.state is TaskState.SUCCESS
    assert repr(task) == f"<GenerationTask {task.task_id} model='google/nano-banana' done>"


def test_updates_are_the_states_of_a_task_and_the_terminal_one_comes_last(ruxa: RuxaClient) -> None:
    states = [status.state for status in ruxa.submit(CAT).updates()]
    assert states[-1] is TaskState.SUCCESS


def test_updates_may_be_left_early(ruxa: RuxaClient) -> None:
    task = ruxa.submit(CAT)
    for _ in task.updates():
        break
    assert task.result().urls


def test_a_task_of_another_process_is_attached_to_and_has_a_status(ruxa: RuxaClient) -> None:
    task_id = ruxa.submit(CAT).task_id
    assert ruxa.attach(task_id, model=CAT.model).result().task_id == task_id
    assert ruxa.status(task_id).state is TaskState.SUCCESS


def test_errors_are_those_of_the_async_client() -> None:
    with sync_client_of(service_of(fail_share=1.0, image=Durations(0.01, 0.0))) as ruxa:
        with pytest.raises(TaskFailedError) as caught:
            ruxa.generate(CAT)
        assert caught.value.task_id
    with sync_client_of(service_of(image=SLOW), budget=Budget(max_tasks=1)) as ruxa:
        task = ruxa.submit(CAT)
        with pytest.raises(TaskTimeout):
            task.result(timeout=0)
        with pytest.raises(BudgetExceededError):
            ruxa.submit(CAT)
        with pytest.raises(TypeError, match="NanoBanana"):
            ruxa.submit("a cat")  # type: ignore[arg-type]


def test_a_run_of_the_journal_buys_a_request_once(service: Service, tmp_path: Path) -> None:
    for _ in range(2):
        journal = SqliteJournal(tmp_path / "journal.sqlite")
        with sync_client_of(service, journal=journal) as ruxa:
            assert ruxa.generate(CAT, run="run").task_id == task_ids(service)[0]
            assert ruxa.submit(CAT, run="run").result().task_id == task_ids(service)[0]
    assert len(task_ids(service)) == 1


# ---- batches


def test_a_loop_gives_an_outcome_for_each_request(ruxa: RuxaClient, service: Service, tmp_path: Path) -> None:
    names = set()
    for outcome in ruxa.as_completed(prompts(20), window=5):
        assert isinstance(outcome, Succeeded)
        (path,) = ruxa.save(outcome.generation, tmp_path)
        names.add(path.name)
    assert names == {f"prompt-{n}.png" for n in range(20)}
    assert len(task_ids(service)) == 20
    assert ruxa.orphans == ()


def test_requests_are_pulled_in_the_callers_thread_and_at_most_a_window_ahead(ruxa: RuxaClient) -> None:
    threads = set()
    pulled = 0

    def source() -> Iterator[NanoBanana]:
        nonlocal pulled
        for request in prompts(30):
            threads.add(threading.get_ident())
            pulled += 1
            yield request

    for taken, _ in enumerate(ruxa.as_completed(source(), window=4)):
        assert pulled - taken <= 4
    assert pulled == 30
    assert threads == {threading.get_ident()}


def test_the_source_may_call_the_client(ruxa: RuxaClient, service: Service) -> None:
    def edits() -> Iterator[NanoBanana]:
        for outcome in ruxa.as_completed(prompts(3)):
            assert isinstance(outcome, Succeeded)
            yield NanoBanana(prompt=ruxa.generate(CAT).urls[0])

    assert sum(outcome.ok for outcome in ruxa.as_completed(edits())) == 3
    assert len(task_ids(service)) == 9


def test_a_source_that_blocks_does_not_hold_back_an_outcome_that_is_ready(ruxa: RuxaClient) -> None:
    received = 0

    def source() -> Iterator[NanoBanana]:
        yield from prompts(2)
        while ruxa.stats().succeeded < 2:  # both outcomes are ready: only one more request is pulled
            pass
        yield CAT
        assert received > 0
        yield CAT

    for _ in ruxa.as_completed(source(), window=10):
        received += 1
    assert received == 4


def test_an_error_of_the_source_is_raised_after_the_last_outcome(ruxa: RuxaClient) -> None:
    def source() -> Iterator[NanoBanana]:
        yield from prompts(3)
        raise ZeroDivisionError

    outcomes = ruxa.as_completed(source())
    with outcomes:
        assert len([next(outcomes) for _ in range(3)]) == 3
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                next(outcomes)


def test_an_interrupt_of_the_source_comes_at_once_and_the_batch_can_go_on(ruxa: RuxaClient) -> None:
    class Source:
        def __init__(self) -> None:
            self.requests = iter(prompts(3))
            self.interrupted = False

        def __iter__(self) -> Source:
            return self

        def __next__(self) -> NanoBanana:
            if not self.interrupted:
                self.interrupted = True
                raise KeyboardInterrupt
            return next(self.requests)

    with ruxa.as_completed(Source()) as outcomes:
        with pytest.raises(KeyboardInterrupt):
            next(outcomes)
        assert len(list(outcomes)) == 3


def test_leaving_a_block_lists_what_was_paid_or_not_sent_and_keeps_the_source_open(tmp_path: Path) -> None:
    service = service_of(image=SLOW)
    requests = iter(prompts(10))
    with sync_client_of(service) as ruxa:
        with ruxa.as_completed(requests, window=4, task_timeout=0.05) as outcomes:
            assert isinstance(next(outcomes), Failed)
            next(requests)
        listed = {record.task_id for record in (*outcomes.unfinished, *outcomes.unsubmitted)}
        assert outcomes.unknown == ()
        assert ruxa.orphans == ()
        assert len(list(requests)) >= 5
    assert {*task_ids(service)} - listed <= {task_ids(service)[0]}


def test_a_loop_that_is_left_early_stops_buying_and_lists_paid_tasks_as_orphans(service: Service) -> None:
    with sync_client_of(service) as ruxa:
        for outcome in ruxa.as_completed(prompts(1000), window=10):
            received = outcome.task_id
            break
    charged = task_ids(service)
    assert {record.task_id for record in ruxa.orphans} | {received} == {*charged}
    assert len(charged) <= 20


def test_a_batch_that_is_halted_lists_the_request_that_was_being_pulled(service: Service) -> None:
    halted = threading.Event()

    def source() -> Iterator[NanoBanana]:
        yield from prompts(3)
        halted.wait(30)
        yield CAT

    def on_event(event: object) -> None:
        if type(event).__name__ == "JobWithdrawn":
            halted.set()

    with sync_client_of(service, budget=Budget(max_tasks=2), on_event=on_event) as ruxa:
        received: list[str | None] = []
        with pytest.raises(SubmissionHalted) as caught, ruxa.as_completed(source()) as outcomes:
            received.extend(outcome.task_id for outcome in outcomes)
    assert sorted(filter(None, received)) == sorted(task_ids(service))
    assert {record.key for record in caught.value.unsubmitted} == {"prompt-2", "cat"}
    assert {record.key for record in outcomes.unsubmitted} == {"prompt-2", "cat"}


def test_a_resumed_batch_buys_nothing_twice(service: Service, tmp_path: Path) -> None:
    for _ in range(2):
        journal = SqliteJournal(tmp_path / "journal.sqlite")
        with sync_client_of(service, journal=journal) as ruxa:
            assert len(list(ruxa.as_completed(prompts(5), resume="run"))) == 5
    assert len(task_ids(service)) == 5


@pytest.mark.parametrize("requests", [CAT, 5, None])
def test_only_an_iterable_of_requests_is_taken(ruxa: RuxaClient, requests: Any) -> None:
    with pytest.raises(TypeError, match="as_completed takes an iterable of requests"):
        ruxa.as_completed(requests)


# ---- stages


def edit(made: Succeeded) -> NanoBanana:
    return NanoBanana(prompt="edit", image_input=made.generation.urls)


def test_stages_follow_each_other_in_one_loop(ruxa: RuxaClient, service: Service) -> None:
    outcomes = ruxa.as_completed(prompts(9), window=4).then(edit, window=3).then(edit, name="again")
    assert {(o.ok, o.key, o.index, o.stage) for o in outcomes} == {
        (True, f"prompt-{n}", n, 3) for n in range(9)
    }
    assert len(task_ids(service)) == 27
    assert ruxa.orphans == ()


def test_a_function_of_a_stage_may_block_and_call_the_client(ruxa: RuxaClient, tmp_path: Path) -> None:
    def edits(made: Succeeded) -> Iterator[NanoBanana]:
        assert threading.get_ident() != caller
        ruxa.save(made.generation, tmp_path)
        for _ in range(2):
            yield NanoBanana(prompt="edit", image_input=ruxa.generate(CAT).urls)

    caller = threading.get_ident()
    with ruxa.as_completed(prompts(3)).then(edits) as outcomes:
        keys = {outcome.key for outcome in outcomes}
    assert keys == {f"prompt-{n}.{m}" for n in range(3) for m in (1, 2)}
    assert len([*tmp_path.iterdir()]) == 3


@pytest.mark.parametrize("make", [lambda: LookupError("mine"), lambda: KeyboardInterrupt("mine")])
def test_what_a_function_of_a_stage_raises_comes_out_of_the_loop(
    ruxa: RuxaClient, make: Callable[[], BaseException]
) -> None:
    def broken(_: Succeeded) -> NanoBanana:
        raise error

    error = make()
    with pytest.raises(type(error)) as caught, ruxa.as_completed(prompts(3)).then(broken) as outcomes:
        next(outcomes)
    assert caught.value is error
    assert len(outcomes.stages[0].unfinished) + len(outcomes.stages[0].unsubmitted) == 3
    assert ruxa.generate(CAT).urls


def test_leaving_the_last_stage_lists_what_each_left(tmp_path: Path) -> None:
    service = service_of(image=Durations(0.01, 0.0), durations={"sora-2": SLOW})
    requests = iter(prompts(10))
    with sync_client_of(service) as ruxa:
        film = ruxa.as_completed(requests, window=2).then(lambda _: Sora2(prompt="film"), window=1)
        with film as outcomes, ThreadPoolExecutor(1) as pool:
            pool.submit(next, outcomes)
            while service.ledger.charged < 4:
                time.sleep(0.01)
            outcomes.__exit__(None, None, None)
        assert len(film.unfinished) == 1
        assert film.stages[1] is film
        first = film.stages[0]
        assert len(first.unfinished) + len(first.unsubmitted) == 2
        with pytest.raises(RuntimeError, match="these outcomes go to the stage"):
            next(first)
        with pytest.raises(RuntimeError, match="these outcomes go to the stage"):
            first.then(edit)


# ---- threads


def test_many_threads_share_one_client(ruxa: RuxaClient, service: Service) -> None:
    with ThreadPoolExecutor(8) as pool:
        pictures = list(pool.map(ruxa.generate, prompts(40)))
    assert sorted(filter(None, (picture.task_id for picture in pictures))) == sorted(task_ids(service))
    assert ruxa.stats().accepted == 40


def test_each_thread_may_have_a_client_of_its_own(service: Service) -> None:
    def work(request: NanoBanana) -> str | None:
        with sync_client_of(service) as ruxa:
            return ruxa.generate(request).task_id

    with ThreadPoolExecutor(4) as pool:
        assert sorted(filter(None, pool.map(work, prompts(4)))) == sorted(task_ids(service))


def test_several_threads_take_the_outcomes_of_one_batch_and_end_together(ruxa: RuxaClient) -> None:
    outcomes = ruxa.as_completed(prompts(40), window=8)

    def consume(_: int) -> list[int]:
        return [outcome.index for outcome in outcomes]

    with ThreadPoolExecutor(4) as pool:
        received = [index for part in pool.map(consume, range(4)) for index in part]
    assert sorted(received) == list(range(40))


def test_closing_the_client_ends_the_calls_of_other_threads_and_lists_what_they_bought() -> None:
    service = service_of(image=SLOW)
    accepted = threading.Semaphore(0)

    def on_event(event: object) -> None:
        if type(event).__name__ == "TaskAccepted":
            accepted.release()

    with ThreadPoolExecutor(2) as pool:
        with sync_client_of(service, on_event=on_event) as ruxa:
            calls = [pool.submit(ruxa.generate, request) for request in prompts(2)]
            for _ in calls:
                assert accepted.acquire(timeout=30)
        for call in calls:
            with pytest.raises(ClientClosedError):
                call.result(timeout=30)
    assert {record.task_id for record in ruxa.orphans} == {*task_ids(service)}


# ---- opening and closing


def test_a_client_is_open_from_open_to_close_over_many_cells_of_a_notebook(service: Service) -> None:
    ruxa = sync_client_of(service).open()
    assert "open" in repr(ruxa)
    task = ruxa.submit(CAT)
    assert ruxa.attach(task.task_id).result().urls
    ruxa.close()
    ruxa.close()
    # The first handle may not know the end yet, so one may be in flight still.
    assert repr(ruxa).startswith(f"<sync RuxaClient {URL} closed, ")
    assert ruxa.stats().accepted == 1
    with pytest.raises(ClientClosedError, match="closed"):
        ruxa.generate(CAT)
    with pytest.raises(ClientClosedError, match="closed"):
        task.result()
    with pytest.raises(RuntimeError, match="make a new one"):
        ruxa.open()


def test_a_client_that_was_never_opened_names_the_line_to_write(service: Service) -> None:
    ruxa = sync_client_of(service)
    uses: list[Callable[[], object]] = [lambda: ruxa.generate(CAT), lambda: ruxa.as_completed([CAT])]
    for use in uses:
        with pytest.raises(ClientClosedError, match="with RuxaClient"):
            use()
    assert ruxa.orphans == ()
    ruxa.close()


def test_what_opening_raises_is_raised_by_open(service: Service, tmp_path: Path) -> None:
    journal = tmp_path / "journal.sqlite"
    with sync_client_of(service, journal=SqliteJournal(journal)) as first:
        second = sync_client_of(service, journal=SqliteJournal(journal))
        with pytest.raises(ruxa_async.JournalInUseError):
            second.open()
        with pytest.raises(ClientClosedError):
            second.generate(CAT)
        assert first.generate(CAT).urls


def test_what_leaving_raises_is_raised_after_the_client_was_closed(service: Service) -> None:
    class Broken(MemoryTransport):
        async def aclose(self) -> None:
            await super().aclose()
            raise ZeroDivisionError

    options = {**client_options(service), "transport": Broken(service)}
    with pytest.raises(ZeroDivisionError), RuxaClient(**options):
        pass


def test_leaving_a_batch_after_its_client_was_closed_lists_its_tasks() -> None:
    service = service_of(image=SLOW)
    with sync_client_of(service) as ruxa:
        with ruxa.as_completed(prompts(2), task_timeout=0.05) as outcomes:
            next(outcomes)
            ruxa.close()
        listed: tuple[JobRecord, ...] = outcomes.unfinished
    assert len(listed) == 1
    assert {record.task_id for record in listed} < {*task_ids(service)}


def test_abort_drain_ends_the_wait_for_creates_on_the_wire() -> None:
    sent = threading.Event()

    def on_event(event: object) -> None:
        if type(event).__name__ == "CreateSent":
            sent.set()

    with ThreadPoolExecutor(1) as pool:
        with sync_client_of(service_of(latency=3600.0), on_event=on_event) as ruxa:
            call = pool.submit(ruxa.generate, CAT)
            assert sent.wait(30)
            ruxa.abort_drain()
        assert isinstance(call.exception(timeout=30), (ruxa_async.SubmissionUnknownError, ClientClosedError))
    assert ruxa.stats().unknown == 1


def test_a_receiver_of_callbacks_needs_the_async_client(service: Service) -> None:
    receiver = CallbackReceiver(public_url="https://callbacks.example/ruxa", secret="s" * 32)
    with pytest.raises(ConfigurationError, match="async client"):
        sync_client_of(service, callbacks=receiver)
    sync_client_of(service, callbacks=CallbackURL("https://callbacks.example/ruxa"))


def test_completions_are_their_own_iterator(ruxa: RuxaClient) -> None:
    outcomes = ruxa.as_completed([])
    assert isinstance(outcomes, Completions)
    assert iter(outcomes) is outcomes
    assert list(outcomes) == []
