"""Web processes, workers, Redis and PostgreSQL, each killed while pictures are bought.

The ledger of the emulated service is the judge: what it charged for, and how often.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import anyio
import pytest
from attrs import define, field
from processes import fork_context, free_port, until
from report.browser import CHROMIUM, opened_browser
from servers import Postgres, RedisServer, postgres, postgres_missing, redis_missing, redis_server

from ruxa_async import Generation, RuxaClient
from ruxa_async.emulator import Durations, Emulator, EmulatorSettings

psycopg = pytest.importorskip("psycopg", reason="needs psycopg: pip install 'ruxa-async[postgres]'")
pytest.importorskip("taskiq_redis", reason="needs taskiq-redis: pip install 'ruxa-async[taskiq]'")
if missing := redis_missing() or postgres_missing():
    pytest.skip(missing, allow_module_level=True)

from integrations.taskiq_program import RUN, purchases_on, redis_broker, requests_of, run_worker, submit  # noqa: E402
from taskiq import InMemoryBroker  # noqa: E402

from ruxa_async.integrations.taskiq import Purchases  # noqa: E402
from ruxa_async.journal import PostgresJournal  # noqa: E402

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
#: The password that must not show anywhere; the server trusts everybody.
PASSWORD = "pass-word-in-the-dsn"
#: How often each part is killed; `nox -s machines` sets RUXA_LONG.
KILLS = {"submitter": 30, "worker": 10, "paused worker": 1, "redis": 2, "database": 1}
if os.environ.get("RUXA_LONG"):
    KILLS = {"submitter": 300, "worker": 100, "paused worker": 100, "redis": 50, "database": 50}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def forks() -> Any:
    return fork_context("integrations.taskiq_program")


@define(eq=False)
class Part:
    """A process, its children, and what they write."""

    process: Any
    output: Path

    @property
    def log(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def terminate(self) -> int:
        """End it as systemd does, and return its status."""
        self.process.terminate()
        return self._wait()

    def kill(self) -> None:
        """End it as the loss of its machine does."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._wait()

    def _wait(self) -> int:
        if isinstance(self.process, subprocess.Popen):
            return self.process.wait(60)
        self.process.join(60)
        return int(self.process.exitcode)


@define(eq=False)
class World:
    """The parts of one deployment."""

    folder: Path
    database: Postgres
    redis: RedisServer
    emulator: Emulator
    forks: Any
    schema: str = field(factory=lambda: f"t{uuid.uuid4().hex}")
    parts: list[Part] = field(factory=list)

    def start_worker(self) -> Part:
        """Start ``taskiq worker`` as on a machine of its own."""
        output = self.folder / f"{len(self.parts)}.log"
        process = self.forks.Process(target=run_worker, args=(self.environment, output))
        process.start()
        self.parts.append(Part(process, output))
        return self.parts[-1]

    def start(self, *command: str) -> Part:
        """Start a module of Python."""
        output = self.folder / f"{len(self.parts)}.log"
        environment = {**os.environ, **self.environment, "PYTHONPATH": f"{EXAMPLES.parent}:{EXAMPLES}"}
        words = [sys.executable, "-m", *command]
        with output.open("wb") as log:
            process = subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True)
        self.parts.append(Part(process, output))
        return self.parts[-1]

    @property
    def environment(self) -> dict[str, str]:
        """The addresses of all parts."""
        address, _, options = self.database.dsn.partition("@")
        return {
            "REDIS_URL": self.redis.url,
            "RUXA_JOURNAL": f"{address}:{PASSWORD}@{options}",
            "JOURNAL_SCHEMA": self.schema,
            "RUXA_API_KEY": self.emulator.key,
            "RUXA_BASE_URL": self.emulator.url,
        }

    def holder(self) -> int:
        """Return the id of the process that holds the journal, 0 if none does."""
        with suppress(psycopg.Error), psycopg.connect(self.database.dsn, autocommit=True) as connection:
            sql = f"SELECT name FROM {self.schema}.holder WHERE lease_until > clock_timestamp()"
            if (row := connection.execute(sql).fetchone()) and row[0]:
                return int(row[0].split()[1])
        return 0

    def other_than(self, pid: int) -> int:
        """Return the holder once it is another process than *pid*."""
        return int(until(lambda: (now := self.holder()) != pid and now))

    def unknown(self) -> set[str]:
        """Return the keys that the journal lists as unknown."""
        with psycopg.connect(self.database.dsn) as connection:
            sql = f"SELECT handle FROM {self.schema}.jobs WHERE state IN ('unknown', 'intended')"
            return {row[0][1:].decode() for row in connection.execute(sql)}

    @property
    def bought(self) -> dict[str, str]:
        """The task of each key that the service charged for."""
        ledger = self.emulator.service.ledger
        assert not ledger.duplicates()
        return {each.input["prompt"].removeprefix("prompt "): each.task_id for each in ledger.entries}

    async def answers(self, keys: list[str]) -> dict[str, str]:
        """Ask for *keys*, and return the task id of each or the name of its error."""
        broker, answers = redis_broker(self.redis.url), dict[str, str]()
        asked = purchases_on(broker).as_completed(requests_of(keys), run=RUN, window=100, timeout=60)
        async with broker:
            async for request, answer in asked:
                said = answer.task_id if isinstance(answer, Generation) else type(answer).__name__
                answers[str(request.key)] = str(said)
        return answers


