"""An export holds each output once, reads back in the usual libraries, and appears whole or not at all."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report.rows import HOSTILE, folder_of, png, row

from ruxa_async.export import ExportError, Form, export_batch
from ruxa_async.export._outputs import COLUMNS
from ruxa_async.export._tables import _cell

FORMS: tuple[Form, ...] = ("imagefolder", "csv", "parquet")
ERROR = {"type": "TaskFailedError", "message": "x: y", "fail_code": "422", "fail_message": "no such thing"}


def batch(path: Path, **values: Any) -> Path:
    """A folder with a success, a failure, a row that is not valid, and a task with two outputs."""
    described = {"bytes": len(png()), "sha256": "ab", "type": "image/png", "width": 8, "height": 8}
    return folder_of(
        path,
        [
            row(0, id="k0", key="k0", files=["k0.png"], outputs=[described], input={"prompt": "é"}, **values),
            row(1, "failed", id="#1", error=ERROR, credits=3),
            row(2, "invalid", id=None, model=None, prompt=None, task_id=None, error={"message": "bad"}),
            row(3, id="#3", files=["3-1.png", "3-2.png"], credits=6, duration=1.5),
        ],
    )


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def metadata(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "train" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


# ---- what is in an export


def test_a_folder_has_the_pictures_and_a_line_for_each(tmp_path: Path) -> None:
    home = batch(tmp_path / "out")
    done = export_batch(home, "imagefolder")
    assert done.path == home / "imagefolder"
    assert (done.outputs, done.without_output, done.missing, done.other_kinds) == (3, 2, 0, 0)
    train = done.path / "train"
    assert {each.name for each in train.iterdir()} == {"k0.png", "3-1.png", "3-2.png", "metadata.jsonl"}
    for name in ("k0.png", "3-1.png", "3-2.png"):
        assert (train / name).read_bytes() == (home / name).read_bytes()
    first, *others = metadata(done.path)
    assert first == {
        "file_name": "k0.png",
        "key": "k0",
        "id": "k0",
        "index": 0,
        "output": 1,
        "model": "google/nano-banana",
        "prompt": "prompt 0",
        "input": '{"prompt": "é"}',
        "task_id": "task_0",
        "state": "succeeded",
        "error_type": None,
        "error": None,
        "credits": None,
        "duration": None,
        "submitted_at": "1970-01-01T00:16:40.000+00:00",
        "finished_at": "1970-01-01T00:16:50.000+00:00",
        "media_type": "image/png",
        "bytes": len(png()),
        "width": 8,
        "height": 8,
        "sha256": "ab",
    }
    assert [(each["file_name"], each["output"]) for each in others] == [("3-1.png", 1), ("3-2.png", 2)]


def test_a_table_also_has_the_rows_without_an_output(tmp_path: Path) -> None:
    done = export_batch(batch(tmp_path / "out"), "csv")
    assert (done.outputs, done.without_output) == (3, 2)
    rows = csv_rows(done.path)
    assert [*rows[0]] == [*COLUMNS]
    assert [(each["file_name"], each["state"], each["error"]) for each in rows] == [
        ("k0.png", "succeeded", ""),
        ("", "failed", "no such thing"),
        ("", "invalid", "bad"),
        ("3-1.png", "succeeded", ""),
        ("3-2.png", "succeeded", ""),
    ]
    assert (rows[1]["error_type"], rows[1]["credits"]) == ("TaskFailedError", "3.0")


def test_pictures_are_copied_so_that_a_change_leaves_the_original_alone(tmp_path: Path) -> None:
    home = batch(tmp_path / "out")
    copied = export_batch(home, "imagefolder").path / "train" / "k0.png"
    linked = export_batch(home, "imagefolder", out=tmp_path / "linked", link=True).path / "train" / "k0.png"
    assert not copied.samefile(home / "k0.png")
    assert linked.samefile(home / "k0.png")


def test_the_last_line_of_a_row_counts_and_rows_stand_in_the_order_of_the_input(tmp_path: Path) -> None:
    home = folder_of(
        tmp_path / "out",
        [
            row(1, "failed", id="b", error=ERROR),
            row(0, "download_failed", id="a"),
            row(2, "invalid", id=None, error={"message": "bad"}),
            row(1, id="b", files=["b.png"]),
            row(0, id="a", files=["a.png"]),
        ],
    )
    with (home / "results.jsonl").open("ab") as file:
        file.write(b'{"id": "a", "index": 0, "state": "fai')  # a kill cut it off
    rows = csv_rows(export_batch(home, "csv").path)
    assert [(each["id"], each["file_name"]) for each in rows] == [("a", "a.png"), ("b", "b.png"), ("", "")]
    assert export_batch(home, "imagefolder").outputs == 2


def test_equal_outputs_of_two_rows_share_a_file(tmp_path: Path) -> None:
    home = folder_of(tmp_path / "out", [row(n, id=f"#{n}", files=["same.png"]) for n in range(2)])
    done = export_batch(home, "imagefolder")
    assert [each["id"] for each in metadata(done.path)] == ["#0", "#1"]


def test_videos_have_a_folder_of_their_own(tmp_path: Path) -> None:
    home = folder_of(tmp_path / "out", [row(0, files=["a.png", "b.mp4", "c.bin"])])
    pictures, videos = export_batch(home, "imagefolder"), export_batch(home, "videofolder")
    assert [each["file_name"] for each in metadata(pictures.path)] == ["a.png"]
    assert [each["file_name"] for each in metadata(videos.path)] == ["b.mp4"]
    assert (pictures.outputs, pictures.other_kinds, videos.other_kinds) == (1, 2, 2)


def test_a_folder_without_outputs_is_refused_with_the_one_that_has_some(tmp_path: Path) -> None:
    home = folder_of(tmp_path / "out", [row(0, files=["b.mp4"])])
    with pytest.raises(ExportError, match=r"out holds no pictures: give --to videofolder$"):
        export_batch(home, "imagefolder")
    assert {each.name for each in home.iterdir()} == {"b.mp4", "results.jsonl"}


def test_a_missing_file_is_counted_and_left_out(tmp_path: Path) -> None:
    home = batch(tmp_path / "out")
    (home / "k0.png").unlink()
    for form in FORMS:
        done = export_batch(home, form)
        assert (done.outputs, done.missing) == (2, 1)
    assert [each["file_name"] for each in metadata(home / "imagefolder")] == ["3-1.png", "3-2.png"]
    assert csv_rows(home / "export.csv")[0]["file_name"] == "k0.png"


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "a/../../secret.png", "..\\secret.png"])
def test_a_line_that_names_a_file_elsewhere_is_not_followed(tmp_path: Path, name: str) -> None:
    home = folder_of(tmp_path / "out", [row(0, files=["a.png"])])
    (tmp_path / "secret.png").write_bytes(png())
    with (home / "results.jsonl").open("a") as file:
        file.write(json.dumps(row(1, files=[name])) + "\n")
    done = export_batch(home, "imagefolder")
    assert (done.outputs, done.without_output) == (1, 1)
    assert {each.name for each in (done.path / "train").iterdir()} == {"a.png", "metadata.jsonl"}


def test_hostile_lines_do_not_end_an_export(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    rows = [row(n, id=f"#{n}", prompt=text, key=text, files=[]) for n, text in enumerate(HOSTILE)]
    wrong: dict[str, Any] = {
        "credits": "x",
        "submitted_at": 1e300,
        "prompt": ["z"],
        "error": 3,
        "key": {},
        "outputs": "w",
    }
    home = folder_of(tmp_path / "out", [*rows, row(50, files=["a.png"], **wrong)])
    with (home / "results.jsonl").open("ab") as file:
        file.write(
            b'\xff\xfe not json\n[1]\n{"files": 3}\n' + b'{"prompt":' + b"[" * 5000 + b"]" * 5000 + b"}\n"
        )
    for form in FORMS:
        assert export_batch(home, form).outputs == 1, form


# ---- CSV in a spreadsheet


def test_no_cell_of_a_csv_is_a_formula(tmp_path: Path) -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1+1", "'tis", "a = b", ""]
    home = folder_of(
        tmp_path / "out", [row(n, id=f"#{n}", prompt=text, key=text) for n, text in enumerate(texts)]
    )
    for form in ("prompt", "key"):
        cells = [
            each[form] for each in csv_rows(export_batch(home, "csv", out=tmp_path / f"{form}.csv").path)
        ]
        assert cells == [*(f"'{text}" for text in texts[:8]), "a = b", ""]


@given(st.text())
def test_a_reader_gets_the_text_back_by_removing_one_apostrophe(text: str) -> None:
    cell = _cell(text)
    assert cell.removeprefix("'") == text
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


# ---- read back


def test_pandas_and_polars_read_the_csv(tmp_path: Path) -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    home = folder_of(
        tmp_path / "out",
        [
            row(n, id=f"#{n}", prompt=text, files=["a.png"])
            for n, text in enumerate(('a "b",\nc', "日本", "é"))
        ],
    )
    path = export_batch(home, "csv").path
    by_pandas = pandas.read_csv(path, parse_dates=["submitted_at"])
    by_polars = polars.read_csv(path, try_parse_dates=True)
    for frame in (by_pandas, by_polars):
        assert [*frame.columns] == [*COLUMNS]
        assert [*frame["prompt"]] == ['a "b",\nc', "日本", "é"]
        assert [each.timestamp() for each in frame["submitted_at"]] == [1000.0, 1001.0, 1002.0]


def test_pandas_and_polars_read_the_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    home = batch(tmp_path / "out")
    path = export_batch(home, "parquet").path
    for frame in (pandas.read_parquet(path), polars.read_parquet(path)):
        assert [*frame.columns] == ["image", *COLUMNS]
        images = [*frame["image"]]
        assert [image["bytes"] if image else None for image in images] == [
            (home / "k0.png").read_bytes(),
            None,
            None,
            (home / "3-1.png").read_bytes(),
            (home / "3-2.png").read_bytes(),
        ]
        assert images[0]["path"] == "k0.png"
        assert [*frame["state"]] == ["succeeded", "failed", "invalid", "succeeded", "succeeded"]
        assert frame["submitted_at"][0] == datetime.fromtimestamp(1000, UTC)
    types = polars.read_parquet(path).schema
    assert types["index"] == polars.Int64
    assert types["credits"] == polars.Float64
    assert types["prompt"] == types["sha256"] == polars.String
    assert types["finished_at"] == polars.Datetime("ms", "UTC")


def test_types_do_not_depend_on_the_values(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    one = export_batch(batch(tmp_path / "one"), "parquet").path
    two = export_batch(folder_of(tmp_path / "two", [row(0, "failed", prompt=None)]), "parquet").path
    assert pq.read_schema(one).equals(pq.read_schema(two), check_metadata=True)


def test_linked_parquet_names_the_files_and_holds_no_bytes(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    home = batch(tmp_path / "out")
    path = export_batch(home, "parquet", link=True).path
    image = pq.read_table(path)["image"][0].as_py()
    assert image == {"bytes": None, "path": str((home / "k0.png").resolve())}


def test_videos_have_a_column_of_their_own_in_parquet(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    home = folder_of(tmp_path / "out", [row(0, files=["a.png", "b.mp4", "c.bin"])])
    table = pq.read_table(export_batch(home, "parquet").path)
    assert table.column_names[:3] == ["image", "video", "file_name"]
    assert [each["path"] if each else None for each in table["image"].to_pylist()] == ["a.png", None, None]
    assert [each["path"] if each else None for each in table["video"].to_pylist()] == [None, "b.mp4", None]
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["video"] == {"_type": "Video"}


def test_a_row_group_holds_32_mebibytes_or_1000_rows(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    home = folder_of(tmp_path / "out", [row(n, files=[f"{n}.png"]) for n in range(40)])
    for n in range(40):
        os.truncate(home / f"{n}.png", 1 << 20)
    groups = pq.ParquetFile(export_batch(home, "parquet").path).metadata
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [32, 8]
    many = folder_of(tmp_path / "many", [row(n, "failed") for n in range(2500)])
    groups = pq.ParquetFile(export_batch(many, "parquet").path).metadata
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [1000, 1000, 500]


#: Names that datasets takes for those of splits where no folder is called train.
SPLIT_NAMES = ("0001-a-test-drive.png", "test.png", "validation 2.png", "dev.png", "train.png")


def test_datasets_reads_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    home = batch(tmp_path / "out")
    with (home / "results.jsonl").open("a") as file:
        for index, name in enumerate(SPLIT_NAMES, 10):
            (home / name).write_bytes(png())
            file.write(json.dumps(row(index, id=name, files=[name, "k0.png"])) + "\n")

    def load(kind: str, **options: Any) -> Any:
        loaded = datasets.load_dataset(kind, cache_dir=str(tmp_path / "cache"), **options)
        assert [*loaded] == ["train"]
        return loaded["train"]

    pictures = load("imagefolder", data_dir=str(export_batch(home, "imagefolder").path))
    assert len(pictures) == 3 + 2 * len(SPLIT_NAMES)
    by_id = {each["id"]: each for each in pictures}
    assert by_id.keys() == {"k0", "#3", *SPLIT_NAMES}
    assert by_id["k0"]["image"].size == (8, 8)
    assert by_id["k0"]["prompt"] == "prompt 0"

    table = load("parquet", data_files=str(export_batch(home, "parquet").path))
    assert table.features["image"] == datasets.Image()
    assert table[0]["image"].size == (8, 8)
    assert table[1]["image"] is None
    assert table[1]["state"] == "failed"
    linked = export_batch(home, "parquet", out=tmp_path / "linked.parquet", link=True)
    assert load("parquet", data_files=str(linked.path))[0]["image"].size == (8, 8)

    lines = load("csv", data_files=str(export_batch(home, "csv").path))
    assert lines.column_names == [*COLUMNS]
    assert len(lines) == len(table)


def test_datasets_reads_a_folder_of_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    home = folder_of(tmp_path / "out", [row(0, files=["a.mp4", "b.png"]), row(1, files=["c.mp4"])])
    folder = export_batch(home, "videofolder").path
    loaded = datasets.load_dataset("videofolder", data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    videos = loaded["train"].cast_column("video", datasets.Video(decode=False))
    assert [Path(each["video"]["path"]).name for each in videos] == ["a.mp4", "c.mp4"]
    assert [each["prompt"] for each in videos] == ["prompt 0", "prompt 1"]


# ---- whole or not at all


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("taken", ["file", "folder", "link"])
def test_nothing_is_replaced(tmp_path: Path, form: Form, taken: str) -> None:
    pytest.importorskip("pyarrow")
    home = batch(tmp_path / "out")
    target = tmp_path / "target"
    match taken:
        case "file":
            target.write_text("mine")
        case "folder":
            target.mkdir()
            (target / "mine").write_text("mine")
        case "link":
            target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(
        ExportError, match="target exists and is not replaced: remove it, or give another --out"
    ):
        export_batch(home, form, out=target)
    assert {each.name for each in tmp_path.iterdir()} == {"out", "target"}
    assert target.is_symlink() or (target / "mine" if taken == "folder" else target).read_text() == "mine"


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    home = batch(tmp_path / "out")
    (tmp_path / "target").mkdir()
    assert export_batch(home, "imagefolder", out=tmp_path / "target").outputs == 3
    (tmp_path / "other").mkdir()
    with pytest.raises(ExportError, match="other is a folder: give a file"):
        export_batch(home, "csv", out=tmp_path / "other")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit on the size of files")
def test_a_write_that_fails_leaves_nothing(tmp_path: Path, form: Form) -> None:
    pytest.importorskip("pyarrow")
    home = folder_of(tmp_path / "out", [row(n, id=f"#{n}", files=[f"{n}.png"]) for n in range(200)])
    before = {each.name for each in home.iterdir()}
    code = f"""
