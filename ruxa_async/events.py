"""What the client tells whoever watches: progress, reports and telemetry are made from these alone.

Pass ``on_event=`` to `RuxaClient`: a plain function, called in the event loop, that must return at once. What it
raises is logged once and otherwise ignored; it cannot disturb the work. ``at`` is the event loop's clock in
seconds.
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
    """Something happened to *job*."""

    at: float
    job: JobRecord


@frozen
class JobQueued(Event):
    """A request waits to be sent."""


@frozen
class CreateSent(Event):
    """A create is leaving."""


@frozen
class CreateUnsent(Event):
    """No byte of a create left (*error* says why); it will be sent again."""

    error: BaseException


@frozen
class CreateThrottled(Event):
    """A create was refused for its rate; it will be sent again. *retry_after* is what the service asked for."""

    retry_after: float | None


@frozen
class CreateRefused(Event):
    """The service refused a create for good; nothing was charged."""

    error: BaseException


@frozen
class CreateUnknown(Event):
    """A create may have been charged, and nobody can tell."""

    error: BaseException


@frozen
class JobWithdrawn(Event):
    """A request left the queue unsent, because its caller did."""


@frozen
class TaskAccepted(Event):
    """The service accepted a create: it is paid, and ``job.task_id`` is its id."""


@frozen
class QuerySent(Event):
    """A task's state is being asked."""


@frozen
class QueryFailed(Event):
    """A query brought no news: refused for its rate, lost, or unreadable. The task is asked again."""

    error: BaseException


@frozen
class TaskStateChanged(Event):
    """A query saw a state that differs from the last one."""

    status: TaskStatus


@frozen
class TaskEnded(Event):
    """A task ended, or is not followed any more (then *status* is None and *error* says why).

    *queries* is how often it was asked, *seconds* the time from its acceptance to now.
    """

    status: TaskStatus | None
    error: BaseException | None
    queries: int
    seconds: float


@frozen
class TaskOrphaned(Event):
    """A create was accepted, or may have been, whose caller is gone."""


@frozen
class ClientEvent:
    """Something happened to the client as a whole."""

    at: float


@final
@frozen
class ScopePaused(ClientEvent):
    """The service refused for the rate: nothing of *scope* is sent for *seconds*."""

    scope: Scope
    seconds: float


@final
@frozen
class CircuitOpened(ClientEvent):
    """The service is failing: several creates in a row are of unknown outcome, the last one because of *error*.

    Nothing is bought until a single create that probes gets an answer. Queries go on.
    """

    error: BaseException


@final
@frozen
class CircuitClosed(ClientEvent):
    """The service answers again after *seconds*; the requests that waited are sent."""

    seconds: float


EventHook: TypeAlias = Callable[[Event | ClientEvent], object]
