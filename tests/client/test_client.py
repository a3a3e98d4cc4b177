"""`RuxaClient`: one request, status and attach, limits, opening and closing."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from harness import KEY, URL, client_of, service_of

from ruxa_async import (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    InsufficientCreditsError,
    InvalidRequestError,
    Limits,
    MalformedResponseError,
    MaybeSentError,
    NanoBanana,
    NotFoundError,
    NotSentError,
    PollingStoppedError,
    RateLimit,
    RateLimitedError,
    RequestValidationError,
    Retries,
    RuxaClient,
    SubmissionUnknownError,
    TaskFailedError,
    TaskState,
    TaskTimeout,
    Timeouts,
    TransportError,
)
from ruxa_async.emulator import TokenBucket
from ruxa_async.transports import MemoryTransport, Request, Response

CAT = NanoBanana(prompt="a cat", key="cat")


def reply(value: object, status: int = 200, **headers: str) -> Response:
    return Response(status, headers, json.dumps(value).encode())


def accepted(task_id: str = "task_1") -> Response:
    return reply({"code": 200, "data": {"taskId": task_id}})


def in_state(state: str, **data: object) -> Response:
    return reply({"code": 200, "data": {"taskId": "task_1", "state": state, **data}})


DONE = in_state("success", resultJson='{"resultUrls":["https://files.example/1.png"]}')


class Script:
    """A service that gives one answer after the other, repeats the last, and notes the times of requests."""

    def __init__(self, *, creates: list[Any], queries: list[Any]) -> None:
        self.answers = {"POST": creates, "GET": queries}
        self.asked: dict[str, list[float]] = {"POST": [], "GET": []}

    def __call__(self, request: Request) -> Response:
        self.asked[request.method].append(anyio.current_time())
        answers = self.answers[request.method]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Response)
        return answer


# ---- one request


async def test_generate_returns_the_generation() -> None:
    service = service_of()
    async with client_of(service) as ruxa:
        generation = await ruxa.generate(CAT)
    (entry,) = service.ledger.entries
    assert generation.task_id == entry.task_id
    assert generation.model == "google/nano-banana"
    assert generation.request is CAT
    assert len(generation.urls) == 1
    assert entry.input == {"prompt": "a cat"}


async def test_submit_returns_as_soon_as_the_task_is_paid() -> None:
    service = service_of(latency=0.5)
    async with client_of(service) as ruxa:
        start = anyio.current_time()
        task = await ruxa.submit(CAT)
        assert anyio.current_time() - start == pytest.approx(0.5)
        assert task.task_id == service.ledger.entries[0].task_id
        assert (task.key, task.model, task.request, task.done) == ("cat", "google/nano-banana", CAT, False)
        assert repr(task).endswith("accepted>")


async def test_a_failed_generation_raises_with_the_services_message() -> None:
    service = service_of(fail_share=1.0, fail_code="SENSITIVE", fail_message="not this")
    async with client_of(service) as ruxa:
        with pytest.raises(TaskFailedError, match="not this") as caught:
            await ruxa.generate(CAT)
    assert caught.value.task_id == service.ledger.entries[0].task_id
    assert caught.value.fail_code == "SENSITIVE"


async def test_success_without_an_output_is_an_error_that_keeps_the_task_id() -> None:
    async with client_of(
        Script(creates=[accepted()], queries=[in_state("success", resultJson="{}")])
    ) as ruxa:
        with pytest.raises(MalformedResponseError) as caught:
            await ruxa.generate(CAT)
    assert caught.value.task_id == "task_1"
    assert "resultJson" in caught.value.body


async def test_a_result_without_a_file_is_a_result() -> None:
    done = in_state("success", resultJson='{"resultObject": {"character_id": "c1"}}')
    async with client_of(Script(creates=[accepted()], queries=[done])) as ruxa:
        generation = await ruxa.generate(CAT)
    assert generation.urls == ()
    assert "character_id" in generation.raw["resultJson"]


# ---- how a create ends


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply({"code": 401, "message": "bad key"}), AuthenticationError),
        (reply({"message": "bad key"}, 401), AuthenticationError),
        (reply({"code": 402, "message": "no credits"}), InsufficientCreditsError),
        (reply({"code": 500, "message": "积分不足: need 8, balance 1"}), InsufficientCreditsError),
        (reply({"code": 404, "message": "nothing here"}), NotFoundError),
        (reply({"code": 422, "message": "bad ratio"}), InvalidRequestError),
        (reply({"code": 400, "message": "content policy"}, 400), InvalidRequestError),
        (Response(500, {}, b"<html>oops</html>"), SubmissionUnknownError),
        (Response(200, {}, b"not json"), SubmissionUnknownError),
        (Response(200, {}, b""), SubmissionUnknownError),
        (reply({"code": 200, "data": {}}), SubmissionUnknownError),
        (reply({"code": 408, "message": "upstream"}), SubmissionUnknownError),
        (reply({"code": 501, "message": "failed"}), SubmissionUnknownError),
        (reply({"code": 503, "message": "busy"}), SubmissionUnknownError),
        (reply({}, 503, **{"x-ratelimit-reset": "30"}), SubmissionUnknownError),
        (Response(307, {"location": "https://elsewhere.example"}), SubmissionUnknownError),
        (MaybeSentError("reset"), SubmissionUnknownError),
        (RuntimeError("a bug in a transport"), SubmissionUnknownError),
    ],
)
async def test_a_refused_or_unknown_create_is_sent_once(answer: Any, error: type[Exception]) -> None:
    script = Script(creates=[answer], queries=[DONE])
    async with client_of(script) as ruxa:
        with pytest.raises(error):
            await ruxa.submit(CAT)
        await anyio.sleep(1000)
        assert ruxa.stats().in_flight == 0
    assert len(script.asked["POST"]) == 1


@pytest.mark.parametrize(
    ("delay", "waits"),
    [
        (reply({"code": 429, "message": "slow down"}), [0.0, 0.05, 0.1, 0.15]),
        (reply({"message": "slow down"}, 429, **{"retry-after": "7"}), [0.0, 7.0, 14.0, 21.0]),
        (reply({"code": 429}, 200, **{"retry-after-ms": "1500"}), [0.0, 1.5, 3.0, 4.5]),
        (reply({}, 503, **{"retry-after": "2"}), [0.0, 2.0, 4.0, 6.0]),
        (reply({"code": 500, "message": "请求频率过高"}), [0.0, 0.05, 0.1, 0.15]),
        (NotSentError("no route"), [0.0, 0.5, 1.5, 3.5]),
    ],
)
async def test_a_create_that_bought_nothing_is_sent_again(delay: Any, waits: list[float]) -> None:
    script = Script(creates=[delay, delay, delay, accepted()], queries=[DONE])
    async with client_of(script) as ruxa:
        start = anyio.current_time()
        task = await ruxa.submit(CAT)
    assert task.task_id == "task_1"
    assert [at - start for at in script.asked["POST"]] == pytest.approx(waits)


async def test_a_task_id_proves_acceptance_despite_error_codes() -> None:
    answer = reply({"code": 500, "message": "internal", "data": {"task_id": "task_1"}}, 500)
    async with client_of(Script(creates=[answer], queries=[DONE])) as ruxa:
        assert (await ruxa.submit(CAT)).task_id == "task_1"


async def test_a_retry_after_above_the_maximum_raises_with_its_seconds() -> None:
    script = Script(creates=[reply({}, 429, **{"retry-after": "3600"})], queries=[DONE])
    async with client_of(script) as ruxa:
        for _ in range(2):  # the second fails without being sent
            with pytest.raises(RateLimitedError) as caught:
                await ruxa.submit(CAT)
            assert caught.value.retry_after == 3600
    assert len(script.asked["POST"]) == 1


async def test_endless_rejections_raise_after_throttled_timeout() -> None:
    script = Script(creates=[reply({}, 429)], queries=[DONE])
    async with client_of(script, retries=Retries(throttled_timeout=60)) as ruxa:
        start = anyio.current_time()
        with pytest.raises(RateLimitedError):
            await ruxa.submit(CAT)
        assert 60 <= anyio.current_time() - start <= 95


async def test_an_unreachable_service_is_logged_once_and_raises_the_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = Script(creates=[NotSentError("no such host")], queries=[DONE])
    async with client_of(script, retries=Retries(throttled_timeout=60)) as ruxa:
        with pytest.raises(NotSentError, match="no such host"):
            await ruxa.submit(CAT)
    assert [record.getMessage() for record in caplog.records] == [
        "no such host; it is tried again, nothing was charged"
    ]


async def test_an_unknown_create_is_resent_only_with_resend_unknown() -> None:
    lost = MaybeSentError("reset")
    script = Script(creates=[lost, accepted()], queries=[DONE])
    async with client_of(script, retries=Retries(resend_unknown=True)) as ruxa:
        assert (await ruxa.submit(CAT)).task_id == "task_1"
    script = Script(creates=[lost], queries=[DONE])
    async with client_of(script, retries=Retries(resend_unknown=True)) as ruxa:
        with pytest.raises(SubmissionUnknownError):
            await ruxa.submit(CAT)
    assert len(script.asked["POST"]) == 4


async def test_a_request_that_json_cannot_hold_is_refused_before_anything_is_sent() -> None:
    script = Script(creates=[accepted()], queries=[DONE])
    async with client_of(script) as ruxa:
        with pytest.raises(RequestValidationError, match="JSON"):
            await ruxa.submit(NanoBanana(prompt="a cat", extra={"seed": object()}))
        assert ruxa.stats().in_flight == 0
    assert script.asked["POST"] == []


# ---- queries


@pytest.mark.parametrize(
    "trouble",
    [
        MaybeSentError("reset"),
        NotSentError("no route"),
        RuntimeError("a bug in a transport"),
        Response(500, {}, b""),
        Response(502, {}, b"<html>"),
        Response(200, {}, b"not json"),
        reply({"code": 408}),
        reply({"code": 455, "message": "maintenance"}),
        reply({"code": 404, "message": "not there yet"}),
        reply({"code": 422, "message": "recordInfo is null", "data": None}),
        in_state("a-word-of-tomorrow"),
        reply({"code": 429}, 429, **{"retry-after": "1"}),
    ],
)
async def test_a_failed_query_never_fails_a_task(trouble: Any) -> None:
    script = Script(creates=[accepted()], queries=[trouble, trouble, DONE])
    async with client_of(script) as ruxa:
        assert (await ruxa.generate(CAT)).urls == ("https://files.example/1.png",)


async def test_polling_stops_after_query_retry_timeout_and_the_error_names_the_task() -> None:
    script = Script(creates=[accepted()], queries=[in_state("running"), Response(502)])
    async with client_of(script, retries=Retries(query_retry_timeout=100)) as ruxa:
        start = anyio.current_time()
        with pytest.raises(PollingStoppedError) as caught:
            await ruxa.generate(CAT)
        assert 100 <= anyio.current_time() - start <= 160
        assert ruxa.stats().in_flight == 0
    assert caught.value.task_id == "task_1"
    assert "502" in str(caught.value)


async def test_one_good_answer_restarts_query_retry_timeout() -> None:
    down = Response(502)
    queries = [down, down, down, in_state("running")] * 20
    script = Script(creates=[accepted()], queries=[*queries, DONE])
    async with client_of(script, retries=Retries(query_retry_timeout=10)) as ruxa:
        assert (await ruxa.generate(CAT)).task_id == "task_1"


DENIED = [reply({"code": 401, "message": "no"}), Response(403, {}, b"<html>Access denied</html>")]


@pytest.mark.parametrize("denied", DENIED)
async def test_a_denied_query_is_sent_again(denied: Response) -> None:
    script = Script(creates=[accepted()], queries=[denied, DONE])
    async with client_of(script) as ruxa:
        assert (await ruxa.generate(CAT)).task_id == "task_1"
    assert len(script.asked["GET"]) == 2


@pytest.mark.parametrize("denied", DENIED)
async def test_polling_stops_when_all_tasks_are_denied_for_a_minute(denied: Response) -> None:
    script = Script(creates=[accepted("task_1"), accepted("task_2")], queries=[denied])
    async with client_of(script) as ruxa, ruxa.as_completed([CAT, CAT]) as outcomes:
        start = anyio.current_time()
        errors = [outcome.error async for outcome in outcomes if not outcome.ok]
        assert 60 <= anyio.current_time() - start <= 95
    assert [type(error) for error in errors] == [PollingStoppedError] * 2
    assert {record.task_id for record in outcomes.unfinished} == {"task_1", "task_2"}


@pytest.mark.parametrize("denied", DENIED)
async def test_a_single_denied_task_is_polled_until_query_retry_timeout(denied: Response) -> None:
    script = Script(creates=[accepted()], queries=[denied])
    async with client_of(script, retries=Retries(query_retry_timeout=300)) as ruxa:
        start = anyio.current_time()
        with pytest.raises(PollingStoppedError):
            await ruxa.generate(CAT)
        assert 300 <= anyio.current_time() - start <= 340


async def test_a_task_that_stays_missing_fails_after_the_grace_period() -> None:
    script = Script(creates=[accepted()], queries=[reply({"code": 404, "message": "no such task"})])
    async with client_of(script) as ruxa:
        start = anyio.current_time()
        with pytest.raises(PollingStoppedError, match="no such task"):
            await ruxa.generate(CAT)
        assert 30 <= anyio.current_time() - start <= 60


async def test_a_rejected_query_waits_for_retry_after_and_ten_minutes_at_most() -> None:
    refused = reply({}, 429, **{"retry-after": "86400"})
    script = Script(creates=[accepted()], queries=[refused, DONE])
    async with client_of(script) as ruxa:
        await ruxa.generate(CAT)
    first, second = script.asked["GET"]
    assert second - first == pytest.approx(600)


async def test_polling_intervals_grow_within_their_bounds() -> None:
    script = Script(creates=[accepted()], queries=[*[in_state("running")] * 60, DONE])
    async with client_of(script) as ruxa:
        await ruxa.generate(CAT)
    asked = script.asked["GET"]
    gaps = [after - before for before, after in itertools.pairwise(asked)]
    assert gaps == sorted(gaps)
    assert min(gaps) >= 0.25
    assert max(gaps) <= 30


# ---- status and attach


async def test_status_is_one_query() -> None:
    service = service_of()
    async with client_of(service) as ruxa:
        task = await ruxa.submit(CAT)
        before = service.counts.queries
        status = await ruxa.status(task.task_id)
        assert service.counts.queries == before + 1
        assert status.state in (TaskState.WAITING, TaskState.RUNNING)
        await task.result()
        assert (await ruxa.status(task.task_id)).state is TaskState.SUCCESS


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply({"code": 404, "message": "no"}), NotFoundError),
        (Response(200, {}, b"junk"), MalformedResponseError),
        (MaybeSentError("cut"), TransportError),
        (NotSentError("down"), TransportError),
    ],
)
async def test_status_raises_the_error_of_its_query(answer: Any, error: type[Exception]) -> None:
    script = Script(creates=[accepted()], queries=[answer])
    async with client_of(script) as ruxa:
        with pytest.raises(error):
            await ruxa.status("task_1")
    assert len(script.asked["GET"]) == 1


async def test_status_is_queried_again_after_a_rejection() -> None:
    script = Script(
        creates=[accepted()], queries=[reply({}, 429, **{"retry-after": "3"}), in_state("running")]
    )
    async with client_of(script) as ruxa:
        assert (await ruxa.status("task_1")).state is TaskState.RUNNING
    assert script.asked["GET"] == pytest.approx([script.asked["GET"][0], script.asked["GET"][0] + 3])


async def test_a_cancelled_status_is_not_queried_again() -> None:
    script = Script(creates=[accepted()], queries=[reply({}, 429, **{"retry-after": "30"}), DONE])
    async with client_of(script) as ruxa:
        with anyio.move_on_after(1):
            await ruxa.status("task_1")
        await anyio.sleep(100)
    assert len(script.asked["GET"]) == 1


async def test_attach_follows_a_task_of_another_client() -> None:
    service = service_of()
    async with client_of(service) as ruxa:
        task_id = (await ruxa.submit(CAT)).task_id
    async with client_of(service) as ruxa:
        again = ruxa.attach(task_id, model="google/nano-banana")
        assert service.counts.queries == 0, "nothing is sent until somebody waits"
        generation = await again.result()
    assert (generation.task_id, generation.model) == (task_id, "google/nano-banana")
    assert service.ledger.charged == 1


@pytest.mark.parametrize("bad", ["", "  ", None, 7])
async def test_an_invalid_task_id_raises(bad: Any) -> None:
    async with client_of(service_of()) as ruxa:
        with pytest.raises(ValueError, match="task_id"):
            ruxa.attach(bad)
        with pytest.raises(ValueError, match="task_id"):
            await ruxa.status(bad)


# ---- timeouts


async def test_a_timeout_names_the_task_which_lives_on() -> None:
    service = service_of()
    async with client_of(service, timeouts=Timeouts(task=5)) as ruxa:
        with pytest.raises(TaskTimeout) as caught:
            await ruxa.generate(CAT)
        assert isinstance(caught.value, TimeoutError)
        assert ruxa.stats().in_flight == 0
        generation = await ruxa.attach(caught.value.task_id).result(timeout=None)
    assert generation.task_id == service.ledger.entries[0].task_id
    assert service.ledger.charged == 1


# ---- limits


async def test_never_more_tasks_run_than_max_in_flight() -> None:
    service = service_of(max_running=3)
    async with client_of(service, limits=Limits(max_in_flight=3)) as ruxa, anyio.create_task_group() as tg:
        for n in range(9):
            tg.start_soon(ruxa.generate, NanoBanana(prompt=str(n)))
    assert service.counts.creates_throttled == 0
    assert service.ledger.charged == 9


async def test_a_configured_rate_limit_is_kept_without_rejections() -> None:
    service = service_of(creates=TokenBucket(rate=2.0, burst=4))
    limits = Limits(create_rate=RateLimit(2, 1.0))
    async with client_of(service, limits=limits) as ruxa, anyio.create_task_group() as tg:
        for n in range(20):
            tg.start_soon(ruxa.submit, NanoBanana(prompt=str(n)))
    assert service.counts.creates_throttled == 0
    assert ruxa.stats().rates["create"] == 2.0


# ---- opening and closing


async def test_a_client_must_be_entered() -> None:
    ruxa = client_of(service_of())
    with pytest.raises(ClientClosedError, match="async with"):
        await ruxa.submit(CAT)
    with pytest.raises(ClientClosedError, match="async with"):
        ruxa.attach("task_1")
    with pytest.raises(ClientClosedError, match="async with"):
        ruxa.as_completed([CAT])


async def test_a_closed_client_raises_and_cannot_be_entered_again() -> None:
    async with client_of(service_of()) as ruxa:
        pass
    with pytest.raises(ClientClosedError):
        await ruxa.generate(CAT)
    with pytest.raises(RuntimeError, match="make a new one"):
        await ruxa.__aenter__()
    assert "closed" in repr(ruxa)


async def test_callers_that_wait_when_the_client_closes_get_client_closed_error() -> None:
    service = service_of()
    errors: list[Exception] = []

    async def wait(ruxa: RuxaClient) -> None:
        try:
            await ruxa.generate(CAT)
        except ClientClosedError as exc:
            errors.append(exc)

    async with anyio.create_task_group() as tg, client_of(service) as ruxa:
        tg.start_soon(wait, ruxa)
        await anyio.sleep(1)
    assert len(errors) == 1
    assert [record.task_id for record in ruxa.orphans] == [service.ledger.entries[0].task_id]


async def test_the_callers_exception_leaves_the_client_unchanged() -> None:
    error = ZeroDivisionError("mine")
    with pytest.raises(ZeroDivisionError) as caught:  # noqa: PT012 - the block is what is tested
        async with client_of(service_of()) as ruxa:
            await ruxa.submit(CAT)
            raise error
    assert caught.value is error


async def test_the_transport_is_closed_with_the_client() -> None:
    transport = MemoryTransport(service_of())
    async with RuxaClient(api_key=KEY, base_url=URL, transport=transport):
        pass
    with pytest.raises(RuntimeError, match="closed"):
        await transport.send(Request(method="GET", url=URL))


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_leaving_in_another_task_closes_the_client_and_raises() -> None:
    service = service_of(latency=0.3)
    ruxa = client_of(service)

    async def enter() -> None:
        await ruxa.__aenter__()

    await asyncio.create_task(enter())
    task = await ruxa.submit(CAT)
    with pytest.raises(RuntimeError, match="another task"):
        await ruxa.__aexit__(None, None, None)
    assert task.task_id == service.ledger.entries[0].task_id
    with pytest.raises(ClientClosedError):
        await ruxa.submit(CAT)


async def test_a_client_works_in_a_lifespan() -> None:
    """As a web framework does it: one task enters and leaves, others use it."""
    service = service_of()

    @asynccontextmanager
    async def lifespan(app: dict[str, RuxaClient]) -> AsyncIterator[None]:
        async with client_of(service) as app["ruxa"]:
            yield

    app: dict[str, RuxaClient] = {}
    answers: list[str | None] = []

    async def handle(n: int) -> None:
        answers.append((await app["ruxa"].generate(NanoBanana(prompt=str(n)))).task_id)

    async with lifespan(app), anyio.create_task_group() as tg:
        for n in range(5):
            tg.start_soon(handle, n)
    assert sorted(filter(None, answers)) == sorted(entry.task_id for entry in service.ledger.entries)


@pytest.fixture
async def ruxa_fixture() -> AsyncIterator[RuxaClient]:
    async with client_of(service_of()) as ruxa:
        yield ruxa


async def test_a_client_works_in_an_async_fixture(ruxa_fixture: RuxaClient) -> None:
    assert (await ruxa_fixture.generate(CAT)).urls


async def test_use_in_another_event_loop_raises() -> None:
    async with client_of(service_of()) as ruxa:

        def elsewhere() -> None:
            anyio.run(ruxa.status, "task_1", backend="asyncio")

        with pytest.raises(RuntimeError, match="another event loop"):
            await anyio.to_thread.run_sync(elsewhere)


@pytest.mark.parametrize("request_", [None, "a cat", {"prompt": "a cat"}])
async def test_only_requests_can_be_submitted(request_: Any) -> None:
    async with client_of(service_of()) as ruxa:
        with pytest.raises(TypeError, match="NanoBanana"):
            await ruxa.submit(request_)


def test_a_key_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUXA_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="RUXA_API_KEY"):
        RuxaClient()


# ---- when things break inside


class BrokenJournal:
    """A journal whose disk is full at a chosen step."""

    def __init__(self, step: str) -> None:
        self.step = step

    def __getattr__(self, name: str) -> Any:
        async def write(*_: object) -> None:
            if name == self.step:
                raise OSError(28, "No space left on device")

        return write


async def test_nothing_is_sent_if_its_intent_cannot_be_recorded() -> None:
    service = service_of()
    async with client_of(service, journal=BrokenJournal("intend")) as ruxa:
        with pytest.raises(OSError, match="No space"):
            await ruxa.submit(CAT)
        assert ruxa.stats().in_flight == 0
    assert service.counts.creates == 0


async def test_a_journal_that_fails_after_the_purchase_keeps_the_id_and_stops_the_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = service_of()
    async with client_of(service, journal=BrokenJournal("accepted")) as ruxa:
        task = await ruxa.submit(CAT)
        assert task.task_id == service.ledger.entries[0].task_id
        for broken in (task.result, lambda: ruxa.submit(CAT)):
            with pytest.raises(ClientClosedError, match="No space") as caught:
                await broken()
            assert isinstance(caught.value.__cause__, OSError)
    assert service.ledger.charged == 1
    assert "crashed" in caplog.text


async def test_a_hook_that_raises_is_logged_once_and_the_work_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def hook(_event: object) -> None:
        raise ZeroDivisionError

    async with client_of(service_of(), on_event=hook) as ruxa:
        await ruxa.generate(CAT)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
