"""A journal in PostgreSQL: who holds it, what survives a server that is away, and what is refused."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from traceback import format_exception
from typing import Any

import anyio
import pytest
from anyio import to_thread
from journal.places import InPostgres
from journal.tools import KEY, URL, failure, job, of, request, success
from servers import Postgres, postgres_missing, postgres_or_skip

from ruxa_async import (
    ConfigurationError,
    JournalError,
    JournalInUseError,
    Limits,
    RateLimit,
    RuxaClient,
    TaskFailedError,
)
from ruxa_async.emulator import Durations, EmulatorSettings, Service
from ruxa_async.journal import JobState, PostgresJournal, view_journal
from ruxa_async.transports import MemoryTransport

#: seconds; the shortest lease
LEASE = 1.0


@pytest.fixture
def place(server: Postgres) -> InPostgres:
    return InPostgres(server.dsn)


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    """A server that a test may stop."""
    with postgres_or_skip() as running:
        yield running


def states(place: InPostgres) -> dict[str, int]:
    return dict(place.rows("SELECT state, count(*) FROM jobs GROUP BY state"))


def lose_connections(place: InPostgres) -> None:
    """End every connection of a journal, as a firewall or a restart does."""
    place.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ruxa-async journal'"
    )


def expire(place: InPostgres) -> None:
    """Let the lease of the holder end, as if its process had been stopped for a while."""
    place.rows("UPDATE holder SET lease_until = clock_timestamp() - interval '1 minute' RETURNING 1")


# ---- one holder


async def test_a_second_process_is_refused_and_told_who_holds_it(place: InPostgres) -> None:
    async with place.journal():
        with pytest.raises(JournalInUseError, match=r"process \d+ on .+ since 20"):
            await place.journal().__aenter__()
    async with place.journal():
        pass


async def test_a_second_process_stands_by_until_the_first_leaves(place: InPostgres) -> None:
    async with anyio.create_task_group() as tg:
        first = await place.journal().__aenter__()

        async def leave() -> None:
            await anyio.sleep(0.5)
            await first.intend(job("k"))
            await first.aclose()

        tg.start_soon(leave)
        async with place.journal(wait=math.inf) as second:
            assert [each.name for each in await second.unknowns()] == ["k"]


async def test_standing_by_ends_after_its_time_and_can_be_cancelled(place: InPostgres) -> None:
    async with place.journal(lease=30.0):
        with pytest.raises(JournalInUseError):
            await place.journal(wait=0.2).__aenter__()
        with anyio.move_on_after(0.2) as scope:
            await place.journal(wait=math.inf).__aenter__()
        assert scope.cancelled_caught


async def test_an_idle_holder_keeps_its_lease(place: InPostgres) -> None:
    async with place.journal(lease=LEASE):
        await anyio.sleep(2 * LEASE)
        with pytest.raises(JournalInUseError):
            await place.journal().__aenter__()


async def test_after_a_takeover_nothing_is_bought_and_late_replies_are_recorded(place: InPostgres) -> None:
    async with place.journal() as first:
        await first.bind(base_url=URL, api_key=KEY)
        names = ("accepted late", "refused late", "ended late", "no reply", "bought again")
        entry = {name: await first.intend(job(name)) for name in names}
        await first.accepted(of(entry["ended late"], "task_3"))
        expire(place)
        async with place.journal() as second:
            await second.bind(base_url=URL, api_key=KEY)
            assert states(place) == {"unknown": 4, "accepted": 1}
            await second.intend(of(entry["bought again"]))
            await second.accepted(of(entry["bought again"], "task_6"))
            for write in (first.intend(job("more")), first.open_run("run")):
                with pytest.raises(JournalError, match="another process holds this journal now"):
                    await write
            await first.accepted(of(entry["accepted late"], "task_1"))
            await first.not_bought(of(entry["refused late"]))
            await first.finished(
                of(entry["ended late"], "task_3", TaskFailedError("task_3", "500", "no luck")),
                failure("task_3"),
            )
            await first.unknown(of(entry["no reply"]))
            await first.accepted(of(entry["bought again"], "task_5"))
            await first.accepted(of(entry["bought again"], "task_5"))
            await first.learn("rates", [1])
            await first.unbind()
            assert await second.learned("rates") is None
            await second.adopt("no reply", "task_4")
            again = {
                row[0]: row[1:]
                for row in place.rows(
                    "SELECT convert_from(handle, 'UTF8'), state, task_id, past_tasks, past_bought FROM jobs"
                )
            }
            assert again == {
                "kaccepted late": ("adopted", "task_1", "", 0),
                "krefused late": ("not_bought", None, "", 0),
                "kended late": ("failed", "task_3", "", 0),
                "kno reply": ("adopted", "task_4", "", 0),
                "kbought again": ("accepted", "task_6", "task_5\n", 2),
            }


async def test_an_outcome_after_a_takeover_ends_the_task(place: InPostgres) -> None:
    async with place.journal() as first:
        entry = await first.intend(job("k"))
        expire(place)
        async with place.journal():
            await first.accepted(of(entry, "task_1"))
            await first.finished(of(entry, "task_1"), success("task_1", credits=4.0))
            await first.finished(of(entry, "task_1"), None)
            assert place.rows("SELECT state, credits FROM jobs") == [("succeeded", 4.0)]


async def test_a_new_holder_learns_what_the_earlier_one_left_behind(place: InPostgres) -> None:
    assert place.journal().takeover is None
    async with place.journal() as first:
        assert first.takeover is None  # nobody held it before
        for key in ("k", "l", "m"):
            entry = await first.intend(job(key))
        await first.accepted(of(entry, "task_1"))
        entry = await first.intend(job("n"))
        await first.accepted(of(entry, "task_2"))  # and has ended by now
        place.rows("UPDATE jobs SET accepted_at = accepted_at - 700 WHERE task_id = 'task_2' RETURNING 1")
        expire(place)
        async with place.journal() as second:
            assert second.takeover is not None
            assert (second.takeover.unknown, second.takeover.accepted) == (2, 1)
            assert 60 <= second.takeover.idle < 600
    async with place.journal() as third:
        assert third.takeover is not None
        assert third.takeover.unknown == 0
        assert 0 <= third.takeover.idle < 60


@pytest.mark.parametrize(("ago", "is_sent"), [("0 s", False), ("90 s", True)])
async def test_a_client_that_took_over_sends_once_the_limit_is_free_again(
    place: InPostgres, ago: str, is_sent: bool
) -> None:
    async with place.journal():
        pass
    place.rows(f"UPDATE holder SET lease_until = clock_timestamp() - interval '{ago}' RETURNING 1")
    service = Service(EmulatorSettings(key=KEY, image=Durations(0.001, 0.0)))
    async with RuxaClient(
        api_key=KEY,
        base_url=URL,
        transport=MemoryTransport(service),
        journal=place.journal(),
        limits=Limits(create_rate=RateLimit(5, 60.0)),
    ) as ruxa:
        with anyio.move_on_after(None if is_sent else 0.3):
            await ruxa.submit(request())
    assert service.ledger.charged == is_sent


async def test_a_holder_that_is_stuck_in_a_transaction_is_taken_over(place: InPostgres) -> None:
    import psycopg

    async with place.journal():
        pass
    with psycopg.connect(place.dsn) as stuck:
        stuck.execute(f'SET search_path = "{place.schema}"')
        stuck.execute("UPDATE holder SET name = 'stuck', lease_until = clock_timestamp() + interval '0.5 s'")
        stuck.commit()
        stuck.execute("UPDATE holder SET last_group = 'never committed'")
        async with place.journal(wait=30.0) as journal:
            await journal.intend(job("k"))
        with pytest.raises(psycopg.OperationalError):
            stuck.execute("SELECT 1")


def block_until(place: InPostgres, condition: str) -> None:
    """Block the event loop until *condition* is true in the database."""
    end = time.monotonic() + 60
    while not place.rows(f"SELECT 1 WHERE {condition}"):
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("taken", [True, False])
async def test_an_intent_that_was_written_too_long_ago_is_sent_only_while_the_journal_is_held(
    place: InPostgres, taken: bool
) -> None:
    import psycopg

    async with place.journal(lease=LEASE) as journal:
        await journal.bind(base_url=URL, api_key=KEY)
        results: list[object] = []

        begun = anyio.Event()

        async def intend() -> None:
            begun.set()
            try:
                results.append(await journal.intend(job("k")))
            except JournalError as exc:
                results.append(exc)

        async with anyio.create_task_group() as tg:
            tg.start_soon(intend)
            await begun.wait()
            block_until(place, "EXISTS (SELECT FROM jobs)")
            with closing(psycopg.connect(place.dsn)) as slow:  # the server does not renew the lease meanwhile
                slow.execute(f'SELECT FROM "{place.schema}".holder FOR UPDATE')
                block_until(place, "(SELECT lease_until < clock_timestamp() FROM holder)")
                if taken:
                    with ThreadPoolExecutor() as pool:  # this event loop stays blocked
                        pool.submit(anyio.run, take_over, place).result()
        (result,) = results
        if taken:
            assert isinstance(result, JournalError)
            assert states(place) == {"not_bought": 1}
        else:
            assert isinstance(result, int)
            assert states(place) == {"intended": 1}


async def take_over(place: InPostgres) -> None:
    async with place.journal() as journal:
        assert [each.name for each in await journal.unknowns()] == ["k"]


async def test_a_takeover_that_is_committed_while_an_intent_waits_for_it_refuses_the_intent(
    place: InPostgres,
) -> None:
    import psycopg

    async with place.journal() as journal:
        await journal.bind(base_url=URL, api_key=KEY)
        entry = await journal.intend(job("before"))
        with closing(psycopg.connect(place.dsn)) as another:
            another.execute(f'SET search_path = "{place.schema}"')
            another.execute("UPDATE holder SET epoch = epoch + 1, name = 'another'")

            async def intend() -> None:
                with pytest.raises(JournalError, match="another process holds this journal now"):
                    await journal.intend(job("k"))

            async with anyio.create_task_group() as tg:
                tg.start_soon(intend)
                tg.start_soon(journal.accepted, of(entry, "task_1"))
                with anyio.fail_after(60):
                    while not place.rows("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
                        await anyio.sleep(0.01)
                another.commit()
        assert states(place) == {"adopted": 1}


async def test_the_statements_of_a_group_are_sent_before_rows_are_awaited(
    place: InPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    from ruxa_async.journal import _postgres_connection as module

    events: list[str] = []
    execute, fetchall = module.PostgresConnection.execute, psycopg.Cursor.fetchall

    def recorded_execute(self: Any, sql: str, parameters: Any = ()) -> Any:
        events.append(sql.split(maxsplit=1)[0])
        return execute(self, sql, parameters)

    def recorded_fetchall(self: Any) -> Any:
        events.append("rows")
        return fetchall(self)

    async with place.journal() as journal:
        await journal.open_purchase("run", request(key="first"))
        monkeypatch.setattr(module.PostgresConnection, "execute", recorded_execute)
        monkeypatch.setattr(psycopg.Cursor, "fetchall", recorded_fetchall)

        async def buy(key: str) -> None:
            purchase = await journal.open_purchase("run", request(key=key))
            await journal.intend(job(key, entry=purchase.match.entry))

        async with anyio.create_task_group() as tg:
            for number in range(20):
                tg.start_soon(buy, f"k{number}")
        monkeypatch.undo()
    groups = [group.split() for group in " ".join(events).split("BEGIN")[1:]]
    assert any(len(group) > 10 for group in groups)
    for group in groups:
        assert group[0] == "UPDATE"  # the lease
        sent, read = group.count("SELECT") + group.count("INSERT"), group.count("rows")
        assert group[1:] == [*group[1 : 1 + sent], *["rows"] * read, "COMMIT"]
        assert sent == read


async def test_a_group_that_is_larger_than_the_buffers_of_the_connection_is_written(
    place: InPostgres,
) -> None:
    prompts = {f"k{number}": f"{number} " * 10_000 for number in range(100)}
    async with place.journal() as journal:
        await journal.bind(base_url=URL, api_key=KEY)
        async with anyio.create_task_group() as tg:
            for key, prompt in prompts.items():
                tg.start_soon(journal.intend, job(key, prompt=prompt))
        await journal.unbind()  # what is only intended becomes unknown
        written = {each.key: each for each in await journal.unknowns()}
    assert {key: each.request.input()["prompt"] for key, each in written.items()} == prompts


# ---- beside the holder


async def test_a_journal_that_is_opened_beside_its_holder_settles_jobs_and_buys_nothing(
    place: InPostgres,
) -> None:
    async with place.journal() as holder, place.journal(hold=False) as beside:
        await holder.bind(base_url=URL, api_key=KEY)
        for key in ("adopted", "forgotten", "called back"):
            await holder.unknown(of(await holder.intend(job(key, callback_id=key.encode()))))
        await beside.adopt("adopted", "task_1")
        await beside.forget("forgotten")
        assert await beside.called_back(b"called back", "task_2", None)
        assert not await beside.called_back(b"of another journal", "task_3", None)
        assert await holder.unknowns() == []
        assert [each.task_id for each in await holder.callbacks()] == ["task_3"]
        for write in (
            beside.bind(base_url=URL, api_key=KEY),
            beside.intend(job("more")),
            beside.open_run("run"),
            beside.open_purchase("run", job("k").request),  # type: ignore[arg-type]
        ):
            with pytest.raises(JournalError, match="opened with hold=False"):
                await write
        await holder.intend(job("more"))
    assert states(place) == {"adopted": 2, "forgotten": 1, "intended": 1}


async def test_a_job_that_is_being_sent_is_not_settled_beside_its_holder(place: InPostgres) -> None:
    async with place.journal() as holder, place.journal(hold=False) as beside:
        await holder.intend(job("k"))
        with pytest.raises(JournalError, match="not in doubt: it is intended"):
            await beside.forget("k")


async def test_a_view_shows_counts_and_unknown_jobs_and_who_holds_the_journal(place: InPostgres) -> None:
    place.schema = place.schema.replace(" ", "_")
    where = f"{place.dsn}#{place.schema}"
    with pytest.raises(JournalError, match="there is no journal here"):
        await view_journal(where)
    async with place.journal() as journal:
        await journal.unknown(of(await journal.intend(job("k"))))
        await journal.intend(job("l"))
        view = await view_journal(where)
        assert view.in_use is not None
        assert f"process {os.getpid()} on " in view.in_use.holder
        assert view.lease is not None
        assert 0 < view.lease <= 10
        assert view.counts is not None
        assert view.counts.jobs[JobState.INTENDED] == 1
        assert [each.name for each in view.unknowns] == ["k"]
        expire(place)
        view = await view_journal(where)
        assert (view.in_use, view.lease) == (None, None)
        assert [each.name for each in view.unknowns] == ["k", "l"]  # as the next holder will find them
    assert states(place) == {"unknown": 1, "intended": 1}


# ---- a server that is away


async def test_a_lost_connection_is_not_noticed(place: InPostgres) -> None:
    async with place.journal() as journal:
        run = await journal.open_run("run")
        first = await run.match(job(None).request)  # type: ignore[arg-type]
        entry = await journal.intend(job(entry=first.entry))
        lose_connections(place)
        await journal.accepted(of(entry, "task_1"))
        lose_connections(place)
        second = await run.match(job(None).request)  # type: ignore[arg-type]
        assert second.known is None  # equal requests are still counted
        assert second.name.endswith("~2")
    assert states(place) == {"accepted": 1}


async def test_an_idle_holder_whose_connection_is_lost_goes_on(place: InPostgres) -> None:
    async with place.journal(lease=LEASE) as journal:
        lose_connections(place)
        await anyio.sleep(LEASE)
        await journal.intend(job("k"))


async def test_what_is_written_while_the_server_is_away_is_written_when_it_is_back(
    own_server: Postgres,
) -> None:
    place = InPostgres(own_server.dsn)
    async with place.journal() as journal:
        entries = [await journal.intend(job(f"k{n}")) for n in range(20)]
        await to_thread.run_sync(own_server.kill)
        async with anyio.create_task_group() as tg:
            for n, entry in enumerate(entries):
                tg.start_soon(journal.accepted, of(entry, f"task_{n}"))
            await anyio.sleep(0.3)
            await to_thread.run_sync(own_server.restart)
        assert (await journal.counts()).jobs[JobState.ACCEPTED] == 20


async def test_a_server_that_stays_away_is_an_error_that_says_what_to_do(own_server: Postgres) -> None:
    place = InPostgres(own_server.dsn)
    journal = await place.journal(patience=0.3).__aenter__()
    await to_thread.run_sync(own_server.stop)
    with pytest.raises(JournalError, match="see that it runs and can be reached"):
        await journal.intend(job("k"))
    await to_thread.run_sync(own_server.start)
    await journal.intend(job("k"))
    await journal.aclose()


async def test_a_process_that_stands_by_says_that_the_server_is_away(own_server: Postgres) -> None:
    place = InPostgres(own_server.dsn)
    waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'ruxa-async journal' OFFSET 1"
    async with place.journal(patience=0.3) as journal:

        async def stand_by() -> None:
            with pytest.raises(JournalError, match="see that it runs and can be reached"):
                await place.journal(wait=math.inf).__aenter__()

        async with anyio.create_task_group() as tg:
            tg.start_soon(stand_by)
            with anyio.fail_after(60):
                while not place.rows(waiting):
                    await anyio.sleep(0.01)
            await to_thread.run_sync(own_server.stop)
        await to_thread.run_sync(own_server.start)
        await journal.intend(job("k"))


@pytest.fixture
def one_lost_commit(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after which one connection is lost right after COMMIT reached the server."""
    from ruxa_async.journal import _postgres_connection as module
    from ruxa_async.journal._dsn import driver

    plain = module.PostgresConnection.execute
    lose: list[bool] = []

    def losing(self: Any, sql: str, parameters: Any = (), /) -> Any:
        result = plain(self, sql, parameters)
        if sql == "COMMIT" and lose:
            lose.clear()
            with suppress(driver().ProgrammingError):  # it has no rows
                result.fetchall()  # waits until the server has committed
            self.close()
            raise driver().OperationalError("the connection was lost")
        return result

    monkeypatch.setattr(module.PostgresConnection, "execute", losing)
    return lambda: lose.append(True)


