"""``ruxa-async batch``: a file of prompts to pictures on disk."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio
from anyio import to_thread
from attrs import define, field, frozen
from cyclopts import Parameter

from ruxa_async.batch import InputError, Rows, Summary, folder_journal, open_rows, run_batch
from ruxa_async.batch._dry_run import dry_run
from ruxa_async.batch._input_rows import DEFAULT_MODEL, Format
from ruxa_async.batch._layout import EMULATOR, RESULTS
from ruxa_async.batch._results_file import check_journal
from ruxa_async.batch._run_record import RunRecord
from ruxa_async.downloads import BATCH_FIELDS
from ruxa_async.errors import ClientClosedError, JournalError
from ruxa_async.settings import Budget, Limits

from ._callbacks import CallbackOptions, listening, read_callbacks
from ._options import (
    EMULATOR_SPEED,
    Count,
    EmulatorFlag,
    InputFormat,
    Model,
    Name,
    Out,
    Proxy,
    Speed,
    check_template_option,
    shortened,
)
from ._progress import Board, Watch, displayed
from ._runtime import need_folder, need_key, open_client, run, say
from ._spending import MaxCredits, MaxTasks, Prices, dry_run_code, read_budget, read_prices, rehearsed
from ._stdout import Put, printing
from ._summary import conclude, exit_code, leave_report

if TYPE_CHECKING:
    from ruxa_async._client.client import RuxaClient
    from ruxa_async.batch._result_line import Result
    from ruxa_async.callbacks import CallbackReceiver
    from ruxa_async.events import ClientEvent, Event, EventHook
    from ruxa_async.journal import SqliteJournal

__all__ = ("batch",)

#: Above this, counting the rows first would take longer than it is worth.
_COUNTED_BYTES = 64 << 20
_SHOWN_ROWS = 20


def batch(
    source: Annotated[
        str,
        Parameter(
            name="INPUT",
            allow_leading_hyphen=True,
            help="A .jsonl, .csv, .tsv or text file of prompts, or - for standard input.",
        ),
    ],
    /,
    *,
    out: Out,
    model: Model = DEFAULT_MODEL,
    prompt_column: Annotated[
        str | None,
        Parameter(help="The column of a table that holds the prompts (default: the one called prompt)."),
    ] = None,
    format: InputFormat = None,  # noqa: A002 - the option's name
    strict: Annotated[
        bool,
        Parameter(help="Submit nothing from the first bad row on; what was submitted before is finished."),
    ] = False,
    limit: Annotated[Count | None, Parameter(help="Read at most this number of rows.")] = None,
    retry_failed: Annotated[
        bool, Parameter(help="Buy the tasks again that failed in earlier runs in this folder.")
    ] = False,
    resend_unknown: Annotated[
        bool,
        Parameter(
            help="Buy again what may have been charged in earlier runs: it may be charged twice, so look at "
            "the account first."
        ),
    ] = False,
    new_key: Annotated[
        bool, Parameter(help="The API key was renewed: let it take over the folder of the old one.")
    ] = False,
    callback_url: Annotated[
        str | None,
        Parameter(
            help="Have the service post here when a task ends: the public address under which "
            "--callback-listen is reached."
        ),
    ] = None,
    callback_listen: Annotated[
        str | None,
        Parameter(
            help="Where to listen for these posts, as HOST:PORT; plain HTTP, for a proxy that speaks HTTPS."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        Parameter(
            help="Check every row and say what would be bought: nothing is sent or written, and no key is "
            "needed."
        ),
    ] = False,
    max_tasks: MaxTasks = None,
    max_credits: MaxCredits = None,
    price: Prices = (),
    max_in_flight: Annotated[Count, Parameter(help="How many tasks run at the service at once.")] = 100,
    name: Name = None,
    quiet: Annotated[bool, Parameter(help="Show no progress and no counts, only what you must do.")] = False,
    json_lines: Annotated[
        bool,
        Parameter(
            help="Print every outcome as it becomes known, as results.jsonl has it, and nothing else on "
            "standard output."
        ),
    ] = False,
    paths: Annotated[
        bool,
        Parameter(help="Print the path of every file as it is saved, and nothing else on standard output."),
    ] = False,
    proxy: Proxy = None,
    emulator: EmulatorFlag = False,
    speed: Speed = EMULATOR_SPEED,
) -> int:
    """Generate every row of a file and download what it makes.

    Each outcome is written to results.jsonl in the --out folder as it finishes. Columns or JSON fields named
    like request fields (aspect_ratio, image_input, model, key, ...) are used; a bad row is reported and
    passed over.

    Run it again with the same folder to go on, after an interruption of any kind or with a longer or changed
    file: nothing is bought twice, tasks that were paid for are picked up, missing files are fetched again.
    """
    job = _Job(
        source=source,
        out=out,
        model=model,
        prompt_column=prompt_column,
        format=format,
        strict=strict,
        retry_failed=retry_failed,
        resend_unknown=resend_unknown,
        limit=limit,
        name=name,
        quiet=quiet,
        json_lines=json_lines,
        paths=paths,
        prices=read_prices(price),
    )
    if json_lines and paths:
        raise InputError("give --json-lines or --paths, not both: standard output holds one of them")
    if name is not None:
        check_template_option(name, BATCH_FIELDS)
    budget = read_budget(max_tasks, max_credits, job.prices)
    if dry_run:
        return _rehearse(job, budget)
    service = _Service(
        emulator=emulator,
        speed=speed,
        proxy=proxy,
        new_key=new_key,
        limits=Limits(max_in_flight=max_in_flight),
        budget=budget,
        callbacks=read_callbacks(callback_url, callback_listen),
    )
    return _open_and_run(job, service)


@frozen(kw_only=True)
class _Job:
    source: str
    out: Path
    model: str
    prompt_column: str | None
    format: Format | None
    strict: bool
    retry_failed: bool
    resend_unknown: bool
    limit: int | None
    name: str | None
    quiet: bool
    json_lines: bool
    paths: bool
    prices: dict[str, float]

    def opened(
        self, *, notice: Callable[[str], object], warn: Callable[[str], object] = say
    ) -> AbstractContextManager[Rows]:
        return open_rows(
            self.source,
            format=self.format,
            prompt_column=self.prompt_column,
            model=self.model,
            notice=notice,
            warn=warn,
        )

    @property
    def shows_progress(self) -> bool:
        """Whether there is a place for it: a terminal that shows the lines of results has none."""
        return not self.quiet and not (self.prints and sys.stdout.isatty())

    @property
    def prints(self) -> bool:
        """Whether results go to standard output."""
        return self.json_lines or self.paths

    def printed(self, result: Result) -> bytes:
        """Return what is printed of *result*."""
        if self.json_lines:
            return result.encoded()
        return b"".join(os.fsencode(self.out / name) + b"\n" for name in result.files)


@frozen(kw_only=True)
class _Service:
    emulator: bool
    speed: float
    proxy: str | None
    new_key: bool
    limits: Limits
    budget: Budget | None
    callbacks: CallbackOptions | None

    def journal(self, folder: Path) -> SqliteJournal:
        # An emulator may get another port each time, and is the same one all the same.
        service = "the emulator (--emulator)" if self.emulator else None
        return folder_journal(folder, service=service, new_key=self.new_key)

    @asynccontextmanager
    async def opened(
        self, folder: Path, journal: SqliteJournal, on_event: EventHook
    ) -> AsyncIterator[tuple[RuxaClient, CallbackReceiver | None]]:
        async with AsyncExitStack() as stack:
            receiver = None
            if self.callbacks is not None:
                receiver = await stack.enter_async_context(listening(self.callbacks, journal))
            client = open_client(
                emulator=self.emulator,
                speed=self.speed,
                ledger=folder / EMULATOR,
                proxy=self.proxy,
                limits=self.limits,
                budget=self.budget,
                journal=journal,
                callbacks=receiver,
                on_event=on_event,
            )
            yield await stack.enter_async_context(client), receiver


def _rehearse(job: _Job, budget: Budget | None) -> int:
    """Say what a run would buy, and buy nothing."""
    folder_journal(job.out)  # says whether a run could go on there, and makes nothing
    bad = _Told(where="are not shown")
    with job.opened(notice=say) as rows:
        found = dry_run(
            islice(rows, job.limit),
            job.out,
            budget=budget,
            prices=job.prices,
            retry_failed=job.retry_failed,
            resend_unknown=job.resend_unknown,
            strict=job.strict,
            on_bad=bad.say,
        )
    say("\n".join(rehearsed(found, job.out, job.prices, budget)))
    return dry_run_code(found)


def _open_and_run(job: _Job, service: _Service) -> int:
    if not service.emulator:
        need_key()
    journal = service.journal(job.out)
    # Opened outside of the event loop, because a pipe may keep its first line back.
    with job.opened(notice=_nothing if job.quiet else say) as rows:
        need_folder(job.out)
        # Quiet: the result lines name every purchase whose end was not seen, and so would a warning each.
        return run(lambda: _run(job, rows, service, journal), quiet=True)


async def _run(job: _Job, rows: Rows, service: _Service, journal: SqliteJournal) -> int:
    summary, watch = Summary(folder=job.out, prices=job.prices), Watch()
    board = Board(summary=summary, watch=watch, max_in_flight=service.limits.max_in_flight)
    async with journal:  # before the emulator, so that no two of them share a ledger
        await check_journal(journal, job.out)
        began = anyio.current_time()
        record = RunRecord(source=job.source, began=began, prices=job.prices, budget=service.budget)

        def on_event(event: Event | ClientEvent) -> None:
            watch.on_event(event)
            record.on_event(event)

        opened = whole = False
        try:
            async with (
                printing() if job.prints else nullcontext() as put,
                service.opened(job.out, journal, on_event) as (client, receiver),
            ):
                opened = True
                try:
                    await _run_with(client, job, rows, board, put)
                    whole = True
                finally:
                    summary.stats = client.stats()
                    summary.callbacks = None if receiver is None else receiver.taken
        finally:
            if opened:
                seconds = anyio.current_time() - began
                page = leave_report(summary, record, whole=whole)
                conclude(summary, service.budget, seconds, quiet=job.quiet, page=page)
    return exit_code(summary)


async def _run_with(client: RuxaClient, job: _Job, rows: Rows, board: Board, put: Put | None) -> None:
    told = _Told(None if put is None else lambda result: put(job.printed(result)))
    async with (
        displayed(board, client.stats) if job.shows_progress else nullcontext(),
        anyio.create_task_group() as tg,
    ):
        tg.start_soon(_count, job, board)
        try:
            await run_batch(
                client,
                islice(rows, job.limit),
                job.out,
                strict=job.strict,
                resume=True,
                retry_failed=job.retry_failed,
                resend_unknown=job.resend_unknown,
                pulled=1 if rows.interactive else 64,
                name=job.name,
                summary=board.summary,
                on_result=told,
            )
        except (OSError, JournalError, ClientClosedError):  # here is what lines or journal may not hold
            for orphan in client.orphans:
                asked = None if orphan.request is None else orphan.request.input().get("prompt")
                named = orphan.key or shortened(str(asked or orphan.model))
                say(f"task {orphan.task_id or '(unknown)'} is paid for, or may be: {named}")
            for result in told.interrupted:
                named = result.key or shortened(result.prompt or result.model or "")
                say(f"task {result.task_id} is paid for, or may be: {named}")
            raise
        tg.cancel_scope.cancel()


async def _count(job: _Job, board: Board) -> None:
    """Count the rows beside the run, so that it can say how long it will take."""

    def counted() -> int | None:
        if job.source == "-" or Path(job.source).stat().st_size > _COUNTED_BYTES:
            return None
        with open_rows(
            job.source, format=job.format, prompt_column=job.prompt_column, model=job.model
        ) as rows:
            return sum(1 for _ in islice(rows, job.limit))

    board.total = await to_thread.run_sync(counted, abandon_on_cancel=True)


@define
class _Told:
    """Report the first twenty bad rows, and *put* every row where the options say."""

    _put: Callable[[Result], object] | None = None
    where: str = f"are in {RESULTS} only"
    _said: int = 0
    #: Generated, and stopped while they were downloaded; there are never more than run at once.
    interrupted: list[Result] = field(factory=list)

    def __call__(self, result: Result) -> None:
        if result.error is not None and result.error["type"] == "Interrupted":
            self.interrupted.append(result)
        if self._put is not None:
            self._put(result)
        if result.state == "invalid" and result.error is not None:
            self.say(result.line, result.error["message"])

    def say(self, line: int, error: object) -> None:
        """Report that the row on this *line* is wrong."""
        self._said += 1
        if self._said <= _SHOWN_ROWS:
            say(f"line {line}: {error}")
        elif self._said == _SHOWN_ROWS + 1:
            say(f"further bad rows {self.where}")


def _nothing(_: str) -> None:
    """Say nothing."""
