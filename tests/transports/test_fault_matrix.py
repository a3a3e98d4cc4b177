"""What comes of every fault, in either direction, for every operation: written down here, and held against
the ledger.

The words of the tables. A create is

- ``bought``: the caller has the task id, and the service charged it;
- ``unknown+charged``, ``unknown+free``: the caller is told that nobody can tell, and it was charged or was not;
- ``unsent``: the caller is told that nothing was sent, after trying for as long as it may, and nothing was charged.

A query, asked again until it is answered or patience ends, is ``answered`` or ``stopped`` (and the task id
kept). A download, tried twice, is a ``file``, or an ``error`` that leaves nothing in the folder, or else it
is ``as_sent``: not the picture, but all that the service sent in its place, whole and with a good status.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from attrs import evolve, frozen
from harness import prompts
from outages import KINDS, Observer, lasting
from transports.toxic import FAULTS, Direction, Proxies

from ruxa_async import (
    APIError,
    DownloadError,
    Downloads,
    Generation,
    Limits,
    NanoBanana,
    NotSentError,
    Outcome,
    Polling,
    PollingStoppedError,
    RateLimit,
    Retries,
    RuxaClient,
    SubmissionUnknownError,
    Timeouts,
)
from ruxa_async.downloads import Downloader
from ruxa_async.emulator import (
    AFTER,
    BEFORE,
    Durations,
    Emulator,
    EmulatorSettings,
    Fault,
    Service,
    parse_fault,
)
from ruxa_async.emulator._faults import Operation
from ruxa_async.testing import _servers as servers
from ruxa_async.transports import AiohttpTransport, Httpx2Transport, MemoryTransport, Transport

FAULT_TABLE = """
fault       direction  create           query     download

latency     up         bought           answered  file
latency     down       bought           answered  file
down        up         unknown+free     stopped   error
down        down       unsent           stopped   error
bandwidth   up         unknown+free     stopped   error
bandwidth   down       unknown+charged  stopped   error
slow_close  up         bought           answered  file
slow_close  down       bought           answered  file
black_hole  up         unknown+free     stopped   error
black_hole  down       unknown+charged  stopped   error
reset       up         unknown+free     stopped   error
reset       down       unknown+charged  stopped   error
slicer      up         bought           answered  file
slicer      down       bought           answered  file
limit_data  up         unknown+free     stopped   error
limit_data  down       unknown+charged  stopped   error
"""

# The first request of each operation is struck, and no other.
PROTOCOL_TABLE = """
fault                      create           query     download

redirect:status=307        unknown+free     answered  file
redirect:status=308        unknown+free     answered  file
error:status=408           unknown+free     answered  file
error:status=429           bought           answered  file
error:status=429:hint=0.1  bought           answered  file
error:status=500           unknown+free     answered  file
error:status=502           unknown+free     answered  file
error:status=503           unknown+free     answered  file
error:status=503:hint=0.1  bought           answered  file
error:status=504           unknown+free     answered  file
html                       unknown+free     answered  file
error_after                unknown+charged  answered  file
reset_before               unknown+free     answered  file
reset_after                unknown+charged  answered  file
stall_before               unknown+free     answered  file
stall                      unknown+charged  answered  file
slow:seconds=0.3           bought           answered  file
drip:seconds=0.3           bought           answered  file
drip:seconds=60            unknown+charged  answered  file
cut                        unknown+charged  answered  file
truncated                  unknown+charged  answered  as_sent
duplicate                  bought           answered  file
duplicate_keys             bought           answered  file
oversized:size=9000000     unknown+charged  answered  as_sent
garbage                    unknown+charged  answered  file
empty                      unknown+charged  answered  file
no_id                      unknown+charged  answered  file
wrong_types                unknown+charged  answered  file
expired:file:status=404    bought           answered  error
expired:file:status=410    bought           answered  error
"""

#: Nothing that could answer is there at all, or it is not who it should be.
UNREACHABLE_TABLE = """
service          create  query    download

