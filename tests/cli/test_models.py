"""``ruxa-async models``: every documented model, from its request class."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from ruxa_async.__main__ import main
from ruxa_async.errors import RequestValidationError
from ruxa_async.requests import MODELS, input_fields


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["models", *arguments]) == 0
    return capsys.readouterr().out


def test_every_field_of_every_documented_model_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(printed(capsys, "--json"))["models"]
    assert [each["model"] for each in listed] == list(MODELS)
    for each in listed:
        assert sorted(field["name"] for field in each["fields"]) == sorted(
            input_fields(MODELS[each["model"]])
        )
        assert each["description"].endswith(".")


VALUES: dict[str, Any] = {"prompt": "x", "image_urls": ["https://h.test/a.png"]}


@pytest.mark.parametrize("model", MODELS)
def test_listed_values_are_the_ones_that_the_class_accepts(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    described, cls = json.loads(printed(capsys, model, "--json")), MODELS[model]
    fields = {each["name"]: each for each in described["fields"]}
    needed: dict[str, Any] = {name: VALUES[name] for name, each in fields.items() if each["required"]}
    made = cls(**needed)
    for name, each in fields.items():
        if not each["required"]:
            assert getattr(made, name) == (
                () if each["default"] is None and name == "image_input" else each["default"]
            )
        for value in each["allowed"]:
            assert getattr(cls(**{**needed, name: value}), name) == value
        if each["allowed"]:
            with pytest.raises(RequestValidationError):
                cls(**{**needed, name: "surely-not"})
        assert each["allowed"] or each["described"]
    for name in needed:
        with pytest.raises(TypeError):
            cls(**{other: value for other, value in needed.items() if other != name})
    assert attrs.has(cls)


def test_one_model_is_shown_as_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = printed(capsys, "google/nano-banana-edit")
    assert shown.startswith("google/nano-banana-edit\n  Edit pictures by a text")
    assert "image_urls     list of texts  required; 1 to 8 http(s) URLs or local files\n" in shown
    assert "png, jpeg; default png\n" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "google/nano-banana-pro" not in shown
    everything = printed(capsys)
    assert all(f"{model}\n" in everything for model in MODELS)
    assert max(map(len, everything.splitlines())) <= 80


def test_an_unknown_model_names_a_known_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "nano-banana"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "did you mean google/nano-banana?" in said
    assert "--input" in said
