"""`GenerationTask`: one paid task, to be waited for now or later."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import anyio

from ruxa_async.errors import PollingStoppedError, TaskTimeout
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import Generation, TaskStatus

from .config import checked_timeout
from .job import ClientJob

if TYPE_CHECKING:
    from .driver import Driver

__all__ = ("GenerationTask",)


class _Timeout(enum.Enum):
    """What stands for a timeout that is not given."""

    OF_CLIENT = "Timeouts.task"

    def __repr__(self) -> str:
        return self.value


class GenerationTask:
    """A task that the service accepted; made by ``submit`` and ``attach``.

    Its state is followed by the client whether or not somebody waits, so *status* is what the last change brought
    (None before the first). Waiting can be given up and begun again at will: it never costs anything.
    """

    def __init__(
        self,
        job: ClientJob,
        driver: Driver,
        finish: Callable[[ClientJob], Generation],
        default_timeout: float | None,
    ) -> None:
        self._job = job
        self._driver = driver
        self._finish = finish
        self._default_timeout = default_timeout
        self._followed = job.request is not None

    def __repr__(self) -> str:
        job = self._job
        state = "done" if job.ended else job.status.state.value if job.status is not None else "accepted"
        return f"<GenerationTask {job.task_id} model={job.model!r} {state}>"

    @property
    def task_id(self) -> str:
        """The service's id of the task; empty if its create was lost and the callback that told its end did not name it."""
        return self._job.task_id or ""

    @property
    def model(self) -> str | None:
        """The model, None if the task was attached to without naming it."""
        return self._job.model

    @property
    def key(self) -> str | None:
        """The caller's own name for the job."""
        return self._job.key

    @property
    def request(self) -> GenerationRequest | None:
        """What was asked for, None if the task was attached to."""
        return self._job.request

    @property
    def status(self) -> TaskStatus | None:
        """What the last change brought, None before the first query."""
        return self._job.status

    @property
    def done(self) -> bool:
        """Tell whether the end is known, so that `result` returns or raises at once."""
        return self._job.ended

    async def result(self, timeout: float | _Timeout | None = _Timeout.OF_CLIENT) -> Generation:
        """Wait for the end and return what was made.

        *timeout* is in seconds from now, None for no limit; the default is ``Timeouts.task``. Raises
        `TaskFailedError`, `TaskTimeout` (the task lives on, wait again or attach later), `PollingStoppedError`,
        `MalformedResponseError`, `ClientClosedError`, and ValueError for a timeout below 0 or NaN.
        """
        limit = (
            self._default_timeout if isinstance(timeout, _Timeout) else checked_timeout("timeout", timeout)
        )
        with anyio.move_on_after(limit):
            await self._ended()
        if not self._job.ended:
            assert limit is not None
            raise TaskTimeout(self.task_id, limit)
        if self._job.error is not None:
            raise self._job.error
        return self._finish(self._job)

    async def updates(self) -> AsyncIterator[TaskStatus]:
        """Iterate over every change of state that a query sees, the terminal one last.

        Changes from before the iteration are given as one. A failed task ends the iteration like any other.
        Raises `PollingStoppedError`, `ClientClosedError`.
        """
        job = self._job
        seen: deque[TaskStatus] = deque()
        if job.status is not None:
            seen.append(job.status)
        self._follow()
        if job.listeners is None:
            job.listeners = []
        job.listeners.append(seen)
        try:
            while True:
                while seen:
                    yield seen.popleft()
                if job.ended:
                    break
                await self._driver.changed(job)
        finally:
            job.listeners = [other for other in job.listeners if other is not seen]
        if isinstance(job.error, PollingStoppedError):
            raise job.error

    async def _ended(self) -> None:
        self._follow()
        if self._job.ended:
            await anyio.lowlevel.checkpoint()
        while not self._job.ended:
            await self._driver.changed(self._job)

    def _follow(self) -> None:
        """Begin to follow a task that was attached to."""
        if not self._followed:
            self._driver.follow(self._job)
            self._followed = True
