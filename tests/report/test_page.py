"""The page is complete, begins with what matters, and runs only its own script."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report.rows import HOSTILE, RUN, folder_of, row

from ruxa_async.report import write_report
from ruxa_async.report._folder import read_folder
from ruxa_async.report._heading import spelled
from ruxa_async.report._page import page


class Seen(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def made(path: Path) -> str:
    return write_report(path).read_text(encoding="utf-8")


def data_of(text: str) -> dict[str, list[dict[str, Any]]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    values: dict[str, list[dict[str, Any]]] = json.loads(found[1])
    return values


def test_the_page_begins_with_the_input_and_the_counts(tmp_path: Path) -> None:
    rows = [*(row(n, files=[f"{n}.png"], credits=3) for n in range(3)), row(3, "unknown", task_id=None)]
    text = made(folder_of(tmp_path, rows, [RUN]))
    assert '<h1><bdi dir="auto">prompts.txt</bdi></h1>' in text
    assert '<p class="totals">3 of 4 pictures in 40 s, 9 credits</p>' in text
    assert "Started on 1 January 1970 at 00:16 UTC." in text


def test_a_folder_without_runs_is_called_by_its_name(tmp_path: Path) -> None:
    text = made(folder_of(tmp_path / "my <out>", [row(0), row(1)]))
    assert "<title>my &lt;out&gt;</title>" in text
    assert "2 of 2 results in 11 s<" in text


def test_attention_comes_before_the_pictures_and_money_comes_first(tmp_path: Path) -> None:
    rows = [row(n, state) for n, state in enumerate(("failed", "unknown", "invalid", "succeeded", "newer"))]
    text = made(folder_of(tmp_path, rows))
    order = [
        text.index(f'<b>1</b> <bdi dir="auto">{name}') for name in ("Unknown", "Failed", "Invalid", "newer")
    ]
    assert order == sorted(order)
    assert order[-1] < text.index('id="sheet"')
    assert "succeeded" not in re.findall(r'data-show="(\w+)"', text)


def test_equal_reasons_are_counted_together(tmp_path: Path) -> None:
    rows = [
        row(n, "failed", error={"type": "TaskFailedError", "message": f"task task_{n}: no"}) for n in range(9)
    ]
    text = made(folder_of(tmp_path, rows))
    assert text.count("9 &times;") == 1
    assert "and 5 more" in text
    expired = [
        {"type": "LinkExpiredError", "message": f"http://x/{n}: the link has expired", "url": f"http://x/{n}"}
        for n in range(7)
    ]
    rows = [row(n, "download_failed", error=error) for n, error in enumerate(expired)]
    assert '7 &times;</span> <bdi dir="auto">the link has expired<' in made(folder_of(tmp_path, rows))


def test_nothing_from_outside_becomes_markup(tmp_path: Path) -> None:
    plain = Seen(made(folder_of(tmp_path / "plain", [row(n, "failed") for n in range(len(HOSTILE))])))
    rows = [
        row(
            n,
            "failed",
            prompt=text,
            key=text,
            model=text,
            task_id=text,
            urls=[text],
            input={"prompt": text, text: text, "seed": [text]},
            error={"type": text, "message": text, "code": text, "cause": text},
        )
        for n, text in enumerate(HOSTILE)
    ]
    run = {**RUN, "source": HOSTILE[0], "ending": HOSTILE[1], "version": HOSTILE[2]}
    text = made(folder_of(tmp_path / "hostile", rows, [run]))
    seen = Seen(text)
    for tag in ("script", "style", "img", "svg", "a", "iframe", "link", "meta", "object", "input"):
        assert seen.count(tag) == plain.count(tag) + (tag == "svg"), tag  # the rejections of the run
    names = {name for _, attributes in seen.tags for name in attributes}
    assert not {name for name in names if name.startswith("on")}
    targets = {attributes.get("href") for tag, attributes in seen.tags if tag == "a"}
    assert targets == {"#pictures", "#course", "#spent"}
    items = data_of(text)["items"]
    assert [item["prompt"] for item in items] == [one.replace("\ud800", "?") for one in HOSTILE]


def test_the_page_has_parameters_and_pixels(tmp_path: Path) -> None:
    given = {"prompt": "a cat", "aspect_ratio": "16:9", "note": "x" * 5_000}
    outputs = [{"bytes": 5, "width": 1024, "height": 576}]
    lines = [row(0, files=["a.png"], input=given, outputs=outputs), row(1, files=["b.png"])]
    first, second = data_of(made(folder_of(tmp_path, lines)))["items"]
    assert first["input"] == {"aspect_ratio": "16:9", "note": "x" * 2_000}
    (medium,) = first["media"]
    assert (medium["width"], medium["height"]) == (1024, 576)
    assert "input" not in second
    assert not {"width", "height"} & {*second["media"][0]}


def test_paths_are_relative_and_their_names_are_encoded(tmp_path: Path) -> None:
    names = ["javascript:alert(1).png", "a b?#%.png", "é.png"]
    item = data_of(made(folder_of(tmp_path, [row(0, files=names)])))["items"][0]
    media = item["media"]
    assert isinstance(media, list)
    assert [one["src"] for one in media] == [
        "./javascript%3Aalert%281%29.png",
        "./a%20b%3F%23%25.png",
        "./%C3%A9.png",
    ]


def test_the_policy_permits_only_the_script_of_the_page(tmp_path: Path) -> None:
    seen = Seen(made(folder_of(tmp_path, [row(0)])))
    (policy,) = [
        attributes["content"]
        for tag, attributes in seen.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_the_report_replaces_the_last_one_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path, [row(0)])
    first = made(tmp_path)
    folder_of(tmp_path, [row(0), row(1)])

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            write_report(tmp_path)
    assert (tmp_path / "report.html").read_text() == first
    assert made(tmp_path) != first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "results.jsonl"]


def test_the_foot_names_an_interrupted_run_and_broken_lines(tmp_path: Path) -> None:
    run = {**RUN, "ending": "interrupted", "unsubmitted": 1200}
    folder_of(tmp_path, [row(0)], [run])
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write("{broken\n")
    text = made(tmp_path)
    assert "The last run was interrupted. 1,200 rows were read and not submitted" in text
    assert "1 line of results.jsonl could not be read" in text


def test_rejections_are_drawn_at_their_time(tmp_path: Path) -> None:
    text = made(folder_of(tmp_path, [row(n) for n in range(31)], [RUN]))
    assert "4 creates and 5 queries were rejected" in text
    assert "<title>0 to 1 seconds: 3 creates, 0 queries</title>" in text


def test_charts_come_before_sentences_without_data(tmp_path: Path) -> None:
    text = page(read_folder(folder_of(tmp_path, [row(n) for n in range(12)])))
    places = [text.index(title) for title in ("Queries per task", "<dt>Rejected by", "<dt>Delay until")]
    assert text.count("<svg") == text.count("<figure>") == 3
    assert places[0] < text.rindex("<svg") < min(places[1:])


def test_a_batch_of_few_rows_has_sentences_in_place_of_charts(tmp_path: Path) -> None:
    text = page(read_folder(folder_of(tmp_path, [row(n) for n in range(11)])))
    assert "<svg" not in text
    assert "<figure>" not in text
    assert "<dt>Run times</dt><dd>Median 10" in text
    assert "<dt>Delay until" not in text  # not known
    assert page(read_folder(folder_of(tmp_path, [row(0, finished_at=None, queries=0)]))).count("<dt>") == 0


def test_sentences_of_a_large_batch_say_why_there_is_no_chart(tmp_path: Path) -> None:
    rows = [row(n, finished_at=None, queries=0) for n in range(12)]
    text = page(read_folder(folder_of(tmp_path, rows)))
    assert "<svg" not in text
    for sentence in (
        "No task has ended yet",
        "Not recorded",
        "No task that ended",
        "Not known: the service did not report",
        "No query was sent",
    ):
        assert sentence in text


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (93, "93 s"), (125, "2 min 05 s"), (7260, "2 h 01 min")],
)
def test_durations_are_spelled_in_seconds_minutes_or_hours(seconds: float, expected: str) -> None:
    assert spelled(seconds) == expected
