"""The journal records what was intended, bought and finished, so that a later run can resume.

`SqliteJournal` keeps it in a file, `PostgresJournal` on a server. `Journal` and `LastingJournal` are their
protocols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ruxa_async._internal.lazy import lazy_names

if TYPE_CHECKING:
    from ._base import Journal as Journal
    from ._base import JournalRun as JournalRun
    from ._base import LastingJournal as LastingJournal
    from ._base import NullJournal as NullJournal
    from ._postgres import PostgresJournal as PostgresJournal
    from ._records import Bought as Bought
    from ._records import JobState as JobState
    from ._records import JournalCounts as JournalCounts
    from ._records import JournalEntry as JournalEntry
    from ._records import Match as Match
    from ._records import SavedFile as SavedFile
    from ._sqlite import SqliteJournal as SqliteJournal
    from ._view import JournalView as JournalView
    from ._view import view_journal as view_journal

__all__ = (
    "Bought",
    "JobState",
    "Journal",
    "JournalCounts",
    "JournalEntry",
    "JournalRun",
    "JournalView",
    "LastingJournal",
    "Match",
    "NullJournal",
    "PostgresJournal",
    "SavedFile",
    "SqliteJournal",
    "view_journal",
)

__getattr__ = lazy_names(
    __name__,
    {
        "_base": "Journal JournalRun LastingJournal NullJournal",
        "_postgres": "PostgresJournal",
        "_records": "Bought JobState JournalCounts JournalEntry Match SavedFile",
        "_sqlite": "SqliteJournal",
        "_view": "JournalView view_journal",
    },
)
