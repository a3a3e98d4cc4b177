"""A client understands every preset of spellings."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest
from harness import KEY, URL, client_of, prompts, service_of

from ruxa_async import (
    APIError,
    AuthenticationError,
    CustomRequest,
    InsufficientCreditsError,
    InvalidRequestError,
    NanoBanana,
    NanoBananaPro,
    NotFoundError,
    PollingStoppedError,
    RateLimitedError,
    RuxaClient,
    ServerError,
    Sora2,
    SubmissionHalted,
    TaskFailedError,
    TaskState,
    events,
)
from ruxa_async.emulator import DIALECTS, Dialect, Durations, Fault, Service, TokenBucket
from ruxa_async.emulator._rate_limit_headers import RETRY_AFTER_FORMS
from ruxa_async.emulator._settings import DEFAULT_PRICES
from ruxa_async.transports import MemoryTransport

ENDED = "The model could not make this; try another prompt"
pytestmark = pytest.mark.anyio
every_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)


def made_by(service: Service) -> list[str]:
    """Return the ids of all that was bought, in that order."""
    return [purchase.task_id for purchase in service.ledger.entries]


@every_dialect
async def test_a_generation_is_bought_once_and_its_outputs_found(dialect: Dialect) -> None:
    service = service_of(dialect=dialect, outputs=1)
    async with client_of(service) as ruxa:
        made = await ruxa.generate(NanoBanana(prompt="a cat"))
    assert [made.task_id] == made_by(service)
    assert made.urls == (f"https://emulator.test/files/{made.task_id}/0.png",)
    assert made.credits == (3.0 if dialect.credits else None)
    assert made.duration == (10.0 if dialect.times else None)


@every_dialect
async def test_unusual_ids_are_queried_unchanged(dialect: Dialect) -> None:
    service = service_of(dialect=dialect, task_ids="awkward")
    async with client_of(service) as ruxa:
        task = await ruxa.submit(NanoBanana(prompt="a cat"))
        assert [task.task_id] == made_by(service)
        assert "/" in task.task_id
        await task.result()
        again = ruxa.attach(task.task_id, model=task.model)
        assert (await again.result()).urls == (await task.result()).urls


@every_dialect
async def test_all_outputs_are_found_in_their_order(dialect: Dialect) -> None:
    async with client_of(service_of(dialect=dialect, outputs=3)) as ruxa:
        made = await ruxa.generate(NanoBananaPro(prompt="a cat", output_format="jpeg"))
    count = 1 if dialect.result in ("url", "video_url", "image_url", "resultUrl", "result_url") else 3
    assert made.urls == tuple(f"https://emulator.test/files/{made.task_id}/{n}.jpg" for n in range(count))


@every_dialect
async def test_the_states_of_a_task_are_seen_in_their_order(dialect: Dialect) -> None:
    service = service_of(dialect=dialect, video=Durations(120.0))
    async with client_of(service) as ruxa:
        task = await ruxa.submit(Sora2(prompt="a cat runs"))
        seen = [status async for status in task.updates()]
    order = [TaskState.WAITING, TaskState.RUNNING, TaskState.SUCCESS]
    ranks = [order.index(status.state) for status in seen]
    assert ranks == sorted(ranks)
    assert [status.raw_state for status in seen if status.state.terminal] == [dialect.success]
    assert {status.raw_state for status in seen} <= {
        dialect.waiting, dialect.queuing, dialect.generating, dialect.success
    }  # fmt: skip
    assert dialect.generating in {status.raw_state for status in seen}
    if dialect.progress:
        assert seen[-1].progress == 100.0


@every_dialect
async def test_a_failed_task_is_its_own_error(dialect: Dialect) -> None:
    service = service_of(dialect=dialect, fail_share=1.0)
    async with client_of(service) as ruxa:
        start = anyio.current_time()
        with pytest.raises(TaskFailedError) as caught:
            await ruxa.generate(NanoBanana(prompt="a cat"))
        assert 10.0 <= anyio.current_time() - start < 20.0
    error = caught.value
    assert [error.task_id] == made_by(service)
    assert error.fail_code == ("500" if dialect.fail_code else "")
    assert error.fail_message == ENDED


@every_dialect
async def test_a_wrong_key_is_an_authentication_error(dialect: Dialect) -> None:
    service = service_of(dialect=dialect)
    transport = MemoryTransport(service)
    async with RuxaClient(api_key="sk-somebody-else", base_url=URL, transport=transport) as ruxa:
        with pytest.raises(AuthenticationError) as caught:
            await ruxa.generate(NanoBanana(prompt="a cat"))
        with pytest.raises(AuthenticationError):
            await ruxa.status("task_1")
        with pytest.raises(PollingStoppedError) as stopped:
            await ruxa.attach("task_1").result()
    assert isinstance(stopped.value.__cause__, AuthenticationError)
    if dialect.error_shape != "html":
        assert caught.value.message == "Unauthorized: the API key is missing or wrong"
    assert 401 in (caught.value.status, caught.value.code)
    assert service.ledger.charged == 0
    assert service.counts.creates == 1


@every_dialect
async def test_insufficient_credits_raise_their_own_error(dialect: Dialect) -> None:
    service = service_of(dialect=dialect, credits=2.0)
    async with client_of(service) as ruxa:
        with pytest.raises(InsufficientCreditsError) as caught:
            await ruxa.generate(NanoBanana(prompt="a cat"))
    if dialect.error_shape != "html":
        message = (
            "积分不足" if dialect.phrases == "chinese" else "Insufficient credits: need / have 3.00 / 2.00"
        )
        assert caught.value.message.startswith(message)
    assert service.counts.creates == 1


@every_dialect
async def test_an_empty_account_halts_a_batch_after_its_paid_tasks(dialect: Dialect) -> None:
    service = service_of(dialect=dialect, credits=9.0)
    outcomes = []
    async with client_of(service) as ruxa:
        with pytest.raises(SubmissionHalted) as caught:  # noqa: PT012 - what came before it is wanted too
            async for outcome in ruxa.as_completed(prompts(50)):
                outcomes.append(outcome)
    assert isinstance(caught.value.cause, InsufficientCreditsError)
    assert (caught.value.unfinished, caught.value.unknown) == ((), ())
    assert sum(outcome.ok for outcome in outcomes) == 3
    assert service.ledger.charged == 3
    assert len(outcomes) + len(caught.value.unsubmitted) == 50


@every_dialect
async def test_a_model_that_does_not_exist_is_not_found(dialect: Dialect) -> None:
    service = service_of(dialect=dialect, default_price=None)
    async with client_of(service) as ruxa:
        with pytest.raises(NotFoundError) as caught:
            await ruxa.generate(CustomRequest(model="no-such", input={"prompt": "a cat"}))
    assert "Check the model name" in str(caught.value)
    assert service.counts.creates == 1


@every_dialect
async def test_a_refused_input_raises_invalid_request_error(dialect: Dialect) -> None:
    service = service_of(dialect=dialect)
    async with client_of(service) as ruxa:
        with pytest.raises(InvalidRequestError) as caught:
            await ruxa.generate(NanoBanana(prompt="a cat", extra={"prompt": ""}))
    if dialect.error_shape != "html":
        assert caught.value.message == "input.prompt is required"
    assert service.counts.creates == 1


@every_dialect
async def test_a_task_that_does_not_exist_is_not_found(dialect: Dialect) -> None:
    async with client_of(service_of(dialect=dialect)) as ruxa:
        with pytest.raises(NotFoundError):
            await ruxa.status("task_nobody_has")
        start = anyio.current_time()
        with pytest.raises(PollingStoppedError) as caught:
            await ruxa.attach("task_nobody_has").result()
        assert 30.0 <= anyio.current_time() - start <= 60.0
    assert isinstance(caught.value.__cause__, NotFoundError)


@every_dialect
async def test_a_service_that_fails_is_waited_for(dialect: Dialect) -> None:
    service = service_of(dialect=dialect, faults=[Fault("error", "query", nth=(1, 2), status=502)])
    async with client_of(service) as ruxa:
        made = await ruxa.generate(NanoBanana(prompt="a cat"))
        assert len(made.urls) == 1
    assert service.counts.faults == 2


# ---- rates

EXACT = {"float", "ms", "x-ms", "body"}
every_refusal = pytest.mark.parametrize(
    ("dialect", "form"),
    [
        pytest.param(dialect, form, id=f"{dialect.name}-{form}")
        for dialect in DIALECTS.values()
        for form in RETRY_AFTER_FORMS
        if dialect.error_shape != "html" or form != "body"  # a page has no fields
    ],
)


def synchronous(service: Service, monkeypatch: pytest.MonkeyPatch, **options: Any) -> RuxaClient:
    """Return a client whose wall clock shows what the service's does, for hints that name an instant."""
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: service.epoch + anyio.current_time())
        return client_of(service, **options)


