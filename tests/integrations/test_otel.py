"""Spans and metrics through OpenTelemetry, read back from its SDK in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from harness import client_of, prompts, service_of, sync_client_of
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, StatusCode

from ruxa_async import (
    Budget,
    BudgetExceededError,
    InsufficientCreditsError,
    NanoBanana,
    SubmissionUnknownError,
    TaskFailedError,
    TaskTimeout,
    Timeouts,
)
from ruxa_async.emulator import Durations, Fault, TokenBucket
from ruxa_async.integrations.otel import instrument
from ruxa_async.journal import SqliteJournal

REQUEST = NanoBanana(prompt="a secret cat", key="mine")


class Telemetry:
    """The providers of one test, and what was emitted to them."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader])
        self.tracer = self.tracers.get_tracer("test")

    def watch(self, client: Any, **options: Any) -> None:
        instrument(client, tracer_provider=self.tracers, meter_provider=self.meters, **options)

    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        (found,) = (span for span in self.spans() if span.name == name)
        return found

    def points(self, name: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        assert data is not None
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def total(self, name: str, **attributes: str) -> float:
        wanted = {f"ruxa.{key}": value for key, value in attributes.items()}
        return float(
            sum(point.value for point in self.points(name) if wanted.items() <= point.attributes.items())
        )


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


def ids(span: Any) -> tuple[int, int]:
    context = span.get_span_context() if hasattr(span, "get_span_context") else span
    return context.trace_id, context.span_id


async def test_a_request_is_a_span_in_the_callers_with_submit_and_wait_in_it(telemetry: Telemetry) -> None:
    async with client_of(service_of(dialect="detailed")) as ruxa:
        telemetry.watch(ruxa)
        with telemetry.tracer.start_as_current_span("handler") as handler:
            made = await ruxa.generate(REQUEST)
    request, submit, wait = map(
        telemetry.span, (f"generate_content {REQUEST.model}", "ruxa.submit", "ruxa.wait")
    )
    assert request.parent is not None
    assert ids(request.parent) == ids(handler)
    for step in (submit, wait):
        assert step.parent is not None
        assert ids(step.parent) == ids(request)
    assert request.attributes == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "ruxa",
        "gen_ai.request.model": "google/nano-banana",
        "gen_ai.output.type": "image",
        "ruxa.task.id": made.task_id,
        "ruxa.task.duration": made.duration,
        "ruxa.credits": made.credits,
        "ruxa.outcome": "succeeded",
    }
    assert submit.attributes == {"ruxa.create.attempts": 1}
    assert wait.attributes is not None
    assert wait.attributes["ruxa.query.count"] == telemetry.total("ruxa.queries") >= 1
    assert request.status.status_code is StatusCode.UNSET


async def test_each_request_of_a_batch_has_a_span_in_that_of_the_batch(telemetry: Telemetry) -> None:
    async with client_of(service_of()) as ruxa:
        telemetry.watch(ruxa)
        with telemetry.tracer.start_as_current_span("batch") as batch:
            async with ruxa.as_completed(prompts(5)) as outcomes:
                assert [outcome.ok async for outcome in outcomes] == [True] * 5
    requests = [span for span in telemetry.spans() if span.name.startswith("generate_content")]
    assert [ids(span.parent) for span in requests] == [ids(batch)] * 5
    assert telemetry.total("ruxa.jobs", outcome="succeeded") == 5
    assert telemetry.total("ruxa.tasks") == 0


async def test_metrics_hold_durations_lag_credits_and_rejections(telemetry: Telemetry) -> None:
    service = service_of(creates=TokenBucket(0.25, 1), retry_after="seconds", dialect="detailed")
    async with client_of(service) as ruxa:
        telemetry.watch(ruxa)
        async with anyio.create_task_group() as tg:
            for request in prompts(2):
                tg.start_soon(ruxa.generate, request)
        made = ruxa.stats()
    assert made.succeeded == 2
    assert telemetry.total("ruxa.rejections", scope="create") == 1
    assert telemetry.total("ruxa.credits") == service.ledger.credits_spent
    (lag,), (running,), (whole,) = map(
        telemetry.points, ("ruxa.task.lag", "ruxa.task.duration", "gen_ai.client.operation.duration")
    )
    assert (lag.count, running.count, whole.count) == (2, 2, 2)
    assert running.sum == 20.0
    assert whole.sum == pytest.approx(running.sum + lag.sum + 4.0)  # the second create waited 4 s
    submits = [span for span in telemetry.spans() if span.name == "ruxa.submit"]
    assert {span.attributes["ruxa.create.attempts"] for span in submits if span.attributes} == {1, 2}
    rejections = [event for span in submits for event in span.events]
    assert [(event.name, dict(event.attributes or {})) for event in rejections] == [
        ("create rejected", {"ruxa.retry_after": 4.0})
    ]


@pytest.mark.parametrize(
    ("settings", "options", "error", "outcome"),
    [
        ({"credits": 1.0}, {}, InsufficientCreditsError, "refused"),
        ({"faults": [Fault("reset_after")]}, {}, SubmissionUnknownError, "unknown"),
        ({"fail_share": 1.0}, {}, TaskFailedError, "failed"),
        ({}, {"budget": Budget(max_tasks=0)}, BudgetExceededError, "not bought"),
        ({}, {"timeouts": Timeouts(task=1.0)}, TaskTimeout, "released"),
    ],
)
async def test_every_end_of_a_request_ends_its_spans(
    telemetry: Telemetry,
    settings: dict[str, Any],
    options: dict[str, Any],
    error: type[Exception],
    outcome: str,
) -> None:
    async with client_of(service_of(**settings), **options) as ruxa:
        telemetry.watch(ruxa)
        with pytest.raises(error) as caught:
            await ruxa.generate(REQUEST)
        request = telemetry.span(f"generate_content {REQUEST.model}")
    assert request.attributes is not None
    assert request.attributes["ruxa.outcome"] == outcome
    if outcome != "released":
        assert str(request.attributes["error.type"]).startswith(type(caught.value).__name__)
        assert request.status.status_code is StatusCode.ERROR
    assert telemetry.total("ruxa.jobs", outcome=outcome) == 1
    assert telemetry.total("ruxa.tasks") == 0


