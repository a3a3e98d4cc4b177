"""The journal records what was intended, bought and finished, so that a later run can resume.

`SqliteJournal` keeps it in a file, `PostgresJournal` on a server. `Journal` and `LastingJournal` are their
protocols.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ruxa_async._internal.lazy import lazy_names

if TYPE_CHECKING:
    from ._base import Journal, JournalPurchase, JournalRun, LastingJournal, NullJournal
    from ._postgres import PostgresJournal
    from ._records import Bought, JobState, JournalCounts, JournalEntry, Match, SavedFile, Takeover
    from ._sqlite import SqliteJournal
    from ._view import JournalView, view_journal

__all__ = (
    "Bought",
    "JobState",
    "Journal",
    "JournalCounts",
    "JournalEntry",
    "JournalPurchase",
    "JournalRun",
    "JournalView",
    "LastingJournal",
    "Match",
    "NullJournal",
    "PostgresJournal",
    "SavedFile",
    "SqliteJournal",
    "Takeover",
    "view_journal",
)

__getattr__: Callable[[str], object] = lazy_names(
    __name__,
    {
        "_base": "Journal JournalPurchase JournalRun LastingJournal NullJournal",
        "_postgres": "PostgresJournal",
        "_records": "Bought JobState JournalCounts JournalEntry Match SavedFile Takeover",
        "_sqlite": "SqliteJournal",
        "_view": "JournalView view_journal",
    },
)
