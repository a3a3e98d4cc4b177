"""Folders are read with any content."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report.rows import RUN, folder_of, row

from ruxa_async.batch._layout import RESULTS as WRITTEN_RESULTS
from ruxa_async.batch._layout import RUNS as WRITTEN_RUNS
from ruxa_async.report._folder import RESULTS, RUNS, Folder, Media, _entry, read_folder
from ruxa_async.report._page import page


def test_the_files_are_called_as_the_batch_calls_them() -> None:
    assert (RESULTS, RUNS) == (WRITTEN_RESULTS, WRITTEN_RUNS)


def test_a_line_becomes_an_entry(tmp_path: Path) -> None:
    error = {"type": "APIError", "message": "no", "status": 400, "code": 422, "cause": "X: y"}
    found = read_folder(
        folder_of(tmp_path, [row(0, files=["a.png"], credits=3, lag=0.5), row(1, "failed", error=error)])
    )
    made, failed = found.entries
    assert made.media[0].path == "a.png"
    assert made.media[0].size == (tmp_path / "a.png").stat().st_size
    assert (made.credits, made.lag, made.queries, made.submitted_at, made.seconds) == (
        3.0,
        0.5,
        2,
        1000.0,
        10.0,
    )
    assert failed.error is not None
    assert (failed.error.type, failed.error.message, failed.error.code, failed.error.cause) == (
        "APIError",
        "no",
        "422",
        "X: y",
    )
    assert failed.seconds is None


def test_an_entry_knows_its_parameters_and_the_size_of_its_pictures(tmp_path: Path) -> None:
    given = {"prompt": "a cat", "aspect_ratio": "16:9", "image_input": ["https://x/1.png"], "seed": 7}
    outputs = [{"width": 1024, "height": 576}, {"width": None, "height": "7"}, 3]
    line = row(0, files=["a.png", "b.png", "c.png", "d.png"], outputs=outputs, input=given)
    (entry,) = read_folder(folder_of(tmp_path, [line])).entries
    sizes = [(each.width, each.height) for each in entry.media]
    assert sizes == [(1024, 576), (None, None), (None, None), (None, None)]
    assert entry.parameters == {"aspect_ratio": "16:9", "image_input": '["https://x/1.png"]', "seed": "7"}


def test_a_parameter_that_is_nested_too_deeply_keeps_its_name(tmp_path: Path) -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    entry = _entry({"input": {"seed": deep}}, tmp_path)
    assert entry.parameters == {"seed": "nested too deeply to be shown"}


def test_entries_stand_in_the_order_of_the_input(tmp_path: Path) -> None:
    found = read_folder(folder_of(tmp_path, [row(2), row(0), row(1)]))
    assert [entry.index for entry in found.entries] == [0, 1, 2]


def test_a_later_line_about_a_row_replaces_the_earlier(tmp_path: Path) -> None:
    found = read_folder(folder_of(tmp_path, [row(0, "unfinished"), row(1), row(0), row(0, prompt="another")]))
    assert [(entry.state, entry.prompt) for entry in found.entries] == [
        ("succeeded", "prompt 0"),
        ("succeeded", "another"),
        ("succeeded", "prompt 1"),
    ]
    assert len(found.lines) == 4


@pytest.mark.parametrize(
    ("content", "entries", "broken"),
    [
        (b"", 0, 0),
        (b'{"state": "failed"}\n{"state": "fai', 1, 0),
        (b'{"state": "failed"}\n{"state": "fai\n\n{"state": "failed", "index": 1}\n', 2, 1),
        (b"[1]\nnull\n7\n\xff\xfe\n" + b"[" * 100_000 + b"\n", 0, 5),
        (b'{"state": "failed"}', 1, 0),
        (b'{"state": "failed", "prompt": "caf\xe9"}\n', 1, 0),
    ],
)
def test_broken_lines_are_counted_and_a_cut_off_one_is_not(
    tmp_path: Path, content: bytes, entries: int, broken: int
) -> None:
    (tmp_path / RESULTS).write_bytes(content)
    found = read_folder(tmp_path)
    assert (len(found.entries), found.broken) == (entries, broken)


def test_missing_results_are_an_error_and_missing_runs_are_not(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_folder(tmp_path)
    folder_of(tmp_path, [row(0)])
    assert read_folder(tmp_path).runs == ()


def test_runs_are_read_and_lines_without_a_start_are_ignored(tmp_path: Path) -> None:
    odd = {"started_at": 1.0, "throttled_over_time": {"step": 0, "create": "x", "query": [1, None, -3]}}
    runs = read_folder(folder_of(tmp_path, [row(0)], [RUN, {"v": 9}, odd])).runs
    assert len(runs) == 2
    assert (runs[0].step, runs[0].throttled) == (2.0, {"create": (3, 0, 1), "query": (0, 5)})
    assert (runs[1].step, runs[1].throttled) == (1.0, {"query": (1, 0, 0)})


@pytest.mark.parametrize(
    "name",
    [
        "../a.png",
        "/etc/passwd",
        "a/../../b",
        "..",
        "",
        "a//b",
        "C:\\x",
        "\\\\host\\x",
        "a\0b",
        "//evil.example/x",
    ],
)
def test_files_outside_of_the_folder_are_ignored(tmp_path: Path, name: str) -> None:
    assert _entry({"state": "succeeded", "files": [name]}, tmp_path).media == ()


def test_a_missing_file_has_no_size(tmp_path: Path) -> None:
    assert _entry({"files": ["gone.mp4", 3]}, tmp_path).media == (Media("gone.mp4", None),)
    assert [Media(name, 1).kind for name in ("a.PNG", "a.mov", "a.wav", "a.svg")] == [
        "image",
        "video",
        "audio",
        "other",
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
names = sorted({*row(0), "lag", "input", "outputs"})


@given(st.lists(st.dictionaries(st.sampled_from(names), json_values), max_size=4))
def test_a_page_is_made_for_any_content_of_lines(lines: list[dict[str, object]]) -> None:
    home = Path("/nowhere")
    entries = tuple(_entry(json.loads(json.dumps(values)), home) for values in lines)
    made = page(Folder(path=home, entries=entries, lines=entries, runs=()))
    assert made.endswith("</html>\n")
