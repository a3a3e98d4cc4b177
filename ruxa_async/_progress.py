"""The progress of outcomes: a bar in a terminal, a table in a notebook, elsewhere lines."""

from __future__ import annotations

import contextlib
import sys
import threading
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextvars import copy_context
from importlib import import_module
from importlib.util import find_spec
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar, cast, overload

from ._internal.text import spelled_seconds
from ._notebook import progress_html
from .results import Outcome

__all__ = ("progress",)

_O = TypeVar("_O", bound=Outcome)
#: Outcomes that the table of a notebook shows.
_MAX_RECENT = 8
#: Seconds for which the end of a loop waits for the thread that draws.
_JOIN_TIMEOUT = 1.0


@overload
def progress(outcomes: AsyncIterable[_O], *, total: int | None = None) -> AsyncIterator[_O]: ...


@overload
def progress(outcomes: Iterable[_O], *, total: int | None = None) -> Iterator[_O]: ...


def progress(
    outcomes: AsyncIterable[_O] | Iterable[_O], *, total: int | None = None
) -> AsyncIterator[_O] | Iterator[_O]:
    """Return an iterator over *outcomes*, unchanged, that shows on standard error how many have come.

    In a terminal that is a bar, if rich is installed (extra ``cli``); in a notebook a table with the last
    outcomes; elsewhere a line every 5 s. The last line stays. *total* is the number of requests, if you know
    it.

    Use it in place of ``ruxa.as_completed(...)`` or of the outcomes of a block, with ``async for``, or with
    ``for`` and the outcomes of `ruxa_async.sync`. Errors pass unchanged. When the loop ends or is left, the
    display is removed.
    """
    try:
        source = aiter(cast("AsyncIterable[_O]", outcomes))
    except TypeError:
        return _SyncProgress(iter(cast("Iterable[_O]", outcomes)), total)
    return _AsyncProgress(source, total)


class _Counts:
    """What is known of the loop. Its own thread writes it, and another one reads it."""

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.done = self.failed = 0
        self.recent: tuple[Outcome, ...] = ()
        self.began = monotonic()

    def add(self, outcome: Outcome) -> None:
        """Count *outcome*."""
        self.done += 1
        self.failed += not outcome.ok
        self.recent = (*self.recent, outcome)[-_MAX_RECENT:]

    def line(self) -> str:
        """Return the counts as a line."""
        total = "" if self.total is None else f" of {self.total:,}"
        lasted = spelled_seconds(monotonic() - self.began)
        return f"{self.done:,}{total} done, {self.failed:,} failed, {lasted}"


# ---- iterators


class _Progress(Generic[_O]):
    """Shows a display from the first step until the end, an error, or the loss of the last reference."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._counts: _Counts | None = None
        self._close: weakref.finalize[..., Any] | None = None
        self._over = False

    def _begin(self) -> None:
        if self._close is None and not self._over:
            self._counts = self._counts or _Counts(self._total)
            self._close = weakref.finalize(self, _Display(self._counts).close)

    def _count(self, outcome: _O) -> _O:
        assert self._counts is not None
        self._counts.add(outcome)
        return outcome

    def _end(self, error: BaseException) -> None:
        # After a cancellation or an interrupt the loop may go on.
        self._over = self._over or isinstance(error, Exception)
        if self._close is not None:
            self._close()
            self._close = None


class _AsyncProgress(_Progress[_O], AsyncIterator[_O]):
    def __init__(self, source: AsyncIterator[_O], total: int | None) -> None:
        super().__init__(total)
        self._source = source

    async def __anext__(self) -> _O:
        self._begin()
        try:
            return self._count(await anext(self._source))
        except BaseException as error:
            self._end(error)
            raise


class _SyncProgress(_Progress[_O], Iterator[_O]):
    def __init__(self, source: Iterator[_O], total: int | None) -> None:
        super().__init__(total)
        self._source = source

    def __next__(self) -> _O:
        self._begin()
        try:
            return self._count(next(self._source))
        except BaseException as error:
            self._end(error)
            raise


# ---- displays


class _View(Protocol):
    """Shows counts, every *interval* seconds and at the end."""

    interval: float

    def show(self, counts: _Counts) -> None: ...

    def close(self, counts: _Counts) -> None: ...


class _Display:
    """Shows *counts* from a thread, because a source without async blocks its own."""

    def __init__(self, counts: _Counts) -> None:
        self._counts = counts
        self._view = _view(counts)
        self._closed = threading.Event()
        # IPython finds the cell of an output by the context.
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._run,), name="ruxa-progress", daemon=True
        )
        self._thread.start()

    def _run(self) -> None:
        # The reader of standard error may have closed it.
        with contextlib.suppress(OSError, ValueError):
            while not self._closed.wait(self._view.interval):
                self._view.show(self._counts)

    def close(self) -> None:
        """Show the counts for the last time."""
        self._closed.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_TIMEOUT)
        with contextlib.suppress(OSError, ValueError):
            self._view.close(self._counts)


def _view(counts: _Counts) -> _View:
    if _in_notebook():
        return _Table(counts)
    if find_spec("rich") is not None:
        console = import_module("rich.console").Console(stderr=True, highlight=False)
        if console.is_terminal and not console.is_dumb_terminal:
            return _Bar(console, counts)
    return _Lines()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class _Lines:
    interval = 5.0

    def show(self, counts: _Counts) -> None:
        if sys.stderr is not None:
            sys.stderr.write(f"ruxa-async: {counts.line()}\n")
            sys.stderr.flush()

    close = show


class _Bar:
    interval = 0.2

    def __init__(self, console: Any, counts: _Counts) -> None:
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415 - an extra

        self._bar = Progress(
            BarColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            auto_refresh=False,
            transient=True,
            # What your loop prints appears above the bar, unless it goes elsewhere.
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        )
        self._task = self._bar.add_task(counts.line(), total=counts.total)
        self._bar.start()

    def show(self, counts: _Counts) -> None:
        self._bar.update(self._task, completed=counts.done, description=counts.line(), refresh=True)

    def close(self, counts: _Counts) -> None:
        self._bar.stop()
        _Lines().close(counts)


class _Table:
    interval = 1.0

    def __init__(self, counts: _Counts) -> None:
        self._ipython = import_module("IPython.display")
        self._handle = self._ipython.display(self._html(counts), display_id=True)

    def show(self, counts: _Counts) -> None:
        self._handle.update(self._html(counts))

    close = show

    def _html(self, counts: _Counts) -> Any:
        return self._ipython.HTML(progress_html(counts.line(), counts.recent))
