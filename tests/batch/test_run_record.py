"""The record of a run is counted in bounded memory and written as one line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import anyio
import pytest
from harness import client_of, prompts, service_of
from hypothesis import given
from hypothesis import strategies as st

from ruxa_async import Limits, SubmissionHalted, TaskFailedError
from ruxa_async.batch import Row, Summary, run_batch
from ruxa_async.batch._result_line import State
from ruxa_async.batch._run_record import _STEPS, RunRecord, _Series
from ruxa_async.emulator import TokenBucket
from ruxa_async.events import CreateSent, CreateThrottled, QuerySent
from ruxa_async.results import JobRecord

JOB = JobRecord(request=None)
_MADE: dict[State, int] = {"succeeded": 2}


@given(st.lists(st.floats(-5, 1e6), max_size=60))
def test_a_series_keeps_every_count_and_a_bounded_number_of_steps(instants: list[float]) -> None:
    series = _Series()
    for instant in instants:
        series.add("create", instant)
    counts = series.counts.get("create", [])
    assert sum(counts) == len(instants)
    assert len(counts) <= _STEPS
    for place, count in enumerate(counts):
        begin, end = place * series.step, (place + 1) * series.step
        assert count == sum(begin <= max(0.0, instant) < end for instant in instants)


def test_a_line_of_a_run_has_its_counts(tmp_path: Path) -> None:
    record = RunRecord(source="in.txt", began=100.0, started_at=5000.0)
    for at in (100.0, 100.5, 103.0):
        record.on_event(CreateThrottled(at, JOB, 1.0))
    record.on_event(CreateSent(101.0, JOB))
    record.on_event(QuerySent(102.0, JOB))
    summary = Summary(folder=tmp_path, states=Counter(_MADE), unsubmitted=7)
    values = record.values(summary, now=5010.0, whole=False)
    assert values | {"version": ""} == {
        "v": 1,
        "version": "",
        "source": "in.txt",
        "started_at": 5000.0,
        "ended_at": 5010.0,
        "ending": "interrupted",
        "states": {"succeeded": 2},
        "unsubmitted": 7,
        "prices": {},
        "max_tasks": None,
        "max_credits": None,
        "creates_sent": 1,
        "queries_sent": 1,
        "throttled": {"create": 3, "query": 0},
        "throttled_over_time": {"step": 1.0, "create": [2, 0, 0, 1], "query": []},
    }


@pytest.mark.parametrize(
    ("changes", "ending"),
    [
        ({}, "finished"),
        ({"halted": SubmissionHalted(TaskFailedError("t", "", ""), (), (), ())}, "halted by the account"),
        ({"refused": Row(3)}, "stopped at a bad row"),
    ],
)
def test_a_line_states_how_the_run_ended(tmp_path: Path, changes: dict[str, object], ending: str) -> None:
    summary = Summary(folder=tmp_path, **changes)  # type: ignore[arg-type]
    assert RunRecord(source="", began=0.0).values(summary, now=1.0, whole=True)["ending"] == ending


def test_lines_are_appended_after_one_that_was_cut_off(tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_text('{"v": 1, "cut')
    for _ in range(2):
        RunRecord(source="in", began=0.0).write(tmp_path, Summary(folder=tmp_path), whole=True)
    lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    assert lines[0] == '{"v": 1, "cut'
    assert [json.loads(line)["source"] for line in lines[1:]] == ["in", "in"]


async def test_rejections_of_a_run_are_counted_as_in_the_client_s_stats(tmp_path: Path) -> None:
    service = service_of(creates=TokenBucket(5, 5), queries=TokenBucket(20, 5))
    record = RunRecord(source="in", began=anyio.current_time())
    summary = Summary(folder=tmp_path / "out")
    async with client_of(service, on_event=record.on_event, limits=Limits()) as client:
        rows = [Row(n, request) for n, request in enumerate(prompts(60))]
        await run_batch(client, rows, tmp_path / "out", summary=summary)
        stats = client.stats()
    values = record.values(summary, now=0.0, whole=True)
    assert values["throttled"]["create"] == stats.throttled["create"] > 0
    assert values["throttled"]["query"] == stats.throttled["query"]
    assert (values["creates_sent"], values["queries_sent"]) == (stats.creates_sent, stats.queries_sent)
    for scope, count in values["throttled"].items():
        assert sum(values["throttled_over_time"][scope]) == count


async def test_lines_have_a_lag_if_the_service_reports_its_times(tmp_path: Path) -> None:
    service = service_of(dialect="sibling", fail_share=0.3)
    async with client_of(service) as client:
        await run_batch(client, [Row(n, one) for n, one in enumerate(prompts(20))], tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    made = [line for line in lines if line["state"] == "succeeded"]
    failed = [line for line in lines if line["state"] == "failed"]
    assert made
    assert failed
    for line in made:
        assert line["duration"] == 10.0
        assert line["lag"] == pytest.approx(line["finished_at"] - line["submitted_at"] - 10.0, abs=0.002)
        assert line["completed_at"] > 0
    assert {line["credits"] for line in lines} == {3.0}
    assert {line["lag"] for line in failed} == {None}
