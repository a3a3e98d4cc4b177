"""Results and errors leave the process whole: as pickles, as copies and as JSON, and never with the key."""

from __future__ import annotations

import copy
import copyreg
import json
import math
import pickle
import pkgutil
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import pytest
from harness import KEY, client_of, prompts, service_of
from test_errors import EXAMPLES
from test_requests import TYPED, make
from test_results import BAD, GENERATION, GOOD, REQUEST, STATUS, URL

import ruxa_async
from ruxa_async import (
    APIError,
    ClientClosedError,
    CustomRequest,
    Failed,
    Generation,
    JobRecord,
    MaybeSentError,
    NanoBanana,
    NotFoundError,
    RequestValidationError,
    RuxaError,
    SubmissionHalted,
    SubmissionUnknownError,
    Succeeded,
    TaskFailedError,
)
from ruxa_async.batch import InputError, RowError
from ruxa_async.export import ExportError
from ruxa_async.transports import Request, Response

RECORD = JobRecord(request=REQUEST, key="a", index=3, task_id="task_1", model="m", error=BAD.error)
VALUES: list[Any] = [GENERATION, GOOD, BAD, STATUS, RECORD]


@pytest.fixture(autouse=True)
def _own_pickling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what tblib does in a process that imported Dask: it pickles every exception in its own way."""
    for known in [*copyreg.dispatch_table]:
        if issubclass(known, BaseException):
            monkeypatch.delitem(copyreg.dispatch_table, known)


ERRORS: list[RuxaError] = [
    *EXAMPLES,
    InputError("it cannot be read"),
    RowError("a prompt is needed"),
    ExportError("it exists"),
]


def trees(kind: type[RuxaError]) -> Iterator[type[RuxaError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from trees(child)


def every_class() -> set[type[RuxaError]]:
    """Every error class of the package, wherever it is."""
    for module in pkgutil.walk_packages(ruxa_async.__path__, "ruxa_async."):
        if not module.name.endswith("__main__") and ".integrations." not in module.name:  # those need extras
            import_module(module.name)
    return {kind for kind in trees(RuxaError) if kind.__module__.partition(".")[0] == "ruxa_async"}


def copies(value: Any) -> list[Any]:
    return [
        *(pickle.loads(pickle.dumps(value, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)),
        copy.deepcopy(value),
        copy.copy(value),
    ]


def strict(value: Any) -> Any:
    """Return what a strict reader of JSON sees of *value*."""
    return json.loads(json.dumps(value, allow_nan=False))


def fields_of(error: BaseException) -> dict[str, Any]:
    return {name: value for name, value in vars(error).items() if not isinstance(value, BaseException)}


# ---- errors


def test_there_is_an_example_of_every_error_of_the_package() -> None:
    assert {type(error) for error in ERRORS} == every_class()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_travels_with_its_fields_and_its_cause(error: RuxaError) -> None:
    error = copy.copy(error)
    error.__cause__ = MaybeSentError("connection reset")
    error.__cause__.__cause__ = ConnectionResetError(104, "reset by peer")
    error.add_note("row 17")
    for again in copies(error):
        assert type(again) is type(error)
        assert (str(again), again.args) == (str(error), error.args)
        assert fields_of(again) == fields_of(error)
        assert again.__notes__ == ["row 17"]
        assert isinstance(again.__cause__, MaybeSentError)
        assert str(again.__cause__) == "connection reset"
        assert repr(again.__cause__.__cause__) == "ConnectionResetError(104, 'reset by peer')"
        assert again.as_dict() == error.as_dict()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_is_a_dict_with_its_type_message_and_fields(error: RuxaError) -> None:
    known = error.as_dict()
    assert strict(known) == known
    assert (known["type"], known["message"]) == (type(error).__name__, str(error))
    assert {*vars(error)} <= {*known}
    for name, value in fields_of(error).items():
        if name != "message" and not isinstance(value, tuple):
            assert known[name] == value


def test_the_causes_of_an_error_are_in_its_dict() -> None:
    error = SubmissionUnknownError("nobody can tell")
    error.__cause__ = MaybeSentError("connection reset")
    error.__cause__.__cause__ = OSError("unplugged")
    assert error.as_dict()["cause"] == {
        "type": "MaybeSentError",
        "message": "connection reset",
        "cause": {"type": "OSError", "message": "unplugged"},
    }
    halted = SubmissionHalted(NotFoundError(404, None, "no model"), [RECORD]).as_dict()
    assert halted["cause"]["status"] == 404
    assert halted["unfinished"] == [RECORD.as_dict()]


def test_causes_in_a_circle_end() -> None:
    first, second = RuxaError("first"), RuxaError("second")
    first.__cause__, second.__cause__ = second, first
    assert json.dumps(first.as_dict()).count("second") == 4
    again = pickle.loads(pickle.dumps(first))
    assert str(again.__cause__) == "second"


class UnportableError(Exception):
    """As many libraries' exceptions are: its fields cannot be pickled, or it cannot be made again."""

    def __init__(self, text: str, *, lock: object) -> None:
        super().__init__(text)
        self.lock = lock


