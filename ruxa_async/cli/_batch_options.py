"""The options of ``ruxa-async batch``."""

# ruff: noqa: RUF009 - option() returns a field of attrs

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from attrs import field, frozen
from cyclopts import Parameter

from ruxa_async.batch import InputError, Row, Rows, folder_journal, open_picks, open_rows
from ruxa_async.batch._input_rows import DEFAULT_MODEL
from ruxa_async.batch._layout import RUN
from ruxa_async.batch._request_parser import model_hint
from ruxa_async.batch._shared_run import choose_run
from ruxa_async.journal import PostgresJournal, SqliteJournal
from ruxa_async.requests import MODELS, request_class
from ruxa_async.settings import Budget

from ._models import input_field
from ._options import (
    JOURNAL_VARIABLE,
    Count,
    Flag,
    JournalAddress,
    Name,
    Out,
    Repeated,
    ServiceOptions,
    journal_address,
    option,
    panel,
)

if TYPE_CHECKING:
    from ruxa_async.batch._result_line import Result

__all__ = ("BatchOptions", "BudgetOptions", "CallbackAddress", "CallbackOptions")


@frozen(kw_only=True)
class _InputOptions:
    model: Annotated[str | None, Parameter(metavar="MODEL", completer=lambda _context: list(MODELS))] = (
        option(
            None,
            f"The model of rows that name none, by default {DEFAULT_MODEL}; with --from-picks, of all picks.",
        )
    )
    prompt_column: str | None = option(None, "The column of a table that holds the prompts. Default: prompt.")
    format: Literal["jsonl", "csv", "tsv", "text", "parquet"] | None = option(
        None,
        "The format of the input. Default: by the extension, otherwise by the first line. Parquet needs the "
        "extra arrow.",
    )
    strict: Flag = option(False, "Stop at the first bad row: finish earlier rows, submit no further ones.")
    limit: Count | None = option(None, "Read at most this number of rows.")
    from_picks: Annotated[Path | None, Parameter(metavar="FILE")] = option(
        None,
        "In place of INPUT: a picks.jsonl, saved from a report page. Each picked row is made again, with the "
        "key KEY-pick.",
    )
    input: Annotated[Repeated, Parameter(metavar="FIELD=VALUE")] = option(
        (),
        "With --from-picks: a field that all picks get, such as resolution=4k; FIELD=null takes it out. Can "
        "be repeated.",
    )

    def source(self, given: str | None) -> str:
        """Return the name of the input: *given* as INPUT, or that of the picks. Raises `InputError`."""
        if self.from_picks is None:
            if self.input:
                raise InputError(
                    "--input goes with --from-picks: put the fields of other inputs into their rows"
                )
            if given is None:
                raise InputError("there is no INPUT: name a file of prompts, - or --from-picks FILE")
            return given
        if given is not None:
            raise InputError(f"give INPUT or --from-picks, not both: {given} and {self.from_picks}")
        if self.prompt_column is not None or self.format is not None:
            raise InputError("--prompt-column and --format are for INPUT, not for --from-picks")
        self._changes(self.model or DEFAULT_MODEL)  # raises InputError before anything is opened
        return str(self.from_picks)

    def open(self, source: str, **listeners: Callable[[str], object]) -> AbstractContextManager[Rows]:
        """Open *source*, with the *listeners* of `open_rows`: notice and warn."""
        if self.from_picks is not None:
            if "warn" in listeners and self.model is not None and request_class(self.model) is None:
                listeners["warn"](f"{model_hint(self.model)} It is sent as it is")
            return open_picks(self.from_picks, model=self.model, changes=self._changes)
        model = DEFAULT_MODEL if self.model is None else self.model
        return open_rows(
            source, format=self.format, prompt_column=self.prompt_column, model=model, **listeners
        )

    def _changes(self, model: str) -> dict[str, Any]:
        """Return the fields of ``--input`` for *model*, None for one that is taken out."""
        changes: dict[str, Any] = {}
        for text in self.input:
            name, value = input_field(model, text)
            if name in changes:
                raise InputError(f"--input {name}: the field {name} is given twice")
            changes[name] = None if text.partition("=")[2] == "null" else value
        return changes

    def limited(self, rows: Rows) -> Iterator[Row]:
        """Yield the first ``--limit`` of *rows*."""
        return islice(rows, self.limit)


