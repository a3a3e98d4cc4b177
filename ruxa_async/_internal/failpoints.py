"""Failpoints: named points where a test may kill the process, to prove that nothing is lost or bought twice.

In production `hook` is None and a point costs one look at it. Only code that runs in the process can set it:
no environment variable, argument or file does. tests/crash does so in child processes that it made for the
purpose.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ("FAILPOINTS", "failpoint")

#: Every point there is, in the order in which one job meets them. Some are reached in threads.
FAILPOINTS = (
    "journal made",  # an empty file
    "journal migrated",  # and not write-ahead yet
    "journal opened",
    # One create.
    "create taken",  # nothing of it is recorded
    "rows queued",  # here and below: any row, of any kind
    "intent written",  # in a transaction that is not committed yet
    "group written",
    "group committed",  # and not acknowledged yet
    "intent durable",
    "create sent",  # its bytes are with the system, the reply is outstanding
    "reply read",
    "task id written",
    "task id durable",
    # Its queries.
    "query begun",
    "end seen",
    "outcome written",
    "outcome durable",
    "outcome yielded",
    # Its files.
    "download begun",
    "block written",  # of a file that has a hidden name
    "file whole",
    "file row written",
    "file row durable",
    "name taken",  # by an empty file: only on a disk that has no links
    "file named",  # and the hidden name is still there, too
    "file placed",
    # Its line.
    "line written",  # and not synced
    "line durable",
    # The end.
    "client closing",
    "lines tidied",  # in a file beside: only where a line overrides an earlier one
    "journal closing",
    "journal closed",
)

#: Called with each point that is reached, in the thread that reached it.
hook: Callable[[str], object] | None = None


def failpoint(point: str) -> None:
    """Call the hook with *point*, if a test has set one."""
    if hook is not None:
        hook(point)
