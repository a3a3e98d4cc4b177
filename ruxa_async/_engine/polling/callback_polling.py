"""When to poll a task whose callback is expected, and whether callbacks are reliable.

A callback triggers one query, and only the reply to that query counts. A task whose callback is lost is
found by a later query.

While callbacks are reliable, a task is polled only from the age by which 99 % of its model's tasks have
ended. A few tasks, the probes, are polled earlier. They measure the share of lost callbacks: the other tasks
show a callback that arrives at once, but a lost one only at that late age. When too many probes end without a
callback, every task is polled as if callbacks did not exist, until 25 tasks in a row end with one.
"""

from __future__ import annotations

import enum
import math
from collections import OrderedDict
from typing import Generic, TypeVar

from ruxa_async._engine.job import Job

from .schedule import PollingSchedule

__all__ = ("CallbackPolling", "CallbackStep")

#: Finished jobs whose callback ids are kept, to recognise a late callback: 10 MB at most.
_REMEMBERED = 65_536
#: Weight of the newest task in the share of lost callbacks (EWMA): about the last six tasks count.
_WEIGHT = 1.0 / 6.0
#: Share of lost callbacks: the initial one, the one above which callbacks are unreliable, and the one below
#: which they are reliable again. One loss at the start makes them unreliable, because a wrong address or a
#: firewall is the usual cause. To return takes 25 callbacks in a row: of tasks that end together, those with
#: a callback are seen first, so a shorter row proves little.
_INITIAL_LOSS = 0.2
_UNRELIABLE_ABOVE = 0.25
_RELIABLE_BELOW = 0.01
#: The first 12 tasks of each model are probes, and their ends also show its durations. Later one in 48 is.
_FIRST_PROBES = 12
_PROBE_ONE_IN = 48
#: A probe is first polled at the median duration, but not before 2 s; each next poll is at 1.5 times the age.
_PROBE_GROWTH = 1.5
_EARLIEST_PROBE = 2.0
#: Seconds after the latest usual age of a task in which its callback may still arrive before a query is sent.
_DELIVERY_TIME = 1.0

_J = TypeVar("_J", bound=Job)


class CallbackStep(enum.Enum):
    """What the client does about a callback."""

    #: The task is queried now; nothing else is to be done.
    WOKEN = enum.auto()
    #: It proves that a create of unknown outcome was accepted, and holds its id or result: follow the task.
    RECOVER = enum.auto()
    #: It proves that a create was accepted that is queued to be sent again, but does not hold its id: do not
    #: send it, and wait for the next callback.
    AWAIT_NEXT = enum.auto()
    #: The create is on the wire: keep the callback in case the reply is lost.
    EARLY = enum.auto()
    #: Do nothing, for example because the task still runs.
    NOTED = enum.auto()
    #: The job is over.
    LATE = enum.auto()
    #: The callback is for no job of this client.
    UNCLAIMED = enum.auto()


class CallbackPolling(Generic[_J]):
    """The callbacks that one client expects, and whether they arrive reliably."""

    def __init__(self, schedule: PollingSchedule) -> None:
        self._schedule = schedule
        self._expected: dict[bytes, _J] = {}
        #: Ids of finished jobs, and whether they ended without a callback.
        self._over: OrderedDict[bytes, bool] = OrderedDict()
        self._loss = _INITIAL_LOSS
        self._probes: set[bytes] = set()
        self._first_probes: dict[str | None, int] = {}
        self._lost: set[bytes] = set()
        #: Whether callbacks arrive, so that queries may wait for them.
        self.reliable: bool = True

    def expect(self, job: _J, callback_id: bytes) -> None:
        """Expect the callback *callback_id* for *job*, in place of one expected before."""
        if job.callback_id is not None:
            self._expected.pop(job.callback_id, None)
        job.callback_id = callback_id
        job.callback_at = math.inf
        self._expected[callback_id] = job

    def forget(self, job: _J) -> None:
        """Stop expecting a callback for *job*; one that still comes is `LATE` if its task is known."""
        if job.callback_id is None or self._expected.pop(job.callback_id, None) is None:
            return
        self._probes.discard(job.callback_id)
        if job.task_id is not None or job.callback_at != math.inf:
            self._over[job.callback_id] = job.callback_id in self._lost
            self._lost.discard(job.callback_id)
            if len(self._over) > _REMEMBERED:
                self._over.popitem(last=False)

    def look_up(self, callback_id: bytes) -> tuple[CallbackStep, _J | None]:
        """Return `NOTED` and the job that expects *callback_id*.

        If none does, return None beside `LATE` if its job has ended, else beside `UNCLAIMED`.
        """
        job = self._expected.get(callback_id)
        if job is not None:
            return CallbackStep.NOTED, job
        if callback_id not in self._over:
            return CallbackStep.UNCLAIMED, None
        if self._over[callback_id]:
            # Not lost after all: the query was faster than the callback.
            self._over[callback_id] = False
            self._loss = max(0.0, self._loss - _WEIGHT)
            self._update_reliable()
        return CallbackStep.LATE, None

    def on_end(self, job: _J) -> bool:
        """Count whether *job*, which ended, got its callback; return whether `reliable` changed.

        Call it before `forget`.
        """
        if job.callback_id is None or job.callback_at is None or (self.reliable and not self._is_probe(job)):
            return False
        is_lost = job.callback_at == math.inf
        if is_lost:
            self._lost.add(job.callback_id)
        self._loss += _WEIGHT * (is_lost - self._loss)
        return self._update_reliable()

    def _update_reliable(self) -> bool:
        before = self.reliable
        self.reliable = self._loss < (_UNRELIABLE_ABOVE if before else _RELIABLE_BELOW)
        return self.reliable is not before

    # ---- polls

    def waits_for(self, job: _J) -> bool:
        """Tell whether polls of *job* wait for its callback."""
        return self.reliable and job.callback_at == math.inf

    def first_poll(self, job: _J, age: float) -> float:
        """Return the age at which to poll *job* first, whose callback is awaited; it is *age* seconds old."""
        if self._is_probe(job):
            return max(_PROBE_GROWTH * age, self._schedule.median(job.model) or 0.0, _EARLIEST_PROBE)
        return max(self._schedule.latest_usual_age(job.model), age) + _DELIVERY_TIME

    def _is_probe(self, job: _J) -> bool:
        assert job.callback_id is not None
        if job.callback_id in self._probes:
            return True
        probes = self._first_probes.get(job.model, 0)
        if probes == _FIRST_PROBES:
            # Ids are random, so their first byte draws the probes. The first ones suffice until one has
            # ended.
            return job.callback_id[0] < 256 // _PROBE_ONE_IN and self._schedule.median(job.model) is not None
        self._first_probes[job.model] = probes + 1
        self._probes.add(job.callback_id)
        return True

    def next_poll(self, model: str | None, age: float, pending_at: float) -> float:
        """Return the age at which to poll a task next, whose callback is awaited; it is *age* seconds old."""
        return max(_PROBE_GROWTH * pending_at, self._schedule.next_poll(model, age, pending_at))
