"""A journal in PostgreSQL: who holds it, what survives a server that is away, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from anyio import to_thread
from journal.places import InPostgres
from journal.tools import KEY, URL, failure, job, of, success
from servers import Postgres, postgres, postgres_missing

from ruxa_async import JournalError, JournalInUseError, TaskFailedError
from ruxa_async.journal import JobState, PostgresJournal

#: seconds; the shortest lease
LEASE = 1.0


@pytest.fixture
def place(server: Postgres) -> InPostgres:
    return InPostgres(server.dsn)


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    """A server that a test may stop."""
    missing = postgres_missing()
    if missing is not None:
        pytest.skip(missing)
    with postgres() as running:
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


async def test_a_group_whose_commit_was_not_acknowledged_is_written_once(
    place: InPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is lost right after COMMIT reached the server."""
    from ruxa_async.journal import _postgres_connection as module
    from ruxa_async.journal._dsn import driver

    async with place.journal() as journal:
        plain = module.PostgresConnection.execute
        lost: list[bool] = []

        def losing(self: Any, sql: str, parameters: Any = (), /) -> Any:
            result = plain(self, sql, parameters)
            if sql == "COMMIT" and not lost:
                lost.append(True)
                self.close()
                raise driver().OperationalError("the connection was lost")
            return result

        monkeypatch.setattr(module.PostgresConnection, "execute", losing)
        await journal.intend(job("k"))
        assert lost
    assert place.rows("SELECT count(*), max(attempts) FROM jobs") == [(1, 1)]


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


def test_a_lease_that_is_too_short_is_refused(place: InPostgres) -> None:
    with pytest.raises(ValueError, match=r"lease=0\.5 is not valid"):
        place.journal(lease=0.5)
