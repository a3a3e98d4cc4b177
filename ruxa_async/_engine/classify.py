"""What an answer means, for a create and for a query: two tables and the few lines that read them.

A create is bought at most once, so the question is never "did it fail?" but "may it have been charged?":

=============================================================  ==========  ==============================
a task id in a readable reply, whatever the codes              ACCEPTED    paid
429, 503 with a hint when to return, a known rate phrase       THROTTLED   sent again, no attempt spent
400 401 402 403 404 422 455 505, known credit, model phrases   REFUSED     nothing charged
no byte left (`NotSentError` instead of a reply)               -           sent again
anything else: some bytes left, 408, 5xx, 200 without an id    UNKNOWN     never sent again by itself
=============================================================  ==========  ==============================

Codes are looked for in the HTTP status and in the envelope alike, since the service may use either. A query only
reads, so all of it but a clear answer is asked again.
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
    """What a known text says, under whatever code it comes."""

    CREDITS = enum.auto()
    MODEL = enum.auto()
    RATE = enum.auto()


@define(eq=False)
class Reply:
    """One readable or unreadable answer, HTTP status and envelope folded into one value.

    *code* is the envelope's number, None where it has none. *retry_after* is what the service asks to wait in
    seconds, *by_rate_limit_headers* if only
    these say so. *quota* is what it says of the one that this was counted against, if anything. *state* is None where the answer names none.
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
    """How a create ended."""

    ACCEPTED = enum.auto()
    THROTTLED = enum.auto()
    REFUSED = enum.auto()
    UNKNOWN = enum.auto()


class QueryVerdict(enum.Enum):
    """What a query brought."""

    #: The task has ended; `Reply.state` says how.
    ENDED = enum.auto()
    #: It has not.
    PENDING = enum.auto()
    #: Refused for the rate.
    THROTTLED = enum.auto()
    #: The service does not know the task, or not yet.
    MISSING = enum.auto()
    #: 401 or 403: the key may not ask, or a firewall stands between. `Denial` decides which.
    DENIED = enum.auto()
    #: Lost, unreadable, or a state that this version does not know: asked again.
    UNCLEAR = enum.auto()


class Refusal(enum.Enum):
    """Why a create was refused, as far as it matters for going on."""

    #: 401: every other create would be refused too.
    KEY = enum.auto()
    #: 402 or a credit phrase: likewise.
    CREDITS = enum.auto()
    #: 403, 404 or a model phrase: a sign of the same only if nothing else is accepted.
    ACCESS = enum.auto()
    #: The service was never reached, so no create will be.
    UNREACHABLE = enum.auto()
    #: Everything else is about this one request.
    REQUEST = enum.auto()


_THROTTLED = frozenset({429})
_BUSY = frozenset({503})
_REFUSED = frozenset({400, 401, 402, 403, 404, 422, 455, 505})
_DENIED = frozenset({401, 403})
_MISSING = frozenset({404, 422})
_KEY = frozenset({401})
_CREDITS = frozenset({402})
_ACCESS = frozenset({403, 404})


def _throttled(reply: Reply) -> bool:
    return (
        reply.phrase is Phrase.RATE
        or reply.says(_THROTTLED)
        or (reply.says(_BUSY) and reply.retry_after is not None)
    )


def classify_create(reply: Reply) -> CreateVerdict:
    """Return what *reply* to a create means; the rows of the table above, from the top."""
    if reply.task_id is not None:
        return CreateVerdict.ACCEPTED
    if reply.phrase in (Phrase.CREDITS, Phrase.MODEL):
        return CreateVerdict.REFUSED
    if _throttled(reply):
        return CreateVerdict.THROTTLED
    if reply.says(_REFUSED):
        return CreateVerdict.REFUSED
    return CreateVerdict.UNKNOWN


def is_denied(reply: Reply) -> bool:
    """Tell whether *reply* is a 401 or 403, by status or envelope."""
    return reply.says(_DENIED)


def refusal_of(reply: Reply) -> Refusal:
    """Return what a refused create says about the next one."""
    if reply.phrase is Phrase.CREDITS or reply.says(_CREDITS):
        return Refusal.CREDITS
    if reply.phrase is Phrase.MODEL:
        return Refusal.ACCESS
    if reply.says(_KEY):
        return Refusal.KEY
    return Refusal.ACCESS if reply.says(_ACCESS) else Refusal.REQUEST


def classify_query(reply: Reply) -> QueryVerdict:
    """Return what *reply* to a query means. A state that is known counts whatever the codes beside it."""
    if reply.state is not None and reply.state is not TaskState.UNKNOWN:
        return QueryVerdict.ENDED if reply.state.terminal else QueryVerdict.PENDING
    if _throttled(reply):
        return QueryVerdict.THROTTLED
    if is_denied(reply):
        return QueryVerdict.DENIED
    if reply.says(_MISSING):
        return QueryVerdict.MISSING
    return QueryVerdict.UNCLEAR
