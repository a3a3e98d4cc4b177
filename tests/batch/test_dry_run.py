"""A dry run counts rows by what a run would do with them, and reports a journal that is in use."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from ruxa_async import JobRecord, NanoBanana, RuxaError, TaskState, TaskStatus
from ruxa_async.batch import Row, folder_journal
from ruxa_async.batch._dry_run import dry_run


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


ROWS = [Row(n + 1, NanoBanana(prompt=f"prompt {n}", key=f"k{n}")) for n in range(5)]


async def test_a_dry_run_counts_rows_by_what_a_run_would_do(tmp_path: Path) -> None:
    async with folder_journal(tmp_path) as journal:
        await journal.bind(base_url="http://localhost", api_key="sk-x")
        run = await journal.open_run("batch")
        jobs = []
        for row in ROWS[:4]:
            assert row.request is not None
            match = await run.match(row.request)
            job = JobRecord(request=row.request, key=row.request.key, entry=match.entry)
            jobs.append(evolve(job, entry=await journal.intend(job), task_id=f"t{row.line}"))
        await journal.accepted(jobs[0])
        await journal.unknown(evolve(jobs[1], task_id=None, error=RuxaError("lost")))
        for job, state in ((jobs[2], TaskState.FAIL), (jobs[3], TaskState.SUCCESS)):
            await journal.accepted(job)
            assert job.task_id is not None
            status = TaskStatus(task_id=job.task_id, state=state, credits=4.0)
            error = RuxaError("no luck") if state is TaskState.FAIL else None
            await journal.finished(evolve(job, error=error), status)
        held = dry_run(ROWS, tmp_path)
        assert held.in_use is not None
        assert held.wanted.total() == 5
    found = dry_run(ROWS, tmp_path)
    assert (found.picked_up, found.unknown, found.finished, found.wanted.total()) == (1, 1, 1, 1)
    assert found.failed == 1
    assert (found.prices, found.credits) == ({"google/nano-banana": 4.0}, 4.0)  # as the service reported
    found = dry_run(ROWS, tmp_path, retry_failed=True, resend_unknown=True)
    assert (found.picked_up, found.unknown, found.finished, found.wanted.total()) == (1, 0, 1, 3)
    assert found.before is not None
    (bought,) = found.before.models.values()
    assert (bought.tasks, bought.unpriced, bought.credits, bought.highest_price) == (4, 2, 8.0, 4.0)
