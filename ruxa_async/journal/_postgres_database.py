"""The PostgreSQL server behind a journal: its lease, its transactions, and what happens when it is away."""

from __future__ import annotations

import math
import os
import platform
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import Any

from attrs import evolve

from ruxa_async._internal.failpoints import failpoint
from ruxa_async._logging import logger
from ruxa_async.errors import JournalError, JournalInUseError

from ._dsn import driver
from ._postgres_connection import PostgresConnection, migrate
from ._postgres_store import TAKEN_OVER, PostgresStore
from ._records import Takeover
from ._schema import Connection, SchemaError
from ._store import Store
from ._thread import perform, read

__all__ = ("PostgresDatabase", "current_holder", "explained")

#: seconds between attempts to reach a server that is away; the pause doubles from the first to the second
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.25
#: The share of the lease in which this process sends. The rest is for clocks that run at different speeds,
#: and for the time between the last check and the first byte.
_SENDING_SHARE = 0.75
#: Milliseconds to wait for the row of a holder whose lease has ended, before and after ending its connection.
_LOCK_TIMEOUTS = (1_000, 5_000)
#: Ends the connections that have locked that row since before the end of the lease.
_END_STUCK = (
    "SELECT pg_terminate_backend(locks.pid) FROM pg_locks AS locks JOIN pg_stat_activity AS activity"
    " ON activity.pid = locks.pid, holder WHERE locks.relation = 'holder'::regclass AND locks.granted"
    " AND locks.mode IN ('RowShareLock', 'RowExclusiveLock') AND locks.pid <> pg_backend_pid()"
    " AND activity.xact_start < holder.lease_until"
)
#: Creates that were being sent, and tasks of the last ten minutes whose end is not recorded.
_LEFT_BEHIND = (
    "SELECT count(CASE WHEN state = 'intended' THEN 1 END), count(CASE WHEN state = 'accepted'"
    " AND accepted_at > extract(epoch FROM clock_timestamp()) - 600 THEN 1 END)"
    " FROM jobs WHERE state IN ('intended', 'accepted')"
)
#: The oldest version of PostgreSQL that this is tested for.
_OLDEST = 130_000
#: Extends the lease at the beginning of a transaction, or fails if another process or another transaction of
#: this one came between: the column may not be null. The server skips what was sent behind it then.
_EXTEND = (
    "UPDATE holder SET last_group = ?, lease_until ="
    " CASE WHEN epoch = ? AND last_group = ? THEN clock_timestamp() + make_interval(secs => ?) END"
)
#: SQLSTATE classes after which the same transaction may succeed: lost connection, no resources, shutdown, ...
_TRANSIENT_CLASSES = ("08", "40", "53", "57")
#: ... a lock that was not free in time, a server that became a replica, and an idle transaction that ended.
_TRANSIENT_STATES = ("55P03", "25006", "25P03")


