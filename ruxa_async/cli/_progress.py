"""The progress of a run: a live display on a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from attrs import define, field
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ruxa_async._internal.text import spelled_seconds
from ruxa_async.events import (
    CircuitClosed,
    CircuitOpened,
    ClientEvent,
    CreateSent,
    CreateUnsent,
    Event,
    JobQueued,
    ScopePaused,
    TaskAccepted,
    TaskEnded,
)
from ruxa_async.results import TaskState

from ._eta import Durations, Remaining, Throughput
from ._runtime import console, say
from ._text import printable

if TYPE_CHECKING:
    from ruxa_async.batch import Summary
    from ruxa_async.results import Stats

__all__ = ("EventCounts", "Progress", "displayed")

#: Seconds between two updates of the live display.
_LIVE_INTERVAL = 0.2
#: Seconds between two lines where there is no terminal.
_PLAIN_INTERVAL = 5.0
#: Kinds of failures that are shown, the most frequent first.
_MAX_KINDS = 3


@define
class EventCounts:
    """What the progress display needs of the client's events; pass `on_event` to the client.

    *generated* counts the tasks that succeeded, *accepted* those that were bought, at *accepted_at* the last
    one. Creates are paused until *paused_until*. Both times are on the clock of the event loop. *unreachable*
    is true if the last create could not be sent, and until the service replies.
    """

    generated: int = 0
    accepted: int = 0
    accepted_at: float = -math.inf
    paused_until: float = -math.inf
    unreachable: bool = False
    durations: Durations = field(factory=Durations)

    def on_event(self, event: Event | ClientEvent) -> None:
        """Count *event*."""
        match event:
            case TaskEnded(status=status, seconds=seconds) if status is not None:
                self.generated += status.state is TaskState.SUCCESS
                self.durations.add(seconds)
            case TaskAccepted(at=at):
                self.accepted += 1
                self.accepted_at = at
            case ScopePaused(at=at, scope="create", seconds=seconds):
                self.paused_until = max(self.paused_until, at + seconds)
        match event:
            case CreateUnsent():
                self.unreachable = True
            case CreateSent() | JobQueued() | ScopePaused() | CircuitOpened() | CircuitClosed():
                pass  # none of these is a reply of the service
            case _:
                self.unreachable = False


@define(kw_only=True)
class Progress:
    """The lines of the progress display. *total* is the number of rows, None until they are counted."""

    summary: Summary
    events: EventCounts
    max_in_flight: int
    total: int | None = None
    _done: Throughput = field(factory=Throughput)
    _accepted: Throughput = field(factory=Throughput)

    def lines(self, stats: Stats, now: float) -> list[str]:
        """Return the lines at *now*: the counts, the throughput, and one for each frequent failure."""
        summary = self.summary
        done = self._done.per_second(now, summary.done - summary.resumed.finished)
        accepted = self._accepted.per_second(now, self.events.accepted)
        left = self._seconds_left(now, stats, done, accepted)
        return [
            ", ".join([*self._counts(stats), *([f"{spelled_seconds(left)} left"] if left else [])]),
            ", ".join(self._throughput(now, stats, done, accepted)),
            *(f"{count:,} x {kind}" for kind, count in summary.kinds.most_common(_MAX_KINDS)),
        ]

    def _counts(self, stats: Stats) -> list[str]:
        done, total = self.summary.done, self.total
        parts = [
            f"{done:,} of {total:,} done" if total is not None else f"{done:,} done",
            f"{stats.in_flight:,} running",
        ]
        if waiting := self._to_download():
            parts.append(f"{waiting:,} to download")
        return [*parts, f"{self.summary.failed:,} failed"]

    def _throughput(self, now: float, stats: Stats, done: float | None, accepted: float | None) -> list[str]:
        parts = [] if done is None else [f"{_rate(done)} done"]
        limit = stats.rates["create"]
        allowed = "no rate limit met" if limit is None else f"rate limit {_rate(limit)}"
        parts.append(allowed if accepted is None else f"{_rate(accepted)} accepted ({allowed})")
        if rejected := sum(stats.throttled.values()):
            parts.append(f"{rejected:,} rejected by the rate limit and sent again")
        if stats.is_circuit_open:
            parts.append("the service is failing; waiting, nothing is being bought")
        if self.events.unreachable:
            parts.append("the service cannot be reached, trying again")
        if self.events.paused_until - now >= 1:
            parts.append(f"the service asks for a pause of {spelled_seconds(self.events.paused_until - now)}")
        return parts

    def _seconds_left(
        self, now: float, stats: Stats, done: float | None, accepted: float | None
    ) -> float | None:
        total, waiting = self.total, self._to_download()
        if total is None:
            return None
        submit = max(0, total - self.summary.done - stats.in_flight - waiting)
        medians = stats.durations.values()
        return Remaining(submit=submit, running=stats.in_flight, download=waiting).seconds(
            accepted=accepted,
            downloaded=done,
            max_running=self.max_in_flight,
            mean=self.events.durations.mean(medians),
            nearly_all=self.events.durations.nearly_all(medians),
            since_accepted=now - self.events.accepted_at,
        )

    def _to_download(self) -> int:
        return max(0, self.events.generated - self.summary.downloaded)


def _rate(per_second: float) -> str:
    return f"{per_second:,.1f}/s" if per_second >= 1 else f"{per_second * 60:,.1f}/min"


@asynccontextmanager
async def displayed(progress: Progress, stats: Callable[[], Stats]) -> AsyncIterator[None]:
    """Show the progress until the context is left."""
    async with anyio.create_task_group() as tg:
        tg.start_soon(_live if console.is_terminal else _plain, progress, stats)
        try:
            yield
        finally:
            tg.cancel_scope.cancel()


async def _live(progress: Progress, stats: Callable[[], Stats]) -> None:
    # No auto_refresh: it reads from a thread, and the numbers belong to the event loop.
    with Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False) as live:
        while True:
            live.update(_table(progress, progress.lines(stats(), anyio.current_time())), refresh=True)
            await anyio.sleep(_LIVE_INTERVAL)


def _table(progress: Progress, lines: Sequence[str]) -> Table:
    total = progress.total
    width = min(console.width - 1, 60)
    table = Table.grid()
    table.add_row(ProgressBar(total=total, completed=progress.summary.done, width=width, pulse=total is None))
    for line in lines:
        table.add_row(Text(printable(line), overflow="fold"))
    return table


async def _plain(progress: Progress, stats: Callable[[], Stats]) -> None:
    while True:
        await anyio.sleep(_PLAIN_INTERVAL)
        say("; ".join(progress.lines(stats(), anyio.current_time())))
