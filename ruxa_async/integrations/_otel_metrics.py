"""The metrics of a client."""

from __future__ import annotations

from opentelemetry.metrics import Histogram, Meter

from ruxa_async import events
from ruxa_async.errors import RateLimitedError

from ._otel_attributes import Attributes, attributes_of, error_type, outcome_of

__all__ = ("Metrics",)

#: Bounds of the histograms in seconds: a picture takes some ten seconds, a video minutes.
_BOUNDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280)


class Metrics:
    """Counts and measures what the events tell."""

    def __init__(self, meter: Meter) -> None:
        def seconds(name: str, description: str) -> Histogram:
            return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=_BOUNDS)

        self._operation = seconds("gen_ai.client.operation.duration", "From a request to its outcome.")
        self._running = seconds("ruxa.task.duration", "The run time of a task, as the service states it.")
        self._lag = seconds("ruxa.task.lag", "From the end of a task until the client knows it.")
        self._download = seconds("ruxa.download.duration", "The download of all outputs of a task.")
        self._jobs = meter.create_counter("ruxa.jobs", "{job}", "Requests that ended, by outcome.")
        self._tasks = meter.create_up_down_counter("ruxa.tasks", "{task}", "Tasks that are followed.")
        self._queries = meter.create_counter("ruxa.queries", "{query}", "Queries for the state of tasks.")
        self._rejections = meter.create_counter("ruxa.rejections", "{request}", "Replies with status 429.")
        self._credits = meter.create_counter("ruxa.credits", "{credit}", "Credits that tasks cost.")
        self._queued_at: dict[int, float] = {}
        #: The models of the tasks that are followed, by job.
        self._followed: dict[int, str | None] = {}

    def on_event(self, event: events.Event | events.ClientEvent) -> None:
        """Update the metrics."""
        match event:
            case events.JobQueued():
                self._queued_at[event.job_id] = event.at
            case events.TaskAccepted() | events.TaskFollowed():
                self._follow(event)
            case events.CreateThrottled():
                self._rejections.add(1, {**attributes_of(event.job.model), "ruxa.scope": "create"})
            case events.QueryFailed(error=RateLimitedError()):
                self._rejections.add(1, {**attributes_of(event.job.model), "ruxa.scope": "query"})
            case events.QuerySent():
                self._queries.add(1, attributes_of(event.job.model))
            case events.DownloadEnded():
                self._download.record(
                    event.seconds, _with_error(attributes_of(event.generation.model), event.error)
                )
            case events.ClientClosed():
                for model in self._followed.values():
                    self._tasks.add(-1, attributes_of(model))
                self._followed.clear()
            case events.Event() if (outcome := outcome_of(event)) is not None:
                self._end(event, outcome)

    def _follow(self, event: events.Event) -> None:
        self._followed[event.job_id] = event.job.model
        self._tasks.add(1, attributes_of(event.job.model))

    def _end(self, event: events.Event, outcome: str) -> None:
        attributes = _with_error(attributes_of(event.job.model), getattr(event, "error", None))
        if event.job_id in self._followed:
            self._tasks.add(-1, attributes_of(self._followed.pop(event.job_id)))
        queued_at = self._queued_at.pop(event.job_id, None)
        if queued_at is not None:
            self._operation.record(event.at - queued_at, attributes)
        self._jobs.add(1, {**attributes, "ruxa.outcome": outcome})
        if isinstance(event, events.TaskEnded):
            self._end_task(event, attributes)

    def _end_task(self, event: events.TaskEnded, attributes: Attributes) -> None:
        status = event.status
        if status is None:
            return
        if status.credits is not None:
            self._credits.add(status.credits, attributes)
        if status.duration is not None:
            self._running.record(status.duration, attributes)
            self._lag.record(max(0.0, event.seconds - status.duration), attributes)


def _with_error(attributes: Attributes, error: BaseException | None) -> Attributes:
    return attributes if error is None else {**attributes, "error.type": error_type(error)}