class PostgresDatabase:
    """The journal in *schema* of the server at *dsn*, which *path* names without its password.

    *lease* is how many seconds another process waits after the last sign of this one; None opens the journal
    beside its holder. Operations wait up to *patience* seconds for a server that is away.
    """

    def __init__(
        self, path: str, dsn: str, schema: str, *, lease: float | None, patience: float, async_replica: bool
    ) -> None:
        self.path: str = path
        self.renewal: float | None = None if lease is None else lease / 4
        self._taken_at = 0.0  # by the monotonic clock
        self._takeover: Takeover | None = None
        self._dsn = dsn
        self._schema = schema
        self._lease = lease
        self._patience = patience
        self._async_replica = async_replica
        self._connection: PostgresConnection | None = None
        self._store: PostgresStore | None = None
        self._epoch = 0
        self._last_group = ""
        self._may_send_until = -math.inf  # by the monotonic clock of this process
        self._broken: JournalError | None = None

    @property
    def takeover(self) -> Takeover | None:
        """What an earlier holder may have left at the service, None if there was none."""
        found = self._takeover
        return None if found is None else evolve(found, idle=found.idle + time.monotonic() - self._taken_at)

    def may_send(self) -> bool:
        """Tell whether no other process can have taken the journal over yet, by the clock of this one.

        May be called from any thread.
        """
        return time.monotonic() < self._may_send_until

    @property
    def _holds(self) -> bool:
        """Whether this process holds the journal, as far as it knows.

        Only then are statements sent together. The server ends a transaction whose client was stopped between
        two statements, but not within a pipeline; there the next holder does it, see `_lock_holder`.
        """
        return self._store is not None and not self._store.refusal

    def _extend(self, began: float) -> None:
        """Record that the lease was extended by statements that were sent at *began* or later."""
        if self._holds and self._lease is not None:
            self._may_send_until = began + self._lease * _SENDING_SHARE

    # ---- opening and closing

    def open(self) -> None:
        """Connect, migrate and take the lease. Raises `JournalInUseError`, or `JournalError`."""
        psycopg = driver()
        try:
            self._connection = connection = PostgresConnection.open(self._dsn, self._schema)
            self._check_server(connection)
            connection.execute("BEGIN")
            migrate(connection, self._schema)
            connection.execute("COMMIT")
            if self._lease is None:
                self._store = PostgresStore.beside_holder(connection, self.path)
            else:
                self._take_over(connection, self._lease)
        except (psycopg.Error, SchemaError) as exc:
            self._disconnect()
            raise explained(self.path, exc) from exc
        except BaseException:
            self._disconnect()
            raise

    def _check_server(self, connection: PostgresConnection) -> None:
        """Raise `SchemaError` if the server may lose what it acknowledged."""
        version, fsync, standbys, replica, replicas = connection.execute(
            "SELECT current_setting('server_version_num')::int, current_setting('fsync'),"
            " current_setting('synchronous_standby_names'), pg_is_in_recovery(),"
            " (SELECT count(*) FROM pg_stat_replication)"
        ).fetchone() or (0, "", "", False, 0)
        if version < _OLDEST:
            raise SchemaError(f"PostgreSQL 13 or later is needed; this server has version {version // 10000}")
        if replica:
            raise SchemaError("this server is a replica, which cannot be written: give the primary's address")
        if fsync != "on":
            raise SchemaError(
                "the server runs with fsync=off, so a crash may lose purchases, which would be bought again: "
                "set fsync=on"
            )
        if replicas and not standbys and not self._async_replica:
            raise SchemaError(
                "the server has a replica that is not synchronous: a failover to it may lose purchases, "
                "which would be bought again. Set synchronous_standby_names, or accept the risk with "
                "PostgresJournal(allow_async_replica=True)"
            )

    def _take_over(self, connection: PostgresConnection, lease: float) -> None:
        began = time.monotonic()
        epoch, remaining = self._lock_holder(connection)
        intended, accepted = connection.execute(_LEFT_BEHIND).fetchall()[0]
        connection.execute(
            "UPDATE holder SET epoch = epoch + 1, name = ?, since = clock_timestamp(), last_group = '',"
            " lease_until = clock_timestamp() + make_interval(secs => ?)",
            (f"process {os.getpid()} on {platform.node()}", lease),
        )
        store = PostgresStore.take_over(connection, self.path)
        connection.execute("COMMIT")
        self._epoch, self._last_group, self._store = epoch + 1, "", store
        self._extend(began)
        if epoch > 0:
            self._taken_at, self._takeover = (
                began,
                Takeover(idle=-remaining, unknown=intended, accepted=accepted),
            )

    def _lock_holder(self, connection: PostgresConnection) -> tuple[int, float]:
        """Begin a transaction that locks the row of a holder whose lease has ended.

        Return its epoch, and the seconds until its lease ends, which are negative. A holder that was stopped
        in a transaction keeps that row locked, so its connection is ended. What it had not committed is
        rolled back; it had not sent that either.
        """
        for timeout in _LOCK_TIMEOUTS:
            holder, lease = current_holder(connection)
            if lease is not None:
                break
            connection.execute("BEGIN")
            connection.execute(f"SET LOCAL lock_timeout = {timeout}")
            try:
                epoch, remaining = connection.execute(
                    "SELECT epoch, extract(epoch FROM lease_until - clock_timestamp())::float8 FROM holder"
                    " FOR UPDATE"
                ).fetchall()[0]
            except driver().errors.LockNotAvailable:
                connection.execute("ROLLBACK")
                connection.execute(_END_STUCK)
                continue
            if remaining < 0:
                return epoch, remaining
            connection.execute("ROLLBACK")
        raise JournalInUseError(self.path, holder)

    def renew(self) -> None:
        """Extend the lease while nothing is written. A server that is away is left to `transact`."""
        if self._connection is None:
            return
        began = time.monotonic()
        try:
            row = self._connection.execute(
                "UPDATE holder SET lease_until = clock_timestamp() + make_interval(secs => ?)"
                " WHERE epoch = ? RETURNING epoch",
                (self._lease, self._epoch),
            ).fetchone()
            if row is not None:
                self._extend(began)
        except driver().Error as exc:
            logger.warning("%s: the lease was not renewed: %s", self.path, _in_one_line(exc))
            self._disconnect()

    def close(self) -> None:
        """Give the lease back and disconnect."""
        failpoint("journal closing")
        try:
            if self._connection is not None and self._lease is not None:
                self._connection.execute(
                    "UPDATE holder SET lease_until = clock_timestamp(), name = '' WHERE epoch = ?",
                    (self._epoch,),
                )
        finally:
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(driver().Error):
                connection.close()

    # ---- transactions

    def transact(self, operations: Sequence[Callable[[Store], Any]]) -> list[Any]:
        """Run *operations* in one transaction, again if the server was away. Raises `JournalError`."""
        if self._broken is not None:
            raise self._broken
        tried: dict[str, list[Any]] | None = None
        pause, deadline = _FIRST_PAUSE, time.monotonic() + self._patience
        while True:
            try:
                connection = self._connected()
                if tried is None:
                    tried = {}
                elif self._holds and (durable := self._find_durable(connection, tried)) is not None:
                    return durable
                return self._transact_once(connection, operations, tried)
            except (driver().Error, SchemaError) as exc:
                self._disconnect()
                if _is_fenced(exc):
                    continue
                if not _is_transient(exc):
                    self._broken = explained(self.path, exc)
                    raise self._broken from exc
                if time.monotonic() >= deadline:
                    raise explained(self.path, exc) from exc
                if pause == _FIRST_PAUSE:
                    logger.warning("%s is away, trying again: %s", self.path, _in_one_line(exc))
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _connected(self) -> PostgresConnection:
        if self._connection is None:
            self._connection = PostgresConnection.open(self._dsn, self._schema)
            assert self._store is not None
            self._store.connection = self._connection
        return self._connection

    def _transact_once(
        self,
        connection: PostgresConnection,
        operations: Sequence[Callable[[Store], Any]],
        tried: dict[str, list[Any]],
    ) -> list[Any]:
        """Return the results of *operations* once they are durable.

        Before they may be, the results are put into *tried* under the name of the transaction, which is
        committed with it: after a connection that was lost during COMMIT, `_find_durable` finds them.
        """
        assert self._store is not None
        began, group = time.monotonic(), uuid.uuid4().hex
        fatal = (driver().Error, SchemaError)
        with connection.pipeline() if self._holds else nullcontext():
            connection.execute("BEGIN")
            if self._store.refusal:
                # Every transaction locks this row, so that none changes a job that another one has just read.
                connection.execute("SELECT FROM holder FOR UPDATE")
            else:
                connection.execute(_EXTEND, (group, self._epoch, self._last_group, self._lease))
            sent = [perform(operation, self._store, fatal) for operation in operations]
            tried[group] = results = [read(each, self._store, fatal) for each in sent]
            failpoint("group written")
            connection.execute("COMMIT")
        self._last_group = group
        self._extend(began)
        failpoint("group committed")
        return results

    def _find_durable(self, connection: PostgresConnection, tried: dict[str, list[Any]]) -> list[Any] | None:
        """Return the results of the transaction in *tried* that is durable, None if none is.

        Note it if another process took the journal over. The last transaction may also be one whose callers
        got an error, because the server was away for too long after its COMMIT.
        """
        assert self._store is not None
        epoch, group = connection.execute("SELECT epoch, last_group FROM holder").fetchall()[0]
        if epoch == self._epoch:
            self._last_group = group
            return tried.get(group)
        logger.error("%s was taken over by %s", self.path, current_holder(connection)[0])
        self._store.refusal = TAKEN_OVER
        return None


