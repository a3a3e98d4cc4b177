"""Purchases through taskiq's broker in memory, with a client, a journal and the emulated service."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import define, field

pytest.importorskip("taskiq", reason="needs taskiq: pip install 'ruxa-async[taskiq]'")

from taskiq import InMemoryBroker
from taskiq.message import BrokerMessage

from ruxa_async import (
    ConfigurationError,
    CustomRequest,
    Generation,
    InsufficientCreditsError,
    KeyConflictError,
    NanoBanana,
    RequestValidationError,
    RunInUseError,
    RuxaClient,
    SqliteJournal,
    TaskFailedError,
)
from ruxa_async.emulator import Durations, Emulator, EmulatorSettings
from ruxa_async.integrations.taskiq import Purchases

CAT = NanoBanana(prompt="a cat", key="cat")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Broker(InMemoryBroker):
    """A broker that delivers each message *copies* times, and loses the first *lost* of them."""

    def __init__(self, *, copies: int = 1, lost: int = 0, away: int = 0) -> None:
        super().__init__(max_stored_results=-1, max_async_tasks=1000)
        self.copies, self.lost, self.away = copies, lost, away
        self.sent = list[bytes]()

    async def kick(self, message: BrokerMessage) -> None:
        if self.away:
            self.away -= 1
            raise ConnectionError("the server is away")
        self.sent.append(message.message)
        if len(self.sent) > self.lost:
            for _ in range(self.copies):
                await super().kick(message)


@define
class Shop:
    """One process that is web process and worker at once."""

    folder: Path
    emulator: Emulator
    broker: Broker
    purchases: Purchases = field(init=False)
    journal: SqliteJournal = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.purchases = Purchases(self.broker, self.client, ask_again=0.2)

    def client(self) -> RuxaClient:
        self.journal = SqliteJournal(self.folder / "journal.sqlite")
        return RuxaClient(api_key=self.emulator.key, base_url=self.emulator.url, journal=self.journal)

    @property
    def bought(self) -> list[str]:
        return [each.input["prompt"] for each in self.emulator.service.ledger.entries]


@pytest.fixture
async def shop_of(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    async with anyio.create_task_group():
        opened = list[Any]()

        async def make(broker: Broker | None = None, *, start: bool = True, **settings: Any) -> Shop:
            emulator = Emulator(EmulatorSettings(**{"image": Durations(0.1), **settings}))
            emulator.start()
            folder = tmp_path / str(len(opened))
            folder.mkdir()
            shop = Shop(folder, emulator, broker or Broker())
            opened.append(shop)
            if start:
                await shop.broker.startup()
            return shop

        yield make
        for shop in opened:
            await shop.broker.shutdown()
            shop.emulator.stop()


async def test_a_purchase_gives_what_the_client_gives(shop_of: Callable[..., Any]) -> None:
    shop = await shop_of()
    picture = await shop.purchases.generate(CAT, run="catalogue")
    assert picture.request is CAT
    assert len(picture.urls) == 1
    assert picture.task_id == shop.emulator.service.ledger.entries[0].task_id


async def test_a_broker_that_is_not_redis_needs_no_package_of_redis(
    shop_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "taskiq_redis", None)
    shop = await shop_of()
    assert (await shop.purchases.generate(CAT, run="catalogue")).urls


async def test_the_same_key_and_the_same_run_are_bought_once(shop_of: Callable[..., Any]) -> None:
    shop = await shop_of()
    pictures = list[Generation]()

    async def ask(run: str) -> None:
        pictures.append(await shop.purchases.generate(CAT, run=run))

    async with anyio.create_task_group() as tg:
        for number in range(20):
            tg.start_soon(ask, f"run {number % 2}")
    pictures.append(await shop.purchases.generate(CAT, run="run 0"))
    assert len({picture.task_id for picture in pictures}) == len(shop.bought) == 2


async def test_messages_that_are_delivered_three_times_buy_once(shop_of: Callable[..., Any]) -> None:
    shop = await shop_of(Broker(copies=3))
    wanted = [NanoBanana(prompt=f"picture {number}") for number in range(20)]
    answers = [answer async for _, answer in shop.purchases.as_completed(wanted, run="catalogue")]
    assert sorted(shop.bought) == sorted(request.prompt for request in wanted)
    assert {answer.task_id for answer in answers} == {
        each.task_id for each in shop.emulator.service.ledger.entries
    }


async def test_messages_that_are_lost_are_sent_again(shop_of: Callable[..., Any]) -> None:
    shop = await shop_of(Broker(lost=2))
    assert (await shop.purchases.generate(CAT, run="catalogue")).urls
    assert shop.bought == ["a cat"]
    assert len(shop.broker.sent) == 3


async def test_a_broker_that_is_away_is_asked_again(
    shop_of: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    shop = await shop_of(Broker(away=1))
    assert (await shop.purchases.generate(CAT, run="catalogue")).urls
    assert "a purchase waits, because Redis failed: ConnectionError('the server is away')" in caplog.text


async def test_a_worker_with_another_version_of_the_program_is_asked_again(
    shop_of: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    shop = await shop_of()
    await shop.purchases.generate(NanoBanana(prompt="a dog"), run="catalogue")
    task = shop.broker.find_task("ruxa: generate by key")
    this_version, called = task.original_func, list[str]()

    async def another_version(run: str, *_: Any, **__: Any) -> str:
        called.append(run)
        task.original_func = this_version  # it is replaced while the call waits
        raise TypeError("unexpected keyword argument")

    task.original_func = another_version
    assert (await shop.purchases.generate(CAT, run="catalogue", timeout=30)).urls
    assert called == ["catalogue"]
    assert "a purchase waits, because the worker failed: TypeError" in caplog.text


async def test_a_wait_without_a_worker_ends_and_says_why(shop_of: Callable[..., Any]) -> None:
    shop = await shop_of(Broker(lost=10**6))
    with pytest.raises(TimeoutError, match=r"no answer within 0.5 s \(no worker answered\)"):
        await shop.purchases.generate(CAT, run="catalogue", timeout=0.5)
    shop.broker.away = 10**6
    with pytest.raises(TimeoutError, match="Redis failed"):
        await shop.purchases.generate(CAT, run="catalogue", timeout=0.5)


async def test_a_purchase_that_nobody_waits_for_goes_on(shop_of: Callable[..., Any]) -> None:
    shop = await shop_of(image=Durations(1.0))
    with pytest.raises(TimeoutError):
        await shop.purchases.generate(CAT, run="catalogue", timeout=0.3)
    assert (await shop.purchases.generate(CAT, run="catalogue")).urls
    assert shop.bought == ["a cat"]


async def test_errors_are_those_of_the_client(shop_of: Callable[..., Any]) -> None:
    shop = await shop_of(fail_share=1.0, fail_code="501", fail_message="no")
    with pytest.raises(TaskFailedError) as failed:
        await shop.purchases.generate(CAT, run="catalogue")
    assert (failed.value.fail_code, failed.value.fail_message) == ("501", "no")
    with pytest.raises(KeyConflictError, match="'cat' in run 'catalogue'"):
        await shop.purchases.generate(NanoBanana(prompt="a dog", key="cat"), run="catalogue")
    poor = await shop_of(credits=0)
    with pytest.raises(InsufficientCreditsError, match="402"):
        await poor.purchases.generate(NanoBanana(prompt="a bird"), run="catalogue")


async def test_an_error_of_the_journal_about_one_run_belongs_to_the_caller(
    shop_of: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    shop = await shop_of()
    through_the_run = await shop.journal.open_run("catalogue")
    with pytest.raises(RunInUseError, match="a pass through the run 'catalogue' has not ended"):
        await shop.purchases.generate(CAT, run="catalogue", timeout=30)
    assert (await shop.purchases.generate(CAT, run="another run")).urls
    through_the_run.close()
    assert (await shop.purchases.generate(CAT, run="catalogue")).urls
    assert "cannot buy any more" not in caplog.text


async def test_what_cannot_be_right_is_refused_before_a_message_is_sent(shop_of: Callable[..., Any]) -> None:
    shop = await shop_of()
    with pytest.raises(TypeError, match="takes a request"):
        await shop.purchases.generate("a cat", run="catalogue")
    with pytest.raises(ValueError, match="names the run"):
        await shop.purchases.generate(CAT, run=" ")
    request = CustomRequest(model="any/model", input={"value": float("nan")})
    with pytest.raises(RequestValidationError, match="cannot be sent as JSON"):
        await shop.purchases.generate(request, run="catalogue")
    assert not shop.broker.sent


async def test_no_message_holds_the_api_key(shop_of: Callable[..., Any]) -> None:
    shop = await shop_of()
    await shop.purchases.generate(CAT, run="catalogue")
    assert not [message for message in shop.broker.sent if shop.emulator.key.encode() in message]


async def test_many_are_asked_for_with_few_messages_at_once(shop_of: Callable[..., Any]) -> None:
    shop = await shop_of()
    pulled = 0

    def source() -> Iterator[NanoBanana]:
        nonlocal pulled
        for number in range(30):
            pulled += 1
            yield NanoBanana(prompt=f"picture {number}", key=f"k{number % 29}")

    ended = list[Any]()
    async for request, answer in shop.purchases.as_completed(source(), run="catalogue", window=5):
        ended.append((request.key, answer))
        assert pulled <= len(ended) + 5
    assert len(ended) == 30
    assert [key for key, answer in ended if isinstance(answer, KeyConflictError)] == ["k0"]
    assert len(shop.bought) == 29


async def test_a_batch_that_is_left_asks_for_no_more(shop_of: Callable[..., Any]) -> None:
    shop = await shop_of()
    wanted = (NanoBanana(prompt=f"picture {number}") for number in range(1000))
    answers = shop.purchases.as_completed(wanted, run="catalogue", window=3)
    async for _ in answers:
        break
    await answers.aclose()
    sent = len(shop.broker.sent)
    await shop.broker.wait_all()
    assert len(shop.broker.sent) == sent <= 20  # of 1,000; a slow answer is asked for again


async def test_a_worker_that_stops_gives_its_calls_to_the_next(shop_of: Callable[..., Any]) -> None:
    shop = await shop_of(image=Durations(1.5))
    async with anyio.create_task_group() as tg:
        pictures = list[Generation]()

        async def ask() -> None:
            pictures.append(await shop.purchases.generate(CAT, run="catalogue"))

        tg.start_soon(ask)
        with anyio.fail_after(30):
            while not shop.bought:
                await anyio.sleep(0.01)
        await shop.broker.shutdown()
        await shop.broker.startup()
    assert pictures[0].task_id == shop.emulator.service.ledger.entries[0].task_id
    assert shop.bought == ["a cat"]


async def test_a_worker_waits_for_creates_on_the_wire_longer_than_taskiq_does(
    shop_of: Callable[..., Any],
) -> None:
    shop = await shop_of(latency=1.0)
    async with anyio.create_task_group() as tg:
        pictures = list[Generation]()

        async def ask() -> None:
            pictures.append(await shop.purchases.generate(CAT, run="catalogue"))

        tg.start_soon(ask)
        with anyio.fail_after(30):
            while not shop.bought:
                await anyio.sleep(0.01)
        with suppress(TimeoutError):
            await asyncio.wait_for(
                shop.broker.shutdown(), 0.1
            )  # what `taskiq worker --shutdown-timeout` does
        async with SqliteJournal(shop.folder / "journal.sqlite") as journal:
            assert not await journal.unknowns()
        await shop.broker.startup()
    assert len(pictures[0].urls) == len(shop.bought) == 1


async def test_a_worker_that_cannot_open_its_client_says_why(tmp_path: Path) -> None:
    broker = Broker()

    def make_client() -> RuxaClient:
        raise ConfigurationError("no key")

    Purchases(broker, make_client)
    with pytest.raises(ConfigurationError, match="no key"):
        await broker.startup()
    await broker.shutdown()


def test_a_broker_without_a_result_backend_is_refused() -> None:
    from taskiq_redis import RedisStreamBroker

    with pytest.raises(ConfigurationError, match="no result backend"):
        Purchases(RedisStreamBroker("redis://localhost"), RuxaClient)


def test_without_taskiq_the_import_says_what_to_install() -> None:
    program = "import sys; sys.modules['taskiq'] = None; import ruxa_async.integrations.taskiq"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (
        "purchases through taskiq needs the extra 'taskiq': pip install 'ruxa-async[taskiq]'" in done.stderr
    )


def test_the_package_imports_no_engine() -> None:
    program = "import sys, ruxa_async, ruxa_async.integrations; print('taskiq' in sys.modules, 'redis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
