"""The state of a job that the engine reads, and the steps that the engine returns."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from attrs import define, field

__all__ = ("Counts", "CreateStep", "Job", "Phase", "QueryStep")


class Phase(enum.Enum):
    """The stage of a job, see `engine`."""

    QUEUED = enum.auto()
    CREATING = enum.auto()
    #: The outcome of its create is unknown, and its callback may still prove it accepted.
    AWAITING_CALLBACK = enum.auto()
    FOLLOWED = enum.auto()
    OVER = enum.auto()


class CreateStep(enum.Enum):
    """What the caller does next for a job, after its create."""

    #: Record the task id, then call `Polls.follow`.
    ACCEPTED = enum.auto()
    #: Record that nothing was charged, then call `Creates.requeue`.
    REQUEUE = enum.auto()
    #: It may have been charged, but `Retries.resend_unknown` is set: record it as unknown, then call
    #: `Creates.requeue`.
    RESEND = enum.auto()
    #: Nothing was charged, and it has waited too long: fail it.
    GIVE_UP = enum.auto()
    REFUSED = enum.auto()
    UNKNOWN = enum.auto()


class QueryStep(enum.Enum):
    """What the caller does next for a job, after a query."""

    #: The task has ended: record and deliver the result.
    ENDED = enum.auto()
    #: The task is pending; its next query is scheduled.
    PENDING = enum.auto()
    #: The reply shows no state; the next query is scheduled.
    AGAIN = enum.auto()
    #: Stop querying: the task cannot be queried, or `Retries.query_retry_timeout` has passed.
    STOP = enum.auto()


@define(eq=False, kw_only=True, weakref_slot=False)
class Job:
    """The part of a request's state that the engine reads and writes; times are in seconds."""

    phase: Phase = field(default=Phase.QUEUED, init=False)
    #: Identifies its entry in the `PriorityQueue` where it waits, 0 while it waits in none.
    ticket: int = field(default=0, init=False)
    #: Its number in the order of submission; it keeps it when its create is queued again.
    sequence: int = field(default=0, init=False)
    task_id: str | None = None
    model: str | None = None
    queued_at: float = field(default=0.0, init=False)
    sent_at: float = field(default=0.0, init=False)
    accepted_at: float = field(default=0.0, init=False)
    #: Seconds from `accepted_at` to the last query whose reply was pending, 0 before the first.
    pending_at: float = field(default=0.0, init=False)
    #: Whether the polling schedule chose the time of its next query, rather than the caller or a retry.
    scheduled_by_model: bool = field(default=False, init=False)
    failing_since: float | None = field(default=None, init=False)
    #: When to give up, None for never.
    deadline: float | None = field(default=None, init=False)
    #: The id of the callback that its last create asked for, None for none.
    callback_id: bytes | None = field(default=None, repr=False)
    #: When a callback announced its end; infinity before that, None if no callback is expected.
    callback_at: float | None = field(default=None, init=False)
    queries: int = field(default=0, init=False)
    failures: int = field(default=0, init=False)
    resends: int = field(default=0, init=False)
    occupies_slot: bool = field(default=False, init=False)
    #: Whether the first reply to a query that is not a 429 ends it.
    single_shot: bool = False

    def input(self) -> Mapping[str, Any]:
        """Return the input of its request, on which its price may depend; empty if not known."""
        return {}


@define
class Counts:
    """Totals since the start, and the requests and tasks in flight now."""

    creates_sent: int = 0
    accepted: int = 0
    refused: int = 0
    unknown: int = 0
    withdrawn: int = 0
    queries_sent: int = 0
    #: Jobs that count against `Limits.max_in_flight`: their create is on the wire or their task runs.
    in_flight: int = 0
    creates_on_wire: int = 0
    queries_on_wire: int = 0
    #: Whether bytes of at least one request were sent: the service may be reachable.
    reached: bool = False
