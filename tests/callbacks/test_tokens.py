"""A token is accepted if it is authentic and not too old."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruxa_async.callbacks._authentication import ID_SIZE, Token, Tokens, looks_like_token

SECRET, OTHER = b"s" * 32, b"o" * 32
JOB = bytes(range(ID_SIZE))
NOW = 1_800_000_000.0


@given(st.binary(min_size=ID_SIZE, max_size=ID_SIZE), st.integers(0, 2**32 - 1))
def test_an_issued_token_is_read_back(job: bytes, at: int) -> None:
    tokens = Tokens([SECRET], 60.0)
    text = tokens.issue(job, at)
    assert looks_like_token(text)
    assert tokens.read(text, at) == Token(job, float(at))


@pytest.mark.parametrize(
    ("later", "believed"), [(-301, False), (-300, True), (0, True), (60, True), (61, False)]
)
def test_a_token_is_valid_until_max_age(later: float, believed: bool) -> None:
    tokens = Tokens([SECRET], 60.0)
    assert (tokens.read(tokens.issue(JOB, NOW), NOW + later) is not None) is believed


def test_a_changed_character_invalidates_a_token() -> None:
    tokens = Tokens([SECRET], 60.0)
    text = tokens.issue(JOB, NOW)
    # The last one carries bits that no byte is made of, so that some of its neighbours mean the same bytes.
    for place in range(len(text) - 1):
        changed = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        assert tokens.read(changed, NOW) is None


@pytest.mark.parametrize("text", ["", "a", "x" * 42, "x" * 44, "+" * 43, "é" * 43, "x" * 42 + "\n"])
def test_other_texts_are_not_tokens(text: str) -> None:
    assert not looks_like_token(text)
    assert Tokens([SECRET], 60.0).read(text, NOW) is None


def test_a_secret_can_be_replaced() -> None:
    old, both, new = Tokens([OTHER], 60.0), Tokens([SECRET, OTHER], 60.0), Tokens([SECRET], 60.0)
    before = old.issue(JOB, NOW)
    assert both.read(before, NOW) == Token(JOB, NOW)
    assert new.read(both.issue(JOB, NOW), NOW) == Token(JOB, NOW)
    assert new.read(before, NOW) is None


def test_secrets_are_not_shown() -> None:
    assert "ss" not in repr(Tokens([SECRET], 60.0))
