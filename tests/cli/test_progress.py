"""The progress display: counts, throughput, remaining time and failures."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from rich.console import Console

from ruxa_async import errors, events
from ruxa_async._internal.text import spelled_seconds
from ruxa_async.batch import Summary
from ruxa_async.batch._result_line import Result
from ruxa_async.cli import _progress
from ruxa_async.cli._eta import Durations, Remaining, Throughput
from ruxa_async.cli._progress import EventCounts, Progress, _table
from ruxa_async.cli._text import printable
from ruxa_async.results import JobRecord, Stats, TaskState, TaskStatus

JOB = JobRecord(request=None, task_id="t")
IDLE = Stats(
    in_flight=0,
    queued=0,
    creates_on_wire=0,
    queries_on_wire=0,
    creates_sent=0,
    accepted=0,
    refused=0,
    unknown=0,
    withdrawn=0,
    succeeded=0,
    failed=0,
    stopped=0,
    orphaned=0,
    queries_sent=0,
    throttled={"create": 0, "query": 0},
    rates={"create": None, "query": None},
    durations={},
)


@pytest.fixture
def progress() -> Progress:
    return Progress(summary=Summary(folder=Path()), events=EventCounts(), max_in_flight=100)


def ended(at: float, seconds: float, state: TaskState = TaskState.SUCCESS) -> events.TaskEnded:
    return events.TaskEnded(at, JOB, TaskStatus(task_id="t", state=state), None, 1, seconds)


def result(state: Any = "succeeded", **values: Any) -> Result:
    return Result(index=0, line=1, state=state, **values)


def test_no_remaining_time_is_shown_at_first(progress: Progress) -> None:
    assert progress.lines(evolve(IDLE, in_flight=3), 0.0) == [
        "0 done, 3 running, 0 failed",
        "no rate limit met",
    ]
    progress.total = 2_000
    assert progress.lines(IDLE, 0.1)[0] == "0 of 2,000 done, 0 running, 0 failed"


def test_the_rate_is_shown_with_its_limit_and_the_remaining_time_follows_from_both(
    progress: Progress,
) -> None:
    progress.total = 600
    progress.lines(IDLE, 0.0)
    for n in range(1, 101):  # ten a second are accepted, each takes five seconds
        progress.events.on_event(events.TaskAccepted(n / 10, JOB))
    for _ in range(50):
        progress.events.on_event(ended(10.0, 5.0))
        progress.summary.count(result())
    limited = evolve(
        IDLE, in_flight=50, rates={"create": 10.0, "query": None}, throttled={"create": 2, "query": 1}
    )
    # 500 are to be submitted at ten a second, and the last of them takes five seconds.
    assert progress.lines(limited, 10.0) == [
        "50 of 600 done, 50 running, 0 failed, 55 s left",
        "5.0/s done, 10.0/s accepted (rate limit 10.0/s), 3 rejected by the rate limit and sent again",
    ]


def test_failures_are_counted_by_kind_and_the_most_frequent_come_first(progress: Progress) -> None:
    failed = {"type": "TaskFailedError", "fail_code": "", "fail_message": "no cats"}
    for count, state, error in (
        (1, "invalid", {"type": "RowError", "message": ""}),
        (3, "failed", failed),
        (2, "download_failed", {"type": "DownloadError", "message": ""}),
        (1, "failed", {"type": "TaskFailedError", "fail_code": "1", "fail_message": "rare"}),
    ):
        for _ in range(count):
            progress.summary.count(result(state, error=error))
    assert progress.lines(IDLE, 0.0) == [
        "7 done, 0 running, 7 failed",
        "no rate limit met",
        "3 x generation failed: no cats",
        "2 x not downloaded",
        "1 x bad row",
    ]


def test_generations_that_wait_for_their_download_are_counted(progress: Progress) -> None:
    for _ in range(3):
        progress.events.on_event(ended(1.0, 1.0))
    progress.events.on_event(ended(1.0, 1.0, TaskState.FAIL))
    progress.summary.count(result())
    assert progress.lines(IDLE, 1.0)[0] == "1 done, 0 running, 2 to download, 0 failed"


def test_pauses_and_outages_are_shown_until_they_end(progress: Progress) -> None:
    progress.events.on_event(events.ScopePaused(10.0, "create", 7.5))
    progress.events.on_event(events.ScopePaused(10.0, "query", 99.0))
    assert progress.lines(IDLE, 11.0)[1].endswith("the service asks for a pause of 7 s")
    assert "pause" not in progress.lines(IDLE, 17.0)[1]
    progress.events.on_event(events.CreateUnsent(1.0, JOB, errors.NotSentError("no route")))
    progress.events.on_event(events.CreateSent(2.0, JOB))
    assert "the service cannot be reached, trying again" in progress.lines(IDLE, 18.0)[1]
    progress.events.on_event(events.TaskAccepted(3.0, JOB))
    assert "reached" not in progress.lines(IDLE, 19.0)[1]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_of_the_display_is_cut_off(
    width: int, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.StringIO()
    narrow = Console(file=file, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(_progress, "console", narrow)
    said = "3 x refused: the service answered with a long sentence about a prompt that it does not take"
    narrow.print(_table(progress, ["1 of 3 done, 2 running, 0 failed", said]))
    shown = file.getvalue().splitlines()
    assert " ".join(" ".join(shown[1:]).split()) == f"1 of 3 done, 2 running, 0 failed {said}"
    assert max(map(len, shown)) <= width


def test_throughput_is_that_of_the_last_half_minute() -> None:
    throughput = Throughput()
    assert throughput.per_second(0.0, 0) is None
    assert throughput.per_second(0.5, 7) is None  # too short to tell
    assert throughput.per_second(10.0, 20) == 2.0
    assert throughput.per_second(35.0, 45) == 1.0
    assert throughput.per_second(100.0, 45) is None  # stands still


def test_recent_durations_replace_those_of_earlier_runs() -> None:
    durations = Durations()
    assert (durations.mean(), durations.nearly_all()) == (None, None)
    assert (durations.mean([8.0, 3.0]), durations.nearly_all([8.0, 3.0])) == (8.0, 8.0)
    for seconds in range(1, 101):
        durations.add(float(seconds))
    assert durations.mean([8.0]) == 50.5
    assert durations.nearly_all([8.0]) == 96.0
    assert durations.nearly_all([300.0]) == 300.0  # a film among pictures


@pytest.mark.parametrize(
    ("remaining", "known", "seconds"),
    [
        (Remaining(submit=0, running=0, download=0), {}, 0.0),
        (Remaining(submit=100, running=5, download=0), {"mean": None, "nearly_all": None}, None),
        (Remaining(submit=100, running=0, download=0), {"accepted": None}, None),
        (Remaining(submit=100, running=0, download=0), {}, 30.0),  # 5/s are accepted, and then ten seconds
        (
            Remaining(submit=100, running=0, download=0),
            {"accepted": 50.0},
            20.0,
        ),  # no more than 100 run at once
        (Remaining(submit=0, running=9, download=0), {}, 7.0),
        (Remaining(submit=0, running=9, download=0), {"since_accepted": 30.0}, 0.0),
        (Remaining(submit=0, running=0, download=8), {}, 4.0),
        (Remaining(submit=0, running=0, download=8), {"downloaded": None}, 0.0),
        (Remaining(submit=0, running=0, download=8), {"mean": None, "nearly_all": None}, 4.0),
    ],
)
def test_the_remaining_time_follows_from_the_slowest_part(
    remaining: Remaining, known: dict[str, Any], seconds: float | None
) -> None:
    usual = {"accepted": 5.0, "downloaded": 2.0, "mean": 10.0, "nearly_all": 10.0, "since_accepted": 3.0}
    assert remaining.seconds(max_running=100, **(usual | known)) == seconds


def test_control_characters_are_not_printed() -> None:
    assert printable("\x1b[31mred\x1b[0m\a \u202egnp \x9b1m\r") == "�[31mred�[0m� �gnp �1m�"
    assert printable("日本 👩\u200d🎨\n\u05d1\u05d9\u05ea") == "日本 👩\u200d🎨\n\u05d1\u05d9\u05ea"


def test_durations_are_shown_in_the_two_largest_units() -> None:
    assert [spelled_seconds(s) for s in (0.2, 99, 100, 3599, 7380)] == [
        "1 s",
        "99 s",
        "1 min 40 s",
        "59 min 59 s",
        "2 h 03 min",
    ]
