"""The key is in the requests to the service and nowhere else, though the service repeats it wherever it can."""

from __future__ import annotations

import contextlib
import json
import logging
import pickle
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from harness import KEY, URL, prompts, service_of

from ruxa_async import (
    APIError,
    AuthenticationError,
    CallbackURL,
    ClientClosedError,
    ConfigurationError,
    CustomRequest,
    DownloadError,
    Failed,
    Generation,
    InsufficientCreditsError,
    InvalidRequestError,
    JobRecord,
    Limits,
    MalformedResponseError,
    NanoBanana,
    NotFoundError,
    NotSentError,
    PermissionDeniedError,
    Polling,
    PollingStoppedError,
    RateLimitedError,
    RequestValidationError,
    Retries,
    RuxaClient,
    RuxaError,
    ServerError,
    SubmissionHalted,
    SubmissionUnknownError,
    Succeeded,
    TaskFailedError,
    TaskStatus,
    TaskTimeout,
    Timeouts,
)
from ruxa_async.emulator import EmulatorSettings, Fault, Service
from ruxa_async.transports import MemoryTransport, Request, Response

REQUEST = NanoBanana(prompt="a cat")
Reply = tuple[int, object]
ACCEPTED: Reply = (200, {"code": 200, "message": KEY, "data": {"taskId": "task_1", "echo": KEY}})


def echoing(create: Reply, query: Reply = ACCEPTED) -> MemoryTransport:
    """Return a transport to a service that answers *create* and *query*, with the key in its headers too."""

    def answer(request: Request) -> Response:
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        status, value = create if request.method == "POST" else query
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return Response(status, {"x-echo": KEY, "retry-after": "1000", "set-cookie": KEY}, body)

    return MemoryTransport(answer)


def refusal(code: int) -> object:
    return {
        "code": code,
        "message": f"refused: Bearer {KEY}",
        "error": {"message": KEY},
        "data": {KEY: [KEY], "headers": {"authorization": f"Bearer {KEY}"}},
    }


def task(state: str, **fields: object) -> Reply:
    return 200, {
        "code": 200,
        "message": KEY,
        "data": {"taskId": "task_1", "state": state, "echo": KEY, **fields},
    }