@frozen(kw_only=True)
class _ResumeOptions:
    retry_failed: Flag = option(False, "Buy tasks again that failed in earlier runs in this folder.")
    resend_unknown: Flag = option(
        False,
        "Send creates of unknown outcome from earlier runs again. They may be charged twice: check "
        "the account first.",
    )
    new_key: Flag = option(False, "Continue a folder of an API key that was replaced by the present one.")


@frozen(kw_only=True)
class _JournalOptions:
    journal: JournalAddress = None
    run: Annotated[str | None, Parameter(metavar="NAME")] = option(
        None,
        "The name of this run in that journal. Name it to continue it in another folder or on another "
        "machine. Default: the name of the --out folder.",
    )

    @property
    def address(self) -> str | None:
        """The address of a journal on a server, None for the journal of the folder. Raises `InputError`."""
        address = journal_address(self.journal)
        if self.run is not None and address is None:
            raise InputError(
                f"--run names a run of a journal on a server: give --journal or {JOURNAL_VARIABLE}"
            )
        return address


@frozen(kw_only=True)
class BudgetOptions:
    """The budget of a folder, over all runs."""

    max_tasks: int | None = option(
        None,
        "Buy at most this number of tasks in this folder, over all runs. Creates of unknown outcome "
        "count as bought.",
    )
    max_credits: float | None = option(
        None,
        "Spend at most this number of credits in this folder, over all runs. Needs --price for each model.",
    )
    price: Annotated[Repeated, Parameter(metavar="MODEL=CREDITS")] = option(
        (),
        "The most that a task of a model costs, as MODEL=CREDITS, or as 'MODEL[resolution=4k]=CREDITS' for "
        "some of its tasks. Can be repeated. A charge that the service reports replaces it.",
    )

    @property
    def prices(self) -> dict[str, float]:
        """The credits of a task, by model and parameters. Raises `InputError`."""
        prices: dict[str, float] = {}
        for text in self.price:
            key, _, price = text.rpartition("=")
            try:
                prices[key] = float(price)
            except ValueError:
                key = ""
            if not key.strip():
                raise InputError(f"--price {text!r} is not MODEL=CREDITS, as in google/nano-banana=3")
        _budget(max_tasks=0, prices=prices)
        return prices

    @property
    def budget(self) -> Budget | None:
        """The budget, None without a limit. Raises `InputError`."""
        if self.max_tasks is None and self.max_credits is None:
            return None
        return _budget(max_tasks=self.max_tasks, max_credits=self.max_credits, prices=self.prices)


@frozen(kw_only=True)
class _SpendingOptions(BudgetOptions):
    dry_run: Flag = option(
        False, "Check every row and show what would be bought. Sends and writes nothing, needs no API key."
    )


def _budget(*, max_tasks: int | None, max_credits: float | None = None, prices: dict[str, float]) -> Budget:
    """Return a budget. Raises `InputError` in which options stand in place of the arguments."""
    try:
        return Budget(max_tasks=max_tasks, max_credits=max_credits, prices=prices)
    except ValueError as error:
        text = str(error).replace("max_tasks=", "--max-tasks ").replace("max_credits=", "--max-credits ")
        raise InputError(text.replace("prices", "--price")) from None


@frozen
class CallbackAddress:
    """The public URL of callbacks, and the local address to listen on."""

    url: str
    host: str
    port: int


