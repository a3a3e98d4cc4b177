"""The events of a client, for progress displays, reports and telemetry.

Pass a function as ``on_event=`` to `RuxaClient`. It is called in the event loop and must return at once. Its
errors do not affect the client, and the first one is logged. ``at`` is the event loop's time in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, final

from attrs import frozen

from .results import JobRecord, TaskStatus
from .settings import Scope

__all__ = (
    "CircuitClosed",
    "CircuitOpened",
    "ClientEvent",
    "CreateRefused",
    "CreateSent",
    "CreateThrottled",
    "CreateUnknown",
    "CreateUnsent",
    "Event",
    "EventHook",
    "JobQueued",
    "JobWithdrawn",
    "QueryFailed",
    "QuerySent",
    "Scope",
    "ScopePaused",
    "TaskAccepted",
    "TaskEnded",
    "TaskOrphaned",
    "TaskStateChanged",
)


@frozen
class Event:
    """An event of one *job*."""

    at: float
    job: JobRecord


@frozen
class JobQueued(Event):
    """A request is queued."""


@frozen
class CreateSent(Event):
    """The client begins to send a create."""


@frozen
class CreateUnsent(Event):
    """No byte of a create was sent because of *error*; it will be sent again."""

    error: BaseException


@frozen
class CreateThrottled(Event):
    """A create was rejected (429) and will be sent again.

    *retry_after* is the wait in seconds that the service named, None if it named none.
    """

    retry_after: float | None


@frozen
class CreateRefused(Event):
    """The service refused a create; it is not sent again, and nothing was charged."""

    error: BaseException


@frozen
class CreateUnknown(Event):
    """A create may have been charged; *error* is the reason why its outcome is not known."""

    error: BaseException


@frozen
class JobWithdrawn(Event):
    """A queued request was withdrawn unsent, because its caller was cancelled."""


@frozen
class TaskAccepted(Event):
    """The service accepted a create: the task is paid, and ``job.task_id`` is its id."""


@frozen
class QuerySent(Event):
    """The client begins to send a query for the state of a task."""


@frozen
class QueryFailed(Event):
    """A query failed: rejected (429), without a response, or unreadable. It will be repeated."""

    error: BaseException


@frozen
class TaskStateChanged(Event):
    """The state of a task differs from the last query."""

    status: TaskStatus


@frozen
class TaskEnded(Event):
    """A task ended, or is no longer polled; then *status* is None and *error* is the reason.

    *queries* is the number of its queries, *seconds* the time since it was accepted.
    """

    status: TaskStatus | None
    error: BaseException | None
    queries: int
    seconds: float


@frozen
class TaskOrphaned(Event):
    """After its caller was cancelled, a create was accepted or may have been."""


@frozen
class ClientEvent:
    """An event of the client as a whole."""

    at: float


@final
@frozen
class ScopePaused(ClientEvent):
    """After a rejection (429), no request of *scope* is sent for *seconds*."""

    scope: Scope
    seconds: float


@final
@frozen
class CircuitOpened(ClientEvent):
    """The circuit breaker stops creates: several in a row have an unknown outcome, the last due to *error*.

    Single creates are sent as probes until one gets a response. Queries go on.
    """

    error: BaseException


@final
@frozen
class CircuitClosed(ClientEvent):
    """The service responds again, *seconds* after the circuit opened, and waiting creates are sent."""

    seconds: float


EventHook: TypeAlias = Callable[[Event | ClientEvent], object]
