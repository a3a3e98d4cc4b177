"""The end of a batch: the summary on the terminal, the report page and the exit code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ruxa_async._internal.text import spelled_seconds
from ruxa_async.batch import Resumed, Summary
from ruxa_async.batch._layout import RESULTS
from ruxa_async.batch._run_record import RunRecord
from ruxa_async.errors import BudgetExceededError, NotSentError
from ruxa_async.settings import Budget

from ._runtime import BAD_INPUT, DONE, HALTED, SOME_FAILED, say
from ._spending import budget_reason, spent
from ._text import counted, shortened

__all__ = ("exit_code", "leave_report", "print_summary")


def print_summary(
    summary: Summary, budget: Budget | None, seconds: float, *, quiet: bool, page: Path | None
) -> None:
    """Print in one block the counts of the run, what is left for the user to do, and where the results are.

    *seconds* is the duration of the run. With *quiet* only failures and what is left to do are printed.
    """
    results = summary.folder / RESULTS
    if not (summary.moved or results.exists()):
        return
    lines: list[str] = []
    if not quiet:
        lines += _counts(summary, budget, seconds)
    elif summary.failed:
        lines.append(f"{summary.failed:,} of {summary.done:,} rows failed; {results} says why")
    lines += [f"  {line}" if lines else line for line in _left_to_do(summary, budget)]
    if not quiet:
        lines.append(f"  results: {_moved_folder(summary) if summary.moved else results}")
        if page is not None:
            lines.append(f"  report: {page}")
    if lines:
        say("\n".join(lines))


def leave_report(summary: Summary, record: RunRecord, *, whole: bool) -> Path | None:
    """Write the line of ``runs.jsonl`` and the report page, and return the path of the page.

    *whole* is false for an interrupted run. If writing fails, say so and return None: the run does not fail.
    """
    if summary.moved or not (summary.folder / RESULTS).exists():
        return None
    from ruxa_async.report import write_report  # noqa: PLC0415 - only a run that ended needs it

    try:
        record.write(summary.folder, summary, whole=whole)
        return write_report(summary.folder)
    except Exception as error:  # noqa: BLE001 - the results are on the disk, so the run does not fail
        say(f"the report could not be made ({type(error).__name__}: {error}); try 'ruxa-async report'")
        return None


def exit_code(summary: Summary) -> int:
    """Return the exit code of the run."""
    if summary.halted is not None:
        return HALTED
    if summary.refused is not None:
        return BAD_INPUT
    return SOME_FAILED if summary.done > summary.states["succeeded"] else DONE


def _counts(summary: Summary, budget: Budget | None, seconds: float) -> Iterable[str]:
    states = summary.states
    ended = [f"{states['succeeded']:,} succeeded", f"{summary.failed:,} failed"]
    ended += [f"{states[state]:,} {state}" for state in ("unfinished", "unknown") if states[state]]
    yield f"{counted(summary.done, 'row')} in {spelled_seconds(seconds)}: {', '.join(ended)}"
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
    folder = _moved_folder(summary) if summary.moved else summary.folder
    yield f"  {counted(summary.files, 'file')} in {summary.store or folder}"


def _moved_folder(summary: Summary) -> str:
    return f"the folder that was {summary.folder}"


def _of_earlier_runs(resumed: Resumed) -> str:
    parts = (
        (resumed.finished, f"{resumed.finished:,} {_was(resumed.finished)} finished before"),
        (resumed.picked_up, f"{resumed.picked_up:,} picked up"),
        (resumed.fetched, f"{counted(resumed.fetched, 'file')} fetched again"),
        (resumed.unknown, f"{resumed.unknown:,} unknown left"),
    )
    return ", ".join(text for count, text in parts if count)


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
    if count := states["unfinished"]:
        yield f"{counted(count, 'task')} {_is(count)} paid for and not ended yet: {again} to pick them up"
    if count := states["download_failed"]:
        yield f"{counted(count, 'task')} {_is(count)} generated and not saved: {again} to fetch the files"
    if states["unknown"]:
        yield from _about_unknown(summary)
    if summary.callbacks == 0 and summary.stats is not None:
        yield from _about_callbacks(summary.stats.succeeded + summary.stats.failed)
    if count := summary.unsubmitted:
        yield f"{counted(count, 'row')} {_was(count)} read but not submitted, and not charged"


def _about_unknown(summary: Summary) -> Iterable[str]:
    count = summary.states["unknown"]
    yield f"{counted(count, 'request')} may have been charged and will not be sent again by itself:"
    for result in summary.unknown:
        yield f"  {result.id}: {shortened(result.prompt or result.model or '')}"
    if count > len(summary.unknown):
        yield f"  ... and {count - len(summary.unknown):,} more"
    command = f"ruxa-async journal {summary.folder}{' --journal ADDRESS' if summary.shared else ''}"
    yield (
        f"check the account, then settle them: '{command} --adopt KEY TASK_ID' for each that was bought, "
        "'--forget KEY' for each that was not"
    )


def _about_callbacks(ended: int) -> Iterable[str]:
    if ended:
        yield (
            f"{counted(ended, 'task')} ended and not one callback came, so they were polled: check that "
            "--callback-url is reachable from outside and leads to --callback-listen"
        )


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _was(count: int) -> str:
    return "was" if count == 1 else "were"
