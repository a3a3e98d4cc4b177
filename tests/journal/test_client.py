"""A client with a journal: the order of its writes, failing disks, and what it learns for the next run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import apsw
import pytest
from harness import KEY, URL, prompts, service_of
from journal.disk import Disk
from journal.tools import Gate, is_open, journal_threads, rows, watching

from ruxa_async import (
    ClientClosedError,
    JournalError,
    JournalInUseError,
    JournalMismatchError,
    NanoBanana,
    RuxaClient,
    SqliteJournal,
    SubmissionUnknownError,
    Timeouts,
)
from ruxa_async.emulator import Durations, Fault, Service
from ruxa_async.journal import JobState, LastingJournal
from ruxa_async.transports import MemoryTransport, Request, Response

CAT = NanoBanana(prompt="a cat", key="cat")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def service_in_real_time(**settings: Any) -> Service:
    return service_of(image=Durations(0.02, 0.0), **settings)


def client_of(service: Any, journal: LastingJournal, **options: Any) -> RuxaClient:
    transport = options.pop("transport", None) or MemoryTransport(service)
    return RuxaClient(api_key=KEY, base_url=URL, transport=transport, journal=journal, **options)


class Log:
    """What was committed, as the connection saw it."""

    def __init__(self) -> None:
        self.open: list[tuple[str, Sequence[Any]]] = []
        self.committed: list[tuple[str, Sequence[Any]]] = []

    def __call__(self, sql: str, parameters: Sequence[Any]) -> None:
        if sql == "COMMIT":
            self.open.append(("", ()))  # it counts once the next statement shows that this one is over
        else:
            if self.open and self.open[-1][0] == "":
                self.committed += self.open[:-1]
                self.open.clear()
            self.open.append((sql, parameters))

    def holds(self, begins: str, *values: object) -> bool:
        done = [*self.committed]
        if self.open and self.open[-1][0] == "":
            done += self.open[:-1]
        return any(sql.startswith(begins) and {*values} <= {*map(plain, what)} for sql, what in done)


def plain(value: object) -> object:
    return value if isinstance(value, (str, bytes, int, float)) else None


class Checking(MemoryTransport):
    """Check the log before anything is sent."""

    def __init__(self, service: Service, log: Log) -> None:
        super().__init__(service)
        self._log = log
        self.creates = self.queries = 0

    async def send(self, request: Request) -> Response:
        if request.method == "POST":
            assert request.body is not None
            (key,) = [name for name in KEYS if f'"{PROMPT_OF[name]}"'.encode() in request.body]
            assert self._log.holds("INSERT INTO jobs", b"k" + key.encode())
            self.creates += 1
        else:
            task_id = request.url.rpartition("=")[2].rpartition("/")[2]
            assert self._log.holds("UPDATE jobs SET state = 'accepted'", task_id), request.url
            self.queries += 1
        return await super().send(request)


KEYS = [f"prompt-{n}" for n in range(30)]
PROMPT_OF = {f"prompt-{n}": f"prompt {n}" for n in range(30)}


async def test_intent_id_and_outcome_are_durable_before_what_follows_them(path: Path) -> None:
    service, log = service_in_real_time(), Log()
    journal = SqliteJournal(path, connect=watching(log))
    transport = Checking(service, log)
    async with (
        client_of(service, journal, transport=transport) as ruxa,
        ruxa.as_completed(prompts(30)) as outcomes,
    ):
        async for outcome in outcomes:
            assert outcome.ok
            assert any(
                f'"task_id": "{outcome.task_id}"' in str(what)
                for sql, what in log.committed + log.open
                if sql.startswith("UPDATE jobs SET error_kind")
            )
    assert transport.creates == 30
    assert transport.queries >= 30
    assert rows(path, "SELECT state, count(*) FROM jobs GROUP BY state") == [("succeeded", 30)]


async def test_a_create_waits_for_a_slow_commit(path: Path) -> None:
    service, gate = service_in_real_time(), Gate()
    async with client_of(service, SqliteJournal(path, connect=watching(gate))) as ruxa:
        gate.shut()
        async with anyio.create_task_group() as tg:
            tg.start_soon(ruxa.generate, CAT)
            await anyio.to_thread.run_sync(gate.reached.wait, 30)
            await anyio.wait_all_tasks_blocked()
            assert service.counts.creates == 0
            gate.open()
    assert service.counts.creates == 1


# ---- who opens it


async def test_the_client_opens_and_closes_what_is_not_open(path: Path) -> None:
    journal = SqliteJournal(path)
    async with client_of(service_in_real_time(), journal) as ruxa:
        assert is_open(journal)
        await ruxa.generate(CAT)
    assert not is_open(journal)
    assert journal_threads() == []


async def test_the_client_leaves_open_what_was_open(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        for _ in range(2):
            async with client_of(service_in_real_time(), journal) as ruxa:
                await ruxa.generate(CAT)
        assert (await journal.counts()).jobs[JobState.SUCCEEDED] == 2
    assert journal_threads() == []


async def test_a_journal_in_use_keeps_the_client_from_opening(path: Path) -> None:
    service = service_in_real_time()
    async with SqliteJournal(path):
        with pytest.raises(JournalInUseError):
            await client_of(service, SqliteJournal(path)).__aenter__()
    assert service.counts.creates == 0


async def test_a_journal_of_another_account_keeps_the_client_from_opening_and_is_closed(path: Path) -> None:
    async with client_of(service_in_real_time(), SqliteJournal(path)) as ruxa:
        await ruxa.submit(NanoBanana(prompt="a cat"))
    journal = SqliteJournal(path)
    other = RuxaClient(
        api_key="sk-another-one", base_url=URL, transport=MemoryTransport(service_of()), journal=journal
    )
    with pytest.raises(JournalMismatchError):
        await other.__aenter__()
    assert not is_open(journal)
    assert journal_threads() == []


async def test_the_exception_of_the_body_comes_back_as_itself(path: Path) -> None:
    async def fail() -> None:
        async with client_of(service_in_real_time(), SqliteJournal(path)) as ruxa:
            await ruxa.generate(CAT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert journal_threads() == []


# ---- what is remembered


async def test_durations_are_learned_for_the_next_client(path: Path) -> None:
    async with client_of(service_in_real_time(), SqliteJournal(path)) as ruxa:
        await ruxa.generate(CAT)
        learned = ruxa._driver.engine.schedule.median(CAT.model)
        assert learned is not None
    async with client_of(service_in_real_time(), SqliteJournal(path)) as ruxa:
        again = ruxa._driver.engine.schedule.median(CAT.model)
        assert ruxa.stats().durations == {CAT.model: pytest.approx(again)}
        assert again == pytest.approx(learned, rel=0.5)


@pytest.mark.parametrize("nonsense", [[1], {"m": 3}, {"m": {}}, {"m": {"mu": "x", "sigma": 1}}, "text", 7])
async def test_invalid_learned_durations_are_replaced(
    path: Path, nonsense: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with SqliteJournal(path) as journal:
        await journal.learn("durations", nonsense)
    async with client_of(service_in_real_time(), SqliteJournal(path)) as ruxa:
        await ruxa.generate(CAT)
    assert "learning starts over" in caplog.text


async def test_a_task_that_was_attached_to_ends_in_the_journal(path: Path) -> None:
    service = service_in_real_time()
    async with SqliteJournal(path) as journal:
        async with client_of(service, journal) as ruxa:
            task_id = (await ruxa.submit(CAT)).task_id
        async with client_of(service, journal) as ruxa:
            await ruxa.attach(task_id).result()
        assert (await journal.counts()).jobs[JobState.SUCCEEDED] == 1


# ---- what nobody can tell


async def test_an_unknown_create_is_listed_with_its_request(path: Path) -> None:
    service = service_in_real_time(faults=(Fault("reset_after", "create"),))
    async with SqliteJournal(path) as journal:
        async with client_of(service, journal) as ruxa:
            with pytest.raises(SubmissionUnknownError):
                await ruxa.submit(CAT)
        (job_,) = await journal.unknowns()
    assert (job_.name, job_.request, job_.run) == ("cat", CAT, None)


class Silent(MemoryTransport):
    """Take a create, and never answer it."""

    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        await anyio.sleep_forever()
        return response


async def test_a_create_that_is_on_the_wire_at_the_end_is_listed(path: Path) -> None:
    service = service_in_real_time()
    async with SqliteJournal(path) as journal:
        async with (
            client_of(
                service, journal, transport=Silent(service), timeouts=Timeouts(create_drain=0.05)
            ) as ruxa,
            anyio.create_task_group() as tg,
        ):
            tg.start_soon(ruxa.submit, CAT)
            while not service.counts.creates:
                await anyio.sleep(0.01)
            tg.cancel_scope.cancel()
        (job_,) = await journal.unknowns()
        assert (job_.name, job_.request) == ("cat", CAT)


# ---- a disk that fails

FAILURES = [
    ("write", apsw.FullError, "disk is full"),
    ("write", apsw.IOError, "the disk failed"),
    ("sync", apsw.IOError, "the disk failed"),
    ("write", apsw.ReadOnlyError, "cannot be written"),
]


@pytest.mark.parametrize(("operation", "error", "said"), FAILURES)
async def test_nothing_is_sent_if_the_intent_cannot_be_written(
    path: Path, operation: str, error: type[apsw.Error], said: str
) -> None:
    service, disk = service_in_real_time(), Disk()
    async with client_of(service, SqliteJournal(path, connect=disk.connect)) as ruxa:
        await ruxa.generate(CAT)
        disk.fail(operation, error)
        for _ in range(2):
            with pytest.raises(JournalError, match=said) as caught:
                await ruxa.submit(NanoBanana(prompt="another"))
            assert str(path) in str(caught.value)
        assert ruxa.stats().in_flight == 0
        disk.heal()
    assert service.counts.creates == 1
    assert rows(path, "SELECT handle, state FROM jobs WHERE state = 'succeeded'") == [(b"kcat", "succeeded")]
    assert journal_threads() == []


async def test_the_client_buys_again_once_the_disk_has_room(path: Path) -> None:
    service, disk = service_in_real_time(), Disk()
    async with client_of(service, SqliteJournal(path, connect=disk.connect)) as ruxa:
        disk.fail("write", apsw.FullError)
        with pytest.raises(JournalError, match="free some space"):
            await ruxa.submit(CAT)
        disk.heal()
        await ruxa.generate(CAT)
    assert service.counts.creates == 1


class Failing(MemoryTransport):
    """Let the disk fail once a create was answered."""

    def __init__(self, service: Service, disk: Disk, operation: str, error: type[apsw.Error]) -> None:
        super().__init__(service)
        self._disk, self._failure = disk, (operation, error)

    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        if request.method == "POST":
            self._disk.fail(*self._failure)
        return response


@pytest.mark.parametrize(("operation", "error", "said"), FAILURES)
async def test_an_id_that_cannot_be_written_is_still_given_to_its_caller(
    path: Path, operation: str, error: type[apsw.Error], said: str
) -> None:
    service, disk = service_in_real_time(), Disk()
    transport = Failing(service, disk, operation, error)
    journal = SqliteJournal(path, connect=disk.connect)
    async with client_of(service, journal, transport=transport) as ruxa:
        task = await ruxa.submit(CAT)
        assert task.task_id == service.ledger.entries[0].task_id
        with pytest.raises(ClientClosedError, match=said):
            await ruxa.submit(NanoBanana(prompt="another"))
        disk.heal()
    assert service.counts.creates == 1
    async with SqliteJournal(path) as journal:  # as far as the journal knows, it may have been bought
        (job_,) = await journal.unknowns()
        assert (await journal.adopt(job_.name, task.task_id)).state is JobState.ADOPTED


@pytest.mark.parametrize(("operation", "error", "said"), FAILURES)
async def test_an_id_of_a_batch_that_cannot_be_written_is_listed_as_unfinished(
    path: Path, operation: str, error: type[apsw.Error], said: str
) -> None:
    service, disk = service_in_real_time(), Disk()
    transport = Failing(service, disk, operation, error)
    async with client_of(service, SqliteJournal(path, connect=disk.connect), transport=transport) as ruxa:
        async with ruxa.as_completed(prompts(8)) as outcomes:
            with pytest.raises(ClientClosedError, match=said):
                assert [outcome async for outcome in outcomes if outcome.ok] == []
        disk.heal()
    listed = {
        record.task_id for record in (*outcomes.unfinished, *ruxa.orphans) if record.task_id is not None
    }
    assert service.counts.creates >= 1
    assert service.ledger.missing(listed) == []
    # A create whose intent was durable may be stopped before it is sent: the journal cannot record that any
    # more, so it is unknown. None that was charged is.
    charged = {entry.input["prompt"] for entry in service.ledger.entries}
    assert [
        record
        for record in outcomes.unknown
        if record.request and record.request.input()["prompt"] in charged
    ] == []


@pytest.mark.parametrize(
    ("operation", "error"), [("open", apsw.CantOpenError), ("write", apsw.FullError), ("sync", apsw.IOError)]
)
async def test_a_disk_that_fails_at_once_keeps_the_client_from_opening(
    path: Path, operation: str, error: type[apsw.Error]
) -> None:
    service, disk = service_in_real_time(), Disk()
    disk.fail(operation, error)
    with pytest.raises(JournalError, match=str(path)):
        await client_of(service, SqliteJournal(path, connect=disk.connect)).__aenter__()
    assert service.counts.creates == 0
    assert journal_threads() == []
    async with SqliteJournal(path):
        pass


async def test_a_journal_that_fails_at_the_end_is_logged_and_nothing_is_lost(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk()
    async with client_of(service_in_real_time(), SqliteJournal(path, connect=disk.connect)) as ruxa:
        await ruxa.generate(CAT)
        disk.fail("write", apsw.FullError)
    disk.heal()
    assert "could not be closed in order" in caplog.text
    assert journal_threads() == []
    assert rows(path, "SELECT state FROM jobs") == [("succeeded",)]


async def test_no_output_shows_the_key(path: Path) -> None:
    async with client_of(service_in_real_time(), SqliteJournal(path)) as ruxa:
        await ruxa.generate(CAT)
        assert KEY not in repr(ruxa._learned_state)
        for file in path.parent.iterdir():
            assert KEY.encode() not in file.read_bytes() if file != path else True
    assert KEY.encode() not in path.read_bytes()
