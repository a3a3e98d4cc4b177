"""Build the page from a template, one style sheet, one script, and the data of the folder.

Its Content-Security-Policy permits only that script, that style sheet, and media from the same folder.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from attrs import asdict

from ._advice import ATTENTION, STATES, Advice, advice_for, shown_state
from ._bar_chart import plain_number
from ._folder import Entry, Folder, Media, read_folder
from ._markup import address, csp_hash, isolated, json_in_script, text
from ._plots import plots
from ._spending import Spending, spending_of, spending_section

__all__ = ("REPORT", "page", "spelled", "write_report")

REPORT = "report.html"

_SLOT = re.compile(r"\{\{(\w+)\}\}")
#: The most entries, and the most reasons, that are listed for each state.
_SAMPLES = 4
_REASONS = 6
#: The most parameters of a request on the page, and the most characters of each.
_PARAMETERS, _PARAMETER = 40, 2_000
#: Fields of an entry that the script takes unchanged.
_ITEM_FIELDS = (
    *("state", "prompt", "key", "model", "task_id", "line"),
    *("credits", "queries", "submitted_at", "finished_at"),
)


def write_report(folder: str | os.PathLike[str]) -> Path:
    """Write the report of the batch in *folder* from its results, and return its path.

    It replaces an earlier report atomically. Raises OSError if the results cannot be read or the report
    cannot be written.
    """
    home = Path(folder)
    content = page(read_folder(home)).encode(errors="replace")
    target = home / REPORT
    part = home / f".{REPORT}-{uuid4().hex}.part"
    try:
        part.write_bytes(content)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def page(folder: Folder) -> str:
    """Return the page about *folder*."""
    style, script = _asset("page.css"), _asset("page.js")
    spending = spending_of(folder)
    name = _name(folder)
    values = {
        "style": style,
        "script": script,
        "style_hash": csp_hash(style),
        "script_hash": csp_hash(script),
        "title": text(name),
        "heading": isolated(name),
        "facts": _facts(folder, spending),
        "attention": _attention(folder),
        "plots": plots(folder),
        "spending": spending_section(spending),
        "footing": _footing(folder),
        "data": json_in_script(_data(folder)),
    }
    # One pass: a value that contains a slot is not filled.
    return _SLOT.sub(lambda slot: values[slot[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _name(folder: Folder) -> str:
    sources = [run.source for run in folder.runs if run.source not in ("", "-")]
    return Path(sources[-1]).name if sources else folder.path.resolve().name or "Results"


# ---- the head and the foot of the page


def _facts(folder: Folder, spending: Spending) -> str:
    succeeded = sum(entry.state == "succeeded" for entry in folder.entries)
    facts = [
        ("rows", f"{len(folder.entries):,}"),
        ("files", f"{sum(len(entry.media) for entry in folder.entries):,}"),
    ]
    if missing := len(folder.entries) - succeeded:
        facts.append(("not succeeded", f"{missing:,}"))
    if spending.credits:
        facts.append(("credits", plain_number(spending.credits)))
    if (seconds := _duration(folder)) is not None:
        facts.append(("duration", spelled(seconds)))
    return "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in facts)


def _duration(folder: Folder) -> float | None:
    """Return the seconds that all runs took; if none is recorded, those from first acceptance to last end."""
    if folder.runs:
        spans = [run.ended_at - run.started_at for run in folder.runs if run.ended_at is not None]
        return sum(spans) if spans else None
    begins = [entry.submitted_at for entry in folder.entries if entry.submitted_at is not None]
    ends = [entry.finished_at for entry in folder.entries if entry.finished_at is not None]
    return max(ends) - min(begins) if begins and ends else None


def spelled(seconds: float) -> str:
    """Return *seconds* in seconds below 100, else in minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _footing(folder: Folder) -> str:
    sentences = []
    if folder.runs:
        day = datetime.fromtimestamp(min(run.started_at for run in folder.runs), UTC)
        last = folder.runs[-1]
        sentences.append(f"Started on {day.day} {day:%B %Y at %H:%M} UTC.")
        if last.ending not in ("", "finished"):
            sentences.append(f"The last run was {last.ending}.")
        if last.unsubmitted:
            sentences.append(f"{last.unsubmitted:,} rows were read and not submitted, and not charged.")
    if folder.broken:
        lines = "line" if folder.broken == 1 else "lines"
        sentences.append(f"{folder.broken:,} {lines} of results.jsonl could not be read.")
    return text(" ".join(sentences))