unknown_host     unsent  stopped  error
refused          unsent  stopped  error
never_accepting  unsent  stopped  error
untrusted        unsent  stopped  error
no_handshake     unsent  stopped  error
"""

TIMEOUTS = Timeouts(connect=1.0, create=2.0, query=0.8, create_drain=1.0)
RETRIES = Retries(throttled_timeout=1.0, query_retry_timeout=1.5)
#: Seconds for a download with its one repetition, and to connect.
DOWNLOAD_TIMEOUT, DOWNLOAD_CONNECT = 20.0, 3.0
#: Seconds until a download is too slow; the longer one where a busy machine that stands still must not look
#: slow.
NARROW_WINDOW, WIDE_WINDOW = 3.0, 6.0
HANGS_AFTER = 60.0  # seconds; more than the deadlines above allow
PNG_ENDS = b"IEND\xaeB`\x82"
AT_ONCE = 16
#: Spoils a second request, which no cell sends: it has a test of its own.
STALE = {("stale", "up"), ("stale", "down")}
OPERATIONS = ("create", "query", "download")

Make = Callable[[], Transport]


@pytest.fixture(params=["aiohttp-asyncio", "httpx2-asyncio", "httpx2-trio"])
def stack(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def anyio_backend(stack: str) -> str:
    return stack.partition("-")[2]


@pytest.fixture
def make(stack: str) -> Make:
    return AiohttpTransport if stack.startswith("aiohttp") else Httpx2Transport


def rows(table: str) -> Iterator[list[str]]:
    _, *lines = (line.split() for line in table.splitlines() if line.strip())
    yield from lines


@frozen
class InMemory:
    """An emulated service without a socket, to stand where an `Emulator` may."""

    service: Service
    url: str = "http://localhost"

    @property
    def key(self) -> str:
        return self.service.settings.key


@frozen
class Cell:
    """Three operations where something goes wrong on the way to *emulator*: a create at *create_url*, the rest at *url*."""

    name: str
    create_url: str
    url: str
    emulator: Emulator | InMemory
    make: Make
    folder: Path
    window: float = NARROW_WINDOW

    async def outcomes(self) -> list[str]:
        found = dict.fromkeys(OPERATIONS, "hangs")

        async def run(operation: str, doing: Callable[..., Awaitable[str]], *args: str) -> None:
            with anyio.move_on_after(HANGS_AFTER):
                found[operation] = await doing(*args)

        if self.url == self.emulator.url:  # which strikes its first create: that must be this one
            await run("create", self.create)
        # What is asked for and downloaded is bought where nothing goes wrong.
        async with self.client(self.emulator.url) as ruxa:
            asked, fetched = [
                (await ruxa.submit(NanoBanana(prompt=f"{self.name} {each}"))).task_id
                for each in OPERATIONS[1:]
            ]
        await anyio.sleep(0.05)  # they take a millisecond to be done
        async with anyio.create_task_group() as tg:
            tg.start_soon(run, "query", self.query, asked)
            tg.start_soon(run, "download", self.download, fetched)
            if self.url != self.emulator.url:
                await run("create", self.create)
        return [*found.values()]

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[RuxaClient]:
        options: dict[str, Any] = {"timeouts": TIMEOUTS, "retries": RETRIES, "transport": self.make()}
        polling = Polling(min_interval=0.05, max_interval=0.1)
        key = self.emulator.key
        async with RuxaClient(api_key=key, base_url=url, polling=polling, **options) as ruxa:
            yield ruxa

    async def create(self) -> str:
        prompt = f"{self.name} create"
        try:
            async with self.client(self.create_url) as ruxa:
                task = await ruxa.submit(NanoBanana(prompt=prompt))
        except SubmissionUnknownError:
            return "unknown+charged" if self.charged(prompt) else "unknown+free"
        except NotSentError:
            return "unsent" + "+charged" * len(self.charged(prompt))
        return "bought" if self.charged(prompt) == [task.task_id] else "bought, but not as charged"

    async def query(self, task_id: str) -> str:
        try:
            async with self.client(self.url) as ruxa:
                await ruxa.attach(task_id).result()
        except PollingStoppedError as error:
            return "stopped" if error.task_id == task_id else "stopped without its id"
        return "answered"

    async def download(self, task_id: str) -> str:
        self.folder.mkdir()
        async with aclosing(self.make()) as transport:
            loader = Downloader(
                transport=transport,
                settings=Downloads(timeout=DOWNLOAD_TIMEOUT),
                home=self.url,
                connect_timeout=DOWNLOAD_CONNECT,
                window=self.window,
                pauses=(0.05,),
            )
            made = Generation(task_id=task_id, model=None, urls=(f"{self.url}/files/{task_id}/0.png",))
            try:
                (path,) = await loader.save(made, self.folder)
            except DownloadError:
                return "error" if not [*self.folder.iterdir()] else "error, and something in the folder"
        content = path.read_bytes()
        return "file" if content.startswith(b"\x89PNG") and content.endswith(PNG_ENDS) else "as_sent"

    def charged(self, prompt: str) -> list[str]:
        entries = [*self.emulator.service.ledger.entries]
        return [entry.task_id for entry in entries if entry.input["prompt"] == prompt]


def settings(*faults: Fault) -> EmulatorSettings:
    return EmulatorSettings(speed=1000, image=Durations(1.0), faults=faults)


def struck_once(text: str) -> list[Fault]:
    """Return the fault *text* for the first request of every operation, or of the one that it names."""
    fault = parse_fault(text)
    operations: tuple[Operation, ...] = (
        (fault.operation,) if fault.kind == "expired" else ("create", "query", "file")
    )
    return [evolve(fault, operation=operation, nth=(1,)) for operation in operations]


async def fill(cells: list[Cell]) -> dict[str, list[str]]:
    """Run every operation of all cells, some cells at once; return what came of each."""
    found: dict[str, list[str]] = {}
    slots = anyio.Semaphore(AT_ONCE)

    async def run(cell: Cell) -> None:
        async with slots:
            found[cell.name] = await cell.outcomes()

    async with anyio.create_task_group() as tg:
        for cell in cells:
            tg.start_soon(run, cell)
    return found


def test_every_fault_has_a_row_for_each_direction() -> None:
    there = {(fault, direction) for fault, direction, *_ in rows(FAULT_TABLE)}
    assert there == {(fault, direction) for fault in FAULTS for direction in ("up", "down")} - STALE
    kinds = {text.partition(":")[0] for text, *_ in rows(PROTOCOL_TABLE)}
    assert kinds == {*BEFORE, *AFTER} - {"refused"}  # which the table of the unreachable has


async def test_faults_on_the_network(make: Make, tmp_path: Path) -> None:
    table = {f"{fault} {direction}": outcomes for fault, direction, *outcomes in rows(FAULT_TABLE)}
    async with Emulator(settings()) as emulator:
        port = int(emulator.url.rpartition(":")[2])
        with Proxies.running() as proxies:
            cells, creates = [], []
            for name in table:
                fault, direction = name.split()
                # One proxy for the create alone, to count what leaves, and one for the rest.
                first, second = (proxies.open(port, fault, cast("Direction", direction)) for _ in range(2))
                cells.append(Cell(name, first.url, second.url, emulator, make, tmp_path / name))
                creates.append(first)
            found = await fill(cells)
        assert found == table
        # Down downwards, nothing can leave; everywhere else one create leaves, and no other follows it.
        assert {f"{proxy.fault} {proxy.direction}": proxy.creates for proxy in creates} == {
            name: 0 if name == "down down" else 1 for name in table
        }
        assert emulator.service.ledger.duplicates() == []


async def test_faults_of_the_service(make: Make, tmp_path: Path) -> None:
    table = {text: outcomes for text, *outcomes in rows(PROTOCOL_TABLE)}
    async with AsyncExitStack() as stack:
        cells = []
        for number, text in enumerate(table):
            emulator = await stack.enter_async_context(Emulator(settings(*struck_once(text))))
            folder = tmp_path / str(number)
            cells.append(Cell(text, emulator.url, emulator.url, emulator, make, folder, WIDE_WINDOW))
        assert await fill(cells) == table
        assert not any(cell.emulator.service.ledger.duplicates() for cell in cells)


@pytest.mark.parametrize("stack", ["memory-asyncio", "memory-trio"], indirect=True)
async def test_faults_of_the_service_in_memory(tmp_path: Path) -> None:
    table = {text: outcomes for text, *outcomes in rows(PROTOCOL_TABLE)}
    cells = []
    for number, text in enumerate(table):
        there = InMemory(Service(settings(*struck_once(text))))
        make = partial(MemoryTransport, there.service)
        cells.append(Cell(text, there.url, there.url, there, make, tmp_path / str(number)))
    assert await fill(cells) == table
    assert not any(cell.emulator.service.ledger.duplicates() for cell in cells)


async def test_outages_of_the_service(make: Make) -> None:
    """Each kind of outage for two seconds in the middle of a batch: few creates are unknown, nothing else is lost."""
    ends: dict[str, list[Outcome]] = {}

    async def buy(kind: str) -> None:
        served = EmulatorSettings(speed=10, latency=0.02, faults=lasting(KINDS[kind], 1.0, 2.0))
        observer = Observer()
        async with (
            Emulator(served) as emulator,
            RuxaClient(
                api_key=emulator.key,
                base_url=emulator.url,
                transport=make(),
                limits=Limits(create_rate=RateLimit(40)),
                on_event=observer.on_event,
            ) as ruxa,
            ruxa.as_completed(prompts(100)) as outcomes,
        ):
            ends[kind] = [outcome async for outcome in outcomes]
        observer.check()
        assert observer.outages
        delivered = {each.task_id or "" for each in ends[kind] if each.ok}
        assert len(delivered) + observer.unknown == 100
        assert len(emulator.service.ledger.missing(delivered)) <= observer.unknown
        assert emulator.service.ledger.duplicates() == []

    async with anyio.create_task_group() as tg:
        for kind in KINDS:
            tg.start_soon(buy, kind)
    assert ends.keys() == KINDS.keys()


async def test_services_that_cannot_be_reached(make: Make, tmp_path: Path) -> None:
    table = {service: outcomes for service, *outcomes in rows(UNREACHABLE_TABLE)}
    with ExitStack() as stack:
        untrusted = stack.enter_context(servers.serving(servers.answering(servers.reply()), tls=True))
        mute = stack.enter_context(servers.serving(servers.silent_from_the_start))
        urls = {
            "unknown_host": "https://nothing.invalid",
            "refused": stack.enter_context(servers.refusing()),
            "never_accepting": stack.enter_context(servers.never_accepting()),
            "untrusted": untrusted.url,
            "no_handshake": mute.url.replace("http:", "https:"),
        }
        async with Emulator(settings()) as emulator:
            cells = [Cell(name, urls[name], urls[name], emulator, make, tmp_path / name) for name in table]
            assert await fill(cells) == table
        assert untrusted.requests == []


async def test_a_create_that_loses_the_keep_alive_race_is_unknown_and_the_next_one_is_bought(
    make: Make,
) -> None:
    async with Emulator(settings()) as emulator:
        with Proxies.running() as proxies:
            proxy = proxies.open(int(emulator.url.rpartition(":")[2]), "stale", "up")
            cell = Cell("stale", proxy.url, proxy.url, emulator, make, Path())
            async with cell.client(proxy.url) as ruxa:
                first = await ruxa.submit(NanoBanana(prompt="first"))
                with pytest.raises(SubmissionUnknownError):
                    await ruxa.submit(NanoBanana(prompt="second"))
                third = await ruxa.submit(NanoBanana(prompt="third"))
                assert [(await task.result()).task_id for task in (first, third)] == [
                    entry.task_id for entry in emulator.service.ledger.entries
                ]
            assert proxy.creates == 3


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_of_an_api_call_is_not_followed(make: Make, status: int) -> None:
    with servers.serving(servers.answering(servers.reply())) as elsewhere:
        away = servers.reply(b"", f"{status} Away", f"Location: {elsewhere.url}/api/v1/tasks/create\r\n")
        with servers.serving(servers.answering(away)) as server:
            async with RuxaClient(
                api_key="sk-x", base_url=server.url, transport=make(), retries=RETRIES
            ) as ruxa:
                with pytest.raises(SubmissionUnknownError):
                    await ruxa.submit(NanoBanana(prompt="a cat"))
                with pytest.raises(APIError):
                    await ruxa.status("t")
    assert elsewhere.connections == 0