@pytest.mark.parametrize("lock", [threading.Lock(), None])
def test_a_cause_that_cannot_travel_is_replaced_by_its_words(lock: object) -> None:
    error = MaybeSentError("connection reset")
    error.__cause__ = UnportableError("the socket is gone", lock=lock)
    for again in copies(error):
        assert str(again.__cause__) == "UnportableError: the socket is gone"
    failed = Failed(
        index=0,
        key=None,
        request=REQUEST,
        task_id=None,
        error=error.__cause__,
        queries=0,
        submitted_at=None,
        finished_at=1.0,
    )
    for again in copies(failed):
        assert str(again.error) == "UnportableError: the socket is gone"
        assert again.ok is False
    assert copy.deepcopy(JobRecord(request=None, error=error.__cause__)).error is not None


HOSTILE = [lambda: 0, threading.Lock(), 10**5000, math.nan, b"\xff", {1: {2}}, [math.inf, "fine"], object()]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: type(value).__name__)
def test_a_field_that_no_pickle_and_no_json_holds_is_described(value: Any) -> None:
    error = RequestValidationError("input", value, "JSON is needed")
    for again in copies(error):
        assert str(again) == str(error)
        assert again.field == "input"
    known = error.as_dict()
    assert strict(known) == known


def test_a_nesting_without_end_is_described() -> None:
    endless: list[Any] = []
    endless += [endless, endless, {"in": endless}]
    known = RequestValidationError("input", endless, "JSON is needed").as_dict()
    assert strict(known) == known


# ---- results


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_every_result_travels(value: Any) -> None:
    for again in copies(value):
        assert type(again) is type(value)
        assert again.as_dict() == value.as_dict()
        assert repr(again) == repr(value)
    assert strict(value.as_dict()) == value.as_dict()


@pytest.mark.parametrize("cls", TYPED)
def test_every_request_travels(cls: type[Any]) -> None:
    request = make(cls, key="row-1", extra={"seed": [1, {"a": None}]})
    for again in copies(request):
        assert again == request
        assert again.input() == request.input()
    custom = CustomRequest(model="any/thing", input={"deep": [{"a": 1}]}, extra={"b": 2})
    for again in copies(custom):
        assert again == custom
        assert (again.model, again.input()) == (custom.model, custom.input())
    assert copy.deepcopy(custom).input()["deep"] is not custom.input()["deep"]


def test_an_outcome_is_a_dict_with_what_was_asked_for_and_what_came_of_it() -> None:
    assert GOOD.as_dict() == {
        "index": 0,
        "key": "a",
        "model": "google/nano-banana",
        "prompt": "a cat",
        "input": {"prompt": "a cat"},
        "task_id": "task_1",
        "state": "succeeded",
        "urls": [URL],
        "error": None,
        "credits": 3.0,
        "duration": 12.5,
        "queries": 3,
        "submitted_at": 1.0,
        "finished_at": 2.0,
    }
    failed = BAD.as_dict()
    assert (failed["state"], failed["key"], failed["urls"]) == ("failed", "a", [])
    assert failed["error"] == BAD.error.as_dict()  # type: ignore[attr-defined]
    assert failed["error"]["fail_code"] == "500"