@pytest.fixture
def world(tmp_path: Path, database: Postgres, forks: Any) -> Iterator[World]:
    emulator = Emulator(EmulatorSettings(image=Durations(0.5, 0.3), latency=0.1))
    emulator.start()
    with redis_server() as redis:
        deployment = World(tmp_path, database, redis, emulator, forks)
        try:
            yield deployment
        finally:
            for part in deployment.parts:
                part.kill()
            emulator.stop()


def keys(count: int) -> list[str]:
    return [f"k{number}" for number in range(count)]


async def test_one_worker_buys_and_another_stands_by_without_a_message(world: World) -> None:
    first = world.start_worker()
    pid = world.other_than(0)
    second = world.start_worker()
    until(lambda: "the client is made" in second.log)
    answers = await world.answers(keys(30))
    assert answers == world.bought
    assert "Listening started" in first.log
    assert "Listening started" not in second.log
    first.kill()
    assert world.other_than(pid) != pid
    assert await world.answers(keys(40)) == world.bought
    assert world.bought.items() > answers.items()
    secrets = (PASSWORD, world.emulator.key)
    assert not [secret for secret in secrets if secret.encode() in world.redis.save()]
    assert not [secret for secret in secrets if secret in first.log + second.log]


async def test_sigterm_ends_a_worker_that_stands_by_and_one_that_buys(world: World) -> None:
    for _ in range(3):
        world.start_worker()
    pid = world.other_than(0)
    until(lambda: all("the client is made" in part.log for part in world.parts))
    buying = next(part for part in world.parts if part.process.pid == os.getpgid(pid))
    waiting = next(part for part in world.parts if part is not buying)
    assert waiting.terminate() == 0
    answers = dict[str, str]()

    async def ask() -> None:
        answers.update(await world.answers(keys(80)))

    async with anyio.create_task_group() as tg:
        tg.start_soon(ask)
        with anyio.fail_after(60):
            while len(world.bought) < 20:
                await anyio.sleep(0.01)
        assert await anyio.to_thread.run_sync(buying.terminate) == 0
    assert answers == world.bought  # every create on the wire was waited for: none is unknown
    assert len(answers) == 80
    assert "Traceback" not in waiting.log + buying.log


