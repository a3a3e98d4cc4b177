"""Statements that are sent to PostgreSQL together. Blocking: for the journal's thread.

A cursor of psycopg spends 75 µs of CPU on a statement in a pipeline, which was half of what a journal costs a
client. Sent through psycopg's wrapper of libpq, as here, it takes 15 µs.
"""

from __future__ import annotations

import selectors
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attrs import define, field

from ._dsn import driver

if TYPE_CHECKING:
    import psycopg
    from psycopg import pq

__all__ = ("Pipeline", "Rows")

#: Waits for one socket without a file descriptor of its own.
_Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)


@define(eq=False)
class Rows:
    """The rows of a statement that was sent, which are received when they are first asked for."""

    _pipeline: Pipeline
    _rows: list[Any] | None = None

    def receive(self, rows: list[Any]) -> None:
        """Set the rows."""
        self._rows = rows

    def fetchall(self) -> list[Any]:
        """Return the remaining rows."""
        if self._rows is None:
            self._pipeline.receive()
        assert self._rows is not None
        rows, self._rows = self._rows, []
        return rows

    def fetchone(self) -> Any:
        """Return the next row, None after the last."""
        rows = self._rows = self.fetchall()
        return rows.pop(0) if rows else None


@define(eq=False)
class Pipeline:
    """Sends prepared statements on *connection* without waiting for their results.

    After an error, which is one of psycopg's, the connection can only be closed.
    """

    _connection: psycopg.Connection[Any]
    _libpq: pq.abc.PGconn = field(init=False)
    _selector: selectors.BaseSelector = field(init=False)
    _transformer: Any = field(init=False)
    #: The statements that the server has prepared, by their text.
    _prepared: dict[str, bytes] = field(factory=dict, init=False)
    #: The statements whose results have not been received; None for one that prepares another.
    _sent: deque[Rows | None] = field(factory=deque, init=False)

    def __attrs_post_init__(self) -> None:
        self._libpq = self._connection.pgconn
        self._selector = _Selector()
        self._selector.register(self._libpq.socket, selectors.EVENT_READ)
        self._transformer = driver().adapt.Transformer(self._connection)

    def begin(self) -> None:
        """Let the next statements be sent together."""
        self._libpq.enter_pipeline_mode()

    def execute(self, sql: str, parameters: Sequence[Any]) -> Rows:
        """Send one statement, whose parameters are written as ``?``."""
        values = [_dump(value) for value in parameters]
        name = self._prepared.get(sql)
        if name is None:
            name = self._prepared[sql] = b"ruxa_%d" % len(self._prepared)
            self._libpq.send_prepare(name, _numbered(sql))
            self._sent.append(None)
        self._libpq.send_query_prepared(name, values)
        rows = Rows(self)
        self._sent.append(rows)
        return rows

    def end(self) -> None:
        """Receive all results, and let statements be sent one by one again."""
        self._libpq.pipeline_sync()
        self._receive_sent()
        assert self._result().status == driver().pq.ExecStatus.PIPELINE_SYNC
        self._libpq.exit_pipeline_mode()

    def receive(self) -> None:
        """Receive the results of all statements that were sent. Raises the first error among them."""
        self._libpq.send_flush_request()
        self._receive_sent()

    def _receive_sent(self) -> None:
        while self._libpq.flush():
            self._wait(selectors.EVENT_READ | selectors.EVENT_WRITE)
        psycopg = driver()
        good = (psycopg.pq.ExecStatus.COMMAND_OK, psycopg.pq.ExecStatus.TUPLES_OK)
        while self._sent:
            result = self._result()
            if result.status not in good:
                raise psycopg.errors.error_from_result(result)
            rows = self._sent.popleft()
            if rows is not None:
                self._transformer.set_pgresult(result)
                rows.receive(self._transformer.load_rows(0, result.ntuples, tuple))

    def _result(self) -> pq.abc.PGresult:
        for _ in range(2):  # the first may be the end of the statement before
            while self._libpq.is_busy():
                self._wait(selectors.EVENT_READ)
            if (result := self._libpq.get_result()) is not None:
                return result
        raise driver().OperationalError("the connection is lost")

    def _wait(self, events: int) -> None:
        self._selector.modify(self._libpq.socket, events)
        self._selector.select()
        self._libpq.consume_input()


def _dump(value: Any) -> bytes | None:
    """Return *value* in PostgreSQL's text format."""
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return b"\\x" + value.hex().encode()
    if isinstance(value, int):
        return int.__repr__(value).encode()
    return float.__repr__(value).encode()


def _numbered(sql: str) -> bytes:
    """Return *sql* with its parameters written as ``$1``, ``$2``, ..."""
    first, *rest = sql.split("?")
    return "".join([first, *(f"${number}{text}" for number, text in enumerate(rest, 1))]).encode()
