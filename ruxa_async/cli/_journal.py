"""``ruxa-async journal``: show the purchases of a folder, and settle creates of unknown outcome."""

# ruff: noqa: RUF009 - option() returns a field of attrs

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from attrs import evolve, frozen
from cyclopts import Parameter

from ruxa_async.batch import InputError
from ruxa_async.batch._layout import JOURNAL, RESULTS
from ruxa_async.batch._shared_run import linked_run
from ruxa_async.errors import JournalInUseError
from ruxa_async.journal import (
    JobState,
    JournalEntry,
    JournalView,
    LastingJournal,
    PostgresJournal,
    SqliteJournal,
    view_journal,
)

from ._options import JOURNAL_VARIABLE, Flag, JournalAddress, journal_address, option
from ._runtime import DONE, run, say
from ._stdout import print_text
from ._text import counted, number, shortened

__all__ = ("journal",)

_STATES = {
    JobState.INTENDED: "being sent now",
    JobState.SUCCEEDED: "succeeded",
    JobState.FAILED: "failed",
    JobState.ACCEPTED: "paid for, running or not polled since",
    JobState.ADOPTED: "adopted, picked up by the next run",
    JobState.UNKNOWN: "unknown, perhaps charged",
    JobState.FORGOTTEN: "forgotten, bought by the next run",
    JobState.NOT_BOUGHT: "not bought",
}


@frozen(kw_only=True)
class _JournalOptions:
    adopt: Annotated[list[tuple[str, str]] | None, Parameter(metavar="KEY TASK_ID")] = option(
        None,
        "KEY TASK_ID: the unknown request KEY was bought, as this task. The next run polls it. Can be "
        "repeated.",
    )
    forget: Annotated[list[str] | None, Parameter(metavar="KEY")] = option(
        None, "KEY: the unknown request KEY was not bought. The next run buys it. Can be repeated."
    )
    run: Annotated[str | None, Parameter(metavar="NAME")] = option(
        None, "Only the run of this name, if the journal holds several."
    )
    journal: JournalAddress = None
    json: Flag = option(False, "Print one JSON object.")


_DEFAULTS = _JournalOptions()


def journal(
    folder: Annotated[
        Path | None,
        Parameter(name="DIR", help="The --out folder of a batch, or the file of a SqliteJournal."),
    ] = None,
    /,
    *,
    options: Annotated[_JournalOptions, Parameter(name="*")] = _DEFAULTS,
) -> int:
    """Print what was bought in a folder or a journal on a server, after settling what the options name."""
    place, name = _place(folder, options)
    options = evolve(options, run=name)
    results = None if folder is None else (folder / RESULTS if folder.is_dir() else folder.with_name(RESULTS))

    async def command() -> int:
        if options.adopt or options.forget:
            await _settle(place, options)
        view = await view_journal(place, run=options.run, results=results)
        print_text(_as_json(view) if options.json else "".join(f"{line}\n" for line in _as_text(view)))
        return DONE

    return run(command)


def _place(folder: Path | None, options: _JournalOptions) -> tuple[Path | str, str | None]:
    """Return the path or the address of the journal, and the run to show, None for all.

    Raises `InputError`.
    """
    linked = None if folder is None or not folder.is_dir() else linked_run(folder)
    # RUXA_JOURNAL stands in for a folder, or for the address that a folder lacks.
    if folder is None or linked is not None or options.journal is not None:
        address = journal_address(options.journal)
        if address is not None:
            return address, options.run or linked
    if folder is None:
        raise InputError(f"give a folder, or the address of a journal with --journal or {JOURNAL_VARIABLE}")
    if linked is not None:
        raise InputError(
            f"the journal of {folder} is on a server: give its address with --journal or {JOURNAL_VARIABLE}"
        )
    path = folder / JOURNAL if folder.is_dir() else folder
    if not path.is_file():
        raise InputError(f"{path}: there is no journal here")
    return path, options.run


