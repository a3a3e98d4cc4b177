"""Callbacks that a process without the client receives, in a journal on a real PostgreSQL server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from callbacks.wired import post, receiver_of
from harness import client_of, prompts, service_of
from journal.places import InPostgres
from journal.tools import job, of
from servers import Postgres, postgres_or_skip

from ruxa_async import CallbackReceiver, ConfigurationError, NanoBanana, Retries, RuxaClient
from ruxa_async.emulator import Callbacks, Durations, Fault, Service
from ruxa_async.journal import JobState

LOST = Fault("reset_after", "create")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run in real time: a journal has a thread of its own."""
    return str(request.param)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres_or_skip() as running:
        yield running


@pytest.fixture(scope="module")
def own_server() -> Iterator[Postgres]:
    """A server that a test may stop, if it starts it again."""
    with postgres_or_skip() as running:
        yield running


@pytest.fixture
def place(server: Postgres) -> InPostgres:
    return InPostgres(server.dsn)


@asynccontextmanager
async def other_process(place: InPostgres, **options: Any) -> AsyncIterator[CallbackReceiver]:
    async with place.journal(hold=False, patience=5.0) as journal:
        yield receiver_of(journal=journal, **options)


def bought(service: Service) -> tuple[str, bytes]:
    """Return the callback URL of the only purchase, and the body of a callback that it succeeded."""
    (entry,) = service.ledger.entries
    assert entry.callback is not None
    body = {"code": 200, "data": {"taskId": entry.task_id, "state": "success"}}
    return entry.callback, json.dumps(body).encode()


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not true():
            await anyio.sleep(0.01)


async def test_a_callback_to_another_process_wakes_its_task(place: InPostgres) -> None:
    service = service_of(image=Durations(3.0), callbacks=Callbacks(lost=1.0))
    async with (
        place.journal() as journal,
        client_of(service, callbacks=receiver_of(), journal=journal) as ruxa,
    ):
        task = await ruxa.submit(NanoBanana(prompt="a fox"))
        url, body = bought(service)
        async with other_process(place) as receiver:
            assert await post(receiver, url, body) == 200
        async with other_process(place) as receiver:  # it restarted, and the service sends the callback again
            assert await post(receiver, url, body) == 200
        with anyio.fail_after(20):
            await task.result()
        # A first task that ends without a callback makes them unreliable.
        assert ruxa._driver.engine.callback_polling.reliable
        assert await journal.callbacks() == []
        assert (await journal.counts()).jobs[JobState.SUCCEEDED] == 1


@pytest.mark.parametrize("resends", [False, True])
async def test_a_lost_reply_is_recovered_by_a_callback_to_another_process(
    place: InPostgres, *, resends: bool
) -> None:
    service = service_of(faults=(LOST,), image=Durations(0.1), callbacks=Callbacks(lost=1.0))
    outcomes: list[Any] = []

    async def run(ruxa: RuxaClient) -> None:
        outcomes.extend([each async for each in ruxa.as_completed(prompts(1), resume="run")])

    retries = Retries(resend_unknown=True) if resends else Retries()
    async with (
        place.journal() as journal,
        client_of(service, callbacks=receiver_of(), journal=journal, retries=retries) as ruxa,
        other_process(place) as receiver,
        anyio.create_task_group() as tg,
    ):
        tg.start_soon(run, ruxa)
        await until(lambda: service.ledger.charged == 1)
        assert await post(receiver, *bought(service)) == 200
        await until(lambda: bool(outcomes))  # far below callback_wait
    assert [each.ok for each in outcomes] == [True]
    assert service.ledger.charged == 1


async def test_a_receiver_beside_the_holder_refuses_a_forged_token(place: InPostgres) -> None:
    async with place.journal() as journal, other_process(place) as receiver:
        forger = receiver_of(secret="another secret of many bytes")
        assert await post(receiver, forger.url(bytes(12))) == 401
        assert await journal.callbacks() == []
        assert await post(receiver, receiver.url(bytes(12))) == 200
        assert [each.callback_id for each in await journal.callbacks()] == [bytes(12)]


async def test_a_callback_is_sent_again_while_the_database_is_away(own_server: Postgres) -> None:
    place = InPostgres(own_server.dsn)
    async with place.journal():
        pass
    async with place.journal(hold=False, patience=0.2) as journal:
        receiver = receiver_of(journal=journal)
        own_server.stop()
        assert await post(receiver, receiver.url(bytes(12))) == 503
        own_server.start()
        assert await post(receiver, receiver.url(bytes(12))) == 200
    assert await post(receiver, receiver.url(bytes(12)), b"{}") == 200  # a repeated one costs no record
    assert await post(receiver, receiver.url(b"x" * 12)) == 503  # the journal is closed


async def test_a_reply_does_not_replace_what_a_callback_proved(place: InPostgres) -> None:
    async with place.journal() as journal, place.journal(hold=False) as beside:
        entry = await journal.intend(job("k", callback_id=bytes(12)))
        assert await beside.called_back(bytes(12), "task_1", None)
        await journal.unknown(of(entry))
        assert (await journal.counts()).jobs[JobState.ADOPTED] == 1
        assert await journal.callbacks() == []
        assert [each.task_id for each in await journal.recent_callbacks(60.0)] == ["task_1"]


async def test_a_receiver_with_a_journal_takes_no_client(place: InPostgres) -> None:
    journal = place.journal(hold=False)
    with pytest.raises(ConfigurationError, match="not both"):
        receiver_of(journal=journal, on_unclaimed=print)
    with pytest.raises(ConfigurationError, match="the same secret"):
        client_of(service_of(), callbacks=receiver_of(journal=journal))


async def test_a_client_reads_callbacks_again_after_its_database_was_away(
    own_server: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    place, receiver = InPostgres(own_server.dsn), receiver_of()
    async with (
        place.journal(patience=0.1) as journal,
        client_of(service_of(), callbacks=receiver, journal=journal),
    ):
        own_server.stop()
        await until(lambda: "are not read for now" in caplog.text)
        own_server.start()
        async with place.journal(hold=False) as beside:
            await beside.called_back(bytes(12), "task_1", None)
        await until(lambda: receiver.unclaimed(bytes(12)) is not None)
