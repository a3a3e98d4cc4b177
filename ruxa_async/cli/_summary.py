"""The end of a batch: what is said of it, the page that is left, and the exit code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ruxa_async.batch import Resumed, Summary
from ruxa_async.batch._layout import RESULTS
from ruxa_async.batch._run_record import RunRecord
from ruxa_async.errors import BudgetExceededError, NotSentError
from ruxa_async.settings import Budget

from ._options import shortened
from ._progress import spelled_seconds
from ._runtime import BAD_INPUT, DONE, HALTED, SOME_FAILED, say
from ._spending import budget_reason, spent

__all__ = ("conclude", "exit_code", "leave_report")


def conclude(
    summary: Summary, budget: Budget | None, seconds: float, *, quiet: bool, page: Path | None
) -> None:
    """Print in one block the outcome of the run, what is left to do, and where the results are."""
    results = summary.folder / RESULTS
    if not (summary.moved or results.exists()):
        return
    lines: list[str] = []
    if not quiet:
        lines += _sentences(summary, budget, seconds)
    elif summary.failed:
        lines.append(f"{summary.failed:,} of {summary.done:,} rows failed; {results} says why")
    lines += [f"  {line}" if lines else line for line in _left_to_do(summary, budget)]
    if not quiet:
        where = f"the folder that was {summary.folder}" if summary.moved else results
        lines += [f"  results: {where}", *([f"  report: {page}"] if page is not None else [])]
    if lines:
        say("\n".join(lines))


def leave_report(summary: Summary, record: RunRecord, *, whole: bool) -> Path | None:
    """Write down what is true of the whole run, and the page to look at; return where that is.

    No trouble with it fails the run: it is said, and None is returned.
    """
    if summary.moved or not (summary.folder / RESULTS).exists():
        return None
    from ruxa_async.report import write_report  # noqa: PLC0415 - only a run that ended needs it

    try:
        record.write(summary.folder, summary, whole=whole)
        return write_report(summary.folder)
    except Exception as error:  # noqa: BLE001 - the results are on the disk, and that is what counts
        say(f"the report could not be made ({type(error).__name__}: {error}); try 'ruxa-async report'")
        return None


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
    yield f"  {summary.files:,} file{'s' * (summary.files != 1)} in {where}"


def _left_to_do(summary: Summary, budget: Budget | None) -> Iterable[str]:
    states = summary.states
    again = "run it again with the folder that was moved" if summary.moved else "run the same again"
    if summary.refused is not None:
        yield f"stopped at line {summary.refused.line}: {summary.refused.error} (--strict)"
    if summary.halted is not None:
        cause = summary.halted.cause
        if isinstance(cause, BudgetExceededError) and budget is not None:
            yield f"stopped by the budget: {budget_reason(cause, budget)}"
        else:
            by = "before anything was sent" if isinstance(cause, NotSentError) else "by the account"
            yield f"stopped {by}: {cause}"
    if states["unfinished"]:
        yield f"{_tasks_are(states['unfinished'])} paid for and have not ended yet: {again} to pick them up"
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
            f"{ended:,} task{'s' * (ended != 1)} ended and not one callback came, so they were asked for: "
            "check that --callback-url is reached from outside and leads to --callback-listen"
        )


def _about_unknown(summary: Summary) -> Iterable[str]:
    count = summary.states["unknown"]
    yield f"{count:,} request{'s' * (count != 1)} may have been charged and will not be sent again by itself:"
    for result in summary.unknown:
        yield f"  {result.id}: {shortened(result.prompt or result.model or '')}"
    if count > len(summary.unknown):
        yield f"  ... and {count - len(summary.unknown):,} more"
    yield (
        f"look at the account, then say which were bought: 'ruxa-async journal {summary.folder} --adopt KEY "
        "TASK_ID', and which were not: '--forget KEY'"
    )


def exit_code(summary: Summary) -> int:
    """Return what the command ends with."""
    if summary.halted is not None:
        return HALTED
    if summary.refused is not None:
        return BAD_INPUT
    return SOME_FAILED if summary.done > summary.states["succeeded"] else DONE
