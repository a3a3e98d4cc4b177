"""What a journal is told, and when.

The client reports every purchase to its journal, in an order that makes a crash at any point explicable: the
intent is durable before the first byte of a create leaves, the task id before the first query, the outcome before
it is delivered. So each of these is awaited, and an error out of `intend` means that nothing is sent.
"""

from __future__ import annotations

from typing import Protocol

from ruxa_async.results import JobRecord, TaskStatus

__all__ = ("Journal", "NullJournal")


class Journal(Protocol):
    """Where purchases are written down."""

    async def intend(self, job: JobRecord) -> None:
        """Record that *job* is about to be sent; return when that is durable."""
        ...

    async def not_bought(self, job: JobRecord) -> None:
        """Record that the attempt bought nothing: refused, throttled or never sent."""
        ...

    async def accepted(self, job: JobRecord) -> None:
        """Record the task id of *job*; return when that is durable."""
        ...

    async def unknown(self, job: JobRecord) -> None:
        """Record that nobody knows whether *job* was bought; its ``error`` says why."""
        ...

    async def finished(self, job: JobRecord, status: TaskStatus | None) -> None:
        """Record how the task ended: its last status, or None and the ``error`` of *job* if polling gave up."""
        ...


class NullJournal:
    """Remember nothing."""

    async def intend(self, job: JobRecord) -> None:
        """Do nothing."""

    async def not_bought(self, job: JobRecord) -> None:
        """Do nothing."""

    async def accepted(self, job: JobRecord) -> None:
        """Do nothing."""

    async def unknown(self, job: JobRecord) -> None:
        """Do nothing."""

    async def finished(self, job: JobRecord, status: TaskStatus | None) -> None:
        """Do nothing."""
