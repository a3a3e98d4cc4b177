"""The engine: told the time and what happened, it answers what to do and when to ask again.

A `Job` goes through four phases::

    QUEUED ──take_create──> CREATING ──accepted, follow──> FOLLOWED ──ended──> OVER
       ^                       │                              │ ^
       └──── requeue ──────────┘                 take_query ──┘ └── asked again

The caller owns the clock, the wire and the journal: it takes work, does it, and reports. Nothing here waits, so
every decision can be tested with made-up times.
"""

from __future__ import annotations

import math
from typing import Generic, TypeVar

from ruxa_async.settings import Budget, Limits, Polling, Retries

from .budget import Spending
from .circuit_breaker import CircuitBreaker
from .classify import CreateVerdict, QueryVerdict, Reply, classify_create, classify_query, is_denied
from .deadline_heap import Deadlines, Schedule
from .denial import Denial
from .job import Counts, CreateStep, Job, Phase, QueryStep
from .polling.callbacks import CallbackPolling, CallbackStep
from .polling.schedule import PollingSchedule
from .rate_limits.concurrency_limit import ConcurrencyLimit
from .rate_limits.limiter import ScopeLimiter
from .rate_limits.scopes import Scopes

__all__ = ("Engine",)

#: The longest that the query of a paid task waits because the service said so, in seconds.
LONGEST_QUERY_WAIT = 600.0
#: For how many seconds after its acceptance a task may be unknown to the service.
MISSING_GRACE = 30.0
#: A query that leaves so many seconds after it was due was held up by the limit.
LATE = 0.1
#: On one quota for everything, a query that is due waits for so many creates at most.
CREATES_IN_A_ROW = 4
#: How often a create of unknown outcome is sent again where the user asked for that.
MAX_RESENDS = 3
#: How often the next query of a task is planned anew, on average, because more became known of its model.
REPLANS_A_TASK = 16
_FIRST_RETRY = 0.5
_LONGEST_RETRY = 30.0


_J = TypeVar("_J", bound=Job)


