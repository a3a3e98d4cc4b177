"""One limit for everything, or one for each scope? Nobody says, so both gates share a discovery until that is known.

At a refusal one request of the other scope goes out at once as a test, while the quota, if it is one, is still
empty; more where the trip is so long that some flows in meanwhile. One is refused too: one quota, and what closes one
gate closes both. All are let through: two, and each gets a discovery of its own. The question is asked again now and
then, and refusals that come in pairs bring the two together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from ruxa_async._api.rate_limit_headers import Quota
from ruxa_async.settings import Limits, Scope

from .discovery import Discovery
from .limiter import ScopeLimiter

__all__ = ("Scopes",)

_ASKED_AGAIN_AFTER = 16  # refusals
_AT_ONCE = 0.05  # seconds; later, something may have flowed in
_PAIRED_WITHIN = 0.5  # seconds
_PAIRS = 3
#: What is refused though nothing of its scope was ever let through says as much as so many pairs.
_USED_UP = 2
_MOST_TESTS = 8
_TRICKLE = 0.1  # requests


class Scopes:
    """The gates of both scopes, and what they have in common. *longest_query_wait* is in seconds."""

    def __init__(self, limits: Limits, *, longest_query_wait: float) -> None:
        told = [rate for rate in (limits.create_rate, limits.query_rate) if rate is not None]
        self._told = len(told)
        discovery = Discovery()
        self.create = ScopeLimiter(limits.create_rate, discovery)
        self.query = ScopeLimiter(
            limits.query_rate, Discovery() if told else discovery, longest=longest_query_wait
        )
        self._shared = not told
        self._testing: Scope | None = None
        self._test_until = -math.inf
        self._tests_to_send = 0
        self._tests_to_pass = 0
        self._test_sent: set[object] = set()  # jobs
        self._answers_until_asked = 0
        self._refused_at: dict[Scope, float] = {"create": -math.inf, "query": -math.inf}
        self._news_at: dict[Scope, float] = {"create": -math.inf, "query": -math.inf}
        self._pairs = 0
        self._saved: tuple[Discovery, int, tuple[int, int]] | None = None
        self._restored = False

    def export(self) -> dict[str, Any]:
        """Return what was found, for `load` in a later run."""
        return {"shared": self._shared, "create": self.create.export(), "query": self.query.export()}

    def load(self, found: Mapping[str, Any], now: float) -> None:
        """Begin with what another run had *found*, unless a limit was told.

        Raises KeyError, TypeError or ValueError for what was never exported.
        """
        create = Discovery.restored(found["create"], now)
        query = create if found["shared"] else Discovery.restored(found["query"], now)
        if not self._told:
            self._shared = bool(found["shared"])
            self._restored = create.rate is not None
            self.create.use(create)
            self.query.use(query)

    @property
    def binding(self) -> bool:
        """Tell whether creates and queries take from one quota that has been met."""
        met = self._restored or self._advised_as_one or self.create.refusals + self.query.refusals > 0
        return self._shared and met

    @property
    def _advised_as_one(self) -> bool:
        create, query = self.create.hints, self.query.hints
        return create is not None and query is not None and create.books is query.books

    def limiter(self, scope: Scope) -> ScopeLimiter:
        """Return the gate of *scope*."""
        return self.create if scope == "create" else self.query

    def tests(self, scope: Scope, now: float) -> bool:
        """Tell whether a request of *scope* should leave at once, to see whether it is refused."""
        return self._testing == scope and now <= self._test_until and not self.limiter(scope).refuses(now)

    def ready_at(self, scope: Scope, now: float) -> float:
        """Return when the next request of *scope* may leave, infinity if only an answer can tell."""
        if self.tests(scope, now):
            return now
        return self.limiter(scope).ready_at(now)

    def on_send(self, scope: Scope, now: float, job: object) -> None:
        """Note that a request of *scope* leaves, for *job*."""
        if self.tests(scope, now):
            self._test_sent.add(job)
            self._tests_to_send -= 1
            if not self._tests_to_send:
                self._testing = None
        self.limiter(scope).on_send(now)

    def on_accept(self, scope: Scope, now: float, *, sent_at: float, job: object) -> None:
        """Note an answer that the limit let through."""
        if job not in self._test_sent:
            self.limiter(scope).on_accept(now, sent_at=sent_at)
        else:
            # Whose quota it was of is not known yet, so neither discovery learns from it.
            self.limiter(scope).on_no_response(now, is_answered=True)
            self._tests_to_pass -= 1
            if self._tests_to_pass == 0:
                self._test_sent.clear()
                self._split(scope, now)

    def on_reject(
        self, scope: Scope, now: float, retry_after: float | None, *, sent_at: float, job: object
    ) -> None:
        """Note a 429; *retry_after* is in seconds."""
        self.limiter(scope).on_reject(now, retry_after, sent_at=sent_at)
        if self._told == 2 or (self._told and self._shared):
            return
        other: Scope = "query" if scope == "create" else "create"
        if job in self._test_sent:
            self._test_sent.clear()
            self._close_both(now)
        elif self._shared:
            self._close_both(now)
            self._ask(other, now)
        else:
            self._pair(scope, other, now, sent_at)

    def told(
        self, scope: Scope, quota: Quota, now: float, *, sent_at: float, refused_for: float | None = None
    ) -> None:
        """Note what the reply to a request of *scope* that left at *sent_at* says of its *quota*.

        *refused_for* is for how many seconds it was a refusal: 0 if it did not say, None if it was none.
        """
        hints = self.limiter(scope).advised(now)
        if hints is None:
            return
        other = (self.query if scope == "create" else self.create).hints
        if self._shared and other is not None:
            hints.share(other, quota, now)
        hints.told(quota, now, sent_at=sent_at, refused_for=refused_for)

    # ---- refusals that have nothing to do with a rate

    def capped(self, now: float, retry_after: float | None, *, job: object) -> None:
        """Note that a create was refused because too many tasks run; *retry_after* is in seconds."""
        self.create.capped(now, retry_after)
        if job in self._test_sent:
            self._test_sent.clear()  # it shows nothing

    def save(self) -> None:
        """Keep what is known of the creates' rate, if it is not kept yet: what comes now may be for something else."""
        if self._saved is None:
            on_wire = self.create.on_wire + (self.query.on_wire if self._shared else 0)
            doubts = (0, 0) if self.create.hints is None else self.create.hints.doubts
            self._saved = deepcopy(self.create.discovery), on_wire, doubts

    def restore(self) -> None:
        """Forget what was learned of the creates' rate since it was saved: it was no rate that refused."""
        if self._saved is not None:
            (discovery, on_wire, doubts), self._saved = self._saved, None
            if self.create.hints is not None:
                self.create.hints.doubts = doubts
            discovery.take_over(-on_wire)
            self.create.use(discovery)
            if self._shared:
                self.query.use(discovery)

    def forget(self) -> None:
        """Go by what was learned since it was saved."""
        self._saved = None

    def _close_both(self, now: float) -> None:
        self.create.close_as(self.query, now)
        self.query.close_as(self.create, now)

    def _ask(self, other: Scope, now: float) -> None:
        self._answers_until_asked -= 1
        if self._answers_until_asked < 0:
            self._answers_until_asked = _ASKED_AGAIN_AFTER
            self._testing, self._test_until = other, now + _AT_ONCE
            # What flows in on the way is let through even if there is one quota: only more than that is a proof.
            flow = self.create.discovery.expected_in_flight(now)
            more = min(max(round(flow), flow > _TRICKLE), _MOST_TESTS)
            self._tests_to_send = self._tests_to_pass = 1 + more
            self._test_sent.clear()

    def _split(self, scope: Scope, now: float) -> None:
        if self._shared and not self._told:
            if self._advised_as_one and (hints := self.limiter(scope).hints) is not None:
                hints.part(now)
            self._shared = False
            self._pairs = 0
            self.create.reopen()
            self.query.reopen()
            self.limiter(scope).use(Discovery())

    def _pair(self, scope: Scope, other: Scope, now: float, sent_at: float) -> None:
        if sent_at <= self._news_at[scope]:
            return  # it left before the last no of its scope was known, so it is no news
        self._news_at[scope] = now
        paired = 0 <= sent_at - self._refused_at[other] < _PAIRED_WITHIN
        evidence = _USED_UP if self._used_up(scope, other, now) else int(paired)
        self._pairs = self._pairs + evidence if evidence else 0
        self._refused_at[scope] = sent_at
        if self._pairs >= _PAIRS:
            self._shared = True
            self._answers_until_asked = _ASKED_AGAIN_AFTER
            self._saved = None
            self._merge()

    def _used_up(self, scope: Scope, other: Scope, now: float) -> bool:
        """Tell whether only *other*, held back by a limit that was told, can have used up what *scope* is refused.

        Nothing of *scope* was ever let through, so it is not a limit of its own that it has met.
        """
        return not self.limiter(scope).ever_passed and self.limiter(other).keeps_told_limit(now)

    def _merge(self) -> None:
        """Go by one limit: by the one that was told, else by what creates have learned, which is the most that is known."""
        if not self._told:
            self.query.use(self.create.discovery)
        elif self.create.is_told:
            self.query.share(self.create)
        else:
            self.create.share(self.query)
