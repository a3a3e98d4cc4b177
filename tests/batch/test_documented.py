"""docs/results.md describes each field that is written, and none that is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import attrs
import pytest

from ruxa_async import TaskFailedError
from ruxa_async.batch import Summary
from ruxa_async.batch._result_line import _DETAILS, Result, State, describe_files
from ruxa_async.batch._run_record import RunRecord
from ruxa_async.emulator._outputs import placeholder

PAGE = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
KINDS: dict[str, tuple[type[Any], ...]] = {
    "number": (int, float),
    "text": (str,),
    "null": (type(None),),
    "list of text": (list,),
    "list of objects": (list,),
    "object": (dict,),
}


def kinds(spelled: str) -> tuple[type[Any], ...]:
    """Return the types that *spelled* stands for, as in "number or null"."""
    return tuple(kind for word in spelled.split(" or ") for kind in KINDS[word])


def section(title: str) -> str:
    """Return what stands under *title*, up to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}$(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def table(title: str) -> dict[str, str]:
    """Return the first table of a section: its names, and what stands in the column beside them."""
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", section(title), re.MULTILINE)
    words = ((names, beside) for names, beside in rows if beside != "meaning")  # the head of a table
    return {name: beside for names, beside in words for name in re.findall(r"`(\w+)`", names)}


def test_every_field_of_a_result_is_documented_and_has_its_type() -> None:
    documented = table("results.jsonl")
    assert [*documented] == [each.name for each in attrs.fields(Result)]
    empty = Result(index=0, line=1, state="succeeded")
    texts: dict[str, Any] = dict.fromkeys(("key", "id", "model", "prompt", "task_id"), "x")
    instants = ("credits", "duration", "submitted_at", "finished_at", "completed_at", "lag")
    numbers: dict[str, Any] = dict.fromkeys(instants, 1.5)
    full = Result(index=0, line=1, state="failed", error={"type": "X"}, input={}, **texts, **numbers)
    for result in (empty, full):
        for name, value in attrs.asdict(result).items():
            assert isinstance(value, kinds(documented[name])), name


def test_every_property_of_an_output_is_documented_and_has_its_type(tmp_path: Path) -> None:
    documented = table("Outputs")
    (tmp_path / "a.png").write_bytes(placeholder("png", "a cat"))
    for described in describe_files([tmp_path / "a.png", tmp_path / "gone.png"]):
        assert [*documented] == [*described]
        for name, value in described.items():
            assert isinstance(value, kinds(documented[name])), name


def test_every_state_is_documented() -> None:
    assert {*table("States")} == {*get_args(State)}


def test_every_detail_of_an_error_is_documented() -> None:
    documented = {*re.findall(r"`(\w+)`", section("Errors"))}
    assert {"type", "message", "cause", *(name for _, names in _DETAILS for name in names)} <= documented


def test_every_field_of_a_run_is_documented_and_has_its_type() -> None:
    documented = table("runs.jsonl")
    values = RunRecord(source="in.txt", began=0.0).values(Summary(folder=Path()), now=1.0, whole=True)
    assert [*documented] == [*values]
    for name, value in values.items():
        assert isinstance(value, kinds(documented[name])), name


def test_the_version_is_one_until_a_field_changes_its_meaning() -> None:
    assert Result(index=0, line=1, state="succeeded").v == 1
    assert "1, the version of this description" in section("results.jsonl")


@pytest.mark.parametrize("name", ["fail_code", "fail_message"])
def test_the_service_s_text_has_its_documented_name(name: str) -> None:
    assert getattr(TaskFailedError("t", "7", "no cats"), name) in ("7", "no cats")
