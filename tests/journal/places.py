"""Where a journal lies: in a file, or in a schema of a PostgreSQL server."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, Protocol

from attrs import define, field

from ruxa_async import SqliteJournal
from ruxa_async.journal import PostgresJournal


class Place(Protocol):
    """A journal that can be opened again and again."""

    def journal(self, **options: Any) -> SqliteJournal | PostgresJournal:
        """Return the journal, not yet open."""
        ...

    def bytes(self) -> bytes:
        """Return all that is stored."""
        ...


@define
class InFile:
    """A journal in the file *path*."""

    path: Path

    def journal(self, **options: Any) -> SqliteJournal:
        return SqliteJournal(self.path, **options)

    def bytes(self) -> bytes:
        return self.path.read_bytes()


@define
class InPostgres:
    """A journal in a schema of its own on the server at *dsn*."""

    dsn: str
    schema: str = field(factory=lambda: f"test {uuid.uuid4().hex}")

    def journal(self, **options: Any) -> PostgresJournal:
        return PostgresJournal(self.dsn, schema=self.schema, **options)

    def rows(self, sql: str) -> list[Any]:
        """Read the tables while another process may hold the journal."""
        import psycopg

        with psycopg.connect(self.dsn) as connection:
            connection.execute(f'SET search_path = "{self.schema}"')
            return connection.execute(sql).fetchall()

    def bytes(self) -> bytes:
        return repr([self.rows(f"SELECT * FROM {table}") for table in ("account", "jobs", "holder")]).encode()
