"""What each state means and what the user can do about it, for the page and its script."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from ._folder import Entry

__all__ = ("ATTENTION", "STATES", "Advice", "State", "advice_for", "shown_state")


@frozen
class State:
    """The *name* of a state on the page, and its *tone*: good, warn or bad, a CSS class."""

    name: str
    tone: str


STATES: dict[str, State] = {
    "succeeded": State("Succeeded", "good"),
    "unknown": State("Unknown", "warn"),
    "unfinished": State("Unfinished", "warn"),
    "download_failed": State("Not downloaded", "warn"),
    "failed": State("Failed", "bad"),
    "invalid": State("Invalid", "bad"),
}

#: The states that need attention, in the order of the page: first those in which money is at stake.
ATTENTION = ("unknown", "unfinished", "download_failed", "failed", "invalid")


@frozen
class Advice:
    """Advice about one state: its *meaning*, what *todo*, and *commands* as pairs of purpose and command."""

    meaning: str
    todo: str
    commands: tuple[tuple[str, str], ...] = ()


def shown_state(state: str) -> State:
    """Return how *state* is shown. An unknown state is shown by its raw name, as a warning."""
    return STATES.get(state) or State(state[:60], "warn")


def advice_for(state: str, entries: Sequence[Entry], folder: Path) -> Advice:
    """Return the advice about *entries*, which are all in *state*; the commands name the first of them."""
    home = _quoted(str(folder), "DIR")
    batch = f"ruxa-async batch INPUT --out {home}"
    key = _first(entries, "key") or _first(entries, "id") or "KEY"
    status = ("Show the state of one", f"ruxa-async status {_first(entries, 'task_id') or 'TASK_ID'}")
    match state:
        case "unknown":
            return Advice(
                "Sent, and no reply shows whether they were charged.",
                "Look at your account first. Adopt each task that you find there, and forget the others.",
                (
                    ("List them", f"ruxa-async journal {home}"),
                    ("One is in the account: adopt it", f"ruxa-async journal {home} --adopt {key} TASK_ID"),
                    ("One is not: let the next run buy it", f"ruxa-async journal {home} --forget {key}"),
                    ("Send all of them again, which may buy twice", f"{batch} --resend-unknown"),
                ),
            )
        case "unfinished":
            return Advice(
                "Accepted and paid for, but the run did not see their end.",
                "Run the batch again: it waits for these tasks and buys nothing twice.",
                (status, ("Wait for all of them", batch)),
            )
        case "download_failed":
            return Advice(
                "Generated and paid for, but an output is not on this disk.",
                "Run the batch again soon: links expire. A query returns new ones.",
                (status, ("Download all of them", batch)),
            )
        case "failed":
            return Advice(
                "Refused by the service, or the generation failed.",
                "Read the reason. Some prompts must be changed; others succeed when they are tried again.",
                (("Try all of them again", f"{batch} --retry-failed"),),
            )
        case "invalid":
            return Advice(
                "These rows are not valid requests. Nothing was sent or charged.",
                "Correct the lines named here and run the batch again.",
            )
    return Advice("This version does not know the state.", "A newer version of ruxa-async wrote these lines.")


def _first(entries: Sequence[Entry], name: str) -> str | None:
    values = (getattr(entry, name) for entry in entries)
    return next((quoted for value in values if value and (quoted := _quoted(value, ""))), None)


def _quoted(text: str, otherwise: str) -> str:
    """Return *text* as one word of a shell; *otherwise* if it is too long or not printable."""
    return shlex.quote(text) if text.isprintable() and len(text) <= 200 else otherwise
