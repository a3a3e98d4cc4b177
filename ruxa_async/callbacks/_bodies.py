"""The body of a callback. Pure.

The service does not document it. A sample of the service reads a flat body without a task id. The similar
service whose API it mirrors sends the reply of a query, with code 501 for a failed task. Fields that are not
understood are ignored: a callback is a hint that a query confirms.
"""

from __future__ import annotations

from attrs import field, frozen

from ruxa_async._api.reply import read_callback
from ruxa_async._api.task_status import task_status
from ruxa_async.results import TaskStatus

__all__ = ("Callback", "read_body")


@frozen(kw_only=True)
class Callback:
    """One callback of the service.

    *job* is the job id in its URL and *issued_at* when that URL was made, in seconds since the epoch.
    *task_id* and *status* come from the body, None if it does not hold them; a status without a task id has
    an empty one. *size* is the size of the body in bytes.
    """

    job: bytes
    issued_at: float
    task_id: str | None = None
    status: TaskStatus | None = field(default=None, repr=False)
    size: int = 0

    @property
    def ended(self) -> bool:
        """Whether it reports that the task has ended."""
        return self.status is not None and self.status.state.terminal

    @property
    def pending(self) -> bool:
        """Whether it reports that the task is still running."""
        return self.status is not None and not self.status.state.terminal


def read_body(body: bytes) -> tuple[str | None, TaskStatus | None]:
    """Return the task id and the status in *body*, each None if absent."""
    reply = read_callback(body)
    if reply is None or reply.state is None:
        return (None if reply is None else reply.task_id), None
    return reply.task_id, task_status(reply.task_id or "", reply)
