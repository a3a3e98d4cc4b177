"""Build the page from a template, one style sheet, one script, and the data of the folder.

The policy in its head lets nothing run or load but that one script, that one sheet, and media from beside it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from ._advice import ATTENTION, STATES, Advice, advice_for, shown_state
from ._bar_chart import plain_number
from ._folder import Entry, Error, Folder, Media, read_folder
from ._markup import address, csp_hash, isolated, json_in_script, text
from ._plots import plots
from ._spending import Spending, spending_of, spending_section

__all__ = ("REPORT", "page", "write_report")

REPORT = "report.html"

_SLOT = re.compile(r"\{\{(\w+)\}\}")
_SAMPLES = 4
_REASONS = 6
#: Parameters of a request that the page shows, and characters of each.
_PARAMETERS, _PARAMETER = 40, 2_000


def write_report(folder: str | os.PathLike[str]) -> Path:
    """Write the report of *folder* from its results, and return its path.

    An existing report is replaced. It appears whole or not at all. Raises OSError if the results cannot be
    read or the report not be written.
    """
    home = Path(folder)
    made = page(read_folder(home)).encode(errors="replace")
    target = home / REPORT
    part = home / f".{REPORT}-{uuid4().hex}.part"
    try:
        part.write_bytes(made)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def page(folder: Folder) -> str:
    """Return the whole page about *folder*."""
    style, script = _asset("page.css"), _asset("page.js")
    spending = spending_of(folder)
    name = _name(folder)
    return _filled(
        _asset("page.html"),
        {
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
        },
    )


def _asset(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _filled(template: str, values: Mapping[str, str]) -> str:
    """Fill the slots of *template* in one pass, so that no value is searched for slots."""
    return _SLOT.sub(lambda slot: values[slot[1]], template)


def _name(folder: Folder) -> str:
    sources = [run.source for run in folder.runs if run.source not in ("", "-")]
    return Path(sources[-1]).name if sources else folder.path.resolve().name or "Results"


# ---- the head of the page


def _facts(folder: Folder, spending: Spending) -> str:
    """Return what a reader wants to know first, as terms and values."""
    states = Counter(entry.state for entry in folder.entries)
    outputs = sum(len(entry.media) for entry in folder.entries)
    missing = len(folder.entries) - states["succeeded"]
    facts = [("rows", f"{len(folder.entries):,}"), ("files", f"{outputs:,}")]
    if missing:
        facts.append(("without a picture", f"{missing:,}"))
    if spending.credits:
        facts.append(("credits", plain_number(spending.credits)))
    if (seconds := _lasted(folder)) is not None:
        facts.append(("from start to end", spelled(seconds)))
    return "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in facts)


def _lasted(folder: Folder) -> float | None:
    if folder.runs:
        spans = [run.ended_at - run.started_at for run in folder.runs if run.ended_at is not None]
        return sum(spans) if spans else None
    begins = [entry.submitted_at for entry in folder.entries if entry.submitted_at is not None]
    ends = [entry.finished_at for entry in folder.entries if entry.finished_at is not None]
    return max(ends) - min(begins) if begins and ends else None


def spelled(seconds: float) -> str:
    """Return a length of time as a person says it."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _footing(folder: Folder) -> str:
    sentences = []
    begun = min((run.started_at for run in folder.runs), default=None)
    if begun is not None:
        day = datetime.fromtimestamp(begun, UTC)
        sentences.append(f"Begun on {day.day} {day:%B %Y at %H:%M} UTC.")
    if folder.runs and folder.runs[-1].ending not in ("", "finished"):
        sentences.append(f"The last run was {folder.runs[-1].ending}.")
    if left := sum(run.unsubmitted for run in folder.runs[-1:]):
        sentences.append(f"{left:,} rows were read and not submitted, and not charged.")
    if folder.broken:
        lines = "line" if folder.broken == 1 else "lines"
        sentences.append(f"{folder.broken:,} {lines} of results.jsonl could not be read.")
    return text(" ".join(sentences))