async def test_a_group_whose_commit_was_not_acknowledged_is_written_once(
    place: InPostgres, one_lost_commit: Callable[[], None]
) -> None:
    async with place.journal() as journal:
        one_lost_commit()
        entry = await journal.intend(job("k"))
    assert place.rows("SELECT id, attempts FROM jobs") == [(entry, 1)]


async def test_after_a_group_that_was_reported_lost_and_is_durable_the_journal_goes_on(
    place: InPostgres, one_lost_commit: Callable[[], None]
) -> None:
    async with place.journal(patience=0.0) as journal:
        one_lost_commit()
        with pytest.raises(JournalError, match="the server is away"):
            await journal.intend(job("k"))
        with anyio.fail_after(60):
            await journal.intend(job("l"))
    assert place.rows("SELECT count(*) FROM jobs") == [(2,)]


# ---- what is refused


async def test_a_server_that_may_lose_what_it_acknowledged_is_refused(own_server: Postgres) -> None:
    own_server.stop()
    own_server.start("fsync=off")
    with pytest.raises(JournalError, match="fsync=off"):
        await InPostgres(own_server.dsn).journal().__aenter__()


async def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    if (missing := postgres_missing()) is not None:
        pytest.skip(missing)
    journal = PostgresJournal("postgresql://me:canary@127.0.0.1:1/db?connect_timeout=2")
    with pytest.raises(
        JournalError, match=r"postgresql://me@127\.0\.0\.1:1/db#ruxa_async: the server is away"
    ) as caught:
        await journal.__aenter__()
    assert "canary" not in f"{caught.value} {journal!r}"