# ---- what needs attention


def _attention(folder: Folder) -> str:
    """Return a group for each state but success; nothing if all rows succeeded."""
    others = {entry.state for entry in folder.entries} - STATES.keys()
    parts = []
    for state in (*ATTENTION, *sorted(others)):
        group = [(place, entry) for place, entry in enumerate(folder.entries) if entry.state == state]
        if group:
            parts.append(_group(state, group, folder))
    return "\n".join(parts)


def _group(state: str, group: Sequence[tuple[int, Entry]], folder: Folder) -> str:
    entries = [entry for _, entry in group]
    advice, shown = advice_for(state, entries, folder.path), shown_state(state)
    which = "it" if len(group) == 1 else f"all {len(group):,}"
    button = f'<button type="button" class="quiet" data-show="{text(state)}">Show {which}</button>'
    return (
        f'<details class="group {shown.tone}"><summary><h3><b>{len(group):,}</b> {isolated(shown.name)}</h3>'
        f'<span>{text(advice.meaning)}</span><i aria-hidden="true">What to do</i></summary>'
        f'<div class="columns"><div><p>{text(advice.todo)}</p>{_commands(advice)}</div>'
        f"<div>{_reasons(entries)}{_samples(group)}<p>{button}</p></div></div></details>"
    )


def _commands(advice: Advice) -> str:
    lines = "".join(
        f"<div><dt>{text(purpose)}</dt><dd><code>{text(command)}</code></dd></div>"
        for purpose, command in advice.commands
    )
    return f'<dl class="commands">{lines}</dl>' if lines else ""


def _reasons(entries: Iterable[Entry]) -> str:
    """Return the most common reasons with their counts."""
    counts = Counter(map(_reason, entries))
    counts.pop("", None)
    lines = "".join(
        f'<li><span class="count">{count:,} &times;</span> {isolated(reason)}</li>'
        for reason, count in counts.most_common(_REASONS)
    )
    return f'<ul class="reasons">{lines}</ul>' if lines else ""


def _reason(entry: Entry) -> str:
    """Return the error message of *entry* without its task id, so that equal reasons are counted together."""
    if entry.error is None:
        return ""
    reason = entry.error.message or entry.error.type
    return (reason.removeprefix(f"task {entry.task_id}: ") if entry.task_id else reason)[:300]


def _samples(group: Sequence[tuple[int, Entry]]) -> str:
    lines = "".join(
        f'<li><button type="button" class="sample" data-open="{place}">'
        f"{isolated(_caption(entry)[:200])}</button></li>"
        for place, entry in group[:_SAMPLES]
    )
    more = f'<li class="more">and {len(group) - _SAMPLES:,} more</li>' if len(group) > _SAMPLES else ""
    return f'<ul class="samples">{lines}{more}</ul>'


def _caption(entry: Entry) -> str:
    where = f"line {entry.line}" if entry.line is not None else "a row"
    return entry.prompt or entry.key or entry.task_id or where


# ---- the data of the script


def _data(folder: Folder) -> dict[str, Any]:
    found = {entry.state for entry in folder.entries}
    states = [state for state in (*STATES, *sorted(found - STATES.keys())) if state in found]
    return {
        "states": {state: {**asdict(shown_state(state)), "todo": _todo(state, folder)} for state in states},
        "items": [_item(entry) for entry in folder.entries],
    }


def _todo(state: str, folder: Folder) -> str:
    return "" if state == "succeeded" else advice_for(state, (), folder.path).todo


def _item(entry: Entry) -> dict[str, Any]:
    """Return the fields of *entry* for the script, without empty ones: a page may have thousands of items."""
    parameters = islice(entry.parameters.items(), _PARAMETERS)
    return _filled(
        {
            **{name: getattr(entry, name) for name in _ITEM_FIELDS},
            "media": [_medium(media) for media in entry.media],
            "urls": [] if entry.media else list(entry.urls),
            "error": None if entry.error is None else _filled(asdict(entry.error)),
            "seconds": _rounded(entry.seconds),
            "lag": _rounded(entry.lag),
            "input": {name: value[:_PARAMETER] for name, value in parameters},
        }
    )


def _medium(media: Media) -> dict[str, Any]:
    return _filled(
        {**asdict(media), "kind": media.kind, "src": None if media.is_stored else address(media.path)}
    )


def _filled(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