async def _settle(place: Path | str, options: _JournalOptions) -> None:
    async with _opened(place) as journal:
        for key, task_id in options.adopt or ():
            entry = await journal.adopt(await _name(journal, key), task_id, options.run)
            say(f"{entry.name} is task {task_id}: run the batch again to pick it up")
        for key in options.forget or ():
            entry = await journal.forget(await _name(journal, key), options.run)
            say(f"{entry.name} counts as not bought: run the batch again to buy it")


@asynccontextmanager
async def _opened(place: Path | str) -> AsyncIterator[LastingJournal]:
    """Open the journal. One on a server can also be settled while another process holds it."""
    if isinstance(place, Path):
        async with SqliteJournal(place) as file:
            yield file
        return
    await view_journal(place)  # raises JournalError if there is none, instead of making one
    async with AsyncExitStack() as stack:
        try:  # the new holder's takeover makes jobs unknown that a killed process was sending
            journal = await stack.enter_async_context(PostgresJournal(place))
        except JournalInUseError:
            journal = await stack.enter_async_context(PostgresJournal(place, hold=False))
        yield journal


async def _name(opened: LastingJournal, key: str) -> str:
    """Return the name of the unknown request *key*; a # in front may be missing, since shells drop it."""
    return f"#{key}" if f"#{key}" in {entry.name for entry in await opened.unknowns()} else key


def _as_text(view: JournalView) -> Iterator[str]:
    if view.in_use is not None:
        lease = "" if view.lease is None else f"; its lease ends in {view.lease:.0f} s unless it renews it"
        yield f"{view.path} is in use by {view.in_use.holder or 'another process'}{lease}"
    if view.counts is None:
        results = ", ".join(f"{count:,} {state}" for state, count in view.results.items())
        yield f"  {RESULTS} so far: {results or 'nothing'}"
        return
    counts = view.counts
    yield f"{view.path}: {counted(counts.total, 'job')}"
    for state, description in _STATES.items():
        if counts.jobs[state]:
            yield f"  {counts.jobs[state]:,} {description}"
    charged = f", {number(counts.credits)} credits as the service reported" if counts.credits else ""
    yield f"  {counted(counts.files, 'file')} saved{charged}"
    for entry in view.unknowns:
        yield f"{entry.name}: {entry.model}, sent {_when(entry)}: {shortened(_prompt(entry) or '')}"
        yield f"  {entry.error_message or 'no reply came'}"
    if view.unknowns:
        yield "Check the account and settle each: --adopt KEY TASK_ID if it was bought, --forget KEY if not."


def _as_json(view: JournalView) -> str:
    counts = view.counts
    values = {
        "journal": str(view.path),
        "in_use": None if view.in_use is None else {"holder": view.in_use.holder, "lease": view.lease},
        "jobs": None if counts is None else {state.value: n for state, n in counts.jobs.items()},
        "files": None if counts is None else counts.files,
        "credits": None if counts is None else counts.credits,
        "results": dict(view.results),
        "unknown": [_described(entry) for entry in view.unknowns],
    }
    return json.dumps(values, indent=2) + "\n"


def _described(entry: JournalEntry) -> dict[str, Any]:
    return {
        "id": entry.name,
        "key": entry.key,
        "run": entry.run,
        "model": entry.model,
        "prompt": _prompt(entry),
        "request": {"model": entry.model, "input": entry.request.input()},
        "sent_at": entry.intended_at,
        "attempts": entry.attempts,
        "error": entry.error_message,
    }


def _prompt(entry: JournalEntry) -> str | None:
    prompt = entry.request.input().get("prompt")
    return prompt if isinstance(prompt, str) else None


def _when(entry: JournalEntry) -> str:
    sent = datetime.fromtimestamp(entry.intended_at or 0.0, UTC).astimezone()
    return f"{sent:%Y-%m-%d %H:%M:%S}"
