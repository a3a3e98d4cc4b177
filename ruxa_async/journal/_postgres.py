"""`PostgresJournal`: a journal in PostgreSQL, which outlives the machine of the client."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import Self

import anyio
from anyio import to_thread

from ruxa_async.errors import JournalInUseError

from ._dsn import driver, name_of_server, split_schema
from ._journal import DatabaseJournal
from ._postgres_connection import PostgresConnection
from ._postgres_database import PostgresDatabase, current_holder
from ._records import KeptCallback
from ._rows import list_new_callbacks

__all__ = ("PostgresJournal",)

#: seconds between looks whether another process still holds the journal; each costs half a millisecond
_STANDBY_INTERVAL = 0.1


class PostgresJournal(DatabaseJournal):
    """A journal in the PostgreSQL database at *dsn*, in tables of *schema*, which are created if needed.

    *schema* may also stand behind ``#`` in *dsn*; without either it is ``ruxa_async``. This needs the extra
    ``postgres`` and PostgreSQL 13 or later.

    One process at a time holds the journal: it renews a lease with every commit, and another process can take
    over *lease* seconds after the last one. Jobs that were being sent then become unknown. A process that was
    taken over sends nothing more; it still records what it learns of its own tasks.

    *wait* is how many seconds to wait for the lease while another process holds it: 0, the default, raises
    `JournalInUseError` at once, ``math.inf`` stands by. With *hold* false, the journal is opened beside its
    holder: you can read it, settle unknown jobs and record callbacks, but no client can use it.

    Operations wait up to *patience* seconds for a server that is away, and nothing is sent meanwhile.
    *allow_async_replica* accepts a server with a replica that is not synchronous, where a failover can lose
    purchases. *service* and *new_key* are those of `SqliteJournal`.

    A schema belongs to one account. The password in *dsn* and the API key are in no message and in no row.
    Raises `ConfigurationError` if *dsn* cannot be read. Entering it raises `JournalError` if the server
    cannot be used.
    """

    def __init__(
        self,
        dsn: str,
        *,
        schema: str | None = None,
        lease: float = 10.0,
        wait: float = 0.0,
        hold: bool = True,
        patience: float = 60.0,
        allow_async_replica: bool = False,
        service: str | None = None,
        new_key: bool = False,
    ) -> None:
        driver()  # raises MissingExtraError here, where it is read, not in a thread
        if not lease >= 1.0:
            raise ValueError(f"lease={lease!r} is not valid: at least 1 second is needed")
        dsn, named = split_schema(dsn)
        tables = named if schema is None else schema
        path = name_of_server(dsn, tables)
        self._wait = wait
        self._connect = partial(PostgresConnection.open, dsn, tables)

        def database() -> PostgresDatabase:
            return PostgresDatabase(
                path,
                dsn,
                tables,
                lease=lease if hold else None,
                patience=patience,
                async_replica=allow_async_replica,
            )

        super().__init__(path, database, service=service, new_key=new_key)

    async def recent_callbacks(self, seconds: float) -> list[KeptCallback]:
        """Return the callbacks of the last *seconds* that were kept or that another process recorded."""
        since = time.time() - seconds
        return await self._run(lambda store: list_new_callbacks(store.connection, since))

    async def __aenter__(self) -> Self:
        with anyio.move_on_after(self._wait):
            while self._wait > 0:
                try:
                    return await super().__aenter__()
                except JournalInUseError:
                    await self._wait_for_holder()
        return await super().__aenter__()

    async def _wait_for_holder(self) -> None:
        """Return when the lease has ended, or when it is not known because the server is away."""
        await anyio.sleep(_STANDBY_INTERVAL)
        with suppress(driver().Error):
            connection = await to_thread.run_sync(self._connect)
            try:
                while (await to_thread.run_sync(current_holder, connection))[1] is not None:  # noqa: ASYNC110
                    await anyio.sleep(_STANDBY_INTERVAL)
            finally:
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(connection.close)
