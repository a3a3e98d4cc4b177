"""File names are made of key, model and number; no key makes a name that is dangerous to a file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from ruxa_async import ConfigurationError, CustomRequest, Generation
from ruxa_async._internal.files import clean_name, clean_stem
from ruxa_async.downloads import BATCH_FIELDS, RowTemplate, check_template
from ruxa_async.downloads._names import names_of


def made(key: str | None, urls: int = 1, model: str | None = "google/nano-banana") -> Generation:
    request = CustomRequest(model="m", input={}, key=key)
    return Generation(task_id="task_1", model=model, urls=("http://h/x",) * urls, request=request)


@pytest.mark.parametrize(
    ("template", "urls", "names"),
    [
        (None, 1, ["cat"]),
        (None, 2, ["cat-1", "cat-2"]),
        ("{key}-{n}", 1, ["cat-1"]),
        ("{key}-{n:03}", 2, ["cat-001", "cat-002"]),
        ("{n:2} of {key}", 1, ["1 of cat~"]),
        ("{model}_{key}", 2, ["google-nano-banana_cat-1", "google-nano-banana_cat-2"]),
        ("{task_id}", 1, ["task_1"]),
        ("Shot {n} {{x}}", 1, ["Shot 1 {x}"]),
        ("{model}", 0, []),
    ],
)
def test_names_follow_the_template(template: str | None, urls: int, names: list[str]) -> None:
    found = names_of(made("cat", urls), template)
    assert [name.partition("~")[0] for name in found] == [name.partition("~")[0] for name in names]


def test_an_output_without_key_and_task_id_has_a_name() -> None:
    assert names_of(made(None), "{key}") == ["task_1"]
    nameless = Generation(task_id=None, model=None, urls=("http://h/x",))
    assert names_of(nameless, "{key} {task_id} {model}") == ["output output model"]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("", "no field"),
        ("plain", "no field"),
        ("{{key}}", "no field"),
        ("../{key}", "slash"),
        ("{key}\\x", "slash"),
        ("{key", "expected '}'"),
        ("{}", "is not a field"),
        ("{0}", "is not a field"),
        ("{seed}", "{seed} is not a field"),
        ("{index}", "only a batch has"),
        ("{slug:04}", "no format"),
        ("{key.__class__}", "is not a field"),
        ("{key[0]}", "is not a field"),
        ("{key!r}", "no format"),
        ("{key:>9999999}", "no format"),
        ("{n:x}", "no format"),
        ("{n:99999999}", "no format"),
        ("{n:{key}}", "no format"),
        ("x" * 100 + "{n}", "longer than 100"),
    ],
)
def test_invalid_templates_raise(template: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        check_template(template)
    with pytest.raises(ConfigurationError, match=r"Use \{key\}"):
        names_of(made("cat"), template)


@pytest.mark.parametrize("text", ["cat", "task_x_1700000000000_0a1b2c3d", "a b", "日本", "x.y", "-", "cat-1"])
def test_plain_keys_stay_as_they_are(text: str) -> None:
    assert clean_stem(text) == text


HOSTILE = [
    *(
        "",
        ".",
        "..",
        "...",
        "../../etc/passwd",
        "/abs",
        "a/b",
        "a\\b",
        "C:\\x",
        ".hidden",
        "con",
        "NUL.txt",
        "com1",
    ),
    *(
        "lpt9.x",
        "a\0b",
        "a\nb",
        "tab\t",
        "trail.",
        "trail ",
        " lead",
        "x" * 300,
        "é" * 90,
        "A",
        "Cat",
        "CAT",
        "CaT",
    ),
    *(
        "e\u0301",
        "\u202egnp.exe",
        "\ud800",
        "a:b",
        "a*b",
        "a?b",
        'a"b',
        "a<b",
        "a|b",
        "cat~0123456789ab",
        "\u2028",
        "aux",
        "COM¹.png",
        "CONIN$",
        "a\x7fb",
        "a\u200bb",
        "😀" * 60,
        "../" * 40,
    ),
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_keys_become_one_plain_marked_name(text: str) -> None:
    _check_stem(clean_stem(text))
    assert clean_stem(text) != text


def test_hostile_keys_get_different_names() -> None:
    stems = [clean_stem(text) for text in [*HOSTILE, "cat", "a", "é", "output", "_", "a_b"]]
    assert len({stem.casefold() for stem in stems}) == len(stems)


def _check_stem(stem: str, size: int = 100) -> None:
    assert stem
    assert len(stem.encode()) <= size
    assert not stem.startswith((".", " "))
    assert not stem.endswith((".", " "))
    assert not set(stem) & set('/\\<>:"|?*\0\n\t')
    assert stem.isprintable()


@given(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
def test_any_two_keys_get_different_names(one: str, other: str) -> None:
    _check_stem(clean_stem(one))
    assert (clean_stem(one).casefold() == clean_stem(other).casefold()) == (one == other)


@given(st.sampled_from("aA."), st.text("aAbB.~/", max_size=4), st.text("aAbB.~/", max_size=4))
def test_similar_keys_get_different_names(prefix: str, one: str, other: str) -> None:
    left, right = clean_stem(prefix + one), clean_stem(prefix + other)
    assert (left.casefold() == right.casefold()) == (one == other)


def drawn(prompt: object, model: str = "google/nano-banana") -> Generation:
    request = CustomRequest(model=model, input={"prompt": prompt})
    return Generation(task_id="task_1", model=model, urls=("http://h/x",), request=request)


@pytest.mark.parametrize(
    ("prompt", "slug"),
    [
        ("A sleepy red fox, curled up!", "a-sleepy-red-fox-curled-up"),
        ("../../etc/passwd\0.png", "etc-passwd-png"),
        ("ÉCLAIR au CAFÉ", "éclair-au-café"),
        ("e\u0301t\u0065\u0301", "été"),
        ("一只猫在窗台上 晒太阳", "一只猫在窗台上-晒太阳"),
        ("हिन्दी में बिल्ली", "हिन्दी-में-बिल्ली"),
        ("word " * 40, "-".join(["word"] * 12)),
        ("x" * 300, "x" * 60),
        ("猫" * 300, "猫" * 20),
        ("😀 !!!", "google-nano-banana"),
        ("\u202e\u200b\ud800", "google-nano-banana"),
        ("", "google-nano-banana"),
        (None, "google-nano-banana"),
    ],
)
def test_a_slug_is_the_words_of_the_prompt(prompt: object, slug: str) -> None:
    assert names_of(drawn(prompt), RowTemplate("{index:04}-{slug}", 7)) == [f"0007-{slug}"]


def test_names_that_windows_reserves_are_not_used() -> None:
    assert names_of(drawn("CON"), "{slug}")[0].startswith("_con~")
    assert names_of(drawn("x", model="!"), RowTemplate("{index}", 3)) == ["3"]
    assert names_of(drawn(None, model="!"), "{slug}") == ["output"]


def test_a_batch_may_number_its_files_by_row_alone() -> None:
    check_template("{index}", BATCH_FIELDS)
    pair = evolve(drawn("a cat"), urls=("http://h/1", "http://h/2"))
    assert names_of(pair, RowTemplate("{index:03}", 12)) == ["012-1", "012-2"]
    assert names_of(pair, RowTemplate("{{{index}}}-{n}", 12)) == ["{12}-1", "{12}-2"]
    with pytest.raises(ConfigurationError, match=r"Use .*\{index\}"):
        check_template("plain", BATCH_FIELDS)


@given(
    st.text(st.characters(exclude_categories=())), st.sampled_from(["{slug}", "{prompt}", "{prompt}-{slug}"])
)
def test_no_hostile_prompt_escapes_the_folder(prompt: str, template: str) -> None:
    for text in (prompt, f"../{prompt}\0", *HOSTILE):
        (name,) = names_of(drawn(text), template)
        _check_stem(name, 200)
        assert name.casefold().partition(".")[0] not in {"con", "nul", "aux", "com1", "lpt9"}


TEMPLATES = (
    "{key}",
    "{key}-{n}",
    "{n}{key}",
    "{key}.{n}",
    "com{n}",
    "..{key}",
    "{model}:{key}",
    "{key} ",
    "NUL.{n}",
)


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_hostile_key_escapes_the_folder_by_any_template(template: str, tmp_path: Path) -> None:
    assert len(HOSTILE) >= 40
    for key in HOSTILE:
        (name,) = names_of(made(key, model="../..\\Sora:2"), template)
        _check_stem(name, 200)
        assert name.casefold().partition(".")[0] not in {"con", "nul", "com1", "lpt9"}
        assert Path(os.path.normpath(tmp_path / f"{name}.png")).parent == tmp_path


@given(st.text(st.characters(exclude_categories=())))
def test_clean_name_makes_safe_names(text: str) -> None:
    _check_stem(clean_name(text), 200)
    assert clean_name(clean_name(text)) == clean_name(text)
