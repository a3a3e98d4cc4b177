"""`GenerationTask` without async."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ruxa_async._client import task
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import Generation, TaskStatus

from ._loop_thread import LoopThread

__all__ = ("GenerationTask",)


class GenerationTask:
    """A task that the service accepted; ``submit`` and ``attach`` return it.

    The client follows its state whether or not you wait. You may stop waiting and begin again at any time,
    in any thread, free of charge.
    """

    def __init__(self, thread: LoopThread, ruxa: object, generation_task: task.GenerationTask) -> None:
        self._thread = thread
        self._ruxa = ruxa  # while this is in use, the client is not dropped
        self._task = generation_task

    def __repr__(self) -> str:
        return repr(self._task)

    @property
    def task_id(self) -> str:
        """The service's id of the task; empty if the create's reply was lost and the callback holds no id."""
        return self._task.task_id

    @property
    def model(self) -> str | None:
        """The model, None if the task was attached to without one."""
        return self._task.model

    @property
    def key(self) -> str | None:
        """The key of the request, None if it has none."""
        return self._task.key

    @property
    def request(self) -> GenerationRequest | None:
        """The request, None if the task was attached to."""
        return self._task.request

    @property
    def status(self) -> TaskStatus | None:
        """The status at the last change of state, None before the first query."""
        return self._task.status

    @property
    def done(self) -> bool:
        """Whether the task is over, so that `result` returns or raises at once."""
        return self._task.done

    def result(
        self, timeout: float | task.DefaultTimeout | None = task.DefaultTimeout.OF_CLIENT
    ) -> Generation:
        """Wait for the end and return the generation.

        *timeout* is in seconds from now, None for no limit; the default is ``Timeouts.task``. Raises what
        `ruxa_async.GenerationTask.result` raises.
        """
        return self._thread.call(partial(self._task.result, timeout))

    def updates(self) -> Iterator[TaskStatus]:
        """Iterate over every change of state that a query finds, the terminal one last.

        Raises `PollingStoppedError`, `ClientClosedError`.
        """
        updates = self._task.updates()
        while True:
            try:
                yield self._thread.call(updates.__anext__)
            except StopAsyncIteration:
                return
