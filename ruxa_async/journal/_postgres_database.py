"""The PostgreSQL server behind a journal: its lease, its transactions, and what happens when it is away."""

from __future__ import annotations

import math
import os
import platform
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ruxa_async._internal.failpoints import failpoint
from ruxa_async._logging import logger
from ruxa_async.errors import JournalError, JournalInUseError

from ._dsn import driver
from ._postgres_connection import PostgresConnection, migrate
from ._postgres_store import TAKEN_OVER, PostgresStore
from ._records import Takeover
from ._schema import Connection, SchemaError
from ._store import Store
from ._thread import perform

__all__ = ("PostgresDatabase", "current_holder", "explained")

#: seconds between attempts to reach a server that is away; the pause doubles from the first to the second
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
#: The share of the lease in which this process sends. The rest is for clocks that run at different speeds,
#: and for the time between the last check and the first byte.
_SENDING_SHARE = 0.75
#: The oldest version of PostgreSQL that this is tested for.
_OLDEST = 130_000
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
        #: What an earlier holder may have left at the service, None if there was none.
        self.takeover: Takeover | None = None
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

    def may_send(self) -> bool:
        """Tell whether no other process can have taken the journal over yet, by the clock of this one.

        May be called from any thread.
        """
        return time.monotonic() < self._may_send_until

    def _extend(self, began: float) -> None:
        """Record that the lease was extended by statements that were sent at *began* or later."""
        if self._lease is not None and (self._store is None or not self._store.refusal):
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
        connection.execute("BEGIN")
        epoch, remaining = connection.execute(
            "SELECT epoch, extract(epoch FROM lease_until - clock_timestamp())::float8 FROM holder FOR UPDATE"
        ).fetchall()[0]
        if remaining >= 0:
            holder, _ = current_holder(connection)
            connection.execute("ROLLBACK")
            raise JournalInUseError(self.path, holder)
        (intended,) = connection.execute("SELECT count(*) FROM jobs WHERE state = 'intended'").fetchall()[0]
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
            self.takeover = Takeover(idle=-remaining, unknown=intended)

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
        """Run *operations* in one transaction, again if the server was away. Raises `JournalError`.

        The group has a name that is committed with it. So after a connection that was lost during COMMIT,
        the next one tells whether the group is durable.
        """
        if self._broken is not None:
            raise self._broken
        group, results = uuid.uuid4().hex, []
        pause, deadline = _FIRST_PAUSE, time.monotonic() + self._patience
        while True:
            began = time.monotonic()
            try:
                connection = self._connected()
                with connection.pipeline():
                    if is_new := self._begin(connection, group):
                        results = self._perform(operations)
                    connection.execute("COMMIT")
                self._last_group = group
                if is_new:
                    self._extend(began)
                failpoint("group committed")
            except (driver().Error, SchemaError) as exc:
                self._disconnect()
                if not _is_transient(exc):
                    self._broken = explained(self.path, exc)
                    raise self._broken from exc
                if time.monotonic() >= deadline:
                    raise explained(self.path, exc) from exc
                if pause == _FIRST_PAUSE:
                    logger.warning("%s is away, trying again: %s", self.path, _in_one_line(exc))
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return results

    def _connected(self) -> PostgresConnection:
        if self._connection is None:
            self._connection = PostgresConnection.open(self._dsn, self._schema)
            assert self._store is not None
            self._store.connection = self._connection
        return self._connection

    def _begin(self, connection: PostgresConnection, group: str) -> bool:
        """Begin the transaction of *group* and extend the lease; return False if it is committed already."""
        assert self._store is not None
        connection.execute("BEGIN")
        if self._store.refusal:
            # Every transaction locks this row, so that none changes a job that another one has just read.
            connection.execute("SELECT FROM holder FOR UPDATE")
            return True
        row = connection.execute(
            "UPDATE holder SET lease_until = clock_timestamp() + make_interval(secs => ?), last_group = ?"
            " WHERE epoch = ? AND last_group = ? RETURNING epoch",
            (self._lease, group, self._epoch, self._last_group),
        ).fetchone()
        if row is not None:
            return True
        if connection.execute(
            "SELECT 1 FROM holder WHERE epoch = ? AND last_group = ?", (self._epoch, group)
        ).fetchone():
            return False
        logger.error("%s was taken over by %s", self.path, current_holder(connection)[0])
        self._store.refusal = TAKEN_OVER
        return True

    def _perform(self, operations: Sequence[Callable[[Store], Any]]) -> list[Any]:
        assert self._store is not None
        fatal = (driver().Error, SchemaError)
        results = [perform(operation, self._store, fatal) for operation in operations]
        failpoint("group written")
        return results


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


def _is_transient(error: Exception) -> bool:
    """Return whether the same transaction may succeed later."""
    psycopg = driver()
    state = getattr(error, "sqlstate", None)
    if state is None:  # no response of the server: the connection was lost or never made
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return state.startswith(_TRANSIENT_CLASSES) or state in _TRANSIENT_STATES