class Watch:
    """Everything that a client let out."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.events: list[Any] = []
        self.texts: list[str] = []
        self._caplog = caplog

    def error(self, error: BaseException) -> None:
        self.texts += ["".join(traceback.format_exception(error))]
        for each in chain(error):
            self.texts += [str(each), repr(each), repr(each.args), repr(vars(each))]
            self.pickled(each)

    def pickled(self, value: object) -> None:
        if isinstance(value, (RuxaError, Generation, Succeeded, Failed, JobRecord, TaskStatus)):
            self.texts.append(json.dumps(value.as_dict(), allow_nan=False))
        # whatever hides from repr, such as the raw reply, is in here
        self.texts.append(pickle.dumps(value, protocol=0).decode("latin-1"))

    def leaks(self) -> list[str]:
        for event in self.events:
            self.texts += [repr(event), repr(attrs.asdict(event))]
            self.pickled(event)
        for record in self._caplog.records:
            self.texts += [repr(vars(record)), record.getMessage()]
        self.texts.append(self._caplog.text)
        return [text for text in self.texts if KEY in text]


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, SubmissionHalted):
            yield from chain(error.cause)
            yield from (each.error for each in (*error.unfinished, *error.unknown) if each.error is not None)
        error = error.__cause__ or error.__context__


@pytest.fixture
def watch(caplog: pytest.LogCaptureFixture) -> Watch:
    caplog.set_level(logging.DEBUG)
    return Watch(caplog)


@contextlib.asynccontextmanager
async def client(transport: MemoryTransport, watch: Watch, **options: Any) -> AsyncIterator[RuxaClient]:
    made = RuxaClient(api_key=KEY, base_url=URL, transport=transport, on_event=watch.events.append, **options)
    watch.texts.append(repr(made))
    async with made as ruxa:
        yield ruxa
        watch.texts += [repr(ruxa), repr(ruxa.stats()), repr(ruxa.orphans), repr(transport)]
        for value in (ruxa.stats(), ruxa.orphans):
            watch.pickled(value)
    watch.texts.append(repr(made))


async def generate(ruxa: RuxaClient) -> object:
    return await ruxa.generate(REQUEST)


async def ask(ruxa: RuxaClient) -> object:
    return await ruxa.status("task_1")


async def follow(ruxa: RuxaClient) -> object:
    handle = ruxa.attach("task_1")
    try:
        return await handle.result()
    finally:
        assert KEY not in repr(handle)
        assert KEY not in repr(handle.status)


async def batch(ruxa: RuxaClient) -> object:
    return [outcome async for outcome in ruxa.as_completed(prompts(5))]


KINDS: list[tuple[int, type[APIError]]] = [
    (400, InvalidRequestError),
    (401, AuthenticationError),
    (402, InsufficientCreditsError),
    (403, PermissionDeniedError),
    (404, NotFoundError),
    (422, InvalidRequestError),
    (429, RateLimitedError),
    (455, ServerError),
    (505, ServerError),
]


@pytest.mark.parametrize("in_status", [True, False])
@pytest.mark.parametrize(("code", "kind"), KINDS)
async def test_no_refusal_shows_the_key(
    watch: Watch, code: int, kind: type[APIError], in_status: bool
) -> None:
    transport = echoing((code if in_status else 200, refusal(code)))
    async with client(transport, watch) as ruxa:
        with pytest.raises(kind) as caught:
            await generate(ruxa)
    watch.error(caught.value)
    assert "***" in caught.value.message
    assert "***" in caught.value.body
    assert watch.events
    assert watch.leaks() == []


Action = Callable[[RuxaClient], Awaitable[object]]
NO_STATE: Reply = (200, {"code": 200, "data": {"echo": KEY}})
FAILED = task("fail", failCode=KEY, failMsg=f"bad key {KEY}")
ENDS: list[tuple[Action, type[RuxaError], Reply, Reply]] = [
    (generate, SubmissionUnknownError, (500, refusal(500)), ACCEPTED),
    (generate, SubmissionUnknownError, (200, f"<html>{KEY}</html>".encode()), ACCEPTED),
    (generate, SubmissionUnknownError, (200, {"code": 200, "message": KEY}), ACCEPTED),
    (generate, TaskFailedError, ACCEPTED, FAILED),
    (generate, MalformedResponseError, ACCEPTED, task("success", resultJson="")),
    (generate, TaskTimeout, ACCEPTED, task("waiting")),
    (generate, PollingStoppedError, ACCEPTED, task(f"{KEY}?")),
    (generate, PollingStoppedError, ACCEPTED, (401, refusal(401))),
    (generate, PollingStoppedError, ACCEPTED, (404, refusal(404))),
    (generate, PollingStoppedError, ACCEPTED, (502, f"<html>{KEY}</html>".encode())),
    (ask, AuthenticationError, ACCEPTED, (200, refusal(401))),
    (ask, NotFoundError, ACCEPTED, (404, refusal(404))),
    (ask, ServerError, ACCEPTED, (500, refusal(500))),
    (ask, MalformedResponseError, ACCEPTED, NO_STATE),
    (follow, TaskFailedError, ACCEPTED, FAILED),
    (follow, PollingStoppedError, ACCEPTED, (403, refusal(403))),
    (batch, SubmissionHalted, (401, refusal(401)), ACCEPTED),
    (batch, SubmissionHalted, (200, refusal(402)), ACCEPTED),
    (batch, SubmissionHalted, (403, refusal(403)), ACCEPTED),
]


@pytest.mark.parametrize(("action", "kind", "create", "query"), ENDS)
async def test_no_end_of_a_task_shows_the_key(
    watch: Watch, action: Action, kind: type[RuxaError], create: Reply, query: Reply
) -> None:
    timeouts = Timeouts(task=60.0 if kind is TaskTimeout else None)
    async with client(echoing(create, query), watch, timeouts=timeouts) as ruxa:
        with pytest.raises(kind) as caught:
            await action(ruxa)
    assert type(caught.value) is kind
    watch.error(caught.value)
    assert watch.leaks() == []


async def test_no_outcome_or_status_shows_the_key(watch: Watch) -> None:
    transport = echoing(ACCEPTED, task("success", resultUrls=[f"https://files.example/{KEY}/a.png"]))
    async with client(transport, watch) as ruxa:
        handle = await ruxa.submit(REQUEST)
        seen = [status async for status in handle.updates()]
        made = await handle.result()
        outcomes = [outcome async for outcome in ruxa.as_completed(prompts(3))]
        for value in (seen, outcomes, handle.status, await ruxa.status("task_1")):
            watch.texts.append(repr(value))
        for status in seen:
            watch.pickled(status)
        for result in (made, *outcomes, JobRecord(request=REQUEST, task_id=made.task_id)):
            watch.pickled(result)
        watch.texts += [repr(made), repr(made.raw), repr(made.urls), repr(handle)]
    assert made.urls == ("https://files.example/***/a.png",)
    assert watch.leaks() == []


async def test_no_lost_connection_shows_the_key(watch: Watch) -> None:
    for fault, kind in (("refused", NotSentError), ("reset_after", SubmissionUnknownError)):
        service = service_of(faults=[Fault(fault)])  # type: ignore[arg-type]
        async with client(MemoryTransport(service), watch) as ruxa:
            with pytest.raises(kind) as caught:
                await generate(ruxa)
        watch.error(caught.value)
    service = service_of(faults=[Fault("stall", "query")])
    async with client(MemoryTransport(service), watch) as ruxa:
        with pytest.raises(PollingStoppedError) as stopped:
            await generate(ruxa)
    watch.error(stopped.value)
    assert watch.leaks() == []


async def test_no_orphan_shows_the_key(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    async with client(echoing(ACCEPTED, task("waiting")), watch) as ruxa:
        with anyio.move_on_after(5):
            await generate(ruxa)
        assert [orphan.task_id for orphan in ruxa.orphans] == ["task_1"]
    assert "task_1" in caplog.text
    assert watch.leaks() == []


async def test_no_crash_of_the_hook_shows_the_key(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    def hook(_: object) -> None:
        raise ZeroDivisionError

    made = RuxaClient(api_key=KEY, base_url=URL, transport=echoing((402, refusal(402))), on_event=hook)
    async with made as ruxa:
        with pytest.raises(InsufficientCreditsError) as caught:
            await generate(ruxa)
    watch.error(caught.value)
    assert "an event hook raised" in caplog.text
    assert watch.leaks() == []


async def test_no_closed_client_shows_the_key(watch: Watch) -> None:
    async with client(echoing(ACCEPTED), watch) as ruxa:
        pass
    with pytest.raises(ClientClosedError) as caught:
        await generate(ruxa)
    watch.error(caught.value)
    assert watch.leaks() == []


async def test_no_saved_file_holds_the_key_and_no_download_carries_it(watch: Watch, tmp_path: Path) -> None:
    service = service_of(outputs=2, task_ids="awkward")
    transport = MemoryTransport(service, record=True)
    async with client(transport, watch) as ruxa:
        made = await ruxa.generate(REQUEST)
        paths = await made.save(tmp_path)
        read = await made.read()
    files = [request for request in transport.requests if request.url.startswith("https://emulator.test/")]
    assert len(files) == 4
    for request in files:
        assert KEY not in repr(dict(request.headers))
        assert not {name for name in request.headers if name.lower() in ("authorization", "cookie")}
    assert [path.read_bytes() for path in paths] == read
    for path in tmp_path.rglob("*"):
        assert KEY not in path.name
        assert KEY.encode() not in path.read_bytes()
    assert watch.leaks() == []


async def test_no_failed_download_shows_the_key(watch: Watch, tmp_path: Path) -> None:
    service = service_of(faults=[Fault("expired", "file")])
    async with client(MemoryTransport(service), watch) as ruxa:
        made = await ruxa.generate(REQUEST)
        with pytest.raises(DownloadError) as caught:
            await made.save(tmp_path)
    watch.error(caught.value)
    assert watch.leaks() == []


def test_no_error_of_the_set_up_shows_the_key(watch: Watch) -> None:
    bad: list[dict[str, Any]] = [
        {"api_key": f"{KEY}\n{KEY}"},
        {"api_key": f"{KEY}é"},
        {"api_key": KEY, "base_url": f"https://{KEY}@api.ruxa.ai"},
        {"api_key": KEY, "base_url": f"ftp://u:{KEY}@api.ruxa.ai:x"},
        {"api_key": KEY, "base_url": f"http://api.ruxa.ai?key={KEY}"},
        {"api_key": KEY, "base_url": "http://api.ruxa.ai"},
    ]
    for options in bad:
        with pytest.raises(ConfigurationError) as caught:
            RuxaClient(**options)
        watch.texts += [str(caught.value), repr(caught.value), repr(caught.value.args)]
        assert caught.value.__cause__ is None
    assert watch.leaks() == []


async def test_no_request_that_cannot_be_sent_shows_the_key(watch: Watch) -> None:
    async with client(echoing(ACCEPTED), watch) as ruxa:
        with pytest.raises(RequestValidationError) as caught:
            await ruxa.submit(CustomRequest(model="m", input={"a": object}))
    watch.texts += [str(caught.value), repr(caught.value), "".join(traceback.format_exception(caught.value))]
    assert watch.leaks() == []


def test_no_repr_of_a_value_shows_the_key() -> None:
    settings = EmulatorSettings(key=KEY)
    values = [
        settings,
        Service(settings),
        Limits(),
        Polling(),
        Retries(),
        Timeouts(),
        CallbackURL("https://me.example/hook"),
        RuxaClient(api_key=KEY, base_url=URL, transport=MemoryTransport(Service(settings))),
    ]
    assert [value for value in values if KEY in repr(value)] == []