@frozen(kw_only=True)
class CallbackOptions:
    callback_url: Annotated[str | None, Parameter(metavar="URL")] = option(
        None, "The public URL to which the service posts when a task ends. It must lead to --callback-listen."
    )
    callback_listen: Annotated[str | None, Parameter(metavar="HOST:PORT")] = option(
        None,
        "The HOST:PORT on which to listen for these posts. Plain HTTP: put a proxy that speaks "
        "HTTPS in front.",
    )

    @property
    def address(self) -> CallbackAddress | None:
        """Both options as one value, None without them. Raises `InputError`."""
        url, listen = self.callback_url, self.callback_listen
        if url is None and listen is None:
            return None
        if url is None or listen is None:
            raise InputError("--callback-url and --callback-listen go together: give both, or neither")
        host, _, port = listen.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65_535:
            raise InputError(
                f"--callback-listen {listen} is not an address: give HOST:PORT, as 127.0.0.1:8080"
            )
        return CallbackAddress(url, host.removeprefix("[").removesuffix("]"), int(port))


@frozen(kw_only=True)
class BatchOptions:
    """All options of the command, in the panels that ``--help`` shows."""

    out: Out
    json_lines: Flag = option(
        False,
        "Print each outcome as soon as it is known, as a line of results.jsonl. Nothing else "
        "goes to standard output.",
    )
    paths: Flag = option(
        False, "Print the path of each file as soon as it is saved. Nothing else goes to standard output."
    )
    quiet: Flag = option(
        False, "Show neither progress nor counts, only errors and what is left for you to do."
    )
    max_in_flight: Count = option(100, "The number of tasks in flight at once.")
    store: Annotated[str | None, Parameter(metavar="URL")] = option(
        None,
        "Save the outputs in an object store instead of the --out folder: s3://BUCKET/PREFIX, gs:// or "
        "az://. Credentials come from the environment. The folder keeps results, report and journal.",
    )
    uploader: Annotated[str | None, Parameter(metavar="URL")] = option(
        None,
        "Upload the local files of rows into an object store from which the service downloads them by signed "
        "URLs: s3://BUCKET/PREFIX, gs:// or az://. They are removed when their tasks have ended.",
    )
    name: Name = None
    input: Annotated[_InputOptions, panel("Input")] = field(factory=_InputOptions)
    spending: Annotated[_SpendingOptions, panel("Spending")] = field(factory=_SpendingOptions)
    resume: Annotated[_ResumeOptions, panel("Earlier runs")] = field(factory=_ResumeOptions)
    service: Annotated[ServiceOptions, panel("Service")] = field(factory=ServiceOptions)
    callbacks: Annotated[CallbackOptions, panel("Callbacks")] = field(factory=CallbackOptions)
    shared: Annotated[_JournalOptions, panel("Journal on a server")] = field(factory=_JournalOptions)

    @property
    def prints_results(self) -> bool:
        """Whether results go to standard output."""
        return self.json_lines or self.paths

    @property
    def shows_progress(self) -> bool:
        """Whether progress is shown: not on a terminal that shows results."""
        return not self.quiet and not (self.prints_results and sys.stdout.isatty())

    def printed(self, result: Result) -> bytes:
        """Return the lines that standard output gets for *result*."""
        if self.json_lines:
            return result.encoded()
        paths = result.files if self.store is not None else [self.out / name for name in result.files]
        return b"".join(os.fsencode(path) + b"\n" for path in paths)

    @property
    def run_name(self) -> str:
        """The name of the run in the journal. Raises `InputError`."""
        return RUN if self.shared.address is None else choose_run(self.out, self.shared.run)

    def journal(self, *, wait: float = 0.0) -> SqliteJournal | PostgresJournal:
        """Return the journal of ``--journal`` or ``--out``, not yet opened.

        One on a server that another process holds is waited for, up to *wait* seconds. Raises `InputError`,
        `ConfigurationError`.
        """
        # The port of an emulator changes from run to run, so its address does not identify it.
        service = "the emulator (--emulator)" if self.service.emulator else None
        address, new_key = self.shared.address, self.resume.new_key
        if address is None:
            return folder_journal(self.out, service=service, new_key=new_key)
        return PostgresJournal(address, wait=wait, service=service, new_key=new_key)