# ---- what wants attention


def _attention(folder: Folder) -> str:
    """Return a part for each state that is not a success; nothing if all went well."""
    placed = list(enumerate(folder.entries))
    others = {entry.state for entry in folder.entries} - STATES.keys()
    parts = []
    for state in (*ATTENTION, *sorted(others)):
        group = [(place, entry) for place, entry in placed if entry.state == state]
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
        f"<div><dt>{text(what)}</dt><dd><code>{text(command)}</code></dd></div>"
        for what, command in advice.commands
    )
    return f'<dl class="commands">{lines}</dl>' if lines else ""


def _reasons(entries: Iterable[Entry]) -> str:
    """Return why, counted; one reason that all share is said once."""
    counts = Counter(map(_reason, entries))
    counts.pop("", None)
    lines = "".join(
        f'<li><span class="count">{count:,} &times;</span> {isolated(reason)}</li>'
        for reason, count in counts.most_common(_REASONS)
    )
    return f'<ul class="reasons">{lines}</ul>' if lines else ""


def _reason(entry: Entry) -> str:
    """Return why there is no picture, without the task's id, so that equal reasons are equal."""
    if entry.error is None:
        return ""
    said = entry.error.message or entry.error.type
    return (said.removeprefix(f"task {entry.task_id}: ") if entry.task_id else said)[:300]


def _samples(group: Sequence[tuple[int, Entry]]) -> str:
    lines = "".join(
        f'<li><button type="button" class="sample" data-open="{place}">'
        f"{isolated(_called(entry)[:200])}</button></li>"
        for place, entry in group[:_SAMPLES]
    )
    more = f'<li class="more">and {len(group) - _SAMPLES:,} more</li>' if len(group) > _SAMPLES else ""
    return f'<ul class="samples">{lines}{more}</ul>'


def _called(entry: Entry) -> str:
    where = f"line {entry.line}" if entry.line is not None else "a row"
    return entry.prompt or entry.key or entry.task_id or where


# ---- the data


def _data(folder: Folder) -> dict[str, Any]:
    states = Counter(entry.state for entry in folder.entries)
    order = [*STATES, *sorted(states.keys() - STATES.keys())]
    shown = {state: shown_state(state) for state in order if states[state]}
    return {
        "states": {
            name: {"name": state.name, "tone": state.tone, "todo": _todo(name, folder)}
            for name, state in shown.items()
        },
        "items": [_item(entry) for entry in folder.entries],
    }


def _todo(state: str, folder: Folder) -> str:
    return "" if state == "succeeded" else advice_for(state, (), folder.path).todo


def _item(entry: Entry) -> dict[str, Any]:
    """Return what the script needs of *entry*, without what is empty: five thousand of them are sent."""
    values = {
        "state": entry.state,
        "prompt": entry.prompt,
        "key": entry.key,
        "model": entry.model,
        "task": entry.task_id,
        "index": entry.index,
        "line": entry.line,
        "media": [_medium(media) for media in entry.media],
        "urls": [] if entry.media else list(entry.urls),
        "error": None if entry.error is None else dict(_error_facts(entry.error)),
        "credits": entry.credits,
        "seconds": _short(entry.seconds),
        "lag": _short(entry.lag),
        "queries": entry.queries,
        "submitted": entry.submitted_at,
        "finished": entry.finished_at,
        "input": {name: said[:_PARAMETER] for name, said in islice(entry.parameters.items(), _PARAMETERS)},
    }
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}


def _medium(media: Media) -> dict[str, Any]:
    measures = {"size": media.size, "width": media.width, "height": media.height}
    known = {name: value for name, value in measures.items() if value is not None}
    return {"kind": media.kind, "path": media.path, "src": address(media.path), **known}


def _error_facts(error: Error) -> Iterator[tuple[str, str]]:
    for name in ("type", "message", "code", "cause"):
        if value := getattr(error, name):
            yield name, value


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
