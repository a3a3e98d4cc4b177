"""A callback as a value, the reading of its body, and the HTTP responses to callbacks.

The service does not document the body of a callback. Its sample code reads a flat body without a task id. The
similar service whose API it mirrors sends the reply of a query, with code 501 for a failed task. Unknown
fields are ignored, because a query confirms each callback.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping

import anyio
from attrs import field, frozen

from ruxa_async._api.reply import read_callback
from ruxa_async._api.task_status import task_status
from ruxa_async.results import TaskStatus

__all__ = (
    "FULL",
    "NO_METHOD",
    "NO_PATH",
    "NO_TOKEN",
    "SHOWN_PATH",
    "TAKEN",
    "TOO_LARGE",
    "TOO_LATE",
    "Answer",
    "Callback",
    "collect",
    "read_body",
)


@frozen(kw_only=True)
class Callback:
    """One callback of the service.

    *job* is the job id in its URL and *issued_at* when that URL was made, in seconds since the epoch.
    *task_id* and *status* come from the body; each is None if the body lacks it. If there is a status but no
    task id, ``status.task_id`` is empty. *size* is the size of the body in bytes.
    """

    job: bytes
    issued_at: float
    task_id: str | None = None
    status: TaskStatus | None = field(default=None, repr=False)
    size: int = 0

    @property
    def ended(self) -> bool:
        """Whether the callback reports that the task has ended."""
        return self.status is not None and self.status.state.terminal

    @property
    def pending(self) -> bool:
        """Whether the callback reports that the task is still running."""
        return self.status is not None and not self.status.state.terminal


def read_body(body: bytes) -> tuple[str | None, TaskStatus | None]:
    """Return the task id and the status in *body*, each None if absent."""
    reply = read_callback(body)
    if reply is None or reply.state is None:
        return (None if reply is None else reply.task_id), None
    return reply.task_id, task_status(reply.task_id or "", reply)


@frozen
class Answer:
    """The response to a callback: HTTP *status*, JSON *body*, and *headers* besides Content-Type.

    Responses give no reason beyond their status, so that a sender of forged callbacks learns nothing.
    """

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(factory=dict)


TAKEN = Answer(200, b'{"code":200,"msg":"success"}')
NO_TOKEN = Answer(401, b'{"code":401,"msg":"unauthorized"}')
NO_PATH = Answer(404, b'{"code":404,"msg":"not found"}')
NO_METHOD = Answer(405, b'{"code":405,"msg":"method not allowed"}', {"Allow": "POST"})
TOO_LATE = Answer(408, b'{"code":408,"msg":"request timeout"}')
TOO_LARGE = Answer(413, b'{"code":413,"msg":"content too large"}')
FULL = Answer(503, b'{"code":503,"msg":"try again later"}', {"Retry-After": "10"})
#: The path that access logs show instead of the real one, which holds a token.
SHOWN_PATH = "/(callback)"


async def collect(pieces: AsyncIterable[bytes], *, limit: int, timeout: float) -> bytes | Answer:
    """Return the body in *pieces*, or the response if it exceeds *limit* bytes or *timeout* seconds."""
    body = bytearray()
    try:
        with anyio.fail_after(timeout):
            async for piece in pieces:
                body += piece
                if len(body) > limit:
                    return TOO_LARGE
    except TimeoutError:
        return TOO_LATE
    return bytes(body)
