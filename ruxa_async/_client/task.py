"""`GenerationTask`: the handle on one accepted task."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import anyio

from ruxa_async.errors import PollingStoppedError, RuxaError, TaskTimeout
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import Generation, TaskStatus

from .async_only import awaited_as
from .config import checked_timeout
from .job import ClientJob

if TYPE_CHECKING:
    from .driver import Driver

__all__ = ("DefaultTimeout", "GenerationTask", "own_instance")


def own_instance(error: Exception) -> Exception:
    """Return a copy of *error*, if it is ours: one raised twice collects the tracebacks of both."""
    if not isinstance(error, RuxaError):
        return error
    copy = type(error).__new__(type(error))
    copy.args = error.args
    vars(copy).update(vars(error))
    copy.__cause__ = error.__cause__
    return copy


class DefaultTimeout(enum.Enum):
    """The default of a timeout parameter, shown by its name in signatures."""

    OF_CLIENT = "Timeouts.task"

    def __repr__(self) -> str:
        return self.value


class GenerationTask:
    """A task that the service accepted; ``submit`` and ``attach`` return it.

    The client follows its state whether or not you wait. You may stop waiting and begin again at any time,
    free of charge.
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
        """The service's id of the task; empty if the create's reply was lost and the callback holds no id."""
        return self._job.task_id or ""

    @property
    def model(self) -> str | None:
        """The model, None if the task was attached to without one."""
        return self._job.model

    @property
    def key(self) -> str | None:
        """The key of the request, None if it has none."""
        return self._job.key

    @property
    def request(self) -> GenerationRequest | None:
        """The request, None if the task was attached to."""
        return self._job.request

    @property
    def status(self) -> TaskStatus | None:
        """The status at the last change of state, None before the first query."""
        return self._job.status

    @property
    def done(self) -> bool:
        """Whether the task is over, so that `result` returns or raises at once."""
        return self._job.ended

    @awaited_as("await task.result")
    async def result(self, timeout: float | DefaultTimeout | None = DefaultTimeout.OF_CLIENT) -> Generation:
        """Wait for the end and return the generation.

        *timeout* is in seconds from now, None for no limit; the default is ``Timeouts.task``. Raises
        `TaskFailedError`, `TaskTimeout` (the task lives on, wait again or attach later),
        `PollingStoppedError`, `MalformedResponseError`, `ClientClosedError`, and ValueError for a timeout
        below 0 or NaN.
        """
        limit = (
            self._default_timeout
            if isinstance(timeout, DefaultTimeout)
            else checked_timeout("timeout", timeout)
        )
        with anyio.move_on_after(limit):
            await self._wait_for_end()
        if not self._job.ended:
            assert limit is not None
            raise TaskTimeout(self.task_id, limit)
        if self._job.error is not None:
            raise own_instance(self._job.error)
        return self._finish(self._job)

    async def updates(self) -> AsyncIterator[TaskStatus]:
        """Iterate over every change of state that a query finds, the terminal one last.

        The first status is the current one, if there is one. A failed task ends the iteration like any other.
        Raises `PollingStoppedError`, `ClientClosedError`.
        """
        job = self._job
        statuses: deque[TaskStatus] = deque()
        if job.status is not None:
            statuses.append(job.status)
        self._follow()
        if job.listeners is None:
            job.listeners = []
        job.listeners.append(statuses)
        try:
            while True:
                while statuses:
                    yield statuses.popleft()
                if job.ended:
                    break
                await self._driver.wait_for_change(job)
        finally:
            job.listeners = [other for other in job.listeners if other is not statuses]
        if isinstance(job.error, PollingStoppedError):
            raise own_instance(job.error)

    async def _wait_for_end(self) -> None:
        self._follow()
        if self._job.ended:
            await anyio.lowlevel.checkpoint()
        while not self._job.ended:
            await self._driver.wait_for_change(self._job)

    def _follow(self) -> None:
        if not self._followed:  # a task that was attached to
            self._driver.follow(self._job)
            self._followed = True
