"""How a run is going: a live display on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from attrs import define, field
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ruxa_async.events import CreateSent, CreateUnsent, Event, GateClosed, JobQueued, TaskEnded
from ruxa_async.results import TaskState

from .running import console, say

if TYPE_CHECKING:
    from ruxa_async.batch import Summary
    from ruxa_async.results import Stats

__all__ = ("Watch", "displayed", "spelled_seconds")

_LIVE_INTERVAL = 0.2
_PLAIN_INTERVAL = 5.0
_RATE_SPAN = 30.0
_MIN_SPAN = 1.0


@define
class Watch:
    """What the events say between two looks: pass `on_event` to the client.

    *generated* counts the tasks that ended well, *paused_until* is on the clock of the event loop, *out_of_reach*
    says that the last create could not be sent at all.
    """

    generated: int = 0
    paused_until: float = -math.inf
    out_of_reach: bool = False

    def on_event(self, event: Event | GateClosed) -> None:
        """Take *event* into account."""
        match event:
            case TaskEnded(status=status) if status is not None and status.state is TaskState.SUCCESS:
                self.generated += 1
            case GateClosed(at=at, scope="create", seconds=seconds):
                self.paused_until = max(self.paused_until, at + seconds)
            case CreateUnsent():
                self.out_of_reach = True
            case CreateSent() | JobQueued():
                pass
            case _:
                self.out_of_reach = False


@define
class _Pace:
    """How many rows a second were done lately."""

    _seen: deque[tuple[float, int]] = field(factory=deque)

    def per_second(self, now: float, done: int) -> float | None:
        self._seen.append((now, done))
        while now - self._seen[0][0] > _RATE_SPAN:
            self._seen.popleft()
        since, before = self._seen[0]
        return (done - before) / (now - since) if now - since >= _MIN_SPAN and done > before else None


@define(kw_only=True)
class _Board:
    """The one line that says it all. *total* is asked each time: the input is still being counted at first."""

    summary: Summary
    watch: Watch
    stats: Callable[[], Stats]
    total: Callable[[], int | None]
    _pace: _Pace = field(factory=_Pace)

    def line(self, now: float) -> str:
        done, total, stats = self.summary.done, self.total(), self.stats()
        rate = self._pace.per_second(now, done - self.summary.resumed.finished)
        parts = [
            f"{done:,} of {total:,} done" if total is not None else f"{done:,} done",
            f"{stats.in_flight:,} running",
            f"{self.summary.failed:,} failed",
        ]
        waiting = self.watch.generated - self.summary.downloaded
        if waiting > 0:
            parts.insert(2, f"{waiting:,} to download")
        if rate is not None:
            parts.append(f"{rate:,.1f}/s" if rate >= 1 else f"{rate * 60:,.1f}/min")
            if total is not None and total > done:
                parts.append(f"{spelled_seconds((total - done) / rate)} left")
        if self.watch.out_of_reach:
            parts.append("the service cannot be reached, trying again")
        if self.watch.paused_until - now >= 1:
            parts.append(f"the service asks for a pause of {spelled_seconds(self.watch.paused_until - now)}")
        return ", ".join(parts)


@asynccontextmanager
async def displayed(
    summary: Summary, watch: Watch, stats: Callable[[], Stats], total: Callable[[], int | None]
) -> AsyncIterator[None]:
    """Show how the run goes for as long as this is open."""
    board = _Board(summary=summary, watch=watch, stats=stats, total=total)
    async with anyio.create_task_group() as tg:
        tg.start_soon(_live if console.is_terminal else _plain, board)
        try:
            yield
        finally:
            tg.cancel_scope.cancel()


async def _live(board: _Board) -> None:
    # Refreshed from here and not by rich's own thread: the numbers belong to the event loop.
    with Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False) as live:
        while True:
            live.update(_drawn(board), refresh=True)
            await anyio.sleep(_LIVE_INTERVAL)


def _drawn(board: _Board) -> Table:
    total = board.total()
    width = min(console.width - 1, 60)
    lines = Table.grid()
    lines.add_row(ProgressBar(total=total, completed=board.summary.done, width=width, pulse=total is None))
    lines.add_row(Text(board.line(anyio.current_time()), overflow="ellipsis", no_wrap=True))
    return lines


async def _plain(board: _Board) -> None:
    while True:
        await anyio.sleep(_PLAIN_INTERVAL)
        say(board.line(anyio.current_time()))


def spelled_seconds(seconds: float) -> str:
    """Return *seconds* as a person says them."""
    whole = math.ceil(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
