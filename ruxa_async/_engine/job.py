"""The state of a job that decisions depend on, and the steps that the engine returns."""

from __future__ import annotations

import enum

from attrs import define, field

__all__ = ("Counts", "CreateStep", "Job", "Phase", "QueryStep")


class Phase(enum.Enum):
    """Where a job is."""

    QUEUED = enum.auto()
    CREATING = enum.auto()
    #: The outcome of its create is unknown, and a callback may prove it accepted.
    HELD = enum.auto()
    FOLLOWED = enum.auto()
    OVER = enum.auto()


class CreateStep(enum.Enum):
    """What the caller does after a create."""

    #: Record the task id, then call `Engine.follow`.
    ACCEPTED = enum.auto()
    #: Record that nothing was charged, then call `Engine.requeue`.
    REQUEUE = enum.auto()
    #: The outcome is unknown, and the user chose to resend (`Retries.resend_unknown`): record that, then call
    #: `Engine.requeue`.
    RESEND = enum.auto()
    #: It has waited too long: raise.
    GIVE_UP = enum.auto()
    REFUSED = enum.auto()
    UNKNOWN = enum.auto()


class QueryStep(enum.Enum):
    """What the caller does after a query."""

    #: The task has ended: record and deliver the result.
    ENDED = enum.auto()
    #: The task is pending; its next query is scheduled.
    PENDING = enum.auto()
    #: The reply does not tell its state; the next query is scheduled.
    AGAIN = enum.auto()
    #: Stop querying: the task cannot be queried, or `Retries.query_retry_timeout` has passed.
    STOP = enum.auto()


@define(eq=False, kw_only=True, weakref_slot=False)
class Job:
    """The state of one request that decisions depend on; times are in seconds. See `_client.job` too."""

    phase: Phase = field(default=Phase.QUEUED, init=False)
    #: Its mark in the queue where it waits (see `PriorityQueue`), 0 while it waits in none.
    ticket: int = field(default=0, init=False)
    #: Its place in the order of submission, which it keeps when its create is queued again.
    sequence: int = field(default=0, init=False)
    task_id: str | None = None
    model: str | None = None
    queued_at: float = field(default=0.0, init=False)
    sent_at: float = field(default=0.0, init=False)
    accepted_at: float = field(default=0.0, init=False)
    #: Its age, since `accepted_at`, when it was last pending.
    pending_at: float = field(default=0.0, init=False)
    #: The time of its next query follows from the durations of its model, not from the user or a failure.
    scheduled_by_model: bool = field(default=False, init=False)
    failing_since: float | None = field(default=None, init=False)
    #: When to give up, None for never.
    deadline: float | None = field(default=None, init=False)
    #: The id of the callback that its last attempt expects, None for none.
    callback_id: bytes | None = field(default=None, repr=False)
    #: When a callback announced its end; infinity before that, None if no callback is expected.
    callback_at: float | None = field(default=None, init=False)
    queries: int = field(default=0, init=False)
    failures: int = field(default=0, init=False)
    resends: int = field(default=0, init=False)
    occupies_slot: bool = field(default=False, init=False)
    #: Query once and return any reply but a rejection (429).
    single_shot: bool = False


@define
class Counts:
    """Totals since the start, and the requests and tasks in flight now."""

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