async def test_cancelled_and_closed_requests_end_their_spans(telemetry: Telemetry) -> None:
    async with client_of(service_of(creates=TokenBucket(0.01))) as ruxa:
        telemetry.watch(ruxa)
        with anyio.move_on_after(1):
            await ruxa.generate(REQUEST)
        with anyio.move_on_after(1):
            await ruxa.generate(REQUEST)
    async with client_of(service_of()) as ruxa:
        telemetry.watch(ruxa)
        await ruxa.submit(REQUEST)
    requests = [span for span in telemetry.spans() if span.name.startswith("generate_content")]
    assert [span.attributes["ruxa.outcome"] for span in requests if span.attributes] == [
        "released",
        "withdrawn",
        "client closed",
    ]
    assert telemetry.total("ruxa.tasks") == 0


async def test_a_batch_that_is_left_releases_its_tasks(telemetry: Telemetry) -> None:
    async with client_of(service_of()) as ruxa:
        telemetry.watch(ruxa)
        async with ruxa.as_completed(prompts(3)) as outcomes:
            with anyio.move_on_after(1):
                await anext(outcomes)
            assert telemetry.total("ruxa.tasks") == 3
        assert telemetry.total("ruxa.tasks") == 0
        assert telemetry.total("ruxa.jobs", outcome="released") == 3


async def test_without_permission_no_span_holds_a_prompt_or_a_message(telemetry: Telemetry) -> None:
    async with client_of(service_of(fail_share=1.0)) as ruxa:
        telemetry.watch(ruxa)
        with pytest.raises(TaskFailedError):
            await ruxa.generate(REQUEST)
    emitted = " ".join(span.to_json() for span in telemetry.spans())
    assert "TaskFailedError" in emitted
    assert REQUEST.prompt not in emitted
    assert "sk-" not in emitted


async def test_with_permission_the_span_holds_the_prompt_and_the_message(telemetry: Telemetry) -> None:
    async with client_of(service_of(fail_share=1.0)) as ruxa:
        telemetry.watch(ruxa, capture_content=True)
        with pytest.raises(TaskFailedError) as caught:
            await ruxa.generate(REQUEST)
    request = telemetry.span(f"generate_content {REQUEST.model}")
    assert request.attributes is not None
    (message,) = json.loads(str(request.attributes["gen_ai.input.messages"]))
    assert message == {"role": "user", "parts": [{"type": "text", "content": REQUEST.prompt}]}
    assert request.status.description == str(caught.value)


async def test_a_download_links_to_its_request(telemetry: Telemetry, tmp_path: Path) -> None:
    async with client_of(service_of()) as ruxa:
        telemetry.watch(ruxa)
        made = await ruxa.generate(REQUEST)
        with telemetry.tracer.start_as_current_span("saver") as saver:
            await made.save(tmp_path)
    download, request = telemetry.span("ruxa.download"), telemetry.span(f"generate_content {REQUEST.model}")
    assert download.parent is not None
    assert ids(download.parent) == ids(saver)
    assert [ids(link.context) for link in download.links] == [ids(request)]
    (seconds,) = telemetry.points("ruxa.download.duration")
    assert seconds.count == 1


async def test_a_task_of_an_earlier_process_links_to_what_you_say(
    telemetry: Telemetry, tmp_path: Path
) -> None:
    service = service_of()
    with telemetry.tracer.start_as_current_span("yesterday") as yesterday:
        async with client_of(service, journal=SqliteJournal(tmp_path / "j")) as ruxa:
            bought = await ruxa.submit(REQUEST, run="run")
    async with client_of(service, journal=SqliteJournal(tmp_path / "j")) as ruxa:
        telemetry.watch(
            ruxa, links=lambda job: [Link(yesterday.get_span_context(), {"id": job.task_id or ""})]
        )
        await ruxa.generate(REQUEST, run="run")
    request = telemetry.span(f"generate_content {REQUEST.model}")
    assert [(ids(link.context), dict(link.attributes or {})) for link in request.links] == [
        (ids(yesterday), {"id": bought.task_id})
    ]
    assert [span.name for span in telemetry.spans()].count("ruxa.submit") == 0
    assert telemetry.total("ruxa.jobs", outcome="succeeded") == 1


async def test_a_failed_query_is_an_event_of_the_wait(telemetry: Telemetry) -> None:
    service = service_of(faults=[Fault("error", "query", nth=(1,))], image=Durations(1.0, 0.0))
    async with client_of(service) as ruxa:
        telemetry.watch(ruxa)
        await ruxa.generate(REQUEST)
    assert [event.name for event in telemetry.span("ruxa.wait").events] == ["query failed"]


def test_the_client_without_async_emits_in_the_span_of_its_caller(telemetry: Telemetry) -> None:
    with sync_client_of(service_of(image=Durations(0.05, 0.0))) as ruxa:
        telemetry.watch(ruxa)
        with telemetry.tracer.start_as_current_span("view") as view:
            made = ruxa.generate(REQUEST)
            ruxa.read(made)
    request, download = telemetry.span(f"generate_content {REQUEST.model}"), telemetry.span("ruxa.download")
    for span in (request, download):
        assert span.parent is not None
        assert ids(span.parent) == ids(view)
