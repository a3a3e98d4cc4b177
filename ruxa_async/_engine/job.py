"""A job as far as decisions need it, and the steps that the engine answers with."""

from __future__ import annotations

import enum

from attrs import define, field

__all__ = ("Counts", "CreateStep", "Job", "Phase", "QueryStep")


class Phase(enum.Enum):
    """Where a job is."""

    QUEUED = enum.auto()
    CREATING = enum.auto()
    #: Its create is of unknown outcome, and a callback may tell.
    HELD = enum.auto()
    FOLLOWED = enum.auto()
    OVER = enum.auto()


class CreateStep(enum.Enum):
    """What the caller does after a create."""

    #: Write the task id down, then `Engine.follow` it.
    ACCEPTED = enum.auto()
    #: Write down that nothing was bought, then `Engine.requeue` it.
    REQUEUE = enum.auto()
    #: Its outcome is unknown, and the user asked to send such a create again: write that down, then `Engine.requeue` it.
    RESEND = enum.auto()
    #: It was told to wait too long: raise.
    GIVE_UP = enum.auto()
    REFUSED = enum.auto()
    UNKNOWN = enum.auto()


class QueryStep(enum.Enum):
    """What the caller does after a query."""

    #: The task has ended: write that down and deliver.
    ENDED = enum.auto()
    #: It is pending; the next query is planned.
    PENDING = enum.auto()
    #: No news; the next query is planned.
    AGAIN = enum.auto()
    #: Asking any more is of no use, or patience ran out.
    STOP = enum.auto()


@define(eq=False, kw_only=True, weakref_slot=False)
class Job:
    """One request on its way, as far as decisions need it. The driver adds what delivery needs."""

    phase: Phase = field(default=Phase.QUEUED, init=False)
    #: Where it stands in the queue, then in the schedule; 0 while it is in neither, as when it is being asked.
    ticket: int = field(default=0, init=False)
    #: Its number in the order of submission; it keeps that place when it is queued again.
    sequence: int = field(default=0, init=False)
    task_id: str | None = None
    model: str | None = None
    #: Times are on the driver's clock, in seconds.
    queued_at: float = field(default=0.0, init=False)
    sent_at: float = field(default=0.0, init=False)
    accepted_at: float = field(default=0.0, init=False)
    #: Its age, in seconds since its acceptance, when it was last known to be pending.
    pending_at: float = field(default=0.0, init=False)
    #: Its next query was planned by what is known of its model; else it was wanted then, or waits after a failure.
    scheduled_by_model: bool = field(default=False, init=False)
    failing_since: float | None = field(default=None, init=False)
    #: When it is followed no longer, None if that has no end.
    deadline: float | None = field(default=None, init=False)
    #: What the callback of its last attempt is known by, None if there is none.
    callback_id: bytes | None = field(default=None, repr=False)
    #: When a callback said that it is over: infinity while none did, None if none is expected.
    callback_at: float | None = field(default=None, init=False)
    queries: int = field(default=0, init=False)
    failures: int = field(default=0, init=False)
    resends: int = field(default=0, init=False)
    occupies_slot: bool = field(default=False, init=False)
    #: Ask once and take whatever comes, except a refusal for the rate.
    single_shot: bool = False


@define
class Counts:
    """What happened so far, and what is happening now."""

    creates_sent: int = 0
    accepted: int = 0
    refused: int = 0
    unknown: int = 0
    withdrawn: int = 0
    queries_sent: int = 0
    #: Jobs that occupy a slot of `Limits.max_in_flight`: their create is on the wire or their task runs.
    in_flight: int = 0
    #: Creates and queries on the wire.
    creating: int = 0
    asking: int = 0
    #: At least one request reached the wire, so the service may be reachable.
    reached: bool = False