class Engine(Generic[_J]):
    """Decide creates and queries together."""

    def __init__(
        self, limits: Limits, polling: Polling, retries: Retries, budget: Budget | None = None
    ) -> None:
        self._limits = limits
        self._retries = retries
        self._polling = polling
        self._cadence = PollingSchedule(polling)
        self._queue: Schedule[_J] = Schedule()  # by the order of submission, not by time
        self._due: Schedule[_J] = Schedule()
        self._deadlines: Deadlines[_J] = Deadlines()
        self.rates = Scopes(limits, longest_query_wait=LONGEST_QUERY_WAIT)
        self.creates, self.queries = self.rates.create, self.rates.query
        self.running = ConcurrencyLimit()
        self.breaker = CircuitBreaker()
        self._denial = Denial()
        #: Whether a request ever left, so that something is there.
        self.reached = False
        self.calls: CallbackPolling[_J] = CallbackPolling(self._cadence)
        self.spending: Spending[_J] | None = None if budget is None else Spending(budget)
        self._creates_in_a_row = 0
        self._places = 0
        self._replans_left = 0
        self.counts = Counts()
        self.in_flight = 0
        self.creating = 0
        self.asking = 0

    @property
    def polling(self) -> PollingSchedule:
        """What is known of durations: worth keeping for the next run."""
        return self._cadence

    @property
    def queued(self) -> int:
        """How many jobs wait to be sent."""
        return len(self._queue)

    # ---- creates

    def submit(self, job: _J, now: float) -> None:
        """Queue *job* behind all others."""
        job.phase = Phase.QUEUED
        job.queued_at = now
        self._places += 1
        job.sequence = self._places
        self._queue.set(job, job.sequence)

    def withdraw(self, job: _J) -> bool:
        """Take *job* out of the queue; return whether that was in time, so that it is never bought."""
        if job.phase is not Phase.QUEUED:
            return False
        self.release(job)
        self.counts.withdrawn += 1
        return True

    def pop_queued(self) -> _J | None:
        """Take the first job out of the queue, so that it is never bought; None if there is none."""
        job = self._queue.pop_due(math.inf)
        if job is not None:
            job.phase = Phase.OVER
            self.calls.forget(job)
            self.counts.withdrawn += 1
        return job

    def create_ready_at(self, now: float) -> float:
        """Return when the next create may leave, infinity if that depends on something else happening first."""
        ready = self._create_at(now)
        if ready == math.inf:
            return ready
        if self.rates.tests("create", now) or self._create_tests_cap():
            return ready  # what it finds out is worth more than its turn
        queries_turn = self.rates.binding and self._creates_in_a_row >= CREATES_IN_A_ROW
        if queries_turn and self._query_waits(now) and self.rates.ready_at("query", now) <= ready:
            return math.inf  # a query goes first, and its leaving is news
        return ready

    def _create_at(self, now: float) -> float:
        """Return when the next create may leave if queries are no matter."""
        waits = (
            len(self._queue) > 0
            and self.in_flight < self._limits.max_in_flight
            and self.creating < self._limits.max_concurrent_creates
        )
        if not waits or (self.spending is not None and self._money_is_tied_up(self.spending)):
            return math.inf
        healthy_at = self.breaker.ready_at()
        if healthy_at > now:
            return healthy_at
        if self.running.active:
            opens = self.running.ready_at(self.in_flight, now)
            if opens > now:
                return opens
            if self._create_tests_cap():
                return self.creates.opens_at(now)
        return self.rates.ready_at("create", now)

    def _money_is_tied_up(self, spending: Spending[_J]) -> bool:
        """Tell whether the budget has room for the next create only if one that is on the wire turns out unbought."""
        first = self._queue.first()
        return first is not None and first.model is not None and spending.must_wait(first.model)

    def _create_tests_cap(self) -> bool:
        return self.running.active and self.running.is_test_due(self.in_flight, self.creating)

    def _query_waits(self, now: float) -> bool:
        return self.asking < self._limits.max_concurrent_queries and self._due.next_time() <= now

    def take_create(self, now: float) -> _J | None:
        """Return the job to send now, None if none may leave yet."""
        if self.create_ready_at(now) > now:
            return None
        job = self._queue.pop_due(math.inf)
        assert job is not None  # create_ready_at said so
        job.phase = Phase.CREATING
        job.sent_at = now
        if self.running.active:
            self.running.on_send(job, self.in_flight)
        self._count_in(job)
        self.creating += 1
        self.counts.creates_sent += 1
        self._creates_in_a_row += 1
        self.rates.on_send("create", now, job)
        self.breaker.on_send(job, now)
        return job

    def create_answered(self, job: _J, reply: Reply, now: float) -> CreateStep:
        """Read the *reply* to a create."""
        self.creating -= 1
        self.reached = True
        verdict = classify_create(reply)
        if verdict is CreateVerdict.UNKNOWN:
            self.breaker.on_unknown(job, now, sent_at=job.sent_at)
        else:
            self._create_got_through(job, now)
        if verdict is CreateVerdict.THROTTLED:
            self._create_throttled(job, reply, now)
            self._count_out(job)
            return CreateStep.GIVE_UP if self.hopeless(job, now) else CreateStep.REQUEUE
        self.rates.on_accept("create", now, sent_at=job.sent_at, job=job)
        if reply.quota is not None:
            self.rates.on_quota("create", reply.quota, now, sent_at=job.sent_at)
        if verdict is CreateVerdict.ACCEPTED:
            job.task_id = reply.task_id
            job.accepted_at = now
            self.counts.accepted += 1
            self._denial.on_good()
            if self.running.watching:
                self._create_let_through(job, now)
            return CreateStep.ACCEPTED
        self.running.on_inconclusive(job)
        if verdict is CreateVerdict.REFUSED:
            if is_denied(reply):
                self._denial.on_denied(job, now)
            self._count_out(job)
            self.counts.refused += 1
            return CreateStep.REFUSED
        return self._unknown(job)

    def _create_got_through(self, job: _J, now: float) -> None:
        """Note that the service says what became of a create; where it was failing, ask for tasks again soon."""
        was_open = self.breaker.is_open
        self.breaker.on_good(job, now, sent_at=job.sent_at)
        if was_open and not self.breaker.is_open:
            self._due.set_all(lambda other, at: min(at, now) if other.failures else at)

    def _create_throttled(self, job: _J, reply: Reply, now: float) -> None:
        """Find whether it was too many running tasks or the rate, and tell that."""
        held, retry_after = self.in_flight - self.creating - 1, _told(reply, self.creates)
        rated = self.creates.has_discovered_rate or (reply.quota is not None and reply.quota.remaining == 0)
        if self.running.on_reject(job, held, now, sent_at=job.sent_at, is_rate_known=rated):
            if self.running.is_confirmed:
                self.rates.restore()
            self.rates.on_cap_reject(now, retry_after, job=job)
            return
        if self.running.is_suspected:
            self.rates.save()
        self.rates.on_reject("create", now, retry_after, sent_at=job.sent_at, job=job)
        if reply.quota is not None:
            refused_for = retry_after or 0.0
            self.rates.on_quota("create", reply.quota, now, sent_at=job.sent_at, rejected_for=refused_for)

    def _create_let_through(self, job: _J, now: float) -> None:
        held = self.in_flight - self.creating - 1
        may_ask = not self.rates.binding
        if self.running.on_accept(job, held, now, sent_at=job.sent_at, may_ask=may_ask):
            self.rates.restore()
        elif self.running.is_in_doubt:
            for other in self._due.items():
                if other.scheduled_by_model and self._rested(other, now):
                    self._due.set(other, now)
        elif not self.running.is_suspected and not self.running.is_tentative:
            self.rates.discard_saved()

    def create_not_sent(self, job: _J, now: float) -> CreateStep:
        """Note that no byte of a create left."""
        self.creating -= 1
        self.running.on_inconclusive(job)
        self.creates.on_not_sent(now)
        self.breaker.on_not_sent(job, now)
        self._count_out(job)
        return CreateStep.GIVE_UP if self.hopeless(job, now) else CreateStep.REQUEUE

    def create_lost(self, job: _J, now: float) -> CreateStep:
        """Note that a create left, at least in part, and no whole answer will come."""
        self.creating -= 1
        self.reached = True
        self.running.on_inconclusive(job)
        self.creates.on_no_response(now)
        self.breaker.on_unknown(job, now, sent_at=job.sent_at)
        return self._unknown(job)

    def create_aborted(self, job: _J, now: float) -> None:
        """Note that a create that was taken was never sent, for a reason on our side."""
        self.creating -= 1
        self.running.on_inconclusive(job)
        self.counts.creates_sent -= 1
        self.creates.on_no_response(now)
        self.breaker.on_not_sent(job, now)
        self._count_out(job)
        self.calls.forget(job)
        job.phase = Phase.OVER

    def requeue(self, job: _J) -> None:
        """Put *job* back into the queue, where it was: before all that were submitted later."""
        job.phase = Phase.QUEUED
        self._queue.set(job, job.sequence)

    def give_up_waiting(self, now: float) -> list[_J]:
        """Take out of the queue every job that would have to wait longer than is worth it; return them in order."""
        waiting = [job for job in self._queue if self.hopeless(job, now)]
        for job in waiting:
            self.release(job)
        return waiting

    def hopeless(self, job: _J, now: float) -> bool:
        """Tell whether *job* would have to wait longer for its create than is worth it."""
        if self.creates.closed_for(now) > self._retries.max_retry_after:
            return True
        shut_for = max(self.creates.shut_for(now), self.breaker.open_for(now))
        retries = self._retries
        patience = retries.throttled_timeout
        if not self.reached and retries.unreachable_timeout is not None:
            patience = retries.unreachable_timeout
        return min(shut_for, now - job.queued_at) >= patience

    def _unknown(self, job: _J) -> CreateStep:
        self._count_out(job)
        if self._retries.resend_unknown and job.resends < MAX_RESENDS:
            job.resends += 1
            return CreateStep.RESEND
        self.counts.unknown += 1
        return CreateStep.UNKNOWN

    # ---- queries

    def follow(
        self, job: _J, now: float, *, timeout: float | None = None, ask_at: float | None = None
    ) -> None:
        """Ask for the state of *job* from now on.

        *timeout* is in seconds from its acceptance. *ask_at* is when to ask first; by default the cadence says.
        """
        job.phase = Phase.FOLLOWED
        if not job.single_shot:
            self._count_in(job)
        self._replans_left += REPLANS_A_TASK
        if timeout is not None:
            self._deadlines.set(job, job.accepted_at + timeout)
        if ask_at is None and job.callback_at is not None and job.callback_at < math.inf:
            ask_at = now
        job.scheduled_by_model = ask_at is None
        if ask_at is None:
            if self.running.active or self._cadence.hurried:
                self._set_pace()
            ask_at = job.accepted_at + self._first_look(job, now - job.accepted_at)
        self._due.set(job, ask_at)

    def release(self, job: _J) -> None:
        """Let go of *job* wherever it is: it is neither sent nor asked for any more."""
        (self._queue if job.phase is Phase.QUEUED else self._due).discard(job)
        self._deadlines.discard(job)
        self._count_out(job)
        self.calls.forget(job)
        job.phase = Phase.OVER

    # ---- callbacks

    def called(
        self, callback_id: bytes, now: float, *, over: bool, settles: bool
    ) -> tuple[CallbackStep, _J | None]:
        """Note the callback known as *callback_id*; return what it leads to, and for which job.

        *over* is whether it may mean that the task is over, *settles* whether it says enough to go on with when nothing
        else is known of the task.
        """
        step, job = self.calls.look_up(callback_id)
        if job is None:
            return step, None
        if job.phase is Phase.CREATING:
            step = CallbackStep.EARLY
        elif job.phase is Phase.FOLLOWED:
            if over:
                self._wake(job, now)
                step = CallbackStep.WOKEN
        elif settles:
            self._queue.discard(job)
            self._deadlines.discard(job)
            job.phase = Phase.CREATING
            step = CallbackStep.ADOPT
        elif job.phase is Phase.QUEUED:
            self._queue.discard(job)
            step = CallbackStep.HOLD
        if over and job.phase in (Phase.CREATING, Phase.FOLLOWED):
            job.callback_at = now
        return step, job

    def _wake(self, job: _J, now: float) -> None:
        """Ask *job* next, or once more if it is being asked just now and the answer says that it still runs."""
        job.scheduled_by_model = False
        if job.ticket:
            self._due.set(job, now)

    def hold(self, job: _J, now: float, seconds: float) -> None:
        """Wait at most so many *seconds* for a callback that tells what became of the create of *job*."""
        job.phase = Phase.HELD
        self._count_in(job)
        self._deadlines.set(job, now + seconds)

    def doubt(self, step: CreateStep) -> None:
        """Count a create as unknown whose reply led to *step*, but which is not bought for certain after all."""
        self.counts.refused -= step is CreateStep.REFUSED
        self.counts.unknown += 1

    def adopt(self, job: _J, task_id: str | None, now: float, *, was_unknown: bool) -> None:
        """Note that the create of *job* is known to have been accepted, as *task_id* if that was told."""
        job.task_id = task_id
        job.accepted_at = job.sent_at
        self.breaker.on_proven(now, sent_at=job.sent_at)
        self.counts.accepted += 1
        self.counts.unknown -= was_unknown

    # ---- queries again

    def query_ready_at(self, now: float) -> float:
        """Return when the next query may leave, infinity if that depends on something else happening first."""
        if self.asking >= self._limits.max_concurrent_queries:
            return math.inf
        due = self._next_query_at()
        if due == math.inf:
            return due
        if self._query_tests(now):
            return now
        ready = max(due, self.rates.ready_at("query", now))
        creates_turn = self.rates.binding and self._creates_in_a_row < CREATES_IN_A_ROW
        if creates_turn and self._create_at(now) <= ready:
            return math.inf  # a create goes first: the sooner it runs, the sooner it ends
        return ready

    def _next_query_at(self) -> float:
        """Return when the next query is due: by its task, or to see whether the service is back."""
        due = self._due.next_time()
        return min(due, self.breaker.check_at) if due < math.inf else due

    def _query_tests(self, now: float) -> bool:
        """Tell whether the first query leaves at once to test the limit; no task is asked *again* too soon for that."""
        if not self.rates.tests("query", now) or (first := self._due.first()) is None:
            return False
        return not first.queries or self._due.next_time() <= now or self._rested(first, now)

    def _rested(self, job: _J, now: float) -> bool:
        """Tell whether the last query of *job*, or else its acceptance, was long enough ago."""
        last = max(job.accepted_at + job.pending_at, job.sent_at)
        return now - last >= self._polling.min_interval

    def queries_due(self, now: float) -> int:
        """Return how many queries are due and would find a worker; the limit may let fewer leave."""
        return self._due.count_due(now, self._limits.max_concurrent_queries - self.asking)

    def look_for_query_at(self, now: float) -> tuple[float, bool]:
        """Return when to look for a query again, and whether that is only when the next is due.

        The limit is not asked then, for it may say something else by that time, and most queries find it open.
        """
        due = self._next_query_at()
        if due <= now or self._query_tests(now):
            return self.query_ready_at(now), False
        return (due, True) if self.asking < self._limits.max_concurrent_queries else (math.inf, False)

    def take_query(self, now: float) -> _J | None:
        """Return the job to ask for now, None if none may be asked yet."""
        if (self._next_query_at() > now and not self._query_tests(now)) or self.query_ready_at(now) > now:
            return None
        self._cadence.went_out(late=now - self._due.next_time() > LATE)
        job = self._due.pop_due(math.inf)
        assert job is not None  # query_ready_at said so
        job.queries += 1
        job.sent_at = now
        self.asking += 1
        self.counts.queries_sent += 1
        self._creates_in_a_row = 0
        self.rates.on_send("query", now, job)
        self.breaker.on_query_send(now)
        return job

    def query_answered(self, job: _J, reply: Reply, now: float) -> QueryStep:
        """Read the *reply* to a query."""
        self.asking -= 1
        self.reached = True
        verdict = classify_query(reply)
        self._note_health(job, verdict, now)
        if verdict is QueryVerdict.THROTTLED:
            self.rates.on_reject("query", now, _told(reply, self.queries), sent_at=job.sent_at, job=job)
        else:
            self.rates.on_accept("query", now, sent_at=job.sent_at, job=job)
        if reply.quota is not None:
            refused_for = (reply.retry_after or 0.0) if verdict is QueryVerdict.THROTTLED else None
            self.rates.on_quota("query", reply.quota, now, sent_at=job.sent_at, rejected_for=refused_for)
        if job.phase is not Phase.FOLLOWED:
            return QueryStep.AGAIN  # it was released meanwhile, so that only the limit was news
        if verdict is QueryVerdict.THROTTLED:
            self._due.set(job, job.sent_at)  # it keeps its place; the gate says when it may leave
            return QueryStep.AGAIN
        if verdict is QueryVerdict.ENDED or job.single_shot:
            doubted = self.calls.ended(job) and not self.calls.relied_on
            self.release(job)
            if self.running.active:
                self.running.on_end(self.in_flight, now)
            if doubted:
                self._replan_all(now)
            return QueryStep.ENDED
        if verdict is QueryVerdict.PENDING:
            job.failing_since = None
            job.failures = 0
            job.scheduled_by_model = True
            job.pending_at = job.sent_at - job.accepted_at
            called_meanwhile = job.callback_at is not None and job.sent_at < job.callback_at < math.inf
            job.sent_at = job.accepted_at  # of no more use, and a waiting task is one number smaller
            if self.running.active or self._cadence.hurried:
                self._set_pace()
            self._due.set(job, now if called_meanwhile else self._next_look(job, now))
            return QueryStep.PENDING
        missing_for_good = verdict is QueryVerdict.MISSING and now - job.accepted_at >= MISSING_GRACE
        denied_for_good = verdict is QueryVerdict.DENIED and self._denial.is_final(now)
        return self._failed(job, now, final=missing_for_good or denied_for_good)

    def _note_health(self, job: _J, verdict: QueryVerdict, now: float) -> None:
        """Note what the answer to a query says of the service as a whole, and of the account."""
        if verdict is QueryVerdict.DENIED:
            self._denial.on_denied(job, now)
        elif verdict in (QueryVerdict.ENDED, QueryVerdict.PENDING):
            self._denial.on_good()
        if verdict in (QueryVerdict.DENIED, QueryVerdict.UNCLEAR):
            self.breaker.on_query_failed(now)
        else:
            self.breaker.on_query_good(now, sent_at=job.sent_at)

    def query_failed(self, job: _J, now: float, *, sent: bool) -> QueryStep:
        """Note that a query brought no answer; *sent* says whether any of it left."""
        self.asking -= 1
        self.breaker.on_query_failed(now)
        if sent:
            self.reached = True
            self.queries.on_no_response(now)
        else:
            self.queries.on_not_sent(now)
        if job.phase is not Phase.FOLLOWED:
            return QueryStep.AGAIN
        return self._failed(job, now, final=job.single_shot)

    def query_aborted(self, job: _J, now: float) -> None:  # noqa: ARG002 - it is asked no more, whichever it was
        """Note that a query was cut off by us."""
        self.asking -= 1
        self.queries.on_no_response(now)

    def take_expired(self, now: float) -> _J | None:
        """Return a job whose deadline has passed and which is followed no longer, None if there is none."""
        expired = self._deadlines.pop_due(now)
        if expired is not None:
            self.release(expired)
        return expired

    def _first_look(self, job: _J, age: float) -> float:
        return (
            self.calls.first(job, age) if self.calls.waits_for(job) else self._cadence.first(job.model, age)
        )

    def _next_look(self, job: _J, now: float) -> float:
        age = now - job.accepted_at
        if self.calls.waits_for(job):
            return job.accepted_at + self.calls.next(job.model, age, job.pending_at)
        if self._cadence.hurried:
            # The least gap is one between two queries, so the trip of the last may be part of it.
            return max(job.accepted_at + self._cadence.replanned(job.model, job.pending_at), now)
        return job.accepted_at + self._cadence.next(job.model, age)

    def learn(self, job: _J, now: float, exact: float | None, *, succeeded: bool = True) -> None:
        """Learn from a task that ended; *exact* is its duration by the service's own times."""

        def running() -> list[float]:
            return [other.pending_at for other in self._due.items() if other.model == job.model]

        age = now - job.accepted_at
        if exact is None and job.callback_at is not None and job.callback_at < math.inf:
            exact = job.callback_at - job.accepted_at
        if self._cadence.ended(job.model, job.pending_at, age, exact, running, succeeded=succeeded):
            self._replan(job.model, now)

    def _replan(self, model: str | None, now: float) -> None:
        """Plan the waiting queries of *model* anew, unless the tasks had their fill of that.

        Planning all that wait at each of so many ends would let the cost of a batch grow with its square.
        """
        if len(self._due) > self._replans_left:
            return
        self._replans_left -= len(self._due)
        self._due.set_all(
            lambda other, at: (
                self._replanned(other, now) if other.scheduled_by_model and other.model == model else at
            )
        )

    def _replan_all(self, now: float) -> None:
        """Plan every waiting query anew, because callbacks come no more."""
        self._due.set_all(
            lambda other, at: min(self._replanned(other, now), at) if other.scheduled_by_model else at
        )

    def _replanned(self, job: _J, now: float) -> float:
        if not self.calls.waits_for(job):
            age = self._cadence.replanned(job.model, job.pending_at)
        elif job.pending_at:
            age = self.calls.next(job.model, job.pending_at, job.pending_at)
        else:
            age = self.calls.first(job, 0.0)
        return max(job.accepted_at + age, now)

    def _set_pace(self) -> None:
        """Have tasks asked more closely while others wait for one to be seen finished."""
        cap = self.running
        self._cadence.hurried = cap.active and len(self._queue) > 0 and cap.binds(self.in_flight)

    def _failed(self, job: _J, now: float, *, final: bool) -> QueryStep:
        if job.failing_since is None:
            job.failing_since = now
        if final or now - job.failing_since >= self._retries.query_retry_timeout:
            self.release(job)
            return QueryStep.STOP
        pause = min(_FIRST_RETRY * 2.0 ** min(job.failures, 16), _LONGEST_RETRY)
        job.failures += 1
        job.scheduled_by_model = False
        self._due.set(job, now + max(pause, self._polling.min_interval))
        return QueryStep.AGAIN

    # ---- both

    def next_deadline(self) -> float:
        """Return when the next deadline of a task passes, infinity if none has one."""
        return self._deadlines.next_time()

    def _count_in(self, job: _J) -> None:
        if not job.occupies_slot:
            job.occupies_slot = True
            self.in_flight += 1

    def _count_out(self, job: _J) -> None:
        if job.occupies_slot:
            job.occupies_slot = False
            self.in_flight -= 1


def _told(reply: Reply, limiter: ScopeLimiter) -> float | None:
    """Return for how many seconds *reply* asks *limiter* to be closed, None if it does not say or cannot be believed."""
    if reply.by_rate_limit_headers and reply.retry_after is not None and limiter.hints is not None:
        return limiter.hints.trusted_wait(reply.retry_after)
    return reply.retry_after
