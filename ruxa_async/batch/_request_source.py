"""The requests of a run, as the client asks for them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Protocol

import anyio
from anyio import from_thread, lowlevel

from ruxa_async.requests import GenerationRequest

from ._input_rows import Row
from ._result_line import Result, describe_error

__all__ = ("Feed",)


class _Run(Protocol):
    """Who hears of the rows."""

    @property
    def stopped(self) -> bool:
        """Whether no more rows are wanted."""
        ...

    async def flush(self) -> None:
        """Make durable what was recorded."""
        ...

    def submitting(self, request: int, *, index: int, line: int) -> None:
        """Learn that the row at *index* becomes the request of this number."""
        ...

    def refuse(self, row: Row, result: Result) -> None:
        """Learn that a row is no request."""
        ...


class Feed:
    """The requests of good rows, as the client asks for them; bad rows are recorded on the way."""

    def __init__(self, run: _Run, rows: Iterator[Row], *, pulled: int) -> None:
        self._run = run
        self._rows = rows
        self._pulled = pulled
        self._ready: deque[Row] = deque()
        self._index = -1
        self._submitted = -1

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> GenerationRequest:
        while True:
            if not self._ready:
                await self._run.flush()
                self._ready.extend(await _pull(self._rows, self._pulled))
            if not self._ready or self._run.stopped:
                raise StopAsyncIteration
            row = self._ready.popleft()
            self._index += 1
            if row.request is not None:
                self._submitted += 1
                self._run.submitting(self._submitted, index=self._index, line=row.line)
                return row.request
            self._refuse(row)

    def _refuse(self, row: Row) -> None:
        error = None if row.error is None else describe_error(row.error)
        self._run.refuse(row, Result(index=self._index, line=row.line, state="invalid", error=error))


async def _pull(rows: Iterator[Row], count: int) -> list[Row]:
    """Read *count* rows in a thread of its own.

    Input may be a pipe that stays silent for ever. A daemon thread can be left waiting for it when the run is
    interrupted; anyio's workers would keep the process alive.
    """
    token = lowlevel.current_token()
    done = anyio.Event()
    taken: list[Row] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            taken.extend(islice(rows, count))
        except BaseException as error:  # noqa: BLE001 - it is raised where it was waited for
            errors.append(error)
        with suppress(anyio.RunFinishedError):
            from_thread.run_sync(done.set, token=token)

    threading.Thread(target=work, name="ruxa-async rows", daemon=True).start()
    await done.wait()
    if errors:
        raise errors[0]
    return taken
