"""The limiters of creates and queries, and whether the two scopes share one quota.

The service does not tell whether they do. Both scopes therefore begin with one shared `Discovery`, until a
test decides:

1. After a 429 in one scope, a request of the other scope is sent at once, while the quota, if shared,
   is still empty. If the quota may refill during a round trip, several are sent.
2. If one of them is rejected too, there is one quota: both scopes pause together.
3. If all are accepted, there are two quotas, and each scope gets a `Discovery` of its own.

The test is repeated after 16 rejections. Two quotas are merged again after three rejections in a row, if
each rejected request was sent within half a second after a rejected request of the other scope.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from ruxa_async._api.rate_limit_headers import Quota
from ruxa_async.settings import Limits, Scope

from .discovery import Discovery
from .known_limit import KnownLimit
from .limiter import ScopeLimiter

__all__ = ("Scopes",)

#: Rejections between two tests.
_REPEATED_AFTER = 16
#: Seconds from the rejection; a test that is sent later shows nothing, since the quota may have refilled.
_TESTED_WITHIN = 0.05
#: Seconds between two rejected requests, one of each scope, that count as a pair: evidence for one quota.
_PAIRED_WITHIN = 0.5
#: Evidence that merges two quotas into one. A pair counts 1. A rejection counts 2 if it is explained by the
#: configured limit of the other scope, see `Scopes._is_explained_by`.
_ENOUGH_EVIDENCE, _STRONG_EVIDENCE = 3, 2
#: Most requests in one test.
_MOST_TESTS = 8
#: Requests that the quota accepts during a round trip; from this on, a test has more than one request.
_TRICKLE = 0.1


class Scopes:
    """The limiters of both scopes. A Retry-After delays queries by at most *longest_query_wait* seconds."""

    def __init__(self, limits: Limits, *, longest_query_wait: float) -> None:
        self._configured = (limits.create_rate is not None) + (limits.query_rate is not None)
        self._is_shared = not self._configured
        discovery = Discovery()
        self.create: ScopeLimiter = ScopeLimiter(limits.create_rate, discovery)
        self.query: ScopeLimiter = ScopeLimiter(
            limits.query_rate, discovery if self._is_shared else Discovery(), longest=longest_query_wait
        )
        self._test_scope: Scope | None = None
        self._test_until = -math.inf
        self._tests_to_send = self._tests_to_accept = 0
        self._test_jobs: set[object] = set()  # the jobs of tests without an outcome
        self._rejections_until_test = 0
        self._evidence = 0
        self._rejected_sent_at: dict[Scope, float] = {"create": -math.inf, "query": -math.inf}
        self._rejected_at: dict[Scope, float] = {"create": -math.inf, "query": -math.inf}
        self._saved: tuple[Discovery, int, tuple[int, int]] | None = None
        self._is_restored = False

    def export(self) -> dict[str, Any]:
        """Return the discovered rates and whether the quota is shared, for `load` in a later run."""
        return {"shared": self._is_shared, "create": self.create.export(), "query": self.query.export()}

    def load(self, found: Mapping[str, Any], now: float) -> None:
        """Begin with what `export` returned in an earlier run, unless a limit is configured.

        Raises KeyError, TypeError or ValueError for what `export` never returns.
        """
        create = Discovery.restored(found["create"], now)
        query = create if found["shared"] else Discovery.restored(found["query"], now)
        if not self._configured:
            self._is_shared = bool(found["shared"])
            self._is_restored = create.rate is not None
            self.create.replace_limit(create)
            self.query.replace_limit(query)

    def use_up(self, at: float) -> None:
        """Count each configured limit as used up at the time *at*, by requests of another process."""
        for limiter in (self.create, self.query):
            if isinstance(limiter.limit, KnownLimit):
                limiter.limit.use_up(at)

    @property
    def shares_limited_quota(self) -> bool:
        """Tell whether creates and queries share one quota that is known to be limited."""
        is_met = (
            self._is_restored or self._is_quota_shared or self.create.rejections + self.query.rejections > 0
        )
        return self._is_shared and is_met

    @property
    def _is_quota_shared(self) -> bool:
        """Tell whether ``RateLimit`` headers describe one quota for both scopes."""
        create, query = self.create.hints, self.query.hints
        return create is not None and query is not None and create.quota_state is query.quota_state

    def limiter(self, scope: Scope) -> ScopeLimiter:
        return self.create if scope == "create" else self.query

    def tests(self, scope: Scope, now: float) -> bool:
        """Tell whether a test is due: a request of *scope*, sent at once to see whether it is rejected."""
        return (
            self._test_scope == scope and now <= self._test_until and not self.limiter(scope).is_paused(now)
        )

    def ready_at(self, scope: Scope, now: float) -> float:
        """Return when the next request of *scope* may be sent, infinity if that depends on a response."""
        return now if self.tests(scope, now) else self.limiter(scope).ready_at(now)

    # ---- what happens

    def on_send(self, scope: Scope, now: float, job: object) -> None:
        """Record that a request of *scope* is sent for *job*."""
        if self.tests(scope, now):
            self._test_jobs.add(job)
            self._tests_to_send -= 1
            if not self._tests_to_send:
                self._test_scope = None
        self.limiter(scope).on_send(now)

    def on_accept(self, scope: Scope, now: float, *, sent_at: float, job: object) -> None:
        """Record that the request of *job* was accepted: any response but a 429."""
        if job not in self._test_jobs:
            self.limiter(scope).on_accept(now, sent_at=sent_at)
            return
        self.limiter(scope).on_inconclusive(now)  # it may belong to either quota
        self._tests_to_accept -= 1
        if self._tests_to_accept == 0:
            self._test_jobs.clear()
            self._split(scope, now)

    def on_reject(
        self, scope: Scope, now: float, retry_after: float | None, *, sent_at: float, job: object
    ) -> None:
        """Note a 429 to the request of *job*; *retry_after* is in seconds, None or 0 if not named."""
        self.limiter(scope).on_reject(now, retry_after, sent_at=sent_at)
        if self._configured == 2 or (self._configured and self._is_shared):
            return
        other: Scope = "query" if scope == "create" else "create"
        if job in self._test_jobs:
            self._test_jobs.clear()
            self._pause_both(now)
        elif self._is_shared:
            self._pause_both(now)
            self._begin_test(other, now)
        else:
            self._compare(scope, other, now, sent_at)

    def on_quota(
        self, scope: Scope, quota: Quota, now: float, *, sent_at: float, rejected_for: float | None = None
    ) -> None:
        """Note the *quota* in the headers of a response to a request of *scope* sent at *sent_at*.

        *rejected_for* is the wait in seconds that a 429 names, 0 if it names none; None for other responses.
        """
        hints = self.limiter(scope).ensure_hints(now)
        if hints is None:
            return
        other = (self.query if scope == "create" else self.create).hints
        if self._is_shared and other is not None:
            hints.share(other, quota, now)
        hints.on_quota(quota, now, sent_at=sent_at, rejected_for=rejected_for)

    # ---- rejections by a cap on running tasks

    def on_cap_reject(self, now: float, retry_after: float | None, *, job: object) -> None:
        """Record that a create was rejected because too many tasks run; *retry_after* is in seconds."""
        self.create.on_cap_reject(now, retry_after)
        if job in self._test_jobs:
            self._test_jobs.clear()  # it shows nothing about the quota

    def save(self) -> None:
        """Save what was discovered about creates: a cap on running tasks may cause the next rejections."""
        limit = self.create.limit
        if self._saved is None and isinstance(limit, Discovery):
            in_flight = self.create.in_flight + (self.query.in_flight if self._is_shared else 0)
            contradictions = (0, 0) if self.create.hints is None else self.create.hints.contradictions
            self._saved = deepcopy(limit), in_flight, contradictions

    def restore(self) -> None:
        """Return to what `save` saved: a cap, not the rate limit, caused the rejections since then."""
        if self._saved is None:
            return
        (discovery, in_flight, contradictions), self._saved = self._saved, None
        if self.create.hints is not None:
            self.create.hints.contradictions = contradictions
        discovery.take_over(-in_flight)
        self.create.replace_limit(discovery)
        if self._is_shared:
            self.query.replace_limit(discovery)

    def discard_saved(self) -> None:
        """Keep what was learned since `save`."""
        self._saved = None

    # ---- one quota or two

    def _pause_both(self, now: float) -> None:
        self.create.pause_like(self.query, now)
        self.query.pause_like(self.create, now)

    def _begin_test(self, scope: Scope, now: float) -> None:
        self._rejections_until_test -= 1
        if self._rejections_until_test >= 0:
            return
        self._rejections_until_test = _REPEATED_AFTER
        self._test_scope, self._test_until = scope, now + _TESTED_WITHIN
        # One quota accepts what flows in during a round trip: only more than that shows a second one.
        assert isinstance(self.create.limit, Discovery)
        flow = self.create.limit.expected_in_flight(now)
        self._tests_to_send = 1 + min(max(round(flow), flow > _TRICKLE), _MOST_TESTS)
        self._tests_to_accept = self._tests_to_send
        self._test_jobs.clear()

    def _split(self, scope: Scope, now: float) -> None:
        """Give *scope* a quota of its own."""
        if not self._is_shared:
            return
        if self._is_quota_shared and (hints := self.limiter(scope).hints) is not None:
            hints.part(now)
        self._is_shared = False
        self._evidence = 0
        self.create.end_borrowed_pause()
        self.query.end_borrowed_pause()
        self.limiter(scope).replace_limit(Discovery())

    def _compare(self, scope: Scope, other: Scope, now: float, sent_at: float) -> None:
        """Count a rejection as evidence for or against one shared quota; on enough evidence, share one."""
        if sent_at <= self._rejected_at[scope]:
            return  # it was sent before the last rejection of its scope was known
        self._rejected_at[scope] = now
        is_pair = 0 <= sent_at - self._rejected_sent_at[other] < _PAIRED_WITHIN
        evidence = _STRONG_EVIDENCE if self._is_explained_by(other, scope, now) else int(is_pair)
        self._evidence = self._evidence + evidence if evidence else 0
        self._rejected_sent_at[scope] = sent_at
        if self._evidence >= _ENOUGH_EVIDENCE:
            self._is_shared = True
            self._rejections_until_test = _REPEATED_AFTER
            self._saved = None
            self._merge()

    def _is_explained_by(self, other: Scope, scope: Scope, now: float) -> bool:
        """Tell whether no request of *scope* was accepted yet while *other* uses up its configured limit."""
        is_used_up = self.limiter(other).has_used_up_configured_limit(now)
        return is_used_up and not self.limiter(scope).ever_accepted

    def _merge(self) -> None:
        """Use one limit for both scopes: the configured one if there is one, else that of creates."""
        source = self.query if self.query.is_configured else self.create
        other = self.create if source is self.query else self.query
        other.replace_limit(source.limit)
