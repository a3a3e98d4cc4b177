"""The run: rows in, pictures and result lines out, nothing that was paid for left unmentioned."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup
from attrs import define, evolve, field, frozen

from ruxa_async._client.outputs import files_kept
from ruxa_async._internal.files import remove_stale_parts
from ruxa_async.downloads import BATCH_FIELDS, RowTemplate, check_template
from ruxa_async.errors import JournalError, SubmissionHalted
from ruxa_async.journal import JobState, JournalEntry, Match
from ruxa_async.results import Failed, Generation, JobRecord, Outcome, Succeeded
from ruxa_async.settings import Downloads, Resume

from ._input_rows import Row
from ._layout import JOURNAL, RESULTS, RUN
from ._outputs import describe_files
from ._request_source import Feed
from ._result_line import Result, State, describe_error
from ._results_file import ResultsFile
from ._summary import Summary

if TYPE_CHECKING:
    from ruxa_async._client.client import RuxaClient
    from ruxa_async._client.completions import Completions

__all__ = ("run_batch",)

#: Generations that are being saved or wait for it; `Downloads.max_concurrent` says how many outputs are on
#: the wire.
_DOWNLOADS = 64
#: Seconds without a write after which a partial file is abandoned: twice the time limit of an output.
_STALE = 2 * Downloads().timeout
_PULLED = 64


async def run_batch(
    client: RuxaClient,
    rows: Iterable[Row],
    out: str | PathLike[str],
    *,
    strict: bool = False,
    resume: bool = False,
    retry_failed: bool = False,
    resend_unknown: bool = False,
    pulled: int = _PULLED,
    name: str | None = None,
    summary: Summary | None = None,
    on_result: Callable[[Result], object] = lambda _: None,
) -> Summary:
    """Submit *rows* through *client*, download every output into *out* and write each outcome to its results.

    A bad row is written down and passed over; *strict* submits nothing from the first one on and finishes
    what was submitted before. Rows are read in a thread, *pulled* at a time: 64, or 1 for input that may
    pause. A halt of the account ends up in the summary, not as an exception. When cancelled, everything paid
    is written down before the cancellation goes on; pass a *summary* to see the counts then. *on_result* gets
    each line.

    *name* is the template that files are named by, as in `Generation.save`, with ``{index}`` for the place
    of the row from 0; the default is the key, and ``{index:04}-{slug}`` for rows without one.

    With *resume* the client's journal must be that of *out* (`folder_journal`), and the run goes on where
    earlier ones were: what has ended is not bought again, unless it failed and *retry_failed* is set; what
    was accepted is picked up; files that are missing are fetched; what may have been charged is listed, and
    bought again only with *resend_unknown*. Without it, *out* may hold no results yet. Raises `InputError` if
    it does, OSError if results cannot be written, JournalError also where *out* or its files are moved or
    removed meanwhile, and what *rows* raise.
    """
    if name is not None:
        check_template(name, BATCH_FIELDS)
    folder = Path(out)
    summary = Summary(folder=folder) if summary is None else summary
    past = None
    if resume:
        past = Resume(RUN, retry_failed=retry_failed, resend_unknown=resend_unknown)
    async with ResultsFile(folder, resumable=resume) as results:
        await to_thread.run_sync(remove_stale_parts, folder, time.time() - _STALE)
        run = _Run(
            client=client,
            results=results,
            summary=summary,
            on_result=on_result,
            past=past,
            strict=strict,
            name=name,
        )
        try:
            await run.through(Feed(run, iter(rows), pulled=pulled))
        finally:
            summary.moved = not results.in_place
    return summary


@define
class _Place:
    """Where a request came from, and what the journal knew of it."""

    index: int
    line: int
    match: Match | None = None

    @property
    def known(self) -> JournalEntry | None:
        return None if self.match is None else self.match.known

    @property
    def id(self) -> str | None:
        return None if self.match is None else self.match.name


class _Run:
    """One run: who counts, who writes, and which row a request came from."""

    def __init__(
        self,
        *,
        client: RuxaClient,
        results: ResultsFile,
        summary: Summary,
        on_result: Callable[[Result], object],
        past: Resume | None,
        strict: bool,
        name: str | None,
    ) -> None:
        self._strict = strict
        self._name = name
        self.summary = summary
        self._results = results
        self._places: dict[int, _Place] = {}  # of what is between pulled and done: bounded by the window
        self._past = None if past is None else evolve(past, on_match=self._matched)
        self._client = client
        self._on_result = on_result
        self._downloads = anyio.Semaphore(_DOWNLOADS)

    def _record(self, result: Result, *, before: bool = False) -> None:
        """Count *result* and add it to the file; *before* says that an earlier run saw its end."""
        self._results.add(result)
        self.summary.count(result, before=before)
        self._on_result(result)

    def _matched(self, index: int, match: Match) -> None:
        if match.known is None and self._results.names_task(match.name):
            raise JournalError(
                str(self._results.path.with_name(JOURNAL)),
                f"it knows nothing of {match.name}, which {RESULTS} says was bought: a part of it is "
                f"missing, such as {JOURNAL}-wal, or it is an old copy. Put that back; or, if you know that "
                f"this row was not bought, take its line out of {RESULTS}",
            )
        self._places[index].match = match

    @property
    def stopped(self) -> bool:
        """Whether a bad row has ended a strict run."""
        return self.summary.refused is not None

    async def flush(self) -> None:
        """Return when every line is on the disk."""
        await self._results.flush()

    def submitting(self, request: int, *, index: int, line: int) -> None:
        """Note which row the request of this number comes from."""
        self._places[request] = _Place(index, line)

    def refuse(self, row: Row, result: Result) -> None:
        """Record that *row* is no request that can be sent; end a strict run with it."""
        self._record(result)
        if self._strict and self.summary.refused is None:
            self.summary.refused = row

    async def through(self, feed: Feed) -> None:
        """Take everything from *feed* to its end."""
        outcomes = self._client.as_completed(feed, resume=self._past)
        try:
            async with anyio.create_task_group() as tg:
                await self._consume(outcomes, tg)
        except ExceptionGroup as group:
            if len(group.exceptions) == 1:  # the caller has no use for the wrapping of our task group
                raise group.exceptions[0] from None
            raise
        finally:
            # After a whole run there are none; after a halt or a cancel they are all that is left of the
            # money.
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
        place = self._places.pop(outcome.index)
        result = Result.of_outcome(outcome, index=place.index, line=place.line)
        result.id = place.id
        before = self._tally(place, outcome)
        if isinstance(outcome, Succeeded):
            await self._take_generation(outcome.generation, result, place, tg, before=before)
        elif isinstance(outcome.error, JournalError):
            raise outcome.error  # nothing more can be bought, and this was not
        else:
            if result.state == "invalid":
                self.refuse(Row(place.line, outcome.request, outcome.error), result)
            else:
                self._record(result, before=before)
            await self.flush()

    def _tally(self, place: _Place, outcome: Outcome) -> bool:
        """Count what an earlier run left; tell whether it saw the end of this one."""
        known, past = place.known, self._past
        if known is None or past is None:
            return False
        if known.state in (JobState.ACCEPTED, JobState.ADOPTED):
            self.summary.resumed.picked_up += 1
        elif known.state is JobState.UNKNOWN and not past.resend_unknown:
            self.summary.resumed.unknown += 1
        return known.state is JobState.SUCCEEDED or (
            known.state is JobState.FAILED and isinstance(outcome, Failed) and not past.retry_failed
        )

    async def _take_generation(
        self, generation: Generation, result: Result, place: _Place, tg: TaskGroup, *, before: bool
    ) -> None:
        missing = len(generation.urls)
        if before and place.known is not None:
            kept = await to_thread.run_sync(files_kept, place.known.files, self.summary.folder)
            await self._place_files(result, [kept[number] for number in sorted(kept)], place.known)
            missing -= len(kept)
        if before and not missing:
            self._record(result, before=True)
        else:
            await self._begin_download(generation, _Download(result, missing, place.known, before=before), tg)

    async def _place_files(self, result: Result, paths: Sequence[Path], known: JournalEntry | None) -> None:
        """Say in *result* which files there are, and what they are."""
        result.files = [path.relative_to(self.summary.folder).as_posix() for path in paths]
        saved = () if known is None else known.files
        with anyio.CancelScope(shield=True):  # the files are there, and the line should say so
            result.outputs = await to_thread.run_sync(describe_files, paths, saved)

    async def _begin_download(self, generation: Generation, download: _Download, tg: TaskGroup) -> None:
        """Start a download when there is room. The wait holds back the outcomes, and so the source."""
        begun = False
        try:
            await self._downloads.acquire()
            tg.start_soon(self._download, generation, download)
            begun = True
        finally:
            if not begun:
                self._interrupted(download)

    async def _download(self, generation: Generation, download: _Download) -> None:
        result, ended = download.result, False
        try:
            self._results.ensure_in_place()  # a folder that is gone is not made again
            paths = await generation.save(self.summary.folder, name=self._template(result))
            await self._place_files(result, paths, download.known)
            if download.before:
                self.summary.resumed.fetched += download.missing
            ended = True
        except Exception as error:  # noqa: BLE001 - any error: the output is paid for, so its line keeps the address
            result.state = "download_failed"
            result.error = describe_error(error)
            ended = True
        finally:
            self._downloads.release()
            if ended:
                self._record(result, before=download.before)
            else:
                self._interrupted(download)
        await self._results.flush()

    def _template(self, result: Result) -> RowTemplate:
        default = "{key}" if result.key else "{index:04}-{slug}"
        return RowTemplate(self._name or default, result.index)

    def _interrupted(self, download: _Download) -> None:
        download.result.state = "download_failed"
        download.result.error = {
            "type": "Interrupted",
            "message": "stopped before it was downloaded; urls still say where it is",
        }
        self._record(download.result, before=download.before)

    def _record_job(self, job: JobRecord, state: State) -> None:
        place = None if job.index is None else self._places.pop(job.index, None)
        if place is not None:  # otherwise it was an outcome as well, and has its line
            result = Result.of_job(job, state, index=place.index, line=place.line)
            result.id = place.id
            self._record(result)


@frozen
class _Download:
    """An output to be fetched: how many files of it are *missing*, and what the journal has *known* of it.

    *before* tells that an earlier run saw it generated.
    """

    result: Result
    missing: int
    known: JournalEntry | None
    before: bool = field(kw_only=True)
