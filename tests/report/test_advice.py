"""What to do is said for every state, in commands that mean what they show."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import get_args

import pytest
from report.rows import HOSTILE

from ruxa_async.batch._result_line import State
from ruxa_async.report._advice import ATTENTION, STATES, advice_for, shown_state
from ruxa_async.report._folder import Entry


def test_every_state_of_a_batch_is_known() -> None:
    assert set(get_args(State)) == set(STATES) == {"succeeded", *ATTENTION}


@pytest.mark.parametrize("state", ATTENTION)
@pytest.mark.parametrize("hostile", HOSTILE)
def test_commands_hold_one_word_for_what_came_from_outside(state: str, hostile: str) -> None:
    entries = [Entry(state=state, key=hostile, task_id=hostile)]
    for _, command in advice_for(state, entries, Path(hostile.replace("\0", ""))).commands:
        words = shlex.split(command)
        assert words[0] == "ruxa-async"
        assert len(words) <= 6
        assert command.isprintable()


def test_commands_name_the_first_that_can_be_named() -> None:
    entries = [Entry(state="unfinished", task_id=task) for task in (None, "\u202etask", "task 1")]
    commands = dict(advice_for("unfinished", entries, Path("my out")).commands)
    assert commands["Show the state of one"] == "ruxa-async status 'task 1'"
    assert commands["Wait for all of them"] == "ruxa-async batch INPUT --out 'my out'"


def test_a_state_of_a_version_to_come_is_called_by_its_name() -> None:
    assert shown_state("postponed").name == "postponed"
    assert "newer version" in advice_for("postponed", [], Path()).todo