async def test_a_journal_of_a_newer_version_is_left_alone(place: InPostgres) -> None:
    async with place.journal():
        pass
    place.rows("UPDATE version SET number = 99 RETURNING 1")
    with pytest.raises(JournalError, match=r"newer version of ruxa_async \(its schema is 99"):
        await place.journal().__aenter__()


async def test_a_view_of_another_version_says_what_to_do(place: InPostgres) -> None:
    place.schema = place.schema.replace(" ", "_")
    async with place.journal():
        pass
    for number, advice in (
        (99, "upgrade ruxa_async"),
        (0, "run a batch or a client with this journal first"),
    ):
        place.rows(f"UPDATE version SET number = {number} RETURNING 1")
        with pytest.raises(JournalError, match=f"its schema is {number}.*{advice}"):
            await view_journal(f"{place.dsn}#{place.schema}")


def test_the_schema_may_stand_behind_the_address() -> None:
    shown = {
        "postgresql://me:canary@h:1/db": "postgresql://me@h:1/db#ruxa_async",
        "postgresql://me:canary@h/db#team_a": "postgresql://me@h/db#team_a",
        "postgresql://me:can#ary@h/db": "postgresql://me@h/db#ruxa_async",
        "host=h password=canary": "postgresql://h/#ruxa_async",
    }
    for dsn, path in shown.items():
        assert PostgresJournal(dsn).path == path
    assert PostgresJournal("postgresql://h/db#a", schema="b").path == "postgresql://h/db#b"


def test_an_address_that_cannot_be_read_is_not_repeated() -> None:
    for dsn in ("postgresql://me:can@ary@h/db", "postgresql://me:x/canary@h/db", "canary"):
        with pytest.raises(ConfigurationError, match="percent-encoded") as caught:
            PostgresJournal(dsn)
        assert "ary" not in "".join(format_exception(caught.value))
        assert caught.value.__context__ is None


def test_a_lease_that_is_too_short_is_refused(place: InPostgres) -> None:
    with pytest.raises(ValueError, match=r"lease=0\.5 is not valid"):
        place.journal(lease=0.5)