async def test_a_worker_whose_journal_was_taken_over_stops_as_on_sigterm(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def client() -> RuxaClient:
        journal = PostgresJournal(world.database.dsn, schema=world.schema, lease=60.0)
        return RuxaClient(api_key=world.emulator.key, base_url=world.emulator.url, journal=journal)

    def on_signal(number: int, _frame: object) -> None:
        signals.append(number)

    signals, broker = list[int](), InMemoryBroker()
    purchases = Purchases(broker, client)
    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        await broker.startup()
        with psycopg.connect(world.database.dsn) as connection:
            connection.execute(f"UPDATE {world.schema}.holder SET epoch = epoch + 1, name = 'another'")
        with pytest.raises(TimeoutError):
            await purchases.generate(requests_of(["k0"])[0], run=RUN, timeout=3.0)
        assert signals == [signal.SIGTERM]
        assert "this worker cannot buy any more and stops" in caplog.text
        await broker.shutdown()
        assert signal.getsignal(signal.SIGTERM) is on_signal
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not world.bought


@define(eq=False)
class Chaos:
    """Processes that ask for pictures, while they and all that they need are killed."""

    world: World
    dice: random.Random = field(factory=lambda: random.Random(13))
    started: int = 0
    asking: list[Any] = field(factory=list)

    def start_submitter(self) -> None:
        """Start a process that asks for the next keys; those before and after it ask for half of them too."""
        wanted = [f"k{5 * self.started + number}" for number in range(10)]
        arguments = self.world.redis.url, wanted, self.world.folder / f"{self.started}.tsv"
        self.asking.append(self.world.forks.Process(target=submit, args=arguments, daemon=True))
        self.asking[-1].start()
        self.started += 1

    def kill(self, part: str) -> None:
        world = self.world
        match part:
            case "submitter":
                self.asking.pop(self.dice.randrange(len(self.asking))).kill()
                self.start_submitter()
            case "worker":
                os.kill(pid := world.other_than(0), signal.SIGKILL)
                world.other_than(pid)
            case "paused worker":
                os.kill(pid := world.other_than(0), signal.SIGSTOP)
                try:
                    world.other_than(pid)
                finally:
                    os.kill(pid, signal.SIGCONT)
            case "redis":
                if self.dice.random() < 0.5:
                    world.redis.save()
                world.redis.kill()
                world.redis.start()
            case _:
                world.database.kill()
                world.database.restart()

    def run(self) -> None:
        deck = [part for part, count in KILLS.items() for _ in range(count)]
        self.dice.shuffle(deck)
        for _ in range(4):
            self.start_submitter()
        for part in deck:
            time.sleep(self.dice.uniform(0, 0.2))
            self.kill(part)
        for process in self.asking:
            process.kill()

    def answered(self) -> dict[str, str]:
        """Return what the processes wrote down before they were killed."""
        lines = [
            line for file in self.world.folder.glob("*.tsv") for line in file.read_text().split("\n")[:-1]
        ]
        return dict(line.split("\t") for line in lines)


@pytest.mark.timeout(7200 if os.environ.get("RUXA_LONG") else 120)
async def test_every_key_is_bought_once_when_all_parts_are_killed(world: World) -> None:
    for _ in range(3):
        world.start_worker()
    chaos, began = Chaos(world), time.monotonic()
    await anyio.to_thread.run_sync(chaos.run)
    took = time.monotonic() - began
    answers = await world.answers([f"k{number}" for number in range(5 * chaos.started + 5)])
    unknown, bought = world.unknown(), world.bought
    logging.getLogger(__name__).info(
        "%s in %.0f s: %s bought, none twice, %s unknown", KILLS, took, len(bought), len(unknown)
    )
    assert {key for key, answer in answers.items() if answer == "SubmissionUnknownError"} == unknown
    assert {key: answer for key, answer in answers.items() if key not in unknown} == {
        key: task_id for key, task_id in bought.items() if key not in unknown
    }
    early = chaos.answered().items()
    # A paused worker that goes on says what it bought, so what was unknown may be known later.
    assert {pair for pair in early if pair[1] != "SubmissionUnknownError"} <= answers.items()
    assert len(unknown) <= 16 * (KILLS["worker"] + KILLS["paused worker"] + KILLS["database"])


def post(url: str, wish: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """Ask the web application as its page does; (0, {}) if no process listens yet."""
    request = Request(url, json.dumps(wish).encode(), {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except URLError:
        return 0, {}


async def test_the_web_application_shows_each_picture_and_buys_it_once(world: World) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    world.start("taskiq", "worker", "web_application.pictures:broker", "--workers", "2")
    web = world.start(
        "uvicorn", "web_application.web:app", "--workers", "2", "--port", url.rpartition(":")[2]
    )
    replies = list[dict[str, Any]]()
    for number in range(8):
        wish = {"key": f"key {number % 4}", "prompt": f"prompt {number % 4}"}
        asked = partial(post, f"{url}/pictures", wish)
        replies.append(until(lambda asked=asked: (got := asked())[0] == 200 and got[1]))  # type: ignore[misc]
    assert [reply["urls"] for reply in replies[:4]] == [reply["urls"] for reply in replies[4:]]
    assert len(world.bought) == 4
    with urlopen(replies[0]["urls"][0]) as picture:
        assert picture.read(4) == b"\x89PNG"
    if CHROMIUM is not None:
        await use_page(url)
        assert {*world.bought} >= {"a cat", "a dog"}
    assert web.terminate() == 0


async def use_page(url: str) -> None:
    """Ask for two pictures as a person does, and wait until both are drawn."""
    async with opened_browser() as page:
        await page.call("Page.navigate", url=url)
        await page.until("document.readyState === 'complete' && document.querySelector('form')")
        await page.value("document.querySelector('textarea').focus()")
        await page.type("a cat\na dog")
        await page.click("button")
        await page.until("[...document.images].filter(i => i.complete && i.naturalWidth).length === 2")
        assert await page.value("document.querySelector('progress').position") == 1
        assert await page.value("[...document.querySelectorAll('li')].map(e => e.textContent)") == [
            "a cat",
            "a dog",
        ]
