"""What the page copies makes the same request again, whatever its texts hold."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from report.rows import HOSTILE

from ruxa_async import CustomRequest
from ruxa_async.cli._models import input_field
from ruxa_async.report._folder import Entry
from ruxa_async.report._repeats import repeats_of

INPUTS: list[dict[str, Any]] = [
    *({"prompt": text} for text in HOSTILE),
    {"prompt": "-x", "aspect_ratio": "16:9", "seed": 2**70, "strength": 0.5, "private": True},
    {"prompt": "a", "seconds": "10", "metadata": '{"a": 1}', "image_input": ["https://h/a.png"]},
    {"prompt": "null"},
    {"a b": {"c": ["d", None]}},
]


def repeats(given: dict[str, Any], model: str = "some/model") -> dict[str, str]:
    return repeats_of(Entry(state="succeeded", id="#1", model=model, input=given))


@pytest.mark.parametrize("given", INPUTS)
def test_the_pick_holds_the_whole_input(given: dict[str, Any]) -> None:
    pick = repeats(given)["pick"]
    assert json.loads(pick) == {"v": 1, "id": "#1", "key": None, "model": "some/model", "input": given}
    assert "\n" not in pick


@pytest.mark.parametrize("given", INPUTS)
def test_the_python_makes_the_same_request(given: dict[str, Any]) -> None:
    source = repeats(given)["python"]
    call = source.partition("request = ")[2].partition("\n    print(")[0]
    assert source.count("\n") == 6  # no text breaks out of its line
    assert eval(call, {"CustomRequest": CustomRequest}) == CustomRequest(model="some/model", input=given)
    compile(source, "snippet", "exec")


@pytest.mark.parametrize("model", ["some/model", "google/nano-banana", "sora-2"])
@pytest.mark.parametrize("given", INPUTS)
def test_the_command_makes_the_same_request(given: dict[str, Any], model: str) -> None:
    words = shlex.split(repeats(given, model)["command"])
    assert words[:4] == ["ruxa-async", "generate", "--model", model]
    assert words[4::2] == ["--input"] * len(given)
    assert dict(input_field(model, word) for word in words[5::2]) == given


@pytest.mark.parametrize(
    "entry",
    [
        Entry(state="invalid", id="#1", input={"prompt": "a"}),
        Entry(state="succeeded", id="#1", model="some/model"),
        Entry(state="succeeded", model="some/model", input={"prompt": "a"}),
        Entry(state="succeeded", id="#1", model="some/model", input={"prompt": "a" * 30_000}),
    ],
)
def test_a_row_that_cannot_be_made_again_has_no_forms(entry: Entry) -> None:
    assert repeats_of(entry) == {}
