"""Build the page from a template, one style sheet, one script, and the data of the folder.

Its Content-Security-Policy permits only that script, that style sheet, and media from the same folder; in a
single file only pictures inside the page.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from attrs import asdict

from ._advice import ATTENTION, STATES, Advice, advice_for, shown_state
from ._folder import Entry, Folder, Media, read_folder
from ._heading import title_of, totals
from ._markup import address, csp_hash, isolated, json_in_script, text
from ._plots import figures_section
from ._repeats import repeats_of
from ._sources import comparisons, sources
from ._spending import spending_of, spending_section
from ._thumbnails import thumbnails

__all__ = ("REPORT", "SINGLE_FILE", "page", "write_report")

REPORT = "report.html"
SINGLE_FILE = "report-single-file.html"

_SLOT = re.compile(r"\{\{(\w+)\}\}")
#: The most entries, and the most reasons, that are listed for each state.
_SAMPLES = 4
_REASONS = 6
#: The most parameters of a request on the page, and the most characters of each.
_PARAMETERS, _PARAMETER = 40, 2_000
#: Fields of an entry that the script takes unchanged.
_ITEM_FIELDS = (
    *("state", "id", "prompt", "key", "model", "task_id", "line"),
    *("credits", "queries", "submitted_at", "finished_at"),
)
_BESIDE = "This page loads files of this folder only."
_INSIDE = (
    "This page loads nothing. It shows small copies of the pictures; videos and the files are not in it."
)


def write_report(
    folder: str | os.PathLike[str],
    *,
    title: str | None = None,
    single_file: bool = False,
    out: str | os.PathLike[str] | None = None,
) -> Path:
    """Write the report of the batch in *folder* from its results, and return its path.

    *title* defaults to the name of the input. With *single_file*, the page holds small copies of the
    pictures, 24 of them in about 1 MB, and needs no other file. *out* is where the page is written; the
    default is ``report.html`` in *folder*, or ``report-single-file.html``. A page there is replaced
    atomically.

    Raises OSError if the results cannot be read or the page cannot be written, `MissingExtraError` if
    *single_file* lacks Pillow (extra ``emulator``), ValueError if *out* is given without *single_file*: that
    page would not find its pictures.
    """
    if out is not None and not single_file:
        raise ValueError("out: only a page in a single file can be moved out of its folder: single_file=True")
    home = Path(folder)
    read = read_folder(home)
    inside = thumbnails(read) if single_file else None
    content = page(read, title=title, inside=inside).encode(errors="replace")
    target = Path(out) if out is not None else home / (SINGLE_FILE if single_file else REPORT)
    part = target.with_name(f".{target.name}-{uuid4().hex}.part")
    try:
        part.write_bytes(content)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def page(folder: Folder, *, title: str | None = None, inside: Mapping[str, str] | None = None) -> str:
    """Return the page about *folder*; *inside* are the URLs of the pictures of a single-file page by path."""
    style, script = _asset("page.css"), _asset("page.js")
    spending = spending_of(folder)
    name = (title or "").strip() or title_of(folder)
    charts, figures = figures_section(folder)
    values = {
        "style": style,
        "script": script,
        "media_policy": "img-src 'self' file:; media-src 'self' file:" if inside is None else "img-src data:",
        "style_hash": csp_hash(style),
        "script_hash": csp_hash(script),
        "title": text(name),
        "heading": isolated(name),
        "totals": text(totals(folder, spending)),
        "attention": _attention(folder),
        "charts": charts,
        "figures": figures,
        "spending": spending_section(spending),
        "footing": _footing(folder),
        "loads": _BESIDE if inside is None else _INSIDE,
        "data": json_in_script(_data(folder, inside)),
    }
    # One pass: a value that contains a slot is not filled.
    return _SLOT.sub(lambda slot: values[slot[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


# ---- the foot of the page


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


def _data(folder: Folder, inside: Mapping[str, str] | None) -> dict[str, Any]:
    found = {entry.state for entry in folder.entries}
    states = [state for state in (*STATES, *sorted(found - STATES.keys())) if state in found]
    before = sources(folder.entries)
    return {
        "batch": _batch(folder),
        "single": inside is not None,
        "states": {state: {**asdict(shown_state(state)), "todo": _todo(state, folder)} for state in states},
        "items": [_item(entry, given, inside) for entry, given in zip(folder.entries, before, strict=True)],
        "comparisons": comparisons(folder.entries, before),
    }


def _batch(folder: Folder) -> str:
    """Return a name under which a browser keeps the picks of this batch, equal for all of its pages."""
    first = folder.runs[0].started_at if folder.runs else [entry.task_id for entry in folder.entries[:1]]
    return sha256(repr(first).encode(errors="replace")).hexdigest()[:16]


def _todo(state: str, folder: Folder) -> str:
    return "" if state == "succeeded" else advice_for(state, (), folder.path).todo


def _item(
    entry: Entry, before: Sequence[Mapping[str, Any]], inside: Mapping[str, str] | None
) -> dict[str, Any]:
    """Return the fields of *entry* for the script, without empty ones: a page may have thousands of items."""
    parameters = islice(entry.parameters.items(), _PARAMETERS)
    return _filled(
        {
            **{name: getattr(entry, name) for name in _ITEM_FIELDS},
            **repeats_of(entry),
            "media": [_medium(media, inside) for media in entry.media],
            "urls": [] if entry.media else list(entry.urls),
            "error": None if entry.error is None else _filled(asdict(entry.error)),
            "seconds": _rounded(entry.seconds),
            "lag": _rounded(entry.lag),
            "input": {name: value[:_PARAMETER] for name, value in parameters},
            "before": before,
        }
    )


def _medium(media: Media, inside: Mapping[str, str] | None) -> dict[str, Any]:
    """Return *media* for the script. It has no src if it is only named, such as an object of a store."""
    if inside is None and not media.is_stored:
        src: str | None = address(media.path)
    else:
        src = None if inside is None else inside.get(media.path)
    return _filled({**asdict(media), "kind": media.kind, "src": src})


def _filled(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
