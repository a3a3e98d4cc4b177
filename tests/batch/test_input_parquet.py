"""A parquet file becomes the same requests as a table of text, and is never loaded as a whole."""

from __future__ import annotations

import io
import subprocess
import sys
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from ruxa_async import NanoBanana, NanoBananaPro, Sora2
from ruxa_async.__main__ import main
from ruxa_async.batch import InputError, Row, open_rows
from ruxa_async.batch._input_parquet import open_parquet

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def read(path: Path, **options: Any) -> list[Row]:
    with open_rows(path, **options) as rows:
        assert rows.format == "parquet"
        return list(rows)


def test_columns_are_fields_and_null_is_absent(tmp_path: Path) -> None:
    path = write(
        tmp_path / "in.parquet",
        {
            "Prompt": ["a", "b", "c"],
            "key": ["k", None, "  "],
            "aspect_ratio": ["16:9", None, ""],
        },
    )
    rows = read(path)
    assert [row.request for row in rows] == [
        NanoBanana(prompt="a", aspect_ratio="16:9", key="k"),
        NanoBanana(prompt="b"),
        NanoBanana(prompt="c"),
    ]
    assert [row.line for row in rows] == [1, 2, 3]


def test_typed_columns_are_taken_as_they_are(tmp_path: Path) -> None:
    path = write(
        tmp_path / "in.parquet",
        {
            "key": [7, 8],
            "model": pa.array(["google/nano-banana-pro", "sora-2"]).dictionary_encode(),
            "prompt": pa.array(["a", "b"], pa.large_string()),
            "image_input": [["https://example.org/a.png", "https://example.org/b.png"], None],
            "watermark": [None, False],
            "extra": [{"seed": 7, "tag": None}, None],
        },
    )
    assert [row.request for row in read(path)] == [
        NanoBananaPro(
            prompt="a",
            image_input=["https://example.org/a.png", "https://example.org/b.png"],
            key="7",
            extra={"seed": 7},
        ),
        Sora2(prompt="b", watermark=False, key="8"),
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([date(2026, 1, 1)], "key: JSON holds no date: convert the column to text"),
        ([float("nan")], "key: not JSON: NaN is not a JSON number"),
        ([1.5], "key: text is needed, not a number"),
        ([True], "key: text is needed, not true or false"),
    ],
)
def test_a_value_that_is_not_allowed_makes_an_invalid_row(
    tmp_path: Path, values: list[Any], message: str
) -> None:
    path = write(tmp_path / "in.parquet", {"prompt": ["a"], "key": values})
    (row,) = read(path)
    assert str(row.error) == message


def test_the_format_is_known_by_extension_option_or_first_bytes(tmp_path: Path) -> None:
    for name in ("a.parquet", "b.PQ", "c", "d.data"):
        assert len(read(write(tmp_path / name, {"prompt": ["x"]}))) == 1
    assert len(read(write(tmp_path / "e.csv", {"prompt": ["x"]}), format="parquet")) == 1
    text = tmp_path / "f.txt"
    text.write_text("PAR1 is a word\n")
    with open_rows(text) as rows:
        assert rows.format == "text"


def test_the_column_of_prompts_can_be_named_and_others_are_ignored_with_a_notice(tmp_path: Path) -> None:
    path = write(tmp_path / "in.parquet", {"a.caption": ["x"], "width": [1], "Key": ["k"]})
    notices: list[str] = []
    (row,) = read(path, prompt_column="a.caption", notice=notices.append)
    assert row.request == NanoBanana(prompt="x", key="k")
    assert notices == ["columns that are not request fields are ignored: 'width'"]
    with pytest.raises(InputError, match="no column is called 'prompt'"):
        read(path)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no rows"):
        read(write(tmp_path / "in.parquet", {"prompt": pa.array([], pa.string())}))


def test_what_is_not_parquet_or_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    path.write_text("prompt\na\n")
    with pytest.raises(InputError, match=r"in\.parquet is not a parquet file that can be read"):
        read(path)
    whole = write(path, {"prompt": ["a" * 1000]}).read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(InputError, match="is not a parquet file that can be read"):
        read(path)
    path.write_bytes(whole[:4] + b"\xff" * 40 + whole[44:])
    with pytest.raises(InputError, match="is not a parquet file that can be read"):
        read(path)


def test_rows_before_a_damaged_page_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "in.parquet", {"prompt": [f"{n:06}" for n in range(2048)]}, row_group_size=1024)
    offset = pq.ParquetFile(path).metadata.row_group(1).column(0).dictionary_page_offset
    data = bytearray(path.read_bytes())
    data[offset : offset + 40] = b"\xff" * 40
    path.write_bytes(data)
    with open_rows(path) as rows:
        first = [row.request for row in islice(rows, 1024)]
        assert first == [NanoBanana(prompt=f"{n:06}") for n in range(1024)]
        with pytest.raises(InputError, match="is not a parquet file that can be read"):
            next(iter(rows))


class Counted(io.FileIO):
    """A file that counts the bytes that are read."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data: bytes = super().read(-1 if size is None else size) or b""
        self.taken += len(data)
        return data


def test_pictures_in_the_file_are_not_read_and_prompts_are_read_on_demand(tmp_path: Path) -> None:
    picture = bytes(range(256)) * 4096
    count = 20_000
    path = write(
        tmp_path / "in.parquet",
        {
            "prompt": [f"{n} " + f"{n:032x}" * 32 for n in range(count)],
            "image": [picture if n < 32 else None for n in range(count)],
        },
        compression="none",
        use_dictionary=False,
    )
    with Counted(path) as source:
        table = open_parquet(source, "in.parquet")
        rows = table.rows(("prompt",))
        next(rows)
        first = source.taken
        assert first < 4 << 20
        assert sum(1 for _ in rows) == count - 1
        assert first < source.taken < 30 << 20
    assert path.stat().st_size > 50 << 20


def test_standard_input_cannot_be_parquet(tmp_path: Path) -> None:
    data = write(tmp_path / "in.parquet", {"prompt": ["a"]}).read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "ruxa_async", "batch", "-", "--out", str(tmp_path / "out"), "--dry-run"],
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert b"standard input: parquet is read from its end, so it must be a file: name one" in done.stderr


def test_without_pyarrow_the_error_names_the_extra(tmp_path: Path) -> None:
    path = write(tmp_path / "in.parquet", {"prompt": ["a"]})
    code = f"""
import sys
sys.modules["pyarrow"] = None
from ruxa_async.__main__ import main
sys.exit(main(["batch", {str(path)!r}, "--out", {str(tmp_path / "out")!r}, "--dry-run"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert (
        "reading in.parquet, a parquet file, needs the extra 'arrow': pip install 'ruxa-async[arrow]'"
        in done.stderr
    )


def test_a_batch_generates_the_rows_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "in.parquet", {"prompt": ["a", "b", ""], "key": ["k1", "k2", "k3"]})
    arguments = ["batch", str(path), "--emulator", "--speed", "200", "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "line 3: " in capsys.readouterr().err
    assert {each.name for each in (tmp_path / "out").glob("k*")} == {"k1.png", "k2.png"}
    ledger = tmp_path / "out" / "emulator.jsonl"
    for _ in range(2):
        bought = [ledger.read_text().count(f'"prompt": "{prompt}"') for prompt in ("a", "b", "")]
        assert bought == [1, 1, 0]
        assert main(arguments) == 1
