"""``ruxa-async batch``: generate every row of a file into a folder."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio
from anyio import to_thread
from attrs import define, field
from cyclopts import Parameter

from ruxa_async.batch import InputError, Rows, Summary, run_batch
from ruxa_async.batch._dry_run import dry_run
from ruxa_async.batch._layout import EMULATOR, RESULTS
from ruxa_async.batch._results_file import check_journal
from ruxa_async.batch._run_record import RunRecord
from ruxa_async.batch._shared_run import join_run
from ruxa_async.batch._store import check_store, opened_store
from ruxa_async.downloads import BATCH_FIELDS
from ruxa_async.errors import ClientClosedError, JournalError, JournalInUseError
from ruxa_async.settings import Budget, Limits
from ruxa_async.uploads import ObjectStoreUploader

from ._batch_options import BatchOptions, CallbackAddress
from ._options import check_name
from ._progress import EventCounts, Progress, displayed
from ._runtime import open_client, require_folder, require_key, run, say
from ._spending import dry_run_code, dry_run_sentences
from ._stdout import Put, printing
from ._summary import exit_code, leave_report, print_summary
from ._text import shortened

if TYPE_CHECKING:
    from ruxa_async._client.client import RuxaClient
    from ruxa_async.batch._result_line import Result
    from ruxa_async.callbacks import CallbackReceiver
    from ruxa_async.events import ClientEvent, Event, EventHook
    from ruxa_async.journal import LastingJournal, PostgresJournal, SqliteJournal

__all__ = ("batch",)

#: Bytes; the rows of a larger input are not counted, because reading it twice would take too long.
_MAX_COUNTED_BYTES = 64 << 20
#: Bad rows that are reported on the terminal.
_MAX_BAD_ROWS = 20
#: Seconds: the lease of a process that was killed ends within this time.
_WAIT = 12.0
#: The name under which the journal keeps the callback secret, so that callbacks outlive the process.
_SECRET = "callback secret"  # noqa: S105 - the name of one


def batch(
    given: Annotated[
        str | None,
        Parameter(
            name="INPUT",
            allow_leading_hyphen=True,
            help="A .jsonl, .json, .csv, .tsv, .parquet or text file of prompts, or - for standard input.",
        ),
    ] = None,
    /,
    *,
    options: Annotated[BatchOptions, Parameter(name="*")],
) -> int:
    """Generate every row of a file, download the outputs and return the exit code."""
    prices, budget = options.spending.prices, options.spending.budget
    if options.json_lines and options.paths:
        raise InputError("give --json-lines or --paths, not both: standard output holds one of them")
    source = options.input.source(given)
    check_name(options.name, BATCH_FIELDS)
    for url in (options.store, options.uploader):
        if url is not None:
            check_store(url)
    if options.spending.dry_run:
        return _dry_run(source, options, prices, budget)
    callbacks = options.callbacks.address
    if not options.service.emulator:
        require_key()
    journal, run_name = options.journal(), options.run_name
    # Opened before the event loop starts: a pipe may take long to deliver its first line.
    listeners = {"warn": say} if options.quiet else {"notice": say, "warn": say}
    with options.input.open(source, **listeners) as rows:
        require_folder(options.out)
        work = _Batch(
            source=source,
            options=options,
            budget=budget,
            callbacks=callbacks,
            journal=journal,
            run_name=run_name,
            rows=rows,
            summary=Summary(folder=options.out, prices=prices, shared=options.shared.address is not None),
        )
        # Quiet: the summary lists every purchase of unknown outcome, so warnings would repeat it.
        return run(work.run, quiet=True)


def _dry_run(source: str, options: BatchOptions, prices: dict[str, float], budget: Budget | None) -> int:
    """Show what a run would buy, and return the exit code that it would end with."""
    options.journal()  # raises InputError if a run could not continue in this folder
    with options.input.open(source, notice=say, warn=say) as rows:
        found = dry_run(
            options.input.limited(rows),
            options.out,
            journal=options.shared.address,
            run=options.run_name,
            budget=budget,
            prices=prices,
            retry_failed=options.resume.retry_failed,
            resend_unknown=options.resume.resend_unknown,
            strict=options.input.strict,
            on_bad=_BadRows("are not shown").say,
        )
    say("\n".join(dry_run_sentences(found, options.out, prices, budget)))
    return dry_run_code(found)


@define(kw_only=True)
class _Batch:
    """One run of the command."""

    source: str
    options: BatchOptions
    budget: Budget | None
    callbacks: CallbackAddress | None
    journal: SqliteJournal | PostgresJournal
    run_name: str
    rows: Rows
    summary: Summary
    events: EventCounts = field(factory=EventCounts)
    #: Generated tasks whose download an interruption stopped; at most as many as there are downloads.
    interrupted: list[Result] = field(factory=list)

    async def run(self) -> int:
        """Submit the rows, show what happens, leave the report and return the exit code."""
        async with self._opened_journal():  # before the emulator, so that no two emulators share a ledger
            await check_journal(self.journal, self.options.out, self.run_name)
            began = anyio.current_time()
            record = RunRecord(
                source=self.source, began=began, prices=self.summary.prices, budget=self.budget
            )

            def on_event(event: Event | ClientEvent) -> None:
                self.events.on_event(event)
                record.on_event(event)

            opened = whole = False
            try:
                async with (
                    printing() if self.options.prints_results else nullcontext() as put,
                    self._opened_client(on_event) as (client, receiver),
                ):
                    opened = True
                    try:
                        await self._submit(client, put)
                        whole = True
                    finally:
                        self.summary.stats = client.stats()
                        self.summary.callbacks = None if receiver is None else receiver.taken
            finally:
                if opened:
                    seconds = anyio.current_time() - began
                    page = leave_report(self.summary, record, whole=whole)
                    print_summary(self.summary, self.budget, seconds, quiet=self.options.quiet, page=page)
        return exit_code(self.summary)

    @asynccontextmanager
    async def _opened_journal(self) -> AsyncIterator[None]:
        """Open the journal. One on a server is waited for: a process that was killed holds it for a while."""
        from ruxa_async.journal import PostgresJournal  # noqa: PLC0415 - see above

        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self.journal)
            except JournalInUseError as exc:
                if not isinstance(self.journal, PostgresJournal):
                    raise
                say(f"{exc.holder} holds the journal: waiting up to {_WAIT:.0f} s until its lease ends")
                self.journal = self.options.journal(wait=_WAIT)
                await stack.enter_async_context(self.journal)
            if isinstance(self.journal, PostgresJournal):
                named = self.options.shared.run is not None
                await join_run(self.journal, self.options.out, self.run_name, named=named)
            yield

    @asynccontextmanager
    async def _opened_client(
        self, on_event: EventHook
    ) -> AsyncIterator[tuple[RuxaClient, CallbackReceiver | None]]:
        service = self.options.service
        async with AsyncExitStack() as stack:
            uploader = receiver = None
            if (url := self.options.uploader) is not None:
                await opened_store(url)  # raises InputError before anything is bought
                uploader = ObjectStoreUploader(url)
            if self.callbacks is not None:
                receiver = await _receiver(self.callbacks, self.journal)
                await stack.enter_async_context(receiver.serve(self.callbacks.host, self.callbacks.port))
            client = open_client(
                emulator=service.emulator,
                speed=service.speed,
                ledger=self.options.out / EMULATOR,
                proxy=service.proxy,
                limits=Limits(max_in_flight=self.options.max_in_flight),
                budget=self.budget,
                journal=self.journal,
                callbacks=receiver,
                uploader=uploader,
                on_event=on_event,
            )
            yield await stack.enter_async_context(client), receiver

    async def _submit(self, client: RuxaClient, put: Put | None) -> None:
        """Submit the rows, and show progress until every row has a result."""
        options = self.options
        progress = Progress(summary=self.summary, events=self.events, max_in_flight=options.max_in_flight)
        async with (
            displayed(progress, client.stats) if options.shows_progress else nullcontext(),
            anyio.create_task_group() as tg,
        ):
            tg.start_soon(self._count_rows, progress)
            try:
                await run_batch(
                    client,
                    options.input.limited(self.rows),
                    options.out,
                    strict=options.input.strict,
                    resume=True,
                    run=self.run_name,
                    retry_failed=options.resume.retry_failed,
                    resend_unknown=options.resume.resend_unknown,
                    pulled=1 if self.rows.interactive else 64,
                    name=options.name,
                    store=options.store,
                    summary=self.summary,
                    on_result=self._result_handler(put),
                )
            except (OSError, JournalError, ClientClosedError):
                self._list_unrecorded(client)
                raise
            tg.cancel_scope.cancel()

    def _result_handler(self, put: Put | None) -> Callable[[Result], object]:
        """Return a function that prints a result with *put* and reports a bad row."""
        bad_rows = _BadRows(f"are in {RESULTS} only")

        def on_result(result: Result) -> None:
            if result.error is not None and result.error["type"] == "Interrupted":
                self.interrupted.append(result)
            if put is not None:
                put(self.options.printed(result))
            if result.state == "invalid" and result.error is not None:
                bad_rows.say(result.line, result.error["message"])

        return on_result

    def _list_unrecorded(self, client: RuxaClient) -> None:
        """List the purchases that results.jsonl or the journal may lack, because one could not be written."""
        for orphan in client.orphans:
            prompt = None if orphan.request is None else orphan.request.input().get("prompt")
            _say_charged(orphan.task_id, orphan.key, str(prompt or orphan.model))
        for result in self.interrupted:
            _say_charged(result.task_id, result.key, result.prompt or result.model or "")

    async def _count_rows(self, progress: Progress) -> None:
        """Count the rows while the run is under way, so that the remaining time can be shown."""

        def count() -> int | None:
            if self.source == "-" or Path(self.source).stat().st_size > _MAX_COUNTED_BYTES:
                return None
            with self.options.input.open(self.source) as rows:
                return sum(1 for _ in self.options.input.limited(rows))

        progress.total = await to_thread.run_sync(count, abandon_on_cancel=True)


async def _receiver(address: CallbackAddress, journal: LastingJournal) -> CallbackReceiver:
    """Return a receiver whose secret is RUXA_CALLBACK_SECRET, else one that the open *journal* keeps."""
    from ruxa_async.callbacks import CallbackReceiver  # noqa: PLC0415 - not needed to report wrong usage

    secret = os.environ.get("RUXA_CALLBACK_SECRET") or await journal.learned(_SECRET)
    if not isinstance(secret, str):
        secret = secrets.token_urlsafe(32)
        await journal.learn(_SECRET, secret)
    return CallbackReceiver(public_url=address.url, secret=secret)


@define
class _BadRows:
    """Reports the first bad rows; *rest* says where the further ones are."""

    rest: str
    _count: int = 0

    def say(self, line: int, error: object) -> None:
        """Report that the row on *line* is wrong."""
        self._count += 1
        if self._count <= _MAX_BAD_ROWS:
            say(f"line {line}: {error}")
        elif self._count == _MAX_BAD_ROWS + 1:
            say(f"further bad rows {self.rest}")


def _say_charged(task_id: str | None, key: str | None, prompt: str) -> None:
    say(f"task {task_id or '(unknown)'} was or may have been charged: {key or shortened(prompt)}")
