"""Each state has advice, and its commands do what they show."""

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
def test_text_from_outside_is_one_word_of_a_command(state: str, hostile: str) -> None:
    entries = [Entry(state=state, key=hostile, task_id=hostile)]
    for _, command in advice_for(state, entries, Path(hostile.replace("\0", ""))).commands:
        words = shlex.split(command)
        assert words[0] == "ruxa-async"
        assert len(words) <= 6
        assert command.isprintable()


def test_commands_name_the_first_task_that_is_printable() -> None:
    entries = [Entry(state="unfinished", task_id=task) for task in (None, "\u202etask", "task 1")]
    commands = dict(advice_for("unfinished", entries, Path("my out")).commands)
    assert commands["Show the state of one"] == "ruxa-async status 'task 1'"
    assert commands["Wait for all of them"] == "ruxa-async batch INPUT --out 'my out'"


def test_an_unknown_state_is_shown_under_its_own_name() -> None:
    assert shown_state("postponed").name == "postponed"
    assert "newer version" in advice_for("postponed", [], Path()).todo
