"""``ruxa-async batch``: a file of prompts to pictures on disk."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio
from anyio import to_thread
from attrs import define, frozen
from cyclopts import Parameter

from ruxa_async.batch import InputError, Rows, Summary, open_rows, run_batch
from ruxa_async.batch.readers import DEFAULT_MODEL, Format
from ruxa_async.batch.results import RESULTS
from ruxa_async.settings import Limits

from .options import EMULATOR_SPEED, Count, EmulatorFlag, InputFormat, Model, Out, Speed
from .progress import Watch, displayed, spelled_seconds
from .running import BAD_INPUT, DONE, HALTED, SOME_FAILED, open_client, run, say

if TYPE_CHECKING:
    from ruxa_async.batch.results import Result

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
    limit: Annotated[Count | None, Parameter(help="Read so many rows at most.")] = None,
    max_in_flight: Annotated[Count, Parameter(help="How many tasks run at the service at once.")] = 100,
    emulator: EmulatorFlag = False,
    speed: Speed = EMULATOR_SPEED,
) -> int:
    """Generate every row of a file and download what it makes.

    Each outcome is written to results.jsonl in the --out folder as it finishes. Columns or JSON fields named like
    request fields (aspect_ratio, image_input, model, key, ...) are used; a bad row is reported and passed over.
    """
    job = _Job(
        source=source,
        out=out,
        model=model,
        prompt_column=prompt_column,
        format=format,
        strict=strict,
        limit=limit,
    )
    service = _Service(emulator=emulator, speed=speed, limits=Limits(max_in_flight=max_in_flight))
    return _open_and_run(job, service)


@frozen(kw_only=True)
class _Job:
    source: str
    out: Path
    model: str
    prompt_column: str | None
    format: Format | None
    strict: bool
    limit: int | None

    def opened(self, notice: Callable[[str], object] = lambda _: None) -> AbstractContextManager[Rows]:
        return open_rows(
            self.source,
            format=self.format,
            prompt_column=self.prompt_column,
            model=self.model,
            notice=notice,
        )


@define
class _Total:
    """How many rows there are, once somebody has counted them."""

    rows: int | None = None


@frozen(kw_only=True)
class _Service:
    emulator: bool
    speed: float
    limits: Limits


def _open_and_run(job: _Job, service: _Service) -> int:
    if (job.out / RESULTS).exists():  # the run refuses as well; here it costs no emulator and reads no input
        raise InputError(
            f"{job.out / RESULTS} is there already: give another --out, or move that folder away"
        )
    # Opened outside of the event loop, because a pipe may keep its first line back.
    with job.opened(notice=say) as rows:
        # Quiet: the result lines name every purchase whose end was not seen, and so would a warning each.
        return run(lambda: _run(job, rows, service), quiet=True)


async def _run(job: _Job, rows: Rows, service: _Service) -> int:
    summary, watch, total = Summary(folder=job.out), Watch(), _Total()
    began = anyio.current_time()
    opened = open_client(
        emulator=service.emulator, speed=service.speed, limits=service.limits, on_event=watch.on_event
    )
    try:
        async with (
            opened as client,
            displayed(summary, watch, client.stats, lambda: total.rows),
            anyio.create_task_group() as tg,
        ):
            tg.start_soon(_count, job, total)
            try:
                await run_batch(
                    client,
                    islice(rows, job.limit),
                    job.out,
                    strict=job.strict,
                    pulled=1 if rows.interactive else 64,
                    summary=summary,
                    on_result=_BadRows(),
                )
            except OSError:  # the result lines may be lost: here is what they would have named
                for orphan in client.orphans:
                    say(f"task {orphan.task_id or '(unknown)'} is paid for, or may be: {orphan.key or ''}")
                raise
            tg.cancel_scope.cancel()
    finally:
        _conclude(summary, anyio.current_time() - began)
    return _code(summary)


async def _count(job: _Job, total: _Total) -> None:
    """Count the rows beside the run, so that it can say how long it will take."""

    def counted() -> int | None:
        if job.source == "-" or Path(job.source).stat().st_size > _COUNTED_BYTES:
            return None
        with open_rows(
            job.source, format=job.format, prompt_column=job.prompt_column, model=job.model
        ) as rows:
            return sum(1 for _ in islice(rows, job.limit))

    total.rows = await to_thread.run_sync(counted, abandon_on_cancel=True)


@define
class _BadRows:
    """Report bad rows as they are met, the first twenty of them."""

    _said: int = 0

    def __call__(self, result: Result) -> None:
        if result.state == "invalid" and result.error is not None:
            self._said += 1
            if self._said <= _SHOWN_ROWS:
                say(f"line {result.line}: {result.error['message']}")
            elif self._said == _SHOWN_ROWS + 1:
                say(f"further bad rows are in {RESULTS} only")


def _conclude(summary: Summary, seconds: float) -> None:
    if not (summary.folder / RESULTS).exists():
        return
    for sentence in _sentences(summary, seconds):
        say(sentence)
    sys.stdout.write(f"{summary.folder / RESULTS}\n")
    sys.stdout.flush()


def _sentences(summary: Summary, seconds: float) -> Iterable[str]:
    states = summary.states
    rows = f"{summary.done:,} row{'s' * (summary.done != 1)}"
    counted = [f"{states['succeeded']:,} succeeded", f"{summary.failed:,} failed"]
    counted += [f"{states[state]:,} {state}" for state in ("unfinished", "unknown") if states[state]]
    yield f"{rows} in {spelled_seconds(seconds)}: {', '.join(counted)}"
    for kind, count in summary.kinds.most_common():
        yield f"  {count:,} x {kind}"
    if summary.asked:
        charged = f", {summary.credits:,.10g} credits" if summary.credits else ""
        yield f"  {summary.queries / summary.asked:.1f} queries per task{charged}"
    yield f"  {summary.files:,} file{'s' * (summary.files != 1)} and {RESULTS} in {summary.folder}"
    if summary.refused is not None:
        yield f"stopped at line {summary.refused.line}: {summary.refused.error} (--strict)"
    if summary.halted is not None:
        yield f"stopped by the account: {summary.halted.cause}"
    if states["unfinished"]:
        yield (
            f"{states['unfinished']:,} tasks are paid for and their end was not seen: "
            f"state unfinished in {RESULTS}; look with 'ruxa-async status TASK_ID'"
        )
    if states["unknown"]:
        yield f"{states['unknown']:,} requests may have been charged: state unknown in {RESULTS}; check the account"
    if summary.unsubmitted:
        yield f"{summary.unsubmitted:,} rows were read and not submitted, and not charged"


def _code(summary: Summary) -> int:
    if summary.halted is not None:
        return HALTED
    if summary.refused is not None:
        return BAD_INPUT
    return SOME_FAILED if summary.done > summary.states["succeeded"] else DONE
