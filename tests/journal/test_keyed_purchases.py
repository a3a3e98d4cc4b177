"""Purchases by key in every kind of journal: callers, cancellations, faults and restarts in any order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from attrs import define, field
from harness import client_of, service_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal.places import InFile, InPostgres, Place
from servers import Postgres

from ruxa_async import (
    ClientClosedError,
    Generation,
    JournalError,
    KeyConflictError,
    NanoBanana,
    NotSentError,
    Polling,
    RuxaClient,
    ServerError,
    SubmissionUnknownError,
    TaskFailedError,
    Timeouts,
)
from ruxa_async.emulator import Durations, Fault, Service
from ruxa_async.emulator._faults import FaultKind

RUN = "catalogue"
KEYS = ("a", "b", None)
#: What a caller may get besides a generation.
ALLOWED = (ClientClosedError, NotSentError, ServerError, SubmissionUnknownError, TaskFailedError)


def picture(number: int) -> NanoBanana:
    return NanoBanana(prompt=f"picture {number}", key=KEYS[number])


# ---- in each journal


@asynccontextmanager
async def opened(at: Service, place: Place, **options: Any) -> AsyncIterator[RuxaClient]:
    async with client_of(
        at,
        journal=place.journal(**options),
        polling=Polling(min_interval=0.01),
        timeouts=Timeouts(create_drain=2),
    ) as ruxa:
        yield ruxa


async def test_callers_at_once_and_after_a_restart_share_one_purchase(place: Place) -> None:
    at, ids = service_of(image=Durations(0.05, 0.0)), set()

    async def call(ruxa: RuxaClient) -> None:
        ids.add((await ruxa.generate(picture(0), run=RUN)).task_id)

    for _ in range(2):
        async with opened(at, place) as ruxa, anyio.create_task_group() as tg:
            for _ in range(5):
                tg.start_soon(call, ruxa)
    assert len(ids) == at.ledger.charged == 1


async def test_a_process_that_was_taken_over_buys_nothing_by_key(server: Postgres) -> None:
    place, at = InPostgres(server.dsn), service_of(image=Durations(0.05, 0.0))
    async with opened(at, place) as ruxa:
        await ruxa.generate(picture(0), run=RUN)
        place.rows("UPDATE holder SET epoch = epoch + 1 RETURNING epoch")  # as another process does
        for number in (0, 1):
            with pytest.raises(JournalError, match="another process holds this journal now"):
                await ruxa.generate(picture(number), run=RUN)
    assert at.ledger.charged == 1


# ---- in any order

FAULTS: tuple[FaultKind, ...] = ("refused", "reset_before", "error", "reset_after", "error_after", "cut")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["call", "call", "call", "submit", "cancel", "cancel", "wait", "restart", "conflict"]
        ),
        st.integers(0, 7),
    ),
    max_size=25,
)
PLANS = st.lists(
    st.tuples(st.sampled_from(FAULTS), st.integers(1, 6)), max_size=3, unique_by=lambda fault: fault[1]
)


@define
class Program:
    """A program that asks for pictures by key, is restarted, and knows what each caller got."""

    place: Place
    service: Service
    tg: TaskGroup
    ruxa: RuxaClient = field(init=False)
    stack: AsyncExitStack = field(factory=AsyncExitStack)
    scopes: list[anyio.CancelScope] = field(factory=list)
    asked: set[int] = field(factory=set)
    ids: defaultdict[int, set[str | None]] = field(factory=lambda: defaultdict(set))
    running: int = 0

    async def start(self) -> None:
        self.ruxa = await self.stack.enter_async_context(opened(self.service, self.place))

    async def stop(self) -> None:
        await self.stack.aclose()
        with anyio.fail_after(30):
            while self.running:
                await anyio.sleep(0.001)

    async def step(self, what: str, number: int) -> None:
        if what in ("call", "submit"):
            scope = anyio.CancelScope()
            self.scopes.append(scope)
            self.running += 1
            self.tg.start_soon(self._call, what, number % len(KEYS), scope)
        elif what == "cancel" and self.scopes:
            self.scopes[-1 - number % len(self.scopes)].cancel()
        elif what == "wait":
            await anyio.sleep(0.004 * number)
        elif what == "restart":
            await self.stop()
            await self.start()
        elif what == "conflict" and self.ids[0]:
            with pytest.raises(KeyConflictError):
                await self.ruxa.generate(NanoBanana(prompt="changed", key=KEYS[0]), run=RUN)

    async def _call(self, what: str, number: int, scope: anyio.CancelScope) -> None:
        self.asked.add(number)
        try:
            with scope:
                await self._buy(what, number)
        finally:
            self.running -= 1

    async def _buy(self, what: str, number: int) -> None:
        try:
            if what == "call":
                made = await self.ruxa.generate(picture(number), run=RUN)
                assert isinstance(made, Generation)
                self.ids[number].add(made.task_id)
            else:
                self.ids[number].add((await self.ruxa.submit(picture(number), run=RUN)).task_id)
        except ALLOWED as error:
            if isinstance(error, TaskFailedError):
                self.ids[number].add(error.task_id)


async def play(
    place: Place, steps: list[tuple[str, int]], plan: list[tuple[FaultKind, int]], fails: float
) -> None:
    service = service_of(
        image=Durations(0.02, 0.0),
        latency=0.004,
        fail_share=fails,
        seed=1,
        faults=tuple(Fault(kind, nth=(nth,)) for kind, nth in plan),
    )
    async with anyio.create_task_group() as tg:
        program = Program(place, service, tg)
        await program.start()
        for step in steps:
            await program.step(*step)
        await program.stop()
        await program.start()
        for number in program.asked:  # what is asked again agrees with what earlier callers got
            await program._buy("call", number)
        await program.stop()
    bought: defaultdict[Any, set[str]] = defaultdict(set)
    for entry in service.ledger.entries:
        bought[entry.input["prompt"]].add(entry.task_id)
    assert service.ledger.charged == len(service.ledger.entries) == len(bought) <= len(program.asked)
    for number in program.asked:
        assert program.ids[number] <= bought[f"picture {number}"]


@settings(max_examples=30, deadline=None)
@given(STEPS, PLANS, st.sampled_from([0.0, 0.5]), st.sampled_from(["asyncio", "trio"]))
def test_no_order_of_callers_cancellations_faults_and_restarts_buys_a_key_twice_with_a_file(
    steps: list[tuple[str, int]], plan: list[tuple[FaultKind, int]], fails: float, backend: str
) -> None:
    with TemporaryDirectory() as folder:
        anyio.run(play, InFile(Path(folder) / "journal.db"), steps, plan, fails, backend=backend)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=STEPS,
    plan=PLANS,
    fails=st.sampled_from([0.0, 0.5]),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_no_order_of_callers_cancellations_faults_and_restarts_buys_a_key_twice_on_a_server(
    server: Postgres,
    steps: list[tuple[str, int]],
    plan: list[tuple[FaultKind, int]],
    fails: float,
    backend: str,
) -> None:
    anyio.run(play, InPostgres(server.dsn), steps, plan, fails, backend=backend)
