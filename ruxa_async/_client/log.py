"""What a client logs when its logger is enabled: its events, and one line for each HTTP request.

It is wired in only when a client is made, so a client that logs nothing pays nothing. No line holds the key
or a prompt; messages of the service are cut to 200 characters.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import urlsplit

import anyio
import attrs

from ruxa_async import events
from ruxa_async._logging import logger
from ruxa_async.results import JobRecord, TaskStatus
from ruxa_async.transports import Request, Response, StreamedResponse, Transport

__all__ = ("ClientLog", "LoggedTransport", "observed")

_INFO = (
    events.CreateRefused,
    events.CreateUnknown,
    events.ScopePaused,
    events.TaskAccepted,
    events.TaskEnded,
)
#: These have a line of their own kind: the HTTP request, or the warning.
_SKIPPED = (
    events.CreateSent,
    events.QuerySent,
    events.TaskOrphaned,
    events.CircuitOpened,
    events.CircuitClosed,
)
#: After these a request is sent no more.
_SETTLED = (events.CreateRefused, events.CreateUnknown, events.JobWithdrawn, events.TaskAccepted)
_LONGEST = 200
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def observed(
    hook: events.EventHook | None, transport: Transport
) -> tuple[events.EventHook | None, Transport]:
    """Return *hook* and *transport* as they are, or with logging before them where the logger is enabled."""
    if not logger.isEnabledFor(logging.INFO):
        return hook, transport
    log = ClientLog(hook)
    return log.on_event, LoggedTransport(transport, log) if logger.isEnabledFor(logging.DEBUG) else transport


class ClientLog:
    """Logs events, and counts the attempts of what is being sent."""

    def __init__(self, hook: events.EventHook | None = None) -> None:
        self._hook = hook
        self._attempts: Counter[object] = Counter()
        #: Which attempt the next request is: its event comes just before it, in the same turn of the loop.
        self.attempt = 1

    def on_event(self, event: events.Event | events.ClientEvent) -> None:
        """Log *event* and pass it on."""
        self._count(event)
        level = logging.INFO if isinstance(event, _INFO) else logging.DEBUG
        if not isinstance(event, _SKIPPED) and logger.isEnabledFor(level):
            logger.log(level, "%s", _in_words(event))
        if self._hook is not None:
            self._hook(event)

    def _count(self, event: events.Event | events.ClientEvent) -> None:
        match event:
            case events.CreateSent(job=job):
                place: object = (id(job.request), job.index)
            case events.QuerySent(job=job):
                place = job.task_id
            case events.TaskEnded(job=job):
                self._attempts.pop(job.task_id, None)
                return
            case _:
                if isinstance(event, _SETTLED):
                    self._attempts.pop((id(event.job.request), event.job.index), None)
                return
        self._attempts[place] += 1
        self.attempt = self._attempts[place]


class LoggedTransport:
    """Logs method, path, status, milliseconds and attempt of each request that *inner* carries."""

    def __init__(self, inner: Transport, log: ClientLog) -> None:
        self._inner = inner
        self._log = log

    async def send(self, request: Request) -> Response:
        """Exchange *request* for a whole reply."""
        attempt, began = self._log.attempt, anyio.current_time()
        path = urlsplit(request.url).path
        try:
            response = await self._inner.send(request)
        except BaseException as error:
            said = _cut(f"{type(error).__name__}: {error}")
            logger.debug(
                "%s %s failed in %d ms (attempt %d): %s", request.method, path, _ms(began), attempt, said
            )
            raise
        logger.debug(
            "%s %s %d in %d ms (attempt %d)", request.method, path, response.status, _ms(began), attempt
        )
        return response

    def stream(self, request: Request) -> AbstractAsyncContextManager[StreamedResponse]:
        """Open *request* for reading its body in pieces."""
        return self._streamed(request)

    @asynccontextmanager
    async def _streamed(self, request: Request) -> AsyncIterator[StreamedResponse]:
        began, url = anyio.current_time(), urlsplit(request.url)
        async with self._inner.stream(request) as response:
            # Without the query, in which signatures are.
            logger.debug(
                "%s %s%s %d in %d ms", request.method, url.hostname, url.path, response.status, _ms(began)
            )
            yield response

    async def aclose(self) -> None:
        """Let go of every connection."""
        await self._inner.aclose()


def _ms(began: float) -> int:
    return round((anyio.current_time() - began) * 1000)


def _in_words(event: events.Event | events.ClientEvent) -> str:
    """Return the kind of *event*, its task or request, and its details."""
    kind = _CAPITAL.sub(" ", type(event).__name__).lower()
    about = _about(event.job) if isinstance(event, events.Event) else ""
    fields = (field.name for field in attrs.fields(type(event)) if field.name not in ("at", "job"))
    details = [f"{name}={_said(value)}" for name in fields if (value := getattr(event, name)) is not None]
    return " ".join(filter(None, (kind, about, *details)))


def _about(job: JobRecord) -> str:
    place = None if job.index is None else f"request {job.index}"
    named = job.task_id or (None if job.key is None else repr(_cut(job.key))) or place or "request"
    return f"{named} ({job.model})" if job.model else named


def _said(value: object) -> str:
    if isinstance(value, TaskStatus):
        return value.state.value
    if isinstance(value, BaseException):
        return repr(_cut(f"{type(value).__name__}: {value}"))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
