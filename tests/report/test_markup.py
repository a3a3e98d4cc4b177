"""Text from outside is escaped in each place of a page."""

from __future__ import annotations

import json
import math
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruxa_async.report._markup import address, attributes, csp_hash, isolated, json_in_script


@given(st.text())
def test_json_in_a_script_is_the_same_value_and_cannot_end_it(value: str) -> None:
    made = json_in_script({"a": value})
    assert json.loads(made) == {"a": value}
    assert not set(made) & set("<>&\u2028\u2029")


def test_json_that_browsers_refuse_is_not_made() -> None:
    with pytest.raises(ValueError, match="not JSON"):
        json_in_script(math.nan)


@given(st.lists(st.text(min_size=1).filter(lambda part: "/" not in part), min_size=1, max_size=3))
def test_an_address_stays_in_the_folder(parts: list[str]) -> None:
    made = address("/".join(parts))
    assert made.startswith("./")
    base = "file:///home/out/report.html"
    if not any(part in (".", "..") for part in parts):  # reading refuses these
        whole = urljoin(base, made)
        assert whole.startswith("file:///home/out/")
        assert not urlsplit(whole).query
        assert not urlsplit(whole).fragment
        assert unquote(made[2:]) == "/".join(parts).encode(errors="replace").decode()


@pytest.mark.parametrize("name", ["javascript:alert(1)", "data:text/html,x", "a?b#c", "%2e%2e"])
def test_an_address_is_never_a_scheme(name: str) -> None:
    assert urlsplit(address(name)).scheme == ""
    assert unquote(address(name)) == f"./{name}"


def test_attributes_are_escaped_and_numbers_are_short() -> None:
    assert attributes({"x": 1.50001, "y": 2.0, "z": '"<'}) == ' x="1.5" y="2" z="&quot;&lt;"'


def test_foreign_text_is_isolated() -> None:
    assert isolated("<\u202e") == '<bdi dir="auto">&lt;\u202e</bdi>'


def test_the_hash_is_that_of_the_policy() -> None:
    # The example of the specification: alert('Hello, world.');
    assert csp_hash("alert('Hello, world.');") == "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
