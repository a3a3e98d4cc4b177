"""What is shown while a batch runs: where it stands, how fast it goes, how long it will take, what failed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from rich.console import Console

from ruxa_async import errors, events
from ruxa_async.batch import Summary
from ruxa_async.batch._result_line import Result
from ruxa_async.cli import _progress as progress
from ruxa_async.cli._eta import Durations, Left, Pace
from ruxa_async.cli._progress import Board, Watch, _drawn, spelled_seconds
from ruxa_async.cli._runtime import printable
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
def board() -> Board:
    return Board(summary=Summary(folder=Path()), watch=Watch(), max_in_flight=100)


def ended(at: float, seconds: float, state: TaskState = TaskState.SUCCESS) -> events.TaskEnded:
    return events.TaskEnded(at, JOB, TaskStatus(task_id="t", state=state), None, 1, seconds)


def result(state: Any = "succeeded", **values: Any) -> Result:
    return Result(index=0, line=1, state=state, **values)


def test_at_first_it_says_what_runs_and_promises_nothing(board: Board) -> None:
    assert board.lines(evolve(IDLE, in_flight=3), 0.0) == [
        "0 done, 3 running, 0 failed",
        "no rate limit met",
    ]
    board.total = 2_000
    assert board.lines(IDLE, 0.1)[0] == "0 of 2,000 done, 0 running, 0 failed"


def test_the_rate_stands_beside_its_limit_and_what_is_left_follows_from_both(board: Board) -> None:
    board.total = 600
    board.lines(IDLE, 0.0)
    for n in range(1, 101):  # ten a second are accepted, each takes five seconds
        board.watch.on_event(events.TaskAccepted(n / 10, JOB))
    for _ in range(50):
        board.watch.on_event(ended(10.0, 5.0))
        board.summary.count(result())
    limited = evolve(
        IDLE, in_flight=50, rates={"create": 10.0, "query": None}, throttled={"create": 2, "query": 1}
    )
    # 500 are to be submitted at ten a second, and the last of them takes five seconds.
    assert board.lines(limited, 10.0) == [
        "50 of 600 done, 50 running, 0 failed, 55 s left",
        "5.0/s done, 10.0/s sent (rate limit 10.0/s), 3 refused by the rate limit and sent again",
    ]


def test_failures_are_told_apart_and_the_most_frequent_come_first(board: Board) -> None:
    failed = {"type": "TaskFailedError", "fail_code": "", "fail_message": "no cats"}
    for count, state, error in (
        (1, "invalid", {"type": "RowError", "message": ""}),
        (3, "failed", failed),
        (2, "download_failed", {"type": "DownloadError", "message": ""}),
        (1, "failed", {"type": "TaskFailedError", "fail_code": "1", "fail_message": "rare"}),
    ):
        for _ in range(count):
            board.summary.count(result(state, error=error))
    assert board.lines(IDLE, 0.0) == [
        "7 done, 0 running, 7 failed",
        "no rate limit met",
        "3 x generation failed: no cats",
        "2 x not downloaded",
        "1 x bad row",
    ]


def test_what_waits_for_its_download_is_said(board: Board) -> None:
    for _ in range(3):
        board.watch.on_event(ended(1.0, 1.0))
    board.watch.on_event(ended(1.0, 1.0, TaskState.FAIL))
    board.summary.count(result())
    assert board.lines(IDLE, 1.0)[0] == "1 done, 0 running, 2 to download, 0 failed"


def test_pauses_and_outages_are_said_and_end(board: Board) -> None:
    board.watch.on_event(events.ScopePaused(10.0, "create", 7.5))
    board.watch.on_event(events.ScopePaused(10.0, "query", 99.0))
    assert board.lines(IDLE, 11.0)[1].endswith("the service asks for a pause of 7 s")
    assert "pause" not in board.lines(IDLE, 17.0)[1]
    board.watch.on_event(events.CreateUnsent(1.0, JOB, errors.NotSentError("no route")))
    board.watch.on_event(events.CreateSent(2.0, JOB))
    assert "the service cannot be reached, trying again" in board.lines(IDLE, 18.0)[1]
    board.watch.on_event(events.TaskAccepted(3.0, JOB))
    assert "reached" not in board.lines(IDLE, 19.0)[1]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_of_the_display_is_cut_off(width: int, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    narrow = Console(file=file, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(progress, "console", narrow)
    said = "3 x refused: the service answered with a long sentence about a prompt that it does not take"
    narrow.print(_drawn(board, ["1 of 3 done, 2 running, 0 failed", said]))
    shown = file.getvalue().splitlines()
    assert " ".join(" ".join(shown[1:]).split()) == f"1 of 3 done, 2 running, 0 failed {said}"
    assert max(map(len, shown)) <= width


def test_a_pace_is_that_of_the_last_half_minute() -> None:
    pace = Pace()
    assert pace.per_second(0.0, 0) is None
    assert pace.per_second(0.5, 7) is None  # too short to tell
    assert pace.per_second(10.0, 20) == 2.0
    assert pace.per_second(35.0, 45) == 1.0
    assert pace.per_second(100.0, 45) is None  # stands still


def test_durations_are_those_seen_lately_else_those_of_earlier_runs() -> None:
    durations = Durations()
    assert (durations.mean(), durations.nearly_all()) == (None, None)
    assert (durations.mean([8.0, 3.0]), durations.nearly_all([8.0, 3.0])) == (8.0, 8.0)
    for seconds in range(1, 101):
        durations.add(float(seconds))
    assert durations.mean([8.0]) == 50.5
    assert durations.nearly_all([8.0]) == 96.0
    assert durations.nearly_all([300.0]) == 300.0  # a film among pictures


@pytest.mark.parametrize(
    ("left", "known", "seconds"),
    [
        (Left(submit=0, running=0, download=0), {}, 0.0),
        (Left(submit=100, running=5, download=0), {"mean": None, "nearly_all": None}, None),
        (Left(submit=100, running=0, download=0), {"accepted": None}, None),
        (Left(submit=100, running=0, download=0), {}, 30.0),  # 5/s are accepted, and then ten seconds
        (Left(submit=100, running=0, download=0), {"accepted": 50.0}, 20.0),  # no more than 100 run at once
        (Left(submit=0, running=9, download=0), {}, 7.0),
        (Left(submit=0, running=9, download=0), {"since_accepted": 30.0}, 0.0),
        (Left(submit=0, running=0, download=8), {}, 4.0),
        (Left(submit=0, running=0, download=8), {"downloaded": None}, 0.0),
        (Left(submit=0, running=0, download=8), {"mean": None, "nearly_all": None}, 4.0),
    ],
)
def test_what_is_left_takes_as_long_as_its_slowest_part(
    left: Left, known: dict[str, Any], seconds: float | None
) -> None:
    usual = {"accepted": 5.0, "downloaded": 2.0, "mean": 10.0, "nearly_all": 10.0, "since_accepted": 3.0}
    assert left.seconds(most_running=100, **(usual | known)) == seconds


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    assert printable("\x1b[31mred\x1b[0m\a \u202egnp \x9b1m\r") == "�[31mred�[0m� �gnp �1m�"
    assert printable("日本 👩\u200d🎨\n\u05d1\u05d9\u05ea") == "日本 👩\u200d🎨\n\u05d1\u05d9\u05ea"


def test_lengths_of_time_are_said_as_people_say_them() -> None:
    assert [spelled_seconds(s) for s in (0.2, 99, 100, 3599, 7380)] == [
        "1 s",
        "99 s",
        "1 min 40 s",
        "59 min 59 s",
        "2 h 03 min",
    ]
