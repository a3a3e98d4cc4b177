"""A name that is taken while an export is written keeps what it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from ruxa_async.export import ExportError
from ruxa_async.export._target import new_file, new_folder


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "a.csv"
    with pytest.raises(ExportError, match="exists and is not replaced"), new_file(target):
        target.write_bytes(b"theirs")
    assert target.read_bytes() == b"theirs"
    assert [*tmp_path.iterdir()] == [target]


def test_a_folder_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "a"
    other = tmp_path / "other"
    other.mkdir()
    (other / "theirs").write_bytes(b"theirs")
    with pytest.raises(ExportError, match="exists and is not replaced"), new_folder(target):
        other.rename(target)
    assert [each.name for each in target.iterdir()] == ["theirs"]
    assert [*tmp_path.iterdir()] == [target]


def test_a_file_that_appears_in_place_of_a_folder_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with pytest.raises(ExportError, match="exists and is not replaced"), new_folder(target):
        target.write_bytes(b"theirs")
    assert target.read_bytes() == b"theirs"


def test_without_hard_links_a_file_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr("os.link", refuse)
    target = tmp_path / "new" / "a.csv"
    with new_file(target) as file:
        file.write(b"ours")
    assert target.read_bytes() == b"ours"
    assert [*target.parent.iterdir()] == [target]
    with pytest.raises(ExportError, match="exists and is not replaced"), new_file(target) as file:
        file.write(b"other")
    assert target.read_bytes() == b"ours"