def test_a_generation_a_status_and_a_record_are_dicts() -> None:
    assert GENERATION.as_dict() == {
        "key": "a",
        "model": "google/nano-banana",
        "prompt": "a cat",
        "input": {"prompt": "a cat"},
        "task_id": "task_1",
        "urls": [URL],
        "credits": 3.0,
        "duration": 12.5,
        "raw": {"state": "success"},
    }
    assert STATUS.as_dict()["state"] == "running"
    assert STATUS.as_dict()["raw"] == {"a": [1]}
    assert RECORD.as_dict() == {
        "index": 3,
        "key": "a",
        "model": "google/nano-banana",
        "prompt": "a cat",
        "input": {"prompt": "a cat"},
        "task_id": "task_1",
        "error": TaskFailedError("task_1", "500", "why").as_dict(),
    }
    bare = JobRecord(request=None, model="m", task_id="task_1").as_dict()
    assert (bare["model"], bare["input"], bare["error"]) == ("m", None, None)
    unread = CustomRequest(model="m", input={"prompt": ["no", "text"]})
    assert JobRecord(request=unread).as_dict()["prompt"] is None


def test_numbers_that_json_does_not_know_are_described() -> None:
    odd = Generation(
        task_id="t", model=None, urls=(), raw={"big": math.inf, "deep": [{"nan": math.nan}], "a": 1}
    )
    assert odd.as_dict()["raw"] == {"big": "inf", "deep": [{"nan": "nan"}], "a": 1}


# ---- with a client


async def test_a_copy_saves_and_a_generation_from_a_pickle_says_how_to(tmp_path: Path) -> None:
    async with client_of(service_of()) as ruxa:
        made = await ruxa.generate(NanoBanana(prompt="a cat", key="cat"))
        for again in (copy.copy(made), copy.deepcopy(made)):
            assert again == made
            assert await again.read() == await made.read()
        pickled = pickle.loads(pickle.dumps(made))
        assert pickled == made
        for call in (pickled.read, lambda: pickled.save(tmp_path)):
            with pytest.raises(ClientClosedError) as caught:
                await call()
            assert str(caught.value) == (
                "this Generation was unpickled or made by hand, so it has no client to download with. "
                f"Inside `async with RuxaClient() as ruxa:` call `ruxa.attach('{made.task_id}', "
                "model='google/nano-banana')`, await its `result()` and save that: a query "
                "costs nothing"
            )
        attached = await ruxa.attach(pickled.task_id, model=pickled.model).result()
        assert await attached.read() == await made.read()
    assert not [*tmp_path.iterdir()]


async def test_saving_after_the_client_closed_says_what_to_do(tmp_path: Path) -> None:
    async with client_of(service_of()) as ruxa:
        made = await ruxa.generate(NanoBanana(prompt="a cat", key="cat"))
    for call in (made.read, lambda: made.save(tmp_path), copy.deepcopy(made).read):
        with pytest.raises(
            ClientClosedError, match="was closed: save inside its `async with` block"
        ) as caught:
            await call()
        assert f"ruxa.attach('{made.task_id}'" in str(caught.value)
    unnamed = Generation(task_id=None, model=None, urls=(URL,))
    with pytest.raises(ClientClosedError, match="Download its urls yourself"):
        await unnamed.read()


async def test_outcomes_of_a_batch_travel_between_processes() -> None:
    service = service_of(fail_share=0.5)
    async with client_of(service) as ruxa:
        outcomes = [outcome async for outcome in ruxa.as_completed(prompts(20))]
    assert {type(outcome) for outcome in outcomes} == {Succeeded, Failed}
    for outcome in outcomes:
        for again in copies(outcome):
            assert again.as_dict() == outcome.as_dict()
            assert again.ok is outcome.ok


