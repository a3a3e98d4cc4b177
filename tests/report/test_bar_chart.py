"""Charts are well-formed, to scale, and labelled."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from ruxa_async.report._bar_chart import Bars, bar_chart, plain_number


def drawn(**changes: object) -> ET.Element:
    values: dict[str, object] = {
        "label": 'a "label" <b>',
        "x_label": "seconds since the start",
        "y_label": "tasks",
        "start": 0.0,
        "step": 1.0,
        "series": [("good", [2, 0, 4]), ("bad", [2])],
        "x_step": 1.0,
        "tooltip": lambda place: f"bar {place} <&>",
    }
    return ET.fromstring(bar_chart(Bars(**{**values, **changes})))  # type: ignore[arg-type]


def test_bars_stand_on_each_other_and_to_scale() -> None:
    picture = drawn()
    bars = [box for box in picture.iter("rect") if box.get("class") != "hit"]
    assert [bar.get("class") for bar in bars] == ["bar good", "bar bad", "bar good"]
    heights = [float(bar.get("height") or 0) for bar in bars]
    assert heights[0] == heights[1] == heights[2] / 2
    assert float(bars[1].get("y") or 0) + heights[1] == float(bars[0].get("y") or 0)
    assert [title.text for title in picture.iter("title")] == ["bar 0 <&>", "bar 2 <&>"]


def test_axes_have_units_and_round_ticks() -> None:
    words = [one.text for one in drawn().iter("text")]
    assert words == ["tasks", "0", "1", "2", "3", "4", "seconds since the start", "0", "1", "2", "3"]


def test_a_chart_has_a_label_for_screen_readers() -> None:
    picture = drawn()
    assert (picture.get("role"), picture.get("aria-label")) == ("img", 'a "label" <b>')


def test_a_chart_without_data_has_no_bars() -> None:
    picture = drawn(series=[("good", [0, 0])])
    assert not list(picture.iter("rect"))


def test_time_is_shown_in_its_unit() -> None:
    words = [
        one.text
        for one in drawn(step=60.0, x_step=60.0, x_scale=60.0, series=[("good", [1, 1])]).iter("text")
    ]
    assert words[-3:] == ["0", "1", "2"]


def test_numbers_have_thousands_separators_and_six_digits() -> None:
    assert [plain_number(value) for value in (0.5, 3.0, 1632, 4896.5, 12345678.9)] == [
        "0.5",
        "3",
        "1,632",
        "4,896.5",
        "12,345,679",
    ]
