"""``ruxa-async export`` prints the path that it wrote, and says on standard error what is not in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from report.rows import folder_of, row

from ruxa_async.__main__ import main


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return folder_of(
        tmp_path / "out",
        [
            row(0, id="a", files=["a.png"]),
            row(1, "failed", id="b"),
            row(2, id="c", files=["c.png", "d.mp4"]),
        ],
    )


@pytest.mark.parametrize(
    ("form", "name", "sentence"),
    [
        (
            "imagefolder",
            "imagefolder",
            "2 outputs; 1 row without an output left out; 1 output of another kind left out",
        ),
        ("csv", "export.csv", "3 outputs; 1 row without an output in it too"),
    ],
)
def test_the_path_is_printed(
    home: Path, form: str, name: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(home), "--to", form]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{home / name}\n"
    assert printed.err == f"ruxa-async: {sentence}\n"
    assert (home / name).exists()


def test_a_missing_file_is_said_and_changes_the_exit_code(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "a.png").unlink()
    out = tmp_path / "data"
    assert main(["export", str(home), "--to", "imagefolder", "--link", "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{out}\n"
    assert "1 file not on disk: run the batch again, which downloads what is missing" in printed.err
    assert (out / "train" / "c.png").samefile(home / "c.png")


def test_a_path_that_is_taken_is_bad_usage(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(home), "--to", "csv"]) == 0
    assert main(["export", str(home), "--to", "csv"]) == 2
    assert (
        "export.csv exists and is not replaced: remove it, or give another --out" in capsys.readouterr().err
    )


@pytest.mark.parametrize("arguments", [["nowhere", "--to", "csv"], ["nowhere"], ["nowhere", "--to", "excel"]])
def test_wrong_usage_has_its_exit_code(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", *arguments]) == 2
    assert capsys.readouterr().err.startswith("ruxa-async: ")


def test_parquet_without_pyarrow_names_the_extra_and_writes_nothing(home: Path) -> None:
    before = {each.name for each in home.iterdir()}
    code = f"""
import sys
sys.modules["pyarrow"] = None
from ruxa_async.__main__ import main
sys.exit(main(["export", {str(home)!r}, "--to", "parquet"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "export to parquet needs the extra 'arrow': pip install 'ruxa-async[arrow]'" in done.stderr
    assert {each.name for each in home.iterdir()} == before
