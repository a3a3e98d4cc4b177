"""Callbacks: which are expected, what one that came leads to, and how far they can be relied on.

A callback is a hint. It wakes the task that it is about, and one query confirms what it says; so nothing is decided by
what it claims, and a task whose callback never comes is found by a query all the same.

While callbacks announce the ends of tasks, a task is first asked when nearly all of its kind have ended. Whether they
do is seen by a few probes, which are asked earlier: of the others, callbacks that come are seen at once, those that do
not only at the end, so that half of them may fail for long before it shows. Where probes find tasks that ended unannounced,
every task is asked as if there were no callbacks, until a row of ends is announced again.
"""

from __future__ import annotations

import enum
import math
from collections import OrderedDict
from typing import Generic, TypeVar

from ruxa_async._engine.job import Job

from .schedule import PollingSchedule

__all__ = ("CallbackPolling", "CallbackStep")

#: How many jobs that are over are remembered, so that a late callback is known for one.
_REMEMBERED = 65_536
#: How much the last end counts; what came before it fades.
_WEIGHT = 1.0 / 6.0
#: At this share of ends that no callback announced, queries do the work; at that one, after some 25 that were announced,
#: callbacks do again: of a wave of tasks those that were announced are seen first, so a short row says little. As many
#: are believed to fail at first as let one failure soon decide: a wrong address or a firewall is what fails most.
_BELIEVED = 0.2
_DOUBTED = 0.25
_TRUSTED_AGAIN = 0.01
#: Probes: the first tasks of each model, then one in so many. They are asked from their
#: model's median age on, or from the earliest, at ages that grow by so much.
_SCOUTS = 12
_ONE_IN = 48
_GROWTH = 1.5
_EARLIEST = 2.0
#: How long a callback may take on its way before a query looks for itself, in seconds.
_ON_ITS_WAY = 1.0

_J = TypeVar("_J", bound=Job)


class CallbackStep(enum.Enum):
    """What a callback leads to."""

    #: A query for the task leaves next.
    WOKEN = enum.auto()
    #: It settles a create of unknown outcome: adopt the task.
    ADOPT = enum.auto()
    #: The create was about to be sent again, but was accepted: hold it instead.
    HOLD = enum.auto()
    #: Its create is on the wire: keep it for the case that the reply is lost.
    EARLY = enum.auto()
    #: No more than a sign of life.
    NOTED = enum.auto()
    #: The job is over already.
    LATE = enum.auto()
    #: No job of this client.
    UNCLAIMED = enum.auto()


class CallbackPolling(Generic[_J]):
    """The callbacks of one client."""

    def __init__(self, polling: PollingSchedule) -> None:
        self._schedule = polling
        self._expected: dict[bytes, _J] = {}
        #: Jobs that are over, and whether that counted as one whose callback failed.
        self._over: OrderedDict[bytes, bool] = OrderedDict()
        self._missing = _BELIEVED
        self._probes: set[bytes] = set()
        self._scouts: dict[str | None, int] = {}
        self._missed: set[bytes] = set()
        #: Whether callbacks come, so that queries may wait for them.
        self.reliable = True

    def expect(self, job: _J, callback_id: bytes) -> None:
        """Expect a callback for *job* that is known as *callback_id*, and for an earlier attempt of it no longer."""
        if job.callback_id is not None:
            self._expected.pop(job.callback_id, None)
        job.callback_id = callback_id
        job.callback_at = math.inf
        self._expected[callback_id] = job

    def forget(self, job: _J) -> None:
        """Expect no callback for *job*; one that still comes is late if its task is known."""
        if job.callback_id is None or self._expected.pop(job.callback_id, None) is None:
            return
        self._probes.discard(job.callback_id)
        if job.task_id is not None or job.callback_at != math.inf:
            self._over[job.callback_id] = job.callback_id in self._missed
            self._missed.discard(job.callback_id)
            if len(self._over) > _REMEMBERED:
                self._over.popitem(last=False)

    def look_up(self, callback_id: bytes) -> tuple[CallbackStep, _J | None]:
        """Return the job that a callback is about and, if there is none, whether it is over."""
        job = self._expected.get(callback_id)
        if job is not None:
            return CallbackStep.NOTED, job
        if callback_id not in self._over:
            return CallbackStep.UNCLAIMED, None
        if self._over[callback_id]:
            # The query was quicker than the callback, which came all the same.
            self._over[callback_id] = False
            self._missing = max(0.0, self._missing - _WEIGHT)
            self._judge()
        return CallbackStep.LATE, None

    def ended(self, job: _J) -> bool:
        """Learn from the end of *job*, before it is forgotten, how far callbacks can be relied on; tell whether that changed."""
        if job.callback_id is None or job.callback_at is None or (self.reliable and not self._is_probe(job)):
            return False
        missed = job.callback_at == math.inf
        if missed:
            self._missed.add(job.callback_id)
        self._missing += _WEIGHT * (missed - self._missing)
        return self._judge()

    def _judge(self) -> bool:
        before = self.reliable
        self.reliable = self._missing < (_DOUBTED if before else _TRUSTED_AGAIN)
        return self.reliable is not before

    # ---- when to ask nevertheless

    def waits_for(self, job: _J) -> bool:
        """Tell whether the callback of *job* is relied on to come."""
        return self.reliable and job.callback_at == math.inf

    def first_poll(self, job: _J, age: float) -> float:
        """Return the age at which to ask *job* first, whose callback is waited for; it is so old."""
        if self._is_probe(job):
            return max(_GROWTH * age, self._schedule.median(job.model) or 0.0, _EARLIEST)
        return max(self._schedule.latest_usual_age(job.model), age) + _ON_ITS_WAY

    def _is_probe(self, job: _J) -> bool:
        assert job.callback_id is not None
        if job.callback_id in self._probes:
            return True
        scouts = self._scouts.get(job.model, 0)
        if scouts == _SCOUTS:
            # Ids are random. Of a model of which nothing is known, the scouts show enough.
            return job.callback_id[0] < 256 // _ONE_IN and self._schedule.median(job.model) is not None
        self._scouts[job.model] = scouts + 1
        self._probes.add(job.callback_id)
        return True

    def next_poll(self, model: str | None, age: float, pending_at: float) -> float:
        """Return the age at which to ask a task again that is *age* old and whose callback is waited for."""
        return max(_GROWTH * pending_at, self._schedule.next_poll(model, age, pending_at))
