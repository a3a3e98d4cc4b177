"""What the body of a callback says. Pure.

No page of the service shows one. A sample reads a flat body without a task id; the sibling whose interface the service
mirrors sends the envelope of a query, with code 501 for a task that failed. Whatever is not understood is left out: a
callback is a hint, and a query confirms it.
"""

from __future__ import annotations

from attrs import field, frozen

from ruxa_async._api.reply import read_callback
from ruxa_async._api.task_status import task_status
from ruxa_async.results import TaskStatus

__all__ = ("Callback", "read_body")


@frozen(kw_only=True)
class Callback:
    """One post that the service made for one of our jobs.

    *job* is the job's id in the address, *issued_at* when that address was given out (seconds since the epoch).
    *task_id* and *status* are what the body says, None where it says nothing of the kind; in a status without a task
    id, the id is empty. *size* is that of the body in bytes.
    """

    job: bytes
    issued_at: float
    task_id: str | None = None
    status: TaskStatus | None = field(default=None, repr=False)
    size: int = 0

    @property
    def ended(self) -> bool:
        """Whether it says that the task is over."""
        return self.status is not None and self.status.state.terminal

    @property
    def pending(self) -> bool:
        """Whether it says that the task still runs."""
        return self.status is not None and not self.status.state.terminal


def read_body(body: bytes) -> tuple[str | None, TaskStatus | None]:
    """Return the task id and the status that *body* names, None for what it does not."""
    reply = read_callback(body)
    if reply is None or reply.state is None:
        return (None if reply is None else reply.task_id), None
    return reply.task_id, task_status(reply.task_id or "", reply)