# ---- what a refusal says of the exchange


def refusing(headers: dict[str, str], body: dict[str, Any], status: int = 422) -> Any:
    def answer(request: Request) -> Response:
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        return Response(status, headers, json.dumps(body).encode())

    return answer


async def refused(handler: Any, *, query: bool = False) -> APIError:
    async with client_of(handler) as ruxa:
        with pytest.raises(APIError) as caught:
            await (ruxa.status("task/1") if query else ruxa.submit(REQUEST))
    return caught.value


async def test_a_refusal_keeps_headers_address_and_the_name_of_the_exchange() -> None:
    headers = {"content-type": "application/json", "x-request-id": "req-7", "cf-ray": "ray-1"}
    error = await refused(refusing(headers, {"code": 422, "message": "bad"}))
    assert (error.headers, error.request_id) == (headers, "req-7")
    assert error.url == "http://localhost/api/v1/tasks/create"
    known = error.as_dict()
    assert (known["headers"], known["request_id"], known["url"]) == (headers, "req-7", error.url)
    again = pickle.loads(pickle.dumps(error))
    assert (again.headers, again.request_id, again.url) == (headers, "req-7", error.url)
    asked = await refused(refusing(headers, {}, 404), query=True)
    assert asked.url == "http://localhost/api/v1/tasks/query/task%2F1"


@pytest.mark.parametrize(
    ("headers", "body", "name"),
    [
        ({"request-id": "a"}, {}, "a"),
        ({"cf-ray": "b"}, {}, "b"),
        ({"x-trace-id": "c"}, {"requestId": "d"}, "c"),
        ({"x-request-id": " "}, {"requestId": "d"}, "d"),
        ({}, {"request_id": 17}, "17"),
        ({}, {"error": {"trace_id": "e", "message": "no"}}, "e"),
        ({}, {"error": "no"}, None),
        ({}, {}, None),
    ],
)
async def test_the_name_of_an_exchange_is_found_in_headers_and_envelope(
    headers: dict[str, str], body: dict[str, Any], name: str | None
) -> None:
    assert (await refused(refusing(headers, {"code": 422, **body}))).request_id == name


@pytest.mark.parametrize("query", [False, True])
async def test_no_header_of_a_refusal_shows_the_key_or_another_credential(query: bool) -> None:
    headers = {
        "x-echo": f"Bearer {KEY}",
        "x-request-id": f"req-{KEY}",
        "set-cookie": "session=secret-cookie",
        "authorization": "Basic secret-basic",
        "server": "nginx",
    }
    error = await refused(refusing(headers, {"code": 401, "message": KEY}, 401), query=query)
    assert error.headers == {
        "x-echo": "Bearer ***",
        "x-request-id": "req-***",
        "set-cookie": "***",
        "authorization": "***",
        "server": "nginx",
    }
    for text in (repr(vars(error)), json.dumps(error.as_dict()), pickle.dumps(error, 0).decode("latin-1")):
        assert KEY not in text
        assert "secret-" not in text


async def test_the_key_in_the_address_is_not_shown() -> None:
    async with client_of(refusing({}, {}, 404)) as ruxa:
        with pytest.raises(NotFoundError) as caught:
            await ruxa.status(f"task {KEY}")
    assert caught.value.url == "http://localhost/api/v1/tasks/query/task%20***"


async def test_the_cause_of_an_unknown_create_says_which_exchange_it_was() -> None:
    async with client_of(refusing({"x-request-id": "req-9"}, {}, 502)) as ruxa:
        with anyio.fail_after(100), pytest.raises(SubmissionUnknownError) as caught:
            await ruxa.submit(REQUEST)
    cause = caught.value.as_dict()["cause"]
    assert (cause["status"], cause["request_id"]) == (502, "req-9")
    assert cause["url"].endswith("/create")
