"""A batch halts when the account is refused, and continues when one request is."""

from __future__ import annotations

import pytest

from ruxa_async._engine.classify import Refusal
from ruxa_async._engine.halt import HaltPolicy

KEY, CREDITS, ACCESS, REQUEST = Refusal.KEY, Refusal.CREDITS, Refusal.ACCESS, Refusal.REQUEST


@pytest.mark.parametrize(
    ("refusals", "stops"),
    [
        ([KEY], [True]),
        ([CREDITS], [True]),
        ([REQUEST, KEY], [False, True]),
        ([REQUEST] * 5, [False] * 5),
        ([ACCESS], [False]),
        ([ACCESS, ACCESS, ACCESS], [False, False, True]),
        ([ACCESS, ACCESS, ACCESS, ACCESS], [False, False, True, True]),
        ([ACCESS, ACCESS, REQUEST, ACCESS, ACCESS], [False] * 5),
        ([ACCESS, ACCESS, REQUEST, ACCESS, ACCESS, ACCESS], [False] * 5 + [True]),
        ([ACCESS, ACCESS, CREDITS], [False, False, True]),
    ],
)
def test_refusals_before_anything_was_accepted(refusals: list[Refusal], stops: list[bool]) -> None:
    policy = HaltPolicy()
    assert [policy.on_refusal(why) for why in refusals] == stops


@pytest.mark.parametrize("before", [0, 1, 2])
def test_refused_access_does_not_halt_after_an_acceptance(before: int) -> None:
    policy = HaltPolicy()
    assert not any(policy.on_refusal(ACCESS) for _ in range(before))
    policy.on_accept()
    assert not any(policy.on_refusal(ACCESS) for _ in range(10))


@pytest.mark.parametrize("why", [KEY, CREDITS])
def test_a_wrong_key_or_an_empty_account_halts_after_acceptances_too(why: Refusal) -> None:
    policy = HaltPolicy()
    policy.on_accept()
    assert policy.on_refusal(why)
