"""A transfer resumes only if the file is certainly the same."""

from __future__ import annotations

import pytest

from ruxa_async.downloads._request import Version, length_of, part_of, version_of

DATE = "Sun, 22 Nov 2026 12:10:00 GMT"
OLD = "Sun, 22 Nov 2026 12:09:00 GMT"
JUST_NOW = "Sun, 22 Nov 2026 12:09:01 GMT"


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"etag": '"abc"', "last-modified": OLD, "date": DATE}, '"abc"'),
        ({"etag": ' "a b"'}, ""),
        ({"etag": 'W/"abc"'}, ""),
        ({"etag": 'W/"abc"', "last-modified": OLD, "date": DATE}, OLD),
        ({"etag": "abc", "last-modified": JUST_NOW, "date": DATE}, ""),
        ({"last-modified": OLD}, ""),
        ({"last-modified": "yesterday", "date": DATE}, ""),
        ({"last-modified": "Sun, 22 Nov 2026 12:09:00", "date": DATE}, ""),
        ({}, ""),
    ],
)
def test_only_strong_validators_identify_a_version(headers: dict[str, str], validator: str) -> None:
    assert version_of(headers) == Version(validator)


def test_a_range_is_requested_only_of_a_known_version() -> None:
    assert Version('"a"').headers(10) == {"Range": "bytes=10-", "If-Range": '"a"'}
    assert Version('"a"').headers(0) == {}
    assert Version().headers(10) == {}


@pytest.mark.parametrize(
    ("headers", "total", "goes_on"),
    [
        ({"etag": '"a"', "content-range": "bytes 10-99/100"}, 100, True),
        ({"etag": '"a"', "content-range": "Bytes 10-99/100"}, None, True),
        ({"etag": '"a"', "content-range": "bytes 10-99/*"}, None, True),
        ({"last-modified": '"a"', "content-range": "bytes 10-99/100"}, 100, True),
        ({"etag": '"b"', "content-range": "bytes 10-99/100"}, 100, False),
        ({"content-range": "bytes 10-99/100"}, 100, False),
        ({"etag": '"a"', "content-range": "bytes 9-99/100"}, 100, False),
        ({"etag": '"a"', "content-range": "bytes 11-99/100"}, 100, False),
        ({"etag": '"a"', "content-range": "bytes 10-98/99"}, 100, False),
        ({"etag": '"a"', "content-range": "bytes 10-99/*"}, 100, False),
        ({"etag": '"a"', "content-range": "items 10-99/100"}, 100, False),
        ({"etag": '"a"'}, 100, False),
    ],
)
def test_a_part_continues_only_the_same_version_at_the_same_place(
    headers: dict[str, str], total: int | None, goes_on: bool
) -> None:
    assert Version('"a"').continues(headers, 10, total) is goes_on
    assert not Version().continues(headers, 10, total)


def test_lengths_and_ranges_are_read() -> None:
    assert part_of({"content-range": "bytes 1-2/3"}) == (1, 3)
    assert part_of({}) == (None, None)
    told = ["12", " 12 ", "", "-1", "1.5", "²", "9" * 20]
    assert [length_of({"content-length": text}) for text in told] == [12, 12, None, None, None, None, None]
