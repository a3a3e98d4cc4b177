"""The title of a report, and its totals in words."""

from __future__ import annotations

from pathlib import Path

from ._bar_chart import plain_number
from ._folder import Folder
from ._spending import Spending

__all__ = ("spelled", "title_of", "totals")

_NOUNS = {"image": "pictures", "video": "videos", "audio": "sounds"}


def title_of(folder: Folder) -> str:
    """Return the name of the last input, else that of the folder."""
    sources = [run.source for run in folder.runs if run.source not in ("", "-")]
    return Path(sources[-1]).name if sources else folder.path.resolve().name or "Results"


def totals(folder: Folder, spending: Spending) -> str:
    """Return the totals in words, as in "24 of 24 pictures in 12 s, 72 credits"."""
    succeeded = [entry for entry in folder.entries if entry.state == "succeeded"]
    kinds = {media.kind for media in folder.media}
    noun = _NOUNS.get(next(iter(kinds)), "results") if len(kinds) == 1 else "results"
    words = f"{len(succeeded):,} of {len(folder.entries):,} {noun}"
    files = sum(1 for _ in folder.media)
    if files > len(succeeded):
        noun = "files" if noun == "results" else noun
        words = f"{len(succeeded):,} of {len(folder.entries):,} requests gave {files:,} {noun}"
    if (seconds := folder.seconds) is not None:
        words += f" in {spelled(seconds)}"
    if spending.credits:
        words += f", {plain_number(spending.credits)} {'credit' if spending.credits == 1 else 'credits'}"
    return words


def spelled(seconds: float) -> str:
    """Return *seconds* in seconds below 100, else in minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
