"""HTML of results for notebooks. Text is escaped; media are loaded by https or from a local emulator only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from .results import Failed, Generation, Outcome, Succeeded, TaskStatus

__all__ = ("failed_html", "generation_html", "progress_html", "status_html", "succeeded_html")

_VIDEOS = (".mp4", ".m4v", ".webm", ".mov")
#: Outputs that are shown.
_MAX_OUTPUTS = 4
#: Characters of a prompt or a field that are shown.
_MAX_TEXT = 600


def generation_html(generation: Generation) -> str:
    """Return the outputs and fields of *generation*. The URLs of the outputs expire."""
    return _card(_outputs(generation), _prompt(generation.request), _generation_facts(generation))


def succeeded_html(outcome: Succeeded) -> str:
    """Return the outputs and fields of *outcome*."""
    facts = [*_generation_facts(outcome.generation), *_outcome_facts(outcome)]
    return _card(_outputs(outcome.generation), _prompt(outcome.request), facts)


def failed_html(outcome: Failed) -> str:
    """Return the error and fields of *outcome*."""
    facts = [
        ("error", f"{type(outcome.error).__name__}: {outcome.error}"),
        ("model", outcome.request.model),
        ("task", outcome.task_id),
        *_outcome_facts(outcome),
    ]
    return _card("", _prompt(outcome.request), facts)


def status_html(status: TaskStatus) -> str:
    """Return the outputs and fields of *status*."""
    facts = [
        ("state", status.state.value if status.state.value != "unknown" else f"unknown: {status.raw_state}"),
        ("task", status.task_id),
        ("progress", _number(status.progress, " %")),
        ("failure", " ".join(filter(None, (status.fail_code, status.fail_message)))),
        ("took", _number(status.duration, " s")),
        ("credits", _number(status.credits)),
    ]
    return _card(_media(status.urls), "", facts)


def progress_html(line: str, outcomes: Iterable[Outcome]) -> str:
    """Return *line* and a table of *outcomes*, the last one first."""
    rows = [
        (
            outcome.key if outcome.key is not None else str(outcome.index),
            "succeeded" if outcome.ok else f"{type(outcome.error).__name__}: {outcome.error}",
        )
        for outcome in outcomes
    ]
    return _card("", f"<p>{escape(line)}</p>", reversed(rows))


def _generation_facts(generation: Generation) -> list[tuple[str, str | None]]:
    return [
        ("model", generation.model),
        ("task", generation.task_id),
        ("took", _number(generation.duration, " s")),
        ("credits", _number(generation.credits)),
    ]


def _outcome_facts(outcome: Succeeded | Failed) -> list[tuple[str, str | None]]:
    return [("key", outcome.key), ("queries", str(outcome.queries))]


def _number(value: float | None, unit: str = "") -> str | None:
    return None if value is None else f"{value:,.6g}{unit}"


def _prompt(request: object) -> str:
    prompt = getattr(request, "prompt", None)
    if not isinstance(prompt, str):
        return ""
    shown = prompt if len(prompt) <= _MAX_TEXT else f"{prompt[:_MAX_TEXT]}…"
    return (
        f'<p style="margin:.4em 0;white-space:pre-wrap;overflow-wrap:anywhere"><bdi>{escape(shown)}</bdi></p>'
    )


def _card(media: str, prompt: str, facts: Iterable[tuple[str, str | None]]) -> str:
    rows = "".join(
        '<tr><th style="text-align:left;font-weight:normal;opacity:.7;vertical-align:top">'
        f"{escape(name)}</th>"
        f'<td style="text-align:left;overflow-wrap:anywhere"><bdi>{escape(value[:_MAX_TEXT])}</bdi></td></tr>'
        for name, value in facts
        if value
    )
    return f'<div style="max-width:40em">{media}{prompt}<table>{rows}</table></div>'


def _outputs(generation: Generation) -> str:
    here = "" if generation._media is None else generation._media.here  # noqa: SLF001 - only the client sets it
    return _media(generation.urls, here)


def _media(urls: Sequence[str], here: str = "") -> str:
    """Return the first outputs as HTML. A URL that is neither https nor below *here* is shown as text."""
    shown = "".join(_medium(url, here) for url in urls[:_MAX_OUTPUTS])
    more = f"<p>and {len(urls) - _MAX_OUTPUTS:,} more</p>" if len(urls) > _MAX_OUTPUTS else ""
    return shown + more


def _medium(url: str, here: str) -> str:
    try:
        parts = urlsplit(url)
        is_allowed = parts.scheme == "https" or _is_at(url, here)
        safe = is_allowed and bool(parts.hostname) and url.isprintable() and " " not in url
    except ValueError:
        safe = False
    if not safe:
        return f'<p style="overflow-wrap:anywhere"><bdi>{escape(url[:_MAX_TEXT])}</bdi></p>'
    source = f'src="{escape(url)}" style="max-width:100%;max-height:24em"'
    if PurePosixPath(parts.path).suffix.lower() in _VIDEOS:
        return f'<video {source} controls preload="none"></video>'
    return f'<img {source} alt="" loading="lazy" referrerpolicy="no-referrer">'


def _is_at(url: str, here: str) -> bool:
    ours, theirs = urlsplit(here), urlsplit(url)
    return bool(ours.netloc) and (ours.scheme, ours.netloc) == (theirs.scheme, theirs.netloc)
