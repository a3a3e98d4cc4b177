"""What crosses from process to process arrives as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ruxa_async import (
    CustomRequest,
    Generation,
    GenerationRequest,
    InsufficientCreditsError,
    MaybeSentError,
    NanoBanana,
    NanoBananaEdit,
    RateLimitedError,
    RequestValidationError,
    SubmissionUnknownError,
    TaskFailedError,
    TaskTimeout,
)
from ruxa_async import errors as all_errors
from ruxa_async.integrations._messages import (
    dump_error,
    dump_generation,
    dump_request,
    load_generation,
    load_request,
)

PICTURE = NanoBanana(prompt="a cat", key="cat")


@pytest.mark.parametrize(
    "request_",
    [
        PICTURE,
        NanoBanana(prompt="no key", image_input=["https://example.org/a.png"]),
        NanoBananaEdit(prompt="ä \ud800", image_urls=("https://example.org/a.png",), key="\udfff"),
        NanoBanana(prompt="more", extra={"seed": 1, "deep": [{"a": None}]}),
        CustomRequest(model="any/model", input={"prompt": "x"}, extra={"seed": 2}),
    ],
)
def test_a_request_that_arrives_sends_the_same_under_the_same_key(request_: GenerationRequest) -> None:
    arrived = load_request(dump_request(request_))
    assert (arrived.model, arrived.input(), arrived.key) == (request_.model, request_.input(), request_.key)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {1, 2}])
def test_an_input_that_is_not_json_is_refused_before_it_is_sent(value: Any) -> None:
    with pytest.raises(RequestValidationError, match="this cannot be sent as JSON"):
        dump_request(CustomRequest(model="any/model", input={"value": value}))


def test_a_generation_arrives_with_the_request_of_the_process_that_asked() -> None:
    made = Generation(
        task_id="t1",
        model="google/nano-banana",
        urls=("https://example.org/1.png", "https://example.org/2.png"),
        request=load_request(dump_request(PICTURE)),
        credits=3.0,
        duration=9.5,
        raw={"state": "success", "nested": {"text": "\ud800"}},
    )
    arrived = load_generation(dump_generation(made), PICTURE)
    assert arrived.request is PICTURE
    assert arrived.as_dict() == made.as_dict()


def same(one: BaseException, other: BaseException) -> bool:
    return type(one) is type(other) and one.args == other.args and vars(one) == vars(other)


@pytest.mark.parametrize(
    "error",
    [
        TaskFailedError("t1", "500", "The model could not make this", 3.0),
        TaskTimeout("t1", 60),
        InsufficientCreditsError(
            402, 402, "no credits", '{"code": 402}', headers={"x": "y"}, url="https://r"
        ),
        RateLimitedError(429, None, "slow down", retry_after=300.5),
        RequestValidationError("prompt", "", "a text is needed"),
        SubmissionUnknownError("it may have been charged"),
        all_errors.KeyConflictError("cat", "catalogue", "belongs to another request"),
        all_errors.BudgetExceededError("too much", "google/nano-banana", None, 3, 9.0),
        all_errors.MalformedResponseError("t1", "no output", "{}"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_arrives_with_its_type_its_attributes_and_its_text(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        load_generation(dump_error(error), PICTURE)
    assert same(raised.value, error)
    assert str(raised.value) == str(error)


def test_the_causes_of_an_error_arrive_and_foreign_errors_as_their_text() -> None:
    lost = MaybeSentError("the connection was lost")
    lost.__cause__ = OSError("reset by peer")
    unknown = SubmissionUnknownError("it may have been charged")
    unknown.__cause__ = lost
    with pytest.raises(SubmissionUnknownError) as raised:
        load_generation(dump_error(unknown), PICTURE)
    cause = raised.value.__cause__
    assert cause is not None
    assert same(cause, lost)
    assert repr(cause.__cause__) == "Exception('OSError: reset by peer')"


def test_no_text_can_make_an_object_of_another_class() -> None:
    harmful = json.dumps(
        {"error": {"type": "TypeVar", "text": "x", "args": ["x"], "attributes": {}, "cause": None}}
    )
    with pytest.raises(Exception, match="TypeVar: x") as raised:
        load_generation(harmful, PICTURE)
    assert type(raised.value) is Exception
