"""Results are frozen values that say what happened."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import attrs
import pytest

from ruxa_async import (
    ClientClosedError,
    Failed,
    Generation,
    JobRecord,
    NanoBanana,
    Outcome,
    Stats,
    Succeeded,
    TaskFailedError,
    TaskState,
    TaskStatus,
)
from ruxa_async.results import records_of

URL = "https://files.example/a.png"
REQUEST = NanoBanana(prompt="a cat", key="a")
GENERATION = Generation(
    task_id="task_1",
    model="google/nano-banana",
    urls=(URL,),
    request=REQUEST,
    credits=3.0,
    duration=12.5,
    raw={"state": "success"},
)
ERROR = TaskFailedError("task_1", "500", "why")
GOOD = Succeeded(
    index=0,
    key="a",
    request=REQUEST,
    task_id="task_1",
    generation=GENERATION,
    queries=3,
    submitted_at=1.0,
    finished_at=2.0,
)
BAD = Failed(
    index=1,
    key=None,
    request=REQUEST,
    task_id="task_1",
    error=ERROR,
    queries=3,
    submitted_at=1.0,
    finished_at=2.0,
)
STATUS = TaskStatus(task_id="task_1", state=TaskState.RUNNING, raw_state="generating", raw={"a": [1]})


def test_two_states_are_terminal() -> None:
    assert [state for state in TaskState if state.terminal] == [TaskState.SUCCESS, TaskState.FAIL]
    assert [state.value for state in TaskState] == ["waiting", "running", "success", "fail", "unknown"]


def summary(outcome: Outcome) -> str:
    match outcome:
        case Succeeded(generation=Generation(urls=urls)):
            return f"made {len(urls)}"
        case Failed(error=error):
            return f"failed: {error}"


def test_outcomes_are_distinguished_by_match() -> None:
    assert summary(GOOD) == "made 1"
    assert summary(BAD) == "failed: task task_1: generation failed: [500] why"


def test_ok_is_true_for_a_success_only() -> None:
    assert GOOD.ok is True
    assert BAD.ok is False


def test_a_good_outcome_unwraps_to_its_generation() -> None:
    assert GOOD.unwrap() is GENERATION


def test_a_bad_outcome_unwraps_to_its_error() -> None:
    with pytest.raises(TaskFailedError) as caught:
        BAD.unwrap()
    assert caught.value is ERROR


def test_ok_cannot_be_passed() -> None:
    wrong: Any = {"ok": True}
    with pytest.raises(TypeError):
        attrs.evolve(BAD, **wrong)


async def test_a_generation_without_a_client_cannot_download(tmp_path: Path) -> None:
    for call in (GENERATION.read, lambda: GENERATION.save(tmp_path)):
        with pytest.raises(
            ClientClosedError, match="was unpickled or made by hand, so it has no client to download with"
        ):
            await call()
    assert not list(tmp_path.iterdir())


class Shelf:
    """A media source that keeps what it was asked."""

    here = ""

    def __init__(self) -> None:
        self.asked: list[tuple[Generation, object, object]] = []

    async def save(self, generation: Generation, folder: Any, *, name: str | None = None) -> list[Path]:
        self.asked.append((generation, folder, name))
        return [Path("a.png")]

    async def read(self, generation: Generation) -> list[bytes]:
        self.asked.append((generation, None, None))
        return [b"picture"]


async def test_a_generation_downloads_through_its_client() -> None:
    shelf = Shelf()
    made = attrs.evolve(GENERATION, _media=shelf)
    assert await made.save("out") == [Path("a.png")]
    assert await made.save(name="{n}") == [Path("a.png")]
    assert await made.read() == [b"picture"]
    assert shelf.asked == [(made, "out", None), (made, ".", "{n}"), (made, None, None)]
    assert made == GENERATION
    assert "Shelf" not in repr(made)


@pytest.mark.parametrize("value", [GENERATION, GOOD, STATUS, JobRecord(request=REQUEST, index=3)])
def test_results_are_values(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    assert hash(attrs.evolve(value)) == hash(value)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        value.task_id = "other"


def test_a_repr_is_short() -> None:
    assert repr(GENERATION) == (
        "Generation(task_id='task_1', model='google/nano-banana', urls=('https://files.example/a.png',), "
        "credits=3.0, duration=12.5)"
    )
    assert repr(STATUS) == (
        "TaskStatus(task_id='task_1', state=<TaskState.RUNNING: 'running'>, raw_state='generating', "
        "progress=None, "
        "urls=(), fail_code='', fail_message='', credits=None, duration=None)"
    )


def test_records_come_in_the_order_of_their_index() -> None:
    records = [JobRecord(request=REQUEST, index=index) for index in (3, None, 0, 1)]
    assert [record.index for record in records_of(records)] == [0, 1, 3, None]


def test_a_snapshot_cannot_be_changed() -> None:
    counts: Any = {
        field.name: 0
        for field in attrs.fields(Stats)
        if field.name not in ("throttled", "rates", "durations")
    }
    stats = Stats(**counts, throttled={"create": 0, "query": 0}, rates={}, durations={})
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        stats.accepted = 1  # type: ignore[misc]
