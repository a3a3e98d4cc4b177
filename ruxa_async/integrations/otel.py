"""Traces and metrics of a client through OpenTelemetry. Install the extra ``otel``."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from attrs import define, field

from ruxa_async import events
from ruxa_async._version import __version__
from ruxa_async.errors import MissingExtraError
from ruxa_async.results import JobRecord, TaskStatus

try:
    from opentelemetry import metrics, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, Tracer
except ImportError as _exc:
    raise MissingExtraError("ruxa_async.integrations.otel", "otel") from _exc

from ._otel_attributes import Attributes, attributes_of, error_type, outcome_of, prompt_of
from ._otel_metrics import Metrics

__all__ = ("instrument",)

_NAME = "ruxa_async"
#: Ended tasks whose spans a download can still link to.
_REMEMBERED = 1000

#: Returns the links of a task that another process bought.
LinksOf: TypeAlias = Callable[[JobRecord], Sequence[Link]]


class _HasEvents(Protocol):
    def add_event_hook(self, hook: events.EventHook) -> None: ...


def instrument(
    client: _HasEvents,
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
    capture_content: bool = False,
    links: LinksOf | None = None,
) -> None:
    """Emit traces and metrics of *client*, a `RuxaClient` with or without async, until it closes.

    Each request is a span ``generate_content MODEL`` with the children ``ruxa.submit`` and ``ruxa.wait``. Its
    parent is the span in which you called the client. A download is a span ``ruxa.download`` that links to
    the span of its request.

    The providers default to the global ones. With *capture_content* the spans hold prompts and the messages
    of errors, otherwise only the types of errors. *links* is called with the record of each task that was
    bought earlier and is followed now; it returns links to the spans of that time.
    """
    tracer = trace.get_tracer(_NAME, __version__, tracer_provider)
    meter = metrics.get_meter(_NAME, __version__, meter_provider)
    client.add_event_hook(_Spans(tracer, links, capture_content=capture_content).on_event)
    client.add_event_hook(Metrics(meter).on_event)


@define(eq=False)
class _Operation:
    """The open spans of one job; *step* is its submit or its wait."""

    span: Span
    step: Span
    attempts: int = 0


@define(eq=False)
class _Spans:
    """Begins and ends spans as events come."""

    _tracer: Tracer
    _links: LinksOf | None
    _capture_content: bool = field(kw_only=True)
    _open: dict[int, _Operation] = field(factory=dict, init=False)
    _ended: OrderedDict[str, SpanContext] = field(factory=OrderedDict, init=False)

    def on_event(self, event: events.Event | events.ClientEvent) -> None:
        match event:
            case events.JobQueued():
                self._begin(event, "ruxa.submit")
            case events.TaskFollowed():
                links = () if self._links is None else self._links(event.job)
                self._begin(event, "ruxa.wait", links)
            case events.Event():
                operation = self._open.get(event.job_id)
                if operation is not None:
                    self._on_job(operation, event)
                elif isinstance(event, events.TaskAccepted):
                    self._begin(event, "ruxa.wait")  # a callback proved a create of an earlier run
            case events.DownloadEnded():
                self._add_download(event)
            case events.ClientClosed():
                for operation in self._open.values():
                    _end(operation, "client closed")
                self._open.clear()

    def _begin(self, event: events.Event, step: str, links: Sequence[Link] = ()) -> None:
        job = event.job
        attributes = attributes_of(job.model, job.task_id)
        if self._capture_content:
            attributes |= prompt_of(job.request)
        name = f"generate_content {job.model}" if job.model else "generate_content"
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes, links=links)
        self._open[event.job_id] = _Operation(span, self._begin_step(step, span))

    def _begin_step(self, name: str, operation: Span) -> Span:
        # An empty context: the baggage of the caller is not needed, its span is the parent of the operation.
        return self._tracer.start_span(name, trace.set_span_in_context(operation, Context()))

    def _on_job(self, operation: _Operation, event: events.Event) -> None:
        match event:
            case events.CreateSent():
                operation.attempts += 1
            case events.CreateThrottled(retry_after=seconds):
                wait: Attributes = {} if seconds is None else {"ruxa.retry_after": seconds}
                operation.step.add_event("create rejected", wait)
            case events.CreateUnsent(error=error):
                operation.step.add_event("create not sent", {"error.type": error_type(error)})
            case events.QueryFailed(error=error):
                operation.step.add_event("query failed", {"error.type": error_type(error)})
            case events.TaskAccepted(job=job):
                operation.span.set_attributes(attributes_of(job.model, job.task_id))
                operation.step.set_attribute("ruxa.create.attempts", operation.attempts)
                operation.step.end()
                operation.step = self._begin_step("ruxa.wait", operation.span)
            case events.TaskEnded():
                self._end_task(operation, event)
            case _ if outcome_of(event) is not None:
                self._end_job(operation, event)

    def _end_task(self, operation: _Operation, event: events.TaskEnded) -> None:
        operation.step.set_attribute("ruxa.query.count", event.queries)
        operation.span.set_attributes(_charge(event.status))
        self._end_job(operation, event)

    def _end_job(self, operation: _Operation, event: events.Event) -> None:
        error: BaseException | None = getattr(event, "error", None)
        del self._open[event.job_id]
        if event.job.task_id is not None:
            self._remember(event.job.task_id, operation.span.get_span_context())
        self._set_error(operation.step, error)
        self._set_error(operation.span, error)
        _end(operation, outcome_of(event) or "")

    def _remember(self, task_id: str, span: SpanContext) -> None:
        self._ended[task_id] = span
        if len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)

    def _set_error(self, span: Span, error: BaseException | None) -> None:
        if error is None:
            return
        kind = error_type(error)
        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR, str(error) if self._capture_content else kind))

    def _add_download(self, event: events.DownloadEnded) -> None:
        made = event.generation
        ended = None if made.task_id is None else self._ended.get(made.task_id)
        span = self._tracer.start_span(
            "ruxa.download",
            kind=SpanKind.CLIENT,
            attributes={**attributes_of(made.model, made.task_id), "ruxa.outputs": len(made.urls)},
            links=() if ended is None else (Link(ended),),
            start_time=time.time_ns() - round(event.seconds * 1e9),
        )
        self._set_error(span, event.error)
        span.end()


def _end(operation: _Operation, outcome: str) -> None:
    operation.step.end()
    operation.span.set_attribute("ruxa.outcome", outcome)
    operation.span.end()


def _charge(status: TaskStatus | None) -> Attributes:
    """Return what the service says that a task cost, and how long it ran."""
    if status is None:
        return {}
    said = {"ruxa.credits": status.credits, "ruxa.task.duration": status.duration}
    return {name: value for name, value in said.items() if value is not None}
