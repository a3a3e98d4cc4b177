"""What a reply means, for a create and for a query.

For a create it matters whether it may have been charged:

=============================================================  ==========  ==============================
a task id in a readable reply, regardless of the codes         ACCEPTED    charged
429, 503 with Retry-After, a known phrase about the rate       REJECTED    not charged, sent again
400 401 402 403 404 422 455 505, known credit, model phrases   REFUSED     not charged
no byte was sent (`NotSentError` instead of a reply)           -           not charged, sent again
all else: bytes were sent, 408, 5xx, 200 without a task id     UNKNOWN     sent again only on request
=============================================================  ==========  ==============================

A code counts wherever it stands: in the HTTP status or in the JSON envelope. A query is never charged, so it
is sent again unless its reply is clear.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from attrs import define, field

from ruxa_async._api.rate_limit_headers import Quota
from ruxa_async.results import TaskState

__all__ = (
    "CreateVerdict",
    "Phrase",
    "QueryVerdict",
    "Refusal",
    "Reply",
    "classify_create",
    "classify_query",
    "is_denied",
    "refusal_of",
)


_NO_HEADERS: Mapping[str, str] = {}


class Phrase(enum.Enum):
    """What a known message of the service means, regardless of the code beside it."""

    CREDITS = enum.auto()
    MODEL = enum.auto()
    RATE = enum.auto()


@define(eq=False)
class Reply:
    """A reply to a request: HTTP status and JSON envelope in one value.

    *code* is the number in the envelope. *retry_after* is in seconds; *by_rate_limit_headers* tells whether
    only RateLimit headers name it. *quota* is the rate limit that the headers describe. *state* is None if
    the reply names none.
    """

    status: int
    code: int | None = None
    message: str = ""
    phrase: Phrase | None = None
    task_id: str | None = None
    state: TaskState | None = None
    raw_state: str = ""
    retry_after: float | None = None
    by_rate_limit_headers: bool = False
    quota: Quota | None = None
    data: dict[str, Any] = field(factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default=_NO_HEADERS, repr=False)

    def says(self, codes: frozenset[int]) -> bool:
        """Tell whether the status or the envelope's code is one of *codes*."""
        return self.status in codes or self.code in codes


class CreateVerdict(enum.Enum):
    """The outcome of a create."""

    ACCEPTED = enum.auto()
    #: 429, or a reply that means the same: not charged.
    REJECTED = enum.auto()
    REFUSED = enum.auto()
    UNKNOWN = enum.auto()


class QueryVerdict(enum.Enum):
    """The outcome of a query."""

    #: The task has ended; `Reply.state` says how.
    ENDED = enum.auto()
    #: The task has not ended.
    PENDING = enum.auto()
    #: 429, or a reply that means the same.
    REJECTED = enum.auto()
    #: The service does not know the task, or not yet.
    MISSING = enum.auto()
    #: 401 or 403: the key is invalid, or a firewall blocks the address. `Denial` decides which.
    DENIED = enum.auto()
    #: Unreadable, an error, or a state that this version does not know: sent again.
    UNCLEAR = enum.auto()


class Refusal(enum.Enum):
    """Why a create was refused, and whether other creates would be refused too."""

    #: 401: every other create would be refused.
    KEY = enum.auto()
    #: 402 or a credit phrase: every other create would be refused.
    CREDITS = enum.auto()
    #: 403, 404 or a model phrase: others would be refused if none is accepted meanwhile.
    ACCESS = enum.auto()
    #: The service was never reached.
    UNREACHABLE = enum.auto()
    #: Anything else: it concerns this request alone.
    REQUEST = enum.auto()


_RATE = frozenset({429})
_BUSY = frozenset({503})
_REFUSED = frozenset({400, 401, 402, 403, 404, 422, 455, 505})
_DENIED = frozenset({401, 403})
_MISSING = frozenset({404, 422})
_KEY = frozenset({401})
_CREDITS = frozenset({402})
_ACCESS = frozenset({403, 404})


def _is_rejection(reply: Reply) -> bool:
    return (
        reply.phrase is Phrase.RATE
        or reply.says(_RATE)
        or (reply.says(_BUSY) and reply.retry_after is not None)
    )


def classify_create(reply: Reply) -> CreateVerdict:
    """Return the outcome of a create: the first row of the table above that matches *reply*."""
    if reply.task_id is not None:
        return CreateVerdict.ACCEPTED
    if reply.phrase in (Phrase.CREDITS, Phrase.MODEL):
        return CreateVerdict.REFUSED
    if _is_rejection(reply):
        return CreateVerdict.REJECTED
    if reply.says(_REFUSED):
        return CreateVerdict.REFUSED
    return CreateVerdict.UNKNOWN


def is_denied(reply: Reply) -> bool:
    """Tell whether *reply* is a 401 or 403, by status or envelope."""
    return reply.says(_DENIED)


def refusal_of(reply: Reply) -> Refusal:
    """Return why *reply* refuses a create."""
    if reply.phrase is Phrase.CREDITS or reply.says(_CREDITS):
        return Refusal.CREDITS
    if reply.phrase is Phrase.MODEL:
        return Refusal.ACCESS
    if reply.says(_KEY):
        return Refusal.KEY
    return Refusal.ACCESS if reply.says(_ACCESS) else Refusal.REQUEST


def classify_query(reply: Reply) -> QueryVerdict:
    """Return the outcome of a query. A known state in *reply* counts, regardless of the codes."""
    if reply.state is not None and reply.state is not TaskState.UNKNOWN:
        return QueryVerdict.ENDED if reply.state.terminal else QueryVerdict.PENDING
    if _is_rejection(reply):
        return QueryVerdict.REJECTED
    if is_denied(reply):
        return QueryVerdict.DENIED
    if reply.says(_MISSING):
        return QueryVerdict.MISSING
    return QueryVerdict.UNCLEAR
