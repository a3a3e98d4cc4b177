"""Run a batch: submit the rows, download the outputs, and write one result line for each row."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio import from_thread, lowlevel, to_thread
from anyio.abc import TaskGroup
from attrs import define, evolve, field

from ruxa_async._client.outputs import outputs_kept
from ruxa_async._internal.files import remove_stale_parts
from ruxa_async.downloads import BATCH_FIELDS, RowTemplate, check_template
from ruxa_async.errors import JournalError, SubmissionHalted
from ruxa_async.journal import JobState, JournalEntry, Match
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import Failed, Generation, JobRecord, Outcome, Succeeded
from ruxa_async.settings import Downloads, Resume

from ._input_rows import Row
from ._layout import JOURNAL, RUN
from ._result_line import Result, State, describe_error, describe_files
from ._results_file import ResultsFile
from ._store import BatchStore, opened_store
from ._summary import Summary

if TYPE_CHECKING:
    from ruxa_async._client.client import RuxaClient
    from ruxa_async._client.completions import Completions

__all__ = ("run_batch",)

#: Generations that are downloaded or wait for it; `Downloads.max_concurrent` limits the outputs on the wire.
_MAX_DOWNLOADS = 64
#: Seconds without a write after which a part file is abandoned: twice the time limit of an output.
_STALE_SECONDS = 2 * Downloads().timeout
#: Rows that are read at a time by default.
_PULLED = 64


async def run_batch(
    client: RuxaClient,
    rows: Iterable[Row],
    out: str | PathLike[str],
    *,
    strict: bool = False,
    resume: bool = False,
    run: str = RUN,
    retry_failed: bool = False,
    resend_unknown: bool = False,
    pulled: int = _PULLED,
    name: str | None = None,
    store: str | PathLike[str] | None = None,
    summary: Summary | None = None,
    on_result: Callable[[Result], object] = lambda _: None,
) -> Summary:
    """Submit *rows* through *client*, download outputs into *out*, and write a line of results for each row.

    A bad row gets a line and is skipped; with *strict*, the first one ends the submission, and earlier rows
    are finished. Rows are read in a thread, *pulled* at a time (64): use 1 for input that may pause.
    *on_result* is called with each line. If the client stops buying (wrong key, no credits, budget),
    `Summary.halted` holds the reason, and nothing is raised. A cancelled run first writes a line for each
    purchase; pass a *summary* to see its counts.

    *name* is the template of file names, as in `Generation.save`, with ``{index}`` for the position of the
    row from 0. The default is the key, and ``{index:04}-{slug}`` for rows without one.

    With *store*, such as ``s3://bucket/prefix`` or an `ObjectStore`, the outputs go there, and the results
    name their URLs; *out* keeps everything else. An object is never replaced, and outputs that are there
    already are kept.

    With *resume*, *client* must use the journal of *out* (`folder_journal`), and this continues the earlier
    runs named *run* in it: accepted tasks are polled, missing files are downloaded, and nothing is bought
    twice. Failed tasks are bought again with *retry_failed*, creates of unknown outcome with
    *resend_unknown*. Without *resume*, *out* must not hold results yet.

    Raises `InputError` if it does or the store cannot be written to, OSError if results cannot be written,
    `JournalError` also if *out* or its files are moved or removed during the run, and the errors of *rows*.
    """
    if name is not None:
        check_template(name, BATCH_FIELDS)
    folder = Path(out)
    summary = Summary(folder=folder) if summary is None else summary
    objects = None
    if store is not None:
        objects = await opened_store(store)
        summary.store = fspath(objects)
    past = None
    if resume:
        past = Resume(run, retry_failed=retry_failed, resend_unknown=resend_unknown)
    async with ResultsFile(folder, resumable=resume) as results:
        await to_thread.run_sync(remove_stale_parts, folder, time.time() - _STALE_SECONDS)
        work = _Run(
            client=client,
            results=results,
            summary=summary,
            on_result=on_result,
            past=past,
            strict=strict,
            name=name,
            store=objects,
        )
        try:
            await work.consume(_Requests(work, iter(rows), pulled=pulled))
        finally:
            summary.moved = not results.in_place
    return summary


@define
class _Submitted:
    """The row of a submitted request: its position, its line, and what the journal knew of it."""

    index: int
    line: int
    match: Match | None = None

    @property
    def entry(self) -> JournalEntry | None:
        return None if self.match is None else self.match.known

    @property
    def id(self) -> str | None:
        return None if self.match is None else self.match.name


@define
class _Download:
    """The download of one generation: its line, and the entry of its task in the journal.

    *ended_before* is true if an earlier run saw the task succeed. *missing* is the number of files that are
    not there, None while that is not known.
    """

    result: Result
    entry: JournalEntry | None
    ended_before: bool = field(kw_only=True)
    missing: int | None = None


@define(kw_only=True, eq=False)
class _Run:
    """One run of a batch, which handles the outcomes."""

    client: RuxaClient
    results: ResultsFile
    summary: Summary
    on_result: Callable[[Result], object]
    past: Resume | None
    strict: bool
    name: str | None
    store: BatchStore | None
    #: The rows of requests without an outcome, by the number of the request; at most a window of them.
    submitted: dict[int, _Submitted] = field(factory=dict)
    _downloads: anyio.Semaphore = field(factory=lambda: anyio.Semaphore(_MAX_DOWNLOADS))

    def refuse(self, row: Row, result: Result) -> None:
        """Record the line of a bad *row*; in a strict run it ends the submission."""
        self._record(result)
        if self.strict and self.summary.refused is None:
            self.summary.refused = row

    async def consume(self, requests: _Requests) -> None:
        """Submit all *requests* and handle their outcomes."""
        past = None if self.past is None else evolve(self.past, on_match=self._on_match)
        outcomes = self.client.as_completed(requests, resume=past)
        try:
            async with anyio.create_task_group() as tg:
                await self._handle_all(outcomes, tg)
        except ExceptionGroup as group:
            if len(group.exceptions) == 1:  # raise the error without the group of our own task group
                raise group.exceptions[0] from None
            raise
        finally:
            # Purchases without an outcome: there are some after a halt or a cancellation.
            for job in outcomes.unfinished:
                self._record_job(job, "unfinished")
            for job in outcomes.unknown:
                self._record_job(job, "unknown")
            self.summary.unsubmitted = len(outcomes.unsubmitted)

    def _record(self, result: Result, *, ended_before: bool = False) -> None:
        self.results.add(result)
        self.summary.count(result, ended_before=ended_before)
        self.on_result(result)

    def _on_match(self, index: int, match: Match) -> None:
        """Store what the journal knows of the request *index*.

        Raises `JournalError` if the results name a task for it and the journal does not know one.
        """
        if match.known is None and self.results.names_task(match.name):
            raise JournalError(
                str(self.results.path),
                f"it says that {match.name} was bought, and the journal knows nothing of it: the journal is "
                f"an old copy, or a part of it is missing, such as {JOURNAL}-wal. Put that back; or, if you "
                "know that this row was not bought, take its line out",
            )
        self.submitted[index].match = match

    async def _handle_all(self, outcomes: Completions, tg: TaskGroup) -> None:
        try:
            async with outcomes:
                async for outcome in outcomes:
                    await self._handle(outcome, tg)
        except SubmissionHalted as halt:  # caught here: outside the task group it would cancel the downloads
            self.summary.halted = halt

    async def _handle(self, outcome: Outcome, tg: TaskGroup) -> None:
        row = self.submitted.pop(outcome.index)
        result = Result.of_outcome(outcome, index=row.index, line=row.line, id=row.id)
        ended_before = self._count_resumed(row, outcome)
        if isinstance(outcome, Succeeded):
            await self._handle_generation(outcome.generation, result, row, tg, ended_before=ended_before)
        elif isinstance(outcome.error, JournalError):
            raise outcome.error  # the request was not bought, and nothing more can be
        else:
            if result.state == "invalid":
                self.refuse(Row(row.line, outcome.request, outcome.error), result)
            else:
                self._record(result, ended_before=ended_before)
            await self.results.flush()

    def _count_resumed(self, row: _Submitted, outcome: Outcome) -> bool:
        """Count what earlier runs left of *row*; return whether its task ended in one of them."""
        entry, past = row.entry, self.past
        if entry is None or past is None:
            return False
        if entry.state in (JobState.ACCEPTED, JobState.ADOPTED):
            self.summary.resumed.picked_up += 1
        elif entry.state is JobState.UNKNOWN and not past.resend_unknown:
            self.summary.resumed.unknown += 1
        return entry.state is JobState.SUCCEEDED or (
            entry.state is JobState.FAILED and isinstance(outcome, Failed) and not past.retry_failed
        )

    async def _handle_generation(
        self, generation: Generation, result: Result, row: _Submitted, tg: TaskGroup, *, ended_before: bool
    ) -> None:
        """Start the download, of missing files only, once fewer than 64 are under way.

        Until then no outcome is handled.
        """
        download = _Download(result, row.entry, ended_before=ended_before)
        started = False
        try:
            await self._downloads.acquire()
            tg.start_soon(self._download, generation, download)
            started = True
        finally:
            if not started:
                self._record_interrupted(download)

    async def _set_files(self, result: Result, paths: Sequence[Path], entry: JournalEntry | None) -> None:
        """Set the files of *result* to *paths*, with their descriptions."""
        saved = () if entry is None else entry.files
        if self.store is not None:
            result.files = [str(path) for path in paths]
            result.outputs = [await self.store.describe(path, saved) for path in paths]
            return
        result.files = [path.relative_to(self.summary.folder).as_posix() for path in paths]
        with anyio.CancelScope(shield=True):  # the files are on disk, so the line must describe them
            result.outputs = await to_thread.run_sync(describe_files, paths, saved)

    async def _download(self, generation: Generation, download: _Download) -> None:
        result, ended = download.result, False
        try:
            await self._find_kept(generation, download)
            if download.missing:
                await self._save(generation, download)
            ended = True
        except Exception as error:  # noqa: BLE001 - the task is paid for, so its line keeps the URLs after any error
            result.state = "download_failed"
            result.error = describe_error(error)
            ended = True
        finally:
            self._downloads.release()
            if ended:
                self._record(result, ended_before=download.ended_before)
            else:
                self._record_interrupted(download)
        await self.results.flush()

    async def _find_kept(self, generation: Generation, download: _Download) -> None:
        """Set the files that earlier runs left, and the number of missing ones."""
        kept: dict[int, Path] = {}
        if download.ended_before and download.entry is not None:
            kept = await outputs_kept(download.entry.files, self.store or self.summary.folder)
            await self._set_files(download.result, [kept[number] for number in sorted(kept)], download.entry)
        download.missing = len(generation.urls) - len(kept)

    async def _save(self, generation: Generation, download: _Download) -> None:
        result = download.result
        default = "{key}" if result.key else "{index:04}-{slug}"
        self.results.ensure_in_place()  # otherwise the download would create a removed folder again
        template = RowTemplate(self.name or default, result.index)
        paths = await generation.save(self.store or self.summary.folder, name=template)
        await self._set_files(result, paths, download.entry)
        if download.ended_before:
            self.summary.resumed.fetched += download.missing or 0

    def _record_interrupted(self, download: _Download) -> None:
        if download.ended_before and not download.missing and self.results.has_line(download.result.id):
            return  # it is not known that the line of an earlier run is wrong
        download.result.state = "download_failed"
        download.result.error = {
            "type": "Interrupted",
            "message": "stopped before it was downloaded; urls still say where it is",
        }
        self._record(download.result, ended_before=download.ended_before)

    def _record_job(self, job: JobRecord, state: State) -> None:
        row = None if job.index is None else self.submitted.pop(job.index, None)
        if row is not None:  # else its outcome was handled, so it has a line
            self._record(Result.of_job(job, state, index=row.index, line=row.line, id=row.id))


class _Requests:
    """The requests of valid rows, read when the client asks for them. An invalid row gets its line."""

    def __init__(self, run: _Run, rows: Iterator[Row], *, pulled: int) -> None:
        self._run = run
        self._rows = rows
        self._pulled = pulled
        self._ready: deque[Row] = deque()
        self._index = -1
        self._number = -1

    def __aiter__(self) -> _Requests:
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
                self._number += 1
                self._run.submitted[self._number] = _Submitted(self._index, row.line)
                return row.request
            error = None if row.error is None else describe_error(row.error)
            self._run.refuse(row, Result(index=self._index, line=row.line, state="invalid", error=error))


async def _pull(rows: Iterator[Row], count: int) -> list[Row]:
    """Read at most *count* rows in a daemon thread.

    Input may be a pipe without a writer. When the run is interrupted, a daemon thread can be left waiting for
    it; a worker thread of anyio would keep the process alive.
    """
    token = lowlevel.current_token()
    done = anyio.Event()
    pulled: list[Row] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            pulled.extend(islice(rows, count))
        except BaseException as error:  # noqa: BLE001 - raised in the task that waits
            errors.append(error)
        with suppress(anyio.RunFinishedError):
            from_thread.run_sync(done.set, token=token)

    threading.Thread(target=work, name="ruxa-async rows", daemon=True).start()
    await done.wait()
    if errors:
        raise errors[0]
    return pulled