@pytest.mark.long
@every_refusal
async def test_a_rejected_create_waits_exactly_for_retry_after(
    dialect: Dialect, form: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = service_of(dialect=dialect, creates=TokenBucket(0.4, 1), retry_after=form)
    sent: list[float] = []
    waits_seen: list[float | None] = []

    def note(event: object) -> None:
        if isinstance(event, events.CreateSent):
            sent.append(event.at - start)
        elif isinstance(event, events.CreateThrottled):
            waits_seen.append(event.retry_after)

    async with synchronous(service, monkeypatch, on_event=note) as ruxa:
        start = anyio.current_time()
        await ruxa.submit(NanoBanana(prompt="one"))
        await ruxa.submit(NanoBanana(prompt="two"))
    assert service.ledger.charged == 2
    if form == "none":
        # pauses of 50 ms, then of half of the silence so far
        waits = [0.0, 0.05, 0.1, *(0.15 * 1.5**n for n in range(8))]
        assert waits_seen == [None] * (len(waits) - 1)
        assert sent == pytest.approx([0.0, *waits], abs=1e-6)
    else:
        wait = 2.5 if form in EXACT else 3.0
        assert waits_seen == pytest.approx([wait], abs=1e-6)
        assert sent == pytest.approx([0.0, 0.0, wait], abs=1e-6)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_503_with_retry_after_is_a_rejection(status: Any) -> None:
    service = service_of(creates=TokenBucket(0.25, 1), retry_after="seconds", throttle_status=status)
    async with client_of(service) as ruxa:
        start = anyio.current_time()
        await ruxa.submit(NanoBanana(prompt="one"))
        await ruxa.submit(NanoBanana(prompt="two"))
        assert anyio.current_time() - start == 4.0


@pytest.mark.parametrize("status", [429, 503])
async def test_a_retry_after_above_the_maximum_raises_with_its_seconds(status: Any) -> None:
    service = service_of(creates=TokenBucket(0.001, 1), retry_after="seconds", throttle_status=status)
    async with client_of(service) as ruxa:
        start = anyio.current_time()
        await ruxa.submit(NanoBanana(prompt="one"))
        with pytest.raises(RateLimitedError) as caught:
            await ruxa.submit(NanoBanana(prompt="two"))
        assert anyio.current_time() == start
    assert caught.value.retry_after == 1000.0
    assert caught.value.status == status


@pytest.mark.long
@every_refusal
async def test_a_rejected_query_is_sent_again_after_retry_after(
    dialect: Dialect, form: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = service_of(dialect=dialect, queries=TokenBucket(0.4, 1), retry_after=form)
    async with client_of(service) as buyer:
        task_id = (await buyer.submit(NanoBanana(prompt="a cat"))).task_id
    await anyio.sleep(60)
    async with synchronous(service, monkeypatch) as ruxa:
        start = anyio.current_time()
        assert (await ruxa.status(task_id)).state is TaskState.SUCCESS
        assert anyio.current_time() == start
        assert (await ruxa.status(task_id)).state is TaskState.SUCCESS
        waited = anyio.current_time() - start
    # without a hint: pauses of 50 ms, then of half of the silence so far
    expected = 0.15 * 1.5**7 if form == "none" else 2.5 if form in EXACT else 3.0
    assert waited == pytest.approx(expected, abs=1e-6)


# ---- not there yet


@pytest.mark.parametrize("grace", [404, 422])
@pytest.mark.parametrize("errors_in", ["status", "envelope"])
async def test_a_missing_task_is_queried_again(grace: Any, errors_in: Any) -> None:
    service = service_of(dialect=Dialect(grace=grace, grace_seconds=25.0, errors_in=errors_in))
    missing: list[type[BaseException]] = []

    def note(event: object) -> None:
        if isinstance(event, events.QueryFailed):
            missing.append(type(event.error))

    async with client_of(service, on_event=note) as ruxa:
        made = await ruxa.generate(NanoBanana(prompt="a cat"))
    assert [made.task_id] == made_by(service)
    assert missing
    assert set(missing) == {NotFoundError if grace == 404 else InvalidRequestError}


@pytest.mark.parametrize("grace", [404, 422])
async def test_a_task_that_never_appears_raises_with_its_id(grace: Any) -> None:
    service = service_of(dialect=Dialect(grace=grace, grace_seconds=1e6))
    async with client_of(service) as ruxa:
        start = anyio.current_time()
        with pytest.raises(PollingStoppedError) as caught:
            await ruxa.generate(NanoBanana(prompt="a cat"))
        assert 30.0 <= anyio.current_time() - start <= 60.0
    assert [caught.value.task_id] == made_by(service)


# ---- mixtures


@pytest.mark.long
@pytest.mark.parametrize("fail_key", ["failMsg", "failReason", "errorMsg", "error", "message"])
@pytest.mark.parametrize("at_root", [False, True])
@pytest.mark.parametrize("id_key", ["taskId", "task_id", "id", "uuid"])
@pytest.mark.parametrize("state_key", ["state", "status"])
async def test_every_mixture_of_spellings_is_read(
    fail_key: Any, at_root: bool, id_key: Any, state_key: Any
) -> None:
    dialect = Dialect(fail_key=fail_key, at_root=at_root, id_key=id_key, state_key=state_key, fail="failed")
    async with client_of(service_of(dialect=dialect)) as ruxa:
        assert len((await ruxa.generate(NanoBanana(prompt="a cat"))).urls) == 1
    async with client_of(service_of(dialect=dialect, fail_share=1.0)) as ruxa:
        with pytest.raises(TaskFailedError) as caught:
            await ruxa.generate(NanoBanana(prompt="a cat"))
    assert (caught.value.fail_code, caught.value.fail_message) == ("500", ENDED)


@pytest.mark.parametrize("shape", ["envelope", "bare_envelope", "error_object", "error_string", "html"])
@pytest.mark.parametrize("errors_in", ["status", "envelope"])
@pytest.mark.parametrize("text_codes", [False, True])
async def test_every_shape_of_an_error_is_an_error(shape: Any, errors_in: Any, text_codes: bool) -> None:
    dialect = Dialect(error_shape=shape, errors_in=errors_in, text_codes=text_codes)
    service = service_of(dialect=dialect)
    transport = MemoryTransport(service)
    coded = errors_in == "status" or shape not in ("error_string", "html")
    async with RuxaClient(api_key=f"{KEY}-wrong", base_url=URL, transport=transport) as ruxa:
        with pytest.raises(Exception) as caught:
            await ruxa.submit(NanoBanana(prompt="a cat"))
    error = caught.value if coded else caught.value.__cause__
    assert type(error) is (AuthenticationError if coded else APIError)
    assert not isinstance(error, ServerError)
    assert service.counts.creates == 1


async def test_every_model_of_the_price_list_can_be_requested() -> None:
    service = service_of(outputs=1)
    async with client_of(service) as ruxa:
        requests = [CustomRequest(model=model, input={"prompt": "a cat"}) for model in DEFAULT_PRICES]
        async for outcome in ruxa.as_completed(requests):
            assert outcome.unwrap().model == outcome.request.model
    assert sorted(purchase.model for purchase in service.ledger.entries) == sorted(DEFAULT_PRICES)
