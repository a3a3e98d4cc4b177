"""Picked rows become requests with keys of their own, so that they are made again and never taken for the old."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ruxa_async.batch import InputError, Row, open_picks
from ruxa_async.requests import CustomRequest, NanoBanana, NanoBananaPro

PICK: dict[str, Any] = {
    "v": 1,
    "id": "cat",
    "key": "cat",
    "model": "google/nano-banana",
    "input": {"prompt": "a cat", "aspect_ratio": "16:9"},
}


def read(
    path: Path, *picks: Mapping[str, Any], model: str | None = None, changes: Mapping[str, Any] | None = None
) -> list[Row]:
    file = path / "picks.jsonl"
    file.write_text("".join(json.dumps(pick) + "\n" for pick in picks))
    with open_picks(file, model=model, changes=lambda _model: changes or {}) as rows:
        return list(rows)


def test_a_pick_is_the_same_request_under_another_key(tmp_path: Path) -> None:
    (row,) = read(tmp_path, PICK)
    assert row == Row(1, NanoBanana(prompt="a cat", aspect_ratio="16:9", key="cat-pick"))


def test_a_pick_without_a_key_is_named_by_its_id(tmp_path: Path) -> None:
    (row,) = read(tmp_path, {**PICK, "id": "#3fb2~2", "key": None})
    assert row.request is not None
    assert row.request.key == "3fb2~2-pick"


def test_a_pick_is_made_larger_with_another_model_and_changed_fields(tmp_path: Path) -> None:
    changes = {"resolution": "4k", "aspect_ratio": None}
    (row,) = read(tmp_path, PICK, model="google/nano-banana-pro", changes=changes)
    assert row.request == NanoBananaPro(prompt="a cat", resolution="4k", key="cat-pick")


def test_fields_that_were_sent_unchecked_are_sent_again(tmp_path: Path) -> None:
    (row,) = read(tmp_path, {**PICK, "input": {"prompt": "a cat", "seed": 2**60}})
    assert row.request is not None
    assert row.request.input() == {"prompt": "a cat", "seed": 2**60}
    other = {**PICK, "model": "some/model", "input": {"text": "x"}}
    assert read(tmp_path, other)[0].request == CustomRequest(
        model="some/model", input={"text": "x"}, key="cat-pick"
    )


def test_a_field_that_the_other_model_lacks_is_an_error_that_says_how_to_go_on(tmp_path: Path) -> None:
    (row,) = read(tmp_path, PICK, model="sora-2")
    assert row.request is None
    assert "'aspect_ratio': sora-2 has no such field" in str(row.error)
    assert "--input FIELD=null takes a field out" in str(row.error)


def test_a_row_that_is_picked_twice_counts_once_and_another_one_of_that_key_does_not(tmp_path: Path) -> None:
    other = {**PICK, "input": {"prompt": "a dog"}}
    rows = read(tmp_path, PICK, PICK, other, PICK)
    assert [row.line for row in rows] == [1, 3]


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {**PICK, "id": None, "key": None},
        {**PICK, "key": 7},
        {**PICK, "model": None},
        {**PICK, "input": None},
        {**PICK, "input": "a cat"},
        {**PICK, "input": {"prompt": ""}},
    ],
)
def test_a_line_that_is_not_a_pick_is_an_error_and_the_others_are_read(
    tmp_path: Path, broken: dict[str, Any]
) -> None:
    first, second = read(tmp_path, broken, PICK)
    assert (first.line, first.request) == (1, None)
    assert first.error is not None
    assert (second.line, second.error) == (2, None)


def test_lines_that_are_cut_off_or_not_text_are_errors(tmp_path: Path) -> None:
    file = tmp_path / "picks.jsonl"
    file.write_bytes(json.dumps(PICK).encode() + b'\n\n\xff\n{"key": "c')
    with open_picks(file) as rows:
        assert [(row.line, row.error is None) for row in rows] == [(1, True), (3, False), (4, False)]


def test_no_picks_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no picks"):
        read(tmp_path)
    with pytest.raises(InputError, match="cannot be read"), open_picks(tmp_path / "nowhere"):
        pass
