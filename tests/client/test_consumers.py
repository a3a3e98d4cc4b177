"""Several tasks iterate over one `Completions`: each outcome goes to one of them, and all end alike."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest
from client.test_client import Script, reply
from harness import client_of, prompts, service_of

from ruxa_async import ClientClosedError, InsufficientCreditsError, NanoBanana, SubmissionHalted
from ruxa_async._client.completions import Completions
from ruxa_async.emulator import Durations


class Consumers:
    """Tasks that iterate over *outcomes*: what each took, and the error that ended it."""

    def __init__(self, outcomes: Completions, count: int) -> None:
        self.outcomes = outcomes
        self.count = count
        self.taken: list[int] = []
        self.ends: list[Exception | None] = []

    async def consume(self) -> None:
        try:
            async for outcome in self.outcomes:
                self.taken.append(outcome.index)
                await anyio.sleep(0.1)
            self.ends.append(None)
        except Exception as error:
            self.ends.append(error)

    async def run(self, *, within: float = 1000.0) -> None:
        with anyio.fail_after(within):
            async with anyio.create_task_group() as tg:
                for _ in range(self.count):
                    tg.start_soon(self.consume)


@pytest.mark.parametrize("bare", [False, True])
async def test_each_outcome_goes_to_one_of_four_consumers_and_all_of_them_end(bare: bool) -> None:
    service = service_of(image=Durations(10.0, 0.4))
    async with client_of(service) as ruxa:
        consumers = Consumers(ruxa.as_completed(prompts(40)), 4)
        if bare:
            await consumers.run()
        else:
            async with consumers.outcomes:
                await consumers.run()
    assert sorted(consumers.taken) == list(range(40))
    assert consumers.ends == [None] * 4
    assert service.ledger.charged == 40


async def test_more_consumers_than_outcomes_end_as_well() -> None:
    async with client_of(service_of()) as ruxa:
        consumers = Consumers(ruxa.as_completed(prompts(2)), 5)
        await consumers.run()
    assert sorted(consumers.taken) == [0, 1]
    assert consumers.ends == [None] * 5


async def test_every_consumer_raises_submission_halted() -> None:
    broke = Script(creates=[reply({"code": 402, "message": "no credits"})], queries=[])
    async with client_of(broke) as ruxa:
        consumers = Consumers(ruxa.as_completed(prompts(10)), 4)
        await consumers.run()
    assert len(consumers.ends) == 4
    for error in consumers.ends:
        assert isinstance(error, SubmissionHalted)
        assert isinstance(error.cause, InsufficientCreditsError)
    left = {record.index for record in consumers.outcomes.unsubmitted}
    assert not left & set(consumers.taken)


async def test_every_consumer_gets_what_the_source_raised_after_the_last_outcome() -> None:
    broken = LookupError("row 8 is missing")

    def source() -> Iterator[NanoBanana]:
        yield from prompts(7)
        raise broken

    service = service_of()
    async with client_of(service) as ruxa:
        consumers = Consumers(ruxa.as_completed(source()), 3)
        await consumers.run()
    assert sorted(consumers.taken) == list(range(7))
    assert consumers.ends == [broken] * 3


async def test_waiting_consumers_end_when_the_block_is_left() -> None:
    service = service_of(image=Durations(100.0, 0.0))
    async with client_of(service) as ruxa, anyio.create_task_group() as tg:
        async with ruxa.as_completed(prompts(5)) as outcomes:
            consumers = Consumers(outcomes, 3)
            for _ in range(3):
                tg.start_soon(consumers.consume)
            await anyio.sleep(10)
        left_at = anyio.current_time()
        with anyio.fail_after(1):
            while len(consumers.ends) < 3:
                await anyio.sleep(0.01)
    assert anyio.current_time() - left_at < 1
    assert consumers.ends == [None] * 3
    assert len(outcomes.unfinished) == 5


async def test_waiting_consumers_raise_when_the_client_closes() -> None:
    service = service_of(image=Durations(100.0, 0.0))
    async with anyio.create_task_group() as tg, client_of(service) as ruxa:
        consumers = Consumers(ruxa.as_completed(prompts(5)), 3)
        for _ in range(3):
            tg.start_soon(consumers.consume)
        await anyio.sleep(10)
    assert [type(error) for error in consumers.ends] == [ClientClosedError] * 3
