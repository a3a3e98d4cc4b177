"""Log lines of a client: one for each event, and one for each HTTP request.

Logging is added only if the logger is enabled when the client is made. No line holds the key or a prompt.
Messages of the service are cut to 200 characters.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import anyio
import attrs

from ruxa_async import events
from ruxa_async._logging import logger
from ruxa_async.results import JobRecord, TaskStatus
from ruxa_async.transports import Request, Response, StreamedResponse, Transport

__all__ = ("ClientLog", "LoggedTransport", "add_logging")

_INFO = (
    events.CreateRefused,
    events.CreateUnknown,
    events.ScopePaused,
    events.TaskAccepted,
    events.TaskEnded,
)
#: Events without a line of their own: the HTTP request or a warning is logged for them.
_SKIPPED = (
    events.CreateSent,
    events.QuerySent,
    events.TaskOrphaned,
    events.CircuitOpened,
    events.CircuitClosed,
    events.ClientClosed,
    events.DownloadEnded,
)
#: Events after which a request is not sent again.
_SETTLED = (
    events.CreateAbandoned,
    events.CreateRefused,
    events.CreateUnknown,
    events.JobWithdrawn,
    events.TaskAccepted,
)
_NOT_SHOWN = ("at", "job", "job_id")
_LONGEST = 200
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def add_logging(
    hook: events.EventHook | None, transport: Transport
) -> tuple[events.EventHook | None, Transport]:
    """Return *hook* and *transport*, wrapped in logging if the logger is enabled."""
    if not logger.isEnabledFor(logging.INFO):
        return hook, transport
    log = ClientLog(hook)
    return log.on_event, LoggedTransport(transport, log) if logger.isEnabledFor(logging.DEBUG) else transport


class ClientLog:
    """Logs events, and counts the attempts of each request."""

    def __init__(self, hook: events.EventHook | None = None) -> None:
        self._hook = hook
        self._attempts: Counter[object] = Counter()
        #: The number of the current attempt, set by the event just before the request is sent.
        self.attempt: int = 1

    def on_event(self, event: events.Event | events.ClientEvent) -> None:
        self._count(event)
        level = logging.INFO if isinstance(event, _INFO) else logging.DEBUG
        if not isinstance(event, _SKIPPED) and logger.isEnabledFor(level):
            logger.log(level, "%s", _in_words(event))
        if self._hook is not None:
            self._hook(event)

    def _count(self, event: events.Event | events.ClientEvent) -> None:
        match event:
            case events.CreateSent(job=job):
                request: object = (id(job.request), job.index)
            case events.QuerySent(job=job):
                request = job.task_id
            case events.TaskEnded(job=job) | events.TaskReleased(job=job):
                self._attempts.pop(job.task_id, None)
                return
            case _:
                if isinstance(event, _SETTLED):
                    self._attempts.pop((id(event.job.request), event.job.index), None)
                return
        self._attempts[request] += 1
        self.attempt = self._attempts[request]


class LoggedTransport:
    """Logs method, path, status, milliseconds and attempt number of each request sent by *inner*."""

    def __init__(self, inner: Transport, log: ClientLog) -> None:
        self._inner = inner
        self._log = log

    async def send(self, request: Request) -> Response:
        attempt, began = self._log.attempt, anyio.current_time()
        path = urlsplit(request.url).path
        try:
            response = await self._inner.send(request)
        except BaseException as error:
            failure = _cut(f"{type(error).__name__}: {error}")
            logger.debug(
                "%s %s failed in %d ms (attempt %d): %s", request.method, path, _ms(began), attempt, failure
            )
            raise
        logger.debug(
            "%s %s %d in %d ms (attempt %d)", request.method, path, response.status, _ms(began), attempt
        )
        return response

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[StreamedResponse]:
        began, url = anyio.current_time(), urlsplit(request.url)
        async with self._inner.stream(request) as response:
            # Without the query, which may hold a signature.
            logger.debug(
                "%s %s%s %d in %d ms", request.method, url.hostname, url.path, response.status, _ms(began)
            )
            yield response

    async def aclose(self) -> None:
        await self._inner.aclose()


def _ms(began: float) -> int:
    return round((anyio.current_time() - began) * 1000)


def _in_words(event: events.Event | events.ClientEvent) -> str:
    kind = _CAPITAL.sub(" ", type(event).__name__).lower()
    about = _about(event.job) if isinstance(event, events.Event) else ""
    fields = (field.name for field in attrs.fields(type(event)) if field.name not in _NOT_SHOWN)
    details = [f"{name}={_text(value)}" for name in fields if (value := getattr(event, name)) is not None]
    return " ".join(filter(None, (kind, about, *details)))


def _about(job: JobRecord) -> str:
    place = None if job.index is None else f"request {job.index}"
    named = job.task_id or (None if job.key is None else repr(_cut(job.key))) or place or "request"
    return f"{named} ({job.model})" if job.model else named


def _text(value: object) -> str:
    if isinstance(value, TaskStatus):
        return value.state.value
    if isinstance(value, BaseException):
        return repr(_cut(f"{type(value).__name__}: {value}"))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
