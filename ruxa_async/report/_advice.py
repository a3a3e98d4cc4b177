"""What each state means, and what to do about it: one table for the page and for its reader."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from ._folder import Entry

__all__ = ("ATTENTION", "STATES", "Advice", "State", "advice_for", "shown_state")


@frozen
class State:
    """How a state is called, and in which *tone* it is shown."""

    name: str
    tone: str


STATES: dict[str, State] = {
    "succeeded": State("Made", "good"),
    "unknown": State("Unknown", "warn"),
    "unfinished": State("Unfinished", "warn"),
    "download_failed": State("Not downloaded", "warn"),
    "failed": State("Failed", "bad"),
    "invalid": State("Invalid", "bad"),
}

#: The states that want somebody's attention, those first in which money is at stake.
ATTENTION = ("unknown", "unfinished", "download_failed", "failed", "invalid")


@frozen
class Advice:
    """What to do: *meaning* and *todo* are sentences, *commands* are pairs of a purpose and a command."""

    meaning: str
    todo: str
    commands: tuple[tuple[str, str], ...] = ()


def shown_state(state: str) -> State:
    """Return how *state* is shown; one of a version to come is called what it calls itself."""
    return STATES.get(state) or State(state[:60], "warn")


def advice_for(state: str, entries: Sequence[Entry], folder: Path) -> Advice:
    """Say what to do about *entries*, which all are in *state*; the commands name the first of them."""
    home = _quoted(str(folder), "DIR")
    batch = f"ruxa-async batch INPUT --out {home}"
    task_id = _first(entries, "task_id") or "TASK_ID"
    key = _first(entries, "key") or _first(entries, "id") or "KEY"
    status = ("Ask what became of one", f"ruxa-async status {task_id}")
    match state:
        case "unknown":
            return Advice(
                "Sent, and no answer says what became of them: each may have been charged, or not.",
                "Look at the account first. Found there: adopt it. Not there: forget it, and it is bought "
                "at the next run.",
                (
                    ("Look at what is open", f"ruxa-async journal {home}"),
                    ("It is in the account", f"ruxa-async journal {home} --adopt {key} TASK_ID"),
                    ("It is not in the account", f"ruxa-async journal {home} --forget {key}"),
                    ("Send all again, at your risk", f"{batch} --resend-unknown"),
                ),
            )
        case "unfinished":
            return Advice(
                "Paid for and accepted; their end was not seen.",
                "They may well be done by now. The same command picks them up where they are, and buys "
                "nothing twice.",
                (status, ("Pick up all of them", batch)),
            )
        case "download_failed":
            return Advice(
                "Made and paid for, but not on this disk.",
                "Links expire, so fetch these soon; asking for the state gives fresh ones.",
                (status, ("Fetch all of them", batch)),
            )
        case "failed":
            return Advice(
                "Refused by the service, or the generation failed.",
                "Read the reason: many prompts can be rephrased, some just tried again.",
                (("Try all of them again", f"{batch} --retry-failed"),),
            )
        case "invalid":
            return Advice(
                "These rows are no valid requests. Nothing was sent or charged.",
                "Correct the lines named here and run the batch again.",
            )
    return Advice(
        "This report knows no such state.", "A newer version of ruxa-async may: it wrote these lines."
    )


def _first(entries: Sequence[Entry], name: str) -> str | None:
    values = (getattr(entry, name) for entry in entries)
    return next((quoted for value in values if value and (quoted := _quoted(value, ""))), None)


def _quoted(text: str, otherwise: str) -> str:
    """Return *text* as one word of a shell, or *otherwise* if it could be misread on a page."""
    return shlex.quote(text) if text.isprintable() and len(text) <= 200 else otherwise
