"""The run: rows in, pictures and result lines out, nothing that was paid for left unmentioned."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio import from_thread, lowlevel
from anyio.abc import TaskGroup
from attrs import define, field

from ruxa_async.errors import SubmissionHalted
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import Generation, JobRecord, Outcome, Succeeded

from .readers import Row
from .results import Result, ResultsFile, State, describe_error, kind_of

if TYPE_CHECKING:
    from ruxa_async._client import RuxaClient
    from ruxa_async._completions import Completions

__all__ = ("Summary", "run_batch")

_DOWNLOADS = 8
_PULLED = 64
_MAX_KINDS = 30


@define(kw_only=True)
class Summary:
    """What a run came to; it counts while the run goes on.

    *states* counts the result lines by state, *kinds* the failures in a few words. *queries* is over *asked*
    tasks. *halted* says why nothing more was submitted, *refused* is the row that ended a strict run.
    """

    folder: Path
    states: Counter[State] = field(factory=Counter)
    kinds: Counter[str] = field(factory=Counter)
    files: int = 0
    queries: int = 0
    asked: int = 0
    credits: float = 0.0
    unsubmitted: int = 0
    halted: SubmissionHalted | None = None
    refused: Row | None = None

    @property
    def done(self) -> int:
        """The rows that have a result line."""
        return self.states.total()

    @property
    def downloaded(self) -> int:
        """The generations whose download is over, well or not."""
        return self.states["succeeded"] + self.states["download_failed"]

    @property
    def failed(self) -> int:
        """The rows that ended without a picture on disk; those whose end is not known are not among them."""
        return self.states["failed"] + self.states["download_failed"] + self.states["invalid"]

    def count(self, result: Result) -> None:
        """Take *result* into account."""
        self.states[result.state] += 1
        self.files += len(result.files)
        self.queries += result.queries
        self.asked += result.queries > 0
        self.credits += result.credits or 0.0
        if result.error is not None:
            kind = kind_of(result.error, result.state)
            self.kinds[kind if kind in self.kinds or len(self.kinds) < _MAX_KINDS else "other"] += 1


async def run_batch(
    client: RuxaClient,
    rows: Iterable[Row],
    out: str | PathLike[str],
    *,
    strict: bool = False,
    pulled: int = _PULLED,
    summary: Summary | None = None,
    on_result: Callable[[Result], object] = lambda _: None,
) -> Summary:
    """Submit *rows* through *client*, download every output into *out* and write each outcome to its results.

    A bad row is written down and passed over; *strict* submits nothing from the first one on and finishes what
    was submitted before. Rows are read in a thread, *pulled* at a time: 64, or 1 for input that may pause. A halt
    of the account ends up in the summary, not as an exception. When cancelled, everything paid is written down
    before the cancellation goes on; pass a *summary* to see the counts then. *on_result* is told each line.
    Raises `InputError` if *out* holds results already, OSError if they cannot be written, and what *rows* raise.
    """
    folder = Path(out)
    summary = Summary(folder=folder) if summary is None else summary
    async with ResultsFile(folder) as results:
        run = _Run(client=client, results=results, summary=summary, on_result=on_result)
        await run.through(_Feed(run, iter(rows), strict=strict, pulled=pulled))
    return summary


class _Run:
    """One run: who counts, who writes, and which row a request came from."""

    def __init__(
        self,
        *,
        client: RuxaClient,
        results: ResultsFile,
        summary: Summary,
        on_result: Callable[[Result], object],
    ) -> None:
        self.summary = summary
        self.results = results
        self.places: dict[
            int, tuple[int, int]
        ] = {}  # of what is between pulled and done: bounded by the window
        self._client = client
        self._on_result = on_result
        self._downloads = anyio.Semaphore(_DOWNLOADS)

    def record(self, result: Result) -> None:
        """Count *result* and add it to the file."""
        self.results.add(result)
        self.summary.count(result)
        self._on_result(result)

    async def through(self, feed: _Feed) -> None:
        """Take everything from *feed* to its end."""
        outcomes = self._client.as_completed(feed)
        try:
            async with anyio.create_task_group() as tg:
                await self._consume(outcomes, tg)
        except ExceptionGroup as group:
            if len(group.exceptions) == 1:  # the caller has no use for the wrapping of our task group
                raise group.exceptions[0] from None
            raise
        finally:
            # After a whole run there are none; after a halt or a cancel they are all that is left of the money.
            for job in outcomes.unfinished:
                self._record_job(job, "unfinished")
            for job in outcomes.unknown:
                self._record_job(job, "unknown")
            self.summary.unsubmitted = len(outcomes.unsubmitted)

    async def _consume(self, outcomes: Completions, tg: TaskGroup) -> None:
        try:
            async with outcomes:
                async for outcome in outcomes:
                    await self._take(outcome, tg)
        except SubmissionHalted as halt:  # not further up, where it would cancel the downloads
            self.summary.halted = halt

    async def _take(self, outcome: Outcome, tg: TaskGroup) -> None:
        index, line = self.places.pop(outcome.index)
        result = Result.of_outcome(outcome, index=index, line=line)
        if isinstance(outcome, Succeeded):
            await self._begin_download(outcome.generation, result, tg)
        else:
            self.record(result)
            await self.results.flush()

    async def _begin_download(self, generation: Generation, result: Result, tg: TaskGroup) -> None:
        """Start a download when there is room for one; waiting here holds back the outcomes, and so the source."""
        begun = False
        try:
            await self._downloads.acquire()
            tg.start_soon(self._download, generation, result)
            begun = True
        finally:
            if not begun:
                self._interrupted(result)

    async def _download(self, generation: Generation, result: Result) -> None:
        ended = False
        try:
            paths = await generation.save(self.summary.folder)
            result.files = [path.relative_to(self.summary.folder).as_posix() for path in paths]
            ended = True
        except Exception as error:  # noqa: BLE001 - whatever it is, the picture is paid for: the line keeps its address
            result.state = "download_failed"
            result.error = describe_error(error)
            ended = True
        finally:
            self._downloads.release()
            if ended:
                self.record(result)
            else:
                self._interrupted(result)
        await self.results.flush()

    def _interrupted(self, result: Result) -> None:
        result.state = "download_failed"
        result.error = {
            "type": "Interrupted",
            "message": "stopped before it was downloaded; urls still say where it is",
        }
        self.record(result)

    def _record_job(self, job: JobRecord, state: State) -> None:
        place = None if job.index is None else self.places.pop(job.index, None)
        if place is not None:  # otherwise it was an outcome as well, and has its line
            self.record(Result.of_job(job, state, index=place[0], line=place[1]))


class _Feed:
    """The requests of good rows, as the client asks for them; bad rows are recorded on the way."""

    def __init__(self, run: _Run, rows: Iterator[Row], *, strict: bool, pulled: int) -> None:
        self._run = run
        self._rows = rows
        self._strict = strict
        self._pulled = pulled
        self._ready: deque[Row] = deque()
        self._index = -1
        self._submitted = -1

    def __aiter__(self) -> _Feed:
        return self

    async def __anext__(self) -> GenerationRequest:
        while True:
            if not self._ready:
                await self._run.results.flush()
                self._ready.extend(await _pull(self._rows, self._pulled))
            if not self._ready or self._run.summary.refused is not None:
                raise StopAsyncIteration
            row = self._ready.popleft()
            self._index += 1
            if row.request is not None:
                self._submitted += 1
                self._run.places[self._submitted] = (self._index, row.line)
                return row.request
            self._refuse(row)

    def _refuse(self, row: Row) -> None:
        error = None if row.error is None else describe_error(row.error)
        self._run.record(Result(index=self._index, line=row.line, state="invalid", error=error))
        if self._strict:
            self._run.summary.refused = row


async def _pull(rows: Iterator[Row], count: int) -> list[Row]:
    """Read *count* rows in a thread of its own.

    Input may be a pipe that stays silent for ever. A daemon thread can be left waiting for it when the run is
    interrupted; anyio's workers would keep the process alive.
    """
    token = lowlevel.current_token()
    done = anyio.Event()
    taken: list[Row] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            taken.extend(islice(rows, count))
        except Exception as error:  # noqa: BLE001 - it is raised where it was waited for
            errors.append(error)
        with suppress(anyio.RunFinishedError):
            from_thread.run_sync(done.set, token=token)

    threading.Thread(target=work, name="ruxa-async rows", daemon=True).start()
    await done.wait()
    if errors:
        raise errors[0]
    return taken
