"""401 and 403: when they are retried, and when they are final."""

from __future__ import annotations

from ruxa_async._engine.denial import GRACE, Denial


def test_one_task_that_is_denied_is_never_final() -> None:
    denial = Denial()
    for now in (0.0, GRACE, 100 * GRACE):
        denial.on_denied("a", now)
        assert not denial.is_final(now)


def test_several_that_are_denied_are_final_after_the_grace() -> None:
    denial = Denial()
    denial.on_denied("a", 5.0)
    denial.on_denied("b", 6.0)
    assert not denial.is_final(5.0 + GRACE - 0.1)
    assert denial.is_final(5.0 + GRACE)


def test_a_success_restarts_the_grace() -> None:
    denial = Denial()
    denial.on_good()
    denial.on_denied("a", 5.0)
    denial.on_denied("b", 6.0)
    denial.on_good()
    denial.on_denied("b", GRACE)
    assert not denial.is_final(2 * GRACE)
    denial.on_denied("a", 2 * GRACE)
    assert denial.is_final(2 * GRACE)
