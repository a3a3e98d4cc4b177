"""The end of a batch: what is said of it, the page that is left, and the exit code."""

from __future__ import annotations

from collections.abc import Iterable

from ruxa_async.batch import Resumed, Summary
from ruxa_async.batch.folder import RESULTS
from ruxa_async.batch.record import RunRecord
from ruxa_async.errors import BudgetExceededError, NotSentError
from ruxa_async.settings import Budget

from .costing import spent
from .options import shortened
from .printing import print_line
from .progress import spelled_seconds
from .running import BAD_INPUT, DONE, HALTED, SOME_FAILED, say

__all__ = ("conclude", "exit_code", "leave_report")


def conclude(
    summary: Summary, budget: Budget | None, seconds: float, *, quiet: bool, json_lines: bool
) -> None:
    """Say what came of the run and what is left to do, and print where the results are."""
    if not (summary.moved or (summary.folder / RESULTS).exists()):
        return
    if not quiet:
        for sentence in _sentences(summary, budget, seconds):
            say(sentence)
    elif summary.failed:
        say(f"{summary.failed:,} of {summary.done:,} rows failed; {summary.folder / RESULTS} says why")
    for sentence in _left_to_do(summary):
        say(sentence)
    if not json_lines and not summary.moved:
        print_line(summary.folder / RESULTS)


def leave_report(summary: Summary, record: RunRecord, *, whole: bool, quiet: bool) -> None:
    """Write down what is true of the whole run, and the page to look at; no trouble with it fails the run."""
    if summary.moved or not (summary.folder / RESULTS).exists():
        return
    from ruxa_async.report import write_report  # noqa: PLC0415 - only a run that ended needs it

    try:
        record.write(summary.folder, summary, whole=whole)
        page = write_report(summary.folder)
        if not quiet:
            say(f"look at them: {page}")
    except Exception as error:  # noqa: BLE001 - the results are on the disk, and that is what counts
        say(f"the report could not be made ({type(error).__name__}: {error}); try 'ruxa-async report'")


def _sentences(summary: Summary, budget: Budget | None, seconds: float) -> Iterable[str]:
    states = summary.states
    rows = f"{summary.done:,} row{'s' * (summary.done != 1)}"
    counted = [f"{states['succeeded']:,} succeeded", f"{summary.failed:,} failed"]
    counted += [f"{states[state]:,} {state}" for state in ("unfinished", "unknown") if states[state]]
    yield f"{rows} in {spelled_seconds(seconds)}: {', '.join(counted)}"
    if summary.resumed:
        yield f"  resumed: {_of_earlier_runs(summary.resumed)}"
    for kind, count in summary.kinds.most_common():
        yield f"  {count:,} x {kind}"
    if summary.asked:
        yield f"  {summary.queries / summary.asked:.1f} queries per task"
    if (stats := summary.stats) is not None and stats.outages:
        times = "once" if stats.outages == 1 else f"{stats.outages:,} times"
        lasted = spelled_seconds(stats.outage_seconds)
        yield f"  the service was failing {times}, {lasted} in all; nothing was bought meanwhile"
    yield from spent(summary, budget)
    where = f"the folder that was {summary.folder}" if summary.moved else str(summary.folder)
    yield f"  {summary.files:,} file{'s' * (summary.files != 1)} and {RESULTS} in {where}"


def _left_to_do(summary: Summary) -> Iterable[str]:
    states = summary.states
    again = "run it again with the folder that was moved" if summary.moved else "run the same again"
    if summary.refused is not None:
        yield f"stopped at line {summary.refused.line}: {summary.refused.error} (--strict)"
    if summary.halted is not None:
        yield f"stopped {_halted_by(summary.halted.cause)}: {summary.halted.cause}"
    if states["unfinished"]:
        yield f"{_tasks_are(states['unfinished'])} paid for and their end was not seen: {again} to pick them up"
    if states["download_failed"]:
        are = "is" if states["download_failed"] == 1 else "are"
        yield f"{states['download_failed']:,} {are} generated and not on disk: {again} to fetch them"
    if states["unknown"]:
        yield from _about_unknown(summary)
    if summary.callbacks == 0 and summary.stats is not None:
        yield from _uncalled(summary.stats.succeeded + summary.stats.failed)
    if summary.unsubmitted:
        rows = "row was" if summary.unsubmitted == 1 else "rows were"
        yield f"{summary.unsubmitted:,} {rows} read and not submitted, and not charged"


def _halted_by(cause: BaseException) -> str:
    if isinstance(cause, NotSentError):
        return "before anything was sent"
    return "by the budget" if isinstance(cause, BudgetExceededError) else "by the account"


def _tasks_are(count: int) -> str:
    return "1 task is" if count == 1 else f"{count:,} tasks are"


def _of_earlier_runs(resumed: Resumed) -> str:
    files = f"{resumed.fetched:,} file{'s' * (resumed.fetched != 1)} fetched again"
    parts = (
        (
            resumed.finished,
            f"{resumed.finished:,} {'was' if resumed.finished == 1 else 'were'} finished before",
        ),
        (resumed.picked_up, f"{resumed.picked_up:,} picked up"),
        (resumed.fetched, files),
        (resumed.unknown, f"{resumed.unknown:,} unknown left"),
    )
    return ", ".join(text for count, text in parts if count)


def _uncalled(ended: int) -> Iterable[str]:
    if ended:
        yield (
            f"{ended:,} task{'s' * (ended != 1)} ended and not one callback came, so they were asked for: check that "
            "--callback-url is reached from outside and leads to --callback-listen"
        )


def _about_unknown(summary: Summary) -> Iterable[str]:
    count = summary.states["unknown"]
    yield f"{count:,} request{'s' * (count != 1)} may have been charged and will not be sent again by itself:"
    for result in summary.unknown:
        yield f"  {result.id}: {shortened(result.prompt or result.model or '')}"
    if count > len(summary.unknown):
        yield f"  ... and {count - len(summary.unknown):,} more"
    yield (
        f"look at the account, then say which were bought: 'ruxa-async journal {summary.folder} --adopt KEY TASK_ID', "
        "and which were not: '--forget KEY'"
    )


def exit_code(summary: Summary) -> int:
    """Return what the command ends with."""
    if summary.halted is not None:
        return HALTED
    if summary.refused is not None:
        return BAD_INPUT
    return SOME_FAILED if summary.done > summary.states["succeeded"] else DONE