def explained(path: str, error: Exception) -> JournalError:
    """Return the error to raise for *error*, with the server, the reason and what to do."""
    if isinstance(error, SchemaError):
        return JournalError(path, str(error))
    advice = "the server is away: see that it runs and can be reached, then run again"
    if not _is_transient(error):
        advice = "the server refused"
    return JournalError(path, f"{advice} ({_in_one_line(error)})")


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def current_holder(connection: Connection) -> tuple[str, float | None]:
    """Return who holds the journal, and the seconds until the lease ends; None if it has ended."""
    name, since, remaining = connection.execute(
        "SELECT name, to_char(since, 'YYYY-MM-DD HH24:MI:SS TZ'),"
        " extract(epoch FROM lease_until - clock_timestamp())::float8 FROM holder"
    ).fetchall()[0]
    return (f"{name} since {since}" if name else ""), (remaining if name and remaining >= 0 else None)


def _is_fenced(error: Exception) -> bool:
    """Return whether `_EXTEND` failed."""
    return isinstance(error, driver().errors.NotNullViolation) and error.diag.column_name == "lease_until"


def _is_transient(error: Exception) -> bool:
    """Return whether the same transaction may succeed later."""
    psycopg = driver()
    state = getattr(error, "sqlstate", None)
    if state is None:  # no response of the server: the connection was lost or never made
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return state.startswith(_TRANSIENT_CLASSES) or state in _TRANSIENT_STATES
