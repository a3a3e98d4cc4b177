"""Failpoints: named points where a test may kill the process, to prove that nothing is lost or bought twice.

In production `hook` is None, and a failpoint costs one comparison. Only code inside the process can set it,
no environment variable, argument or file. tests/crash sets it in child processes of its own.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ("FAILPOINTS", "failpoint")

#: Every failpoint, in the order in which one job reaches them. Some are reached in threads.
FAILPOINTS = (
    "journal made",  # an empty file
    "journal migrated",  # not in write-ahead mode yet
    "journal opened",
    # One create.
    "create taken",  # nothing of it is recorded
    "rows queued",  # here and below: any row
    "intent written",  # the transaction is not committed yet
    "group written",
    "group committed",  # not acknowledged yet
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
    "block written",  # of a part file
    "file whole",
    "file row written",
    "file row durable",
    "name taken",  # by an empty file; only on a disk without hard links
    "file named",  # the part file still exists
    "file placed",
    # Its line.
    "line written",  # not synced
    "line durable",
    # The end.
    "client closing",
    "lines tidied",  # in a temporary file; only if a line replaced an earlier one
    "journal closing",
    "journal closed",
)

#: Called with each point that is reached, in the thread that reached it.
hook: Callable[[str], object] | None = None


def failpoint(point: str) -> None:
    """Call the hook with *point*, if a test has set one."""
    if hook is not None:
        hook(point)
