"""Spending is the sum of all purchases, each counted once."""

from __future__ import annotations

import json
from pathlib import Path

from report.rows import folder_of, row

from ruxa_async.report._folder import read_folder
from ruxa_async.report._spending import spending_of, spending_section


def test_each_task_counts_once_and_for_its_model(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        [
            row(0, credits=3),
            row(1, "unfinished"),
            row(1, credits=3),  # the same task, seen to its end by a later run
            row(2, "failed", credits=3, error={"message": "no"}),
            row(2, credits=3, task_id="task_2b"),  # bought again
            row(3, "failed", task_id=None),  # refused: not bought
            row(4, "unknown", task_id=None),
            row(5, "download_failed", credits=10, model="sora-2"),
            row(6, "invalid", task_id=None, model=None),
            row(7),
        ],
    )
    spending = spending_of(read_folder(folder))
    assert spending.credits == 22
    assert (spending.failed, spending.failed_credits) == (1, 3)
    assert (spending.missing, spending.unknown, spending.unpriced) == (1, 1, 1)
    assert {
        name: (each.purchases, each.succeeded, each.lost_credits) for name, each in spending.models.items()
    } == {
        "google/nano-banana": (6, 4, 3),
        "sora-2": (1, 0, 10),
    }
    section = spending_section(spending)
    assert section.index("google/nano-banana") < section.index("sora-2")
    for sentence in (
        "1 task failed after acceptance",
        "(3 credits)",
        "1 request may have been charged",
        "For 1 task the service",
    ):
        assert sentence in section


def test_the_section_says_that_nothing_was_bought(tmp_path: Path) -> None:
    folder = read_folder(folder_of(tmp_path, [row(0, "invalid", task_id=None)]))
    assert spending_section(spending_of(folder)) == "<p>Nothing was bought.</p>"


def test_a_price_that_was_not_reported_is_not_shown_as_zero(tmp_path: Path) -> None:
    section = spending_section(spending_of(read_folder(folder_of(tmp_path, [row(0)]))))
    assert section.count("not reported") == 2


def test_purchases_without_a_reported_charge_count_at_the_last_listed_price(tmp_path: Path) -> None:
    rows = [
        row(0),
        row(1, "failed", error={"message": "no"}),
        row(2, "unknown", task_id=None),
        row(3, credits=4),
    ]
    folder = folder_of(tmp_path, rows)
    runs = [
        {"started_at": 1.0, "prices": prices}
        for prices in ({"google/nano-banana": 9}, {"google/nano-banana": 3, "x": "?"}, ["no"])
    ]
    (folder / "runs.jsonl").write_text("".join(f"{json.dumps(run)}\n" for run in runs))
    spending = spending_of(read_folder(folder))
    assert (spending.credits, spending.listed, spending.listed_credits, spending.failed_listed_credits) == (
        4,
        3,
        9,
        3,
    )
    section = spending_section(spending)
    assert "1 task failed after acceptance (3 credits at the listed price)" in section
    assert "3 purchases without a reported charge" in section
    assert "9 credits at the listed price." in section


def test_purchases_without_a_reported_charge_count_at_the_price_of_their_parameters(tmp_path: Path) -> None:
    rows = [row(n, input={"resolution": resolution}) for n, resolution in enumerate(("4k", "1k"))]
    folder = folder_of(tmp_path, rows)
    prices = {"google/nano-banana": 12, "google/nano-banana[resolution=4k]": 24, "[damaged": 99}
    (folder / "runs.jsonl").write_text(json.dumps({"started_at": 1.0, "prices": prices}))
    assert spending_of(read_folder(folder)).listed_credits == 36