import resource
from ruxa_async.export import export_batch
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
export_batch({str(home)!r}, {form!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "File too large" in done.stderr
    assert {each.name for each in home.iterdir()} == before


def test_a_file_that_parquet_cannot_hold_ends_the_export_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    home = folder_of(tmp_path / "out", [row(0, files=["a.png", "b.mp4"])])
    os.truncate(home / "b.mp4", 2**31)  # sparse
    before = {each.name for each in home.iterdir()}
    with pytest.raises(ExportError, match=r"b\.mp4 is too large for one value of parquet .*: give --link"):
        export_batch(home, "parquet")
    assert {each.name for each in home.iterdir()} == before
    assert export_batch(home, "parquet", link=True).outputs == 2


def test_a_killed_export_has_no_name(tmp_path: Path) -> None:
    home = folder_of(tmp_path / "out", [row(n, id=f"#{n}", files=[f"{n}.png"]) for n in range(1000)])
    code = f"from ruxa_async.export import export_batch; export_batch({str(home)!r}, 'imagefolder')"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        deadline = time.monotonic() + 60
        while not list(home.glob(".imagefolder-*.part/train/9.png")) and time.monotonic() < deadline:
            time.sleep(0.001)
        process.kill()
    assert not (home / "imagefolder").exists()
    assert export_batch(home, "imagefolder").outputs == 1000


@pytest.mark.parametrize("folder", ["nowhere", "file.txt", ""])
def test_a_folder_without_results_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(ExportError, match=r"holds no results\.jsonl: give the --out folder of a batch"):
        export_batch(tmp_path / folder, "csv")


def test_the_page_describes_each_column() -> None:
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    section = page.partition("## Columns")[2].partition("\n## ")[0]
    words = {"text": "text", "whole number": "whole", "number": "number", "instant": "instant"}
    described = {
        name: words[kind]
        for names, kind in re.findall(r"^\| (`.*?) \| (.*?) \|", section, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    assert [*described.items()] == [*COLUMNS.items()]
