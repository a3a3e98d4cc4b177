"""``ruxa-async journal``: what was bought in a folder, and a person's word on what is in doubt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ruxa_async.batch import InputError
from ruxa_async.batch._layout import JOURNAL, RESULTS
from ruxa_async.journal import JobState, JournalEntry, JournalView, SqliteJournal, view_journal

from ._options import shortened
from ._runtime import DONE, run, say
from ._stdout import print_text

__all__ = ("journal",)

_WORDS = {
    JobState.SUCCEEDED: "succeeded",
    JobState.FAILED: "failed",
    JobState.ACCEPTED: "paid and running, or not seen to end",
    JobState.ADOPTED: "adopted, picked up by the next run",
    JobState.UNKNOWN: "unknown, perhaps charged",
    JobState.FORGOTTEN: "forgotten, bought by the next run",
    JobState.NOT_BOUGHT: "not bought",
}


def journal(
    folder: Annotated[
        Path, Parameter(name="DIR", help="The --out folder of a batch, or the file of a SqliteJournal.")
    ],
    /,
    *,
    adopt: Annotated[
        list[tuple[str, str]] | None,
        Parameter(
            show_default=False,
            help="KEY TASK_ID: the unknown request KEY was bought, as this task; the next run picks it up.",
        ),
    ] = None,
    forget: Annotated[
        list[str] | None,
        Parameter(
            show_default=False, help="KEY: the unknown request KEY was not bought; the next run buys it."
        ),
    ] = None,
    in_run: Annotated[
        str | None,
        Parameter(name="--run", help="Of the run of this name only, for a journal that holds several."),
    ] = None,
    as_json: Annotated[bool, Parameter(name="--json", help="Print one JSON object.")] = False,
) -> int:
    """Show what was bought in a folder and which requests may have been, and settle those.

    KEY is the row's own key, or what this command shows for a row without one (the # may be left out). A
    folder in which a batch is running shows who runs it and what its results hold so far.
    """
    path = folder / JOURNAL if folder.is_dir() else folder

    async def command() -> int:
        if not path.is_file():
            raise InputError(f"{path}: there is no journal here")
        if adopt or forget:
            await _settle(path, adopt or [], forget or [], in_run)
        view = await view_journal(path, run=in_run, results=path.with_name(RESULTS))
        print_text(_as_json(view) if as_json else "".join(f"{line}\n" for line in _as_text(view)))
        return DONE

    return run(command)


async def _settle(path: Path, adopt: list[tuple[str, str]], forget: list[str], in_run: str | None) -> None:
    async with SqliteJournal(path) as opened:
        for key, task_id in adopt:
            entry = await opened.adopt(await _name(opened, key), task_id, in_run)
            say(f"{entry.name} is task {task_id} from now on: run the batch again to pick it up")
        for key in forget:
            entry = await opened.forget(await _name(opened, key), in_run)
            say(f"{entry.name} counts as not bought: run the batch again to buy it")


async def _name(opened: SqliteJournal, key: str) -> str:
    """Return the name that *key* means; the part from # on may be missing, since shells drop it."""
    return f"#{key}" if f"#{key}" in {entry.name for entry in await opened.unknowns()} else key


def _as_text(view: JournalView) -> Iterator[str]:
    if view.in_use is not None:
        yield f"{view.path} is in use by {view.in_use.holder or 'another process'}"
        told = ", ".join(f"{count:,} {state}" for state, count in view.results.items())
        yield f"  {RESULTS} so far: {told or 'nothing'}"
        return
    assert view.counts is not None
    total = view.counts.total
    yield f"{view.path}: {total:,} job{'s' * (total != 1)}"
    for state, word in _WORDS.items():
        if view.counts.jobs[state]:
            yield f"  {view.counts.jobs[state]:,} {word}"
    charged = (
        f", {view.counts.credits:,.10g} credits as far as the service said" if view.counts.credits else ""
    )
    yield f"  {view.counts.files:,} file{'s' * (view.counts.files != 1)} saved{charged}"
    for entry in view.unknowns:
        yield f"{entry.name}: {entry.model}, sent {_when(entry)}: {shortened(_prompt(entry) or '')}"
        yield f"  {entry.error_message or 'no answer came'}"
    if view.unknowns:
        yield (
            "Look at the account: say --adopt KEY TASK_ID for each that was bought, --forget KEY for each "
            "that was not."
        )


def _as_json(view: JournalView) -> str:
    counts = view.counts
    return (
        json.dumps(
            {
                "journal": str(view.path),
                "in_use": None if view.in_use is None else {"holder": view.in_use.holder},
                "jobs": None if counts is None else {state.value: n for state, n in counts.jobs.items()},
                "files": None if counts is None else counts.files,
                "credits": None if counts is None else counts.credits,
                "results": dict(view.results),
                "unknown": [_described(entry) for entry in view.unknowns],
            },
            indent=2,
        )
        + "\n"
    )


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
