"""The figures of the benchmarks of limits, and the pages that are written from them."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks import _report
from benchmarks._limited import WatchedService, settings_of
from benchmarks._shims import SHIMS
from benchmarks._svg import spread_out
from benchmarks._yield import Yield, displacement
from ruxa_async.emulator import ServiceRequest, TokenBucket
from ruxa_async.emulator._service import CREATE_PATH

# ---- figures


def test_a_client_that_takes_every_token_uses_the_whole_limit() -> None:
    passed = [0.0] * 10 + [n / 50 for n in range(1, 301)]
    got = Yield.since_first([1000 + at for at in passed])
    assert got.whole(50, 10) == pytest.approx(100)
    assert got.steady(TokenBucket(50, 10).limiter()) == pytest.approx(100, abs=0.6)


def test_half_the_rate_uses_half_of_the_limit() -> None:
    got = Yield.since_first([n / 25 for n in range(301)])
    assert got.whole(50, 1) == pytest.approx(50)
    assert got.steady(TokenBucket(50, 1).limiter()) == pytest.approx(50, abs=0.5)


def test_time_that_the_service_forbids_is_left_out() -> None:
    passed = [n / 10 for n in range(101)] + [20 + n / 10 for n in range(100)]
    got = Yield.since_first(passed, [(10, 15), (12, 19.9)])
    assert got.took == pytest.approx(20.0)
    assert got.forbidden == [(10, 19.9)]
    assert got.whole(10, 1) == pytest.approx(100)


@pytest.mark.parametrize(("order", "mean"), [([0, 1, 2, 3], 0.0), ([1, 0, 3, 2], 0.25), ([3, 2, 1, 0], 0.5)])
def test_displacement_is_the_mean_distance_over_the_number(order: list[int], mean: float) -> None:
    assert displacement(order) == mean


# ---- servers


def test_a_rejection_is_recorded_with_the_time_that_it_forbids() -> None:
    limit = {"creates": "token:rate=1,burst=1", "retry_after": "seconds", "latency": 0.25}
    service = WatchedService(settings_of({"median": 1.0, **limit}))
    body = json.dumps({"model": "google/nano-banana", "input": {"prompt": "p"}}).encode()
    create = ServiceRequest("POST", CREATE_PATH, {"authorization": "Bearer sk-emulated"}, body)
    for at in (0.0, 0.5, 1.0):
        service.handle(create, at)
    report = service.report()
    assert report["refusals"] == [(0.75, 1.0)]
    assert [at for at, _ in report["accepted"]] == [0.0, 1.0]
    assert (report["charged"], report["bought_twice"], report["throttled"]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("wire", "path", "done"),
    [
        ("fal", "/fal-ai/flux/requests/7/status", "COMPLETED"),
        ("replicate", "/v1/predictions/7", "succeeded"),
        ("openai", "/v1/videos/7", "completed"),
        ("runwayml", "/v1/tasks/7", "SUCCEEDED"),
    ],
)
def test_a_shim_reports_each_state_in_the_words_of_its_service(wire: str, path: str, done: str) -> None:
    shim = SHIMS[wire](WatchedService(settings_of({"median": 1.0})), "http://localhost", 0.0)
    found = shim.query.search(path)
    assert found is not None
    assert found[1] == "7"
    states = [shim.state_body("7", state, path)["status"] for state in ("waiting", "queuing", "generating")]
    assert done not in states
    assert shim.state_body("7", "success", path)["status"] == done


# ---- the page


def test_pages_and_plots_are_written_from_the_figures() -> None:
    page = _report.PAGE.read_text(encoding="utf-8")
    for path in (_report.PAGE, _report.ALL_ROWS):
        assert _report.filled(path) == path.read_text(encoding="utf-8"), "run `python -m benchmarks report`"
    for path, text in _report.drawn().items():
        assert path.read_text(encoding="utf-8") == text, "run `python -m benchmarks report`"
        assert f"]({path.name})" in page
        ET.fromstring(text)


def test_a_figure_that_misses_its_target_is_marked() -> None:
    rows: list[dict[str, Any]] = [
        {"limit": "a", "whole, %": 98.96, "target": 99, "429": {"median": 3, "low": 3, "high": 3, "n": 1}},
        {"limit": "b", "whole, %": 98.9, "target": 99, "429": {"median": 3, "low": 2, "high": 9, "n": 3}},
    ]
    rows = [{**row, "target ": 2 if row["limit"] == "a" else "-"} for row in rows]
    table, missed, judged = _report._tables(iter(rows))
    assert table.splitlines()[2:] == ["| a | 99.0 | 99 | 3 ✗ | 2 |", "| b | 98.9 ✗ | 99 | 3 (2 to 9) | - |"]
    assert (missed, judged) == (2, 3)


def test_labels_keep_their_order_and_a_minimum_distance() -> None:
    assert spread_out([10, 10, 50, 99, 100], 10, 0, 100) == [10, 20, 50, 90, 100]
