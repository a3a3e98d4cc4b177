"""Every batch writes a report page, and ``ruxa-async report`` writes it again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ruxa_async.__main__ import main

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small batch."""
    folder = tmp_path_factory.mktemp("batch") / "out"
    arguments = ["--emulator", "--speed", "200", "--limit", "5", "--out", str(folder)]
    assert main(["batch", str(EXAMPLES / "prompts.txt"), *arguments]) == 0
    return folder


def test_a_batch_leaves_a_page_and_a_line_about_the_run(out: Path) -> None:
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<title>prompts.txt</title>" in page
    assert "A lighthouse keeper reading by lamplight" in page
    (run,) = [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]
    assert (run["v"], run["ending"], run["states"]) == (1, "finished", {"succeeded": 5})
    assert run["creates_sent"] >= 5
    assert run["source"].endswith("prompts.txt")


def test_report_makes_the_page_again(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = out / "report.html"
    before = target.read_text()
    target.unlink()
    assert main(["report", str(out)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert target.read_text() == before


def test_report_of_a_killed_batch_shows_what_was_done(tmp_path: Path, out: Path) -> None:
    lines = (out / "results.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "results.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:40])
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "2 of 2 pictures" in page
    assert "could not be read" not in page


@pytest.mark.parametrize("folder", ["", "nowhere", "file.txt"])
def test_report_of_no_batch_is_bad_usage(
    tmp_path: Path, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file.txt").write_text("")
    assert main(["report", str(tmp_path / folder)]) == 2
    assert "holds no results.jsonl" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_does_not_fail_the_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    (folder / "report.html").mkdir(parents=True)
    arguments = ["--emulator", "--speed", "200", "--limit", "1", "--out", str(folder)]
    assert main(["batch", str(EXAMPLES / "prompts.txt"), *arguments]) == 0
    assert "the report could not be made (IsADirectoryError" in capsys.readouterr().err
    assert not list(folder.glob(".report*"))


def test_the_report_is_loaded_only_when_it_is_made() -> None:
    code = "import ruxa_async.cli._batch, sys; print(*(name for name in sys.modules if name.startswith('ruxa_async') and 'report' in name))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []


def test_a_single_file_holds_its_pictures_and_is_small(tmp_path: Path, out: Path) -> None:
    target = tmp_path / "empty" / "report.html"
    target.parent.mkdir()
    arguments = ["--single-file", "--title", "Five <pictures>", "--out", str(target)]
    before = sorted(out.iterdir())
    assert main(["report", str(out), *arguments]) == 0
    page = target.read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") == 5
    assert "<title>Five &lt;pictures&gt;</title>" in page
    assert "5 of 5 pictures in " in page
    assert target.stat().st_size < 1_100_000 * 5 / 24 + 60_000
    assert sorted(out.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--out", "x.html"], "--out goes with --single-file"),
        (["--single-file", "--out", "results.jsonl"], "does not end in .html"),
        (["--single-file", "--out", "nowhere/x.html"], "there is no folder nowhere"),
    ],
)
def test_a_page_is_not_written_where_it_would_not_work(
    out: Path, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(out), *arguments]) == 2
    assert reason in capsys.readouterr().err


def test_a_single_file_without_pillow_names_the_extra(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    before = sorted(out.iterdir())
    assert main(["report", str(out), "--single-file"]) == 2
    assert "pip install 'ruxa-async[emulator]'" in capsys.readouterr().err
    assert sorted(out.iterdir()) == before


def test_picks_are_made_again_larger_and_never_bought_twice(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = json.loads((out / "report.html").read_text().partition('id="data">')[2].partition("</script>")[0])
    picks = tmp_path / "picks.jsonl"
    picks.write_text("".join(item["pick"] + "\n" for item in data["items"][:2]))
    larger = ["--model", "google/nano-banana-pro", "--input", "resolution=4k"]
    arguments = [*larger, "--emulator", "--speed", "200", "--out", str(tmp_path / "large")]
    for _ in range(2):
        assert main(["batch", "--from-picks", str(picks), *arguments]) == 0
    assert "resumed: 2 were finished before" in capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "large" / "results.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == [f"{item['id'][1:]}-pick" for item in data["items"][:2]]
    assert [(line["model"], line["input"]["resolution"]) for line in lines] == [
        ("google/nano-banana-pro", "4k")
    ] * 2
    ledger = (tmp_path / "large" / "emulator.jsonl").read_text()
    assert ledger.count('"created"') == 2


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "there is no INPUT"),
        (["prompts.txt", "--from-picks", "picks.jsonl"], "not both"),
        (["prompts.txt", "--input", "resolution=4k"], "--input goes with --from-picks"),
        (["--from-picks", "picks.jsonl", "--format", "csv"], "are for INPUT"),
        (["--from-picks", "picks.jsonl", "--input", "resolution"], "is not FIELD=VALUE"),
        (["--from-picks", "picks.jsonl", "--input", "a=1", "--input", "a=2"], "given twice"),
        (["--from-picks", "picks.jsonl"], "picks.jsonl cannot be read"),
    ],
)
def test_wrong_picks_buy_nothing(
    tmp_path: Path, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", *arguments, "--emulator", "--out", str(tmp_path / "out")]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
