"""The events of a client, for progress displays, reports and telemetry.

Pass a function as ``on_event=`` to `RuxaClient`, or to `RuxaClient.add_event_hook`. It is called in the event
loop and must return at once. Its errors do not affect the client, and the first one is logged. ``at`` is the
event loop's time in seconds.

Every job ends with one of `TaskEnded`, `CreateRefused`, `CreateUnknown`, `CreateAbandoned`, `JobWithdrawn`,
`TaskReleased` and `TaskOrphaned`, or with the client, `ClientClosed`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, final

from attrs import field, frozen

from .results import Generation, JobRecord, TaskStatus
from .settings import Scope

__all__ = (
    "CircuitClosed",
    "CircuitOpened",
    "ClientClosed",
    "ClientEvent",
    "CreateAbandoned",
    "CreateRefused",
    "CreateSent",
    "CreateThrottled",
    "CreateUnknown",
    "CreateUnsent",
    "DownloadEnded",
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
    "TaskFollowed",
    "TaskOrphaned",
    "TaskReleased",
    "TaskStateChanged",
)


@frozen
class Event:
    """An event of one *job*.

    *job_id* is the same in all events of one job. After a job has ended, another one may get its number.
    """

    at: float
    job: JobRecord
    job_id: int = field(default=0, kw_only=True)


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
class CreateAbandoned(Event):
    """A request is not bought because of *error*, and not tried again; nothing was charged.

    For example, it waited too long, it would exceed the budget, or the journal failed.
    """

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
class TaskFollowed(Event):
    """The client begins to query a task that was bought earlier: it was attached to, or a run is resumed."""


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
class TaskReleased(Event):
    """The client stops querying a task because its caller or batch left; the task is paid and goes on."""


@frozen
class ClientEvent:
    """An event of the client as a whole."""

    at: float


@final
@frozen
class DownloadEnded(ClientEvent):
    """A download of all outputs of *generation* ended after *seconds*; *error* is None if it succeeded."""

    generation: Generation
    seconds: float
    error: BaseException | None


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


@final
@frozen
class ClientClosed(ClientEvent):
    """The client has closed: no event of a job follows."""


EventHook: TypeAlias = Callable[[Event | ClientEvent], object]
