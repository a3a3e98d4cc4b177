"""A request is identified by its key, else by its model and input in any order and notation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruxa_async import (
    CustomRequest,
    GenerationRequest,
    NanoBanana,
    NanoBananaEdit,
    NanoBananaPro,
    RequestValidationError,
    Sora2,
)
from ruxa_async.journal._identity import fingerprint, identify, key_of, name_of, rebuild

CAT = NanoBanana(prompt="a cat")


def custom(given: dict[str, Any], model: str = "m") -> CustomRequest:
    return CustomRequest(model=model, input=given)


def test_equal_content_is_one_identity_however_it_was_written() -> None:
    typed = identify(NanoBanana(prompt="a cat", output_format="jpg"))
    spelled = identify(NanoBanana(prompt="a cat", output_format="JPEG"))
    raw = identify(custom({"output_format": "jpeg", "prompt": "a cat"}, "google/nano-banana"))
    extra = identify(NanoBanana(prompt="a cat", extra={"output_format": "jpeg"}))
    assert typed == spelled == raw == extra


def test_the_order_of_fields_does_not_count_and_that_of_lists_does() -> None:
    assert identify(custom({"a": 1, "b": {"c": 2, "d": 3}})) == identify(
        custom({"b": {"d": 3, "c": 2}, "a": 1})
    )
    assert identify(custom({"a": [1, 2]})) != identify(custom({"a": [2, 1]}))
    assert identify(custom({"a": (1, 2)})) == identify(custom({"a": [1, 2]}))


@pytest.mark.parametrize(
    "other",
    [
        NanoBanana(prompt="a cat "),
        NanoBanana(prompt="a cat", output_format="png"),
        NanoBananaPro(prompt="a cat"),
        custom({"prompt": "a cat"}, "google/nano-banana-2"),
    ],
)
def test_different_content_is_another_identity(other: GenerationRequest) -> None:
    assert identify(other).digest != identify(CAT).digest
    assert identify(other).handle != identify(CAT).handle


def test_the_handle_is_the_key_and_the_digest_distinguishes_requests() -> None:
    one, two = identify(NanoBanana(prompt="a cat", key="k")), identify(NanoBanana(prompt="a dog", key="k"))
    assert one.handle == two.handle
    assert one.digest != two.digest
    assert one.digest == identify(CAT).digest


def test_a_key_and_a_digest_never_make_the_same_handle() -> None:
    digest = identify(CAT).handle[1:]
    key = digest.decode("latin-1")
    assert identify(NanoBanana(prompt="a cat", key=key)).handle[:1] != identify(CAT).handle[:1]


@given(st.text())
def test_any_key_comes_back_from_its_handle(key: str) -> None:
    assert key_of(identify(NanoBanana(prompt="a", key=key)).handle) == key


def test_half_a_surrogate_pair_makes_a_handle_and_text_like_any_other() -> None:
    odd = identify(NanoBanana(prompt="\ud800", key="\udfff"))
    assert key_of(odd.handle) == "\udfff"
    assert odd.text.isascii()
    assert rebuild(odd.text, None) == NanoBanana(prompt="\ud800")


def test_there_is_no_key_in_a_digest() -> None:
    assert key_of(identify(CAT).handle) is None


def test_keys_of_several_types_count_as_the_texts_that_are_sent() -> None:
    assert identify(custom({"a": {1: "x", "b": 2}})) == identify(custom({"a": {"1": "x", "b": 2}}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"x"])
def test_input_that_is_not_json_is_rejected_as_when_it_is_sent(value: object) -> None:
    with pytest.raises(RequestValidationError, match="cannot be sent as JSON"):
        identify(custom({"a": value}))


def test_names_are_the_key_or_the_beginning_of_the_digest_numbered_from_the_second_on() -> None:
    handle = identify(CAT).handle
    assert name_of(handle, 1) == f"#{identify(CAT).digest.hex()[:12]}"
    assert name_of(handle, 3) == f"#{identify(CAT).digest.hex()[:12]}~3"
    assert name_of(b"kmy key", 1) == "my key"
    assert name_of(b"kmy key", 2) == "my key~2"


URLS = ("https://example.com/a.png",)


@pytest.mark.parametrize(
    "request_",
    [
        CAT,
        NanoBanana(prompt="a cat", image_size="16:9", image_input=URLS),
        NanoBananaEdit(prompt="a cat", image_urls=URLS),
        NanoBananaPro(prompt="a cat", resolution="4k"),
        Sora2(prompt="a cat", seconds="10", watermark=True),
        custom({"deep": [{"x": 1.5}, None]}),
    ],
)
def test_a_request_is_rebuilt_with_its_class(request_: GenerationRequest) -> None:
    again = rebuild(identify(request_).text, "key")
    assert type(again) is type(request_)
    assert again.key == "key"
    assert (again.model, again.input()) == (request_.model, request_.input())


@pytest.mark.parametrize(
    "request_",
    [
        NanoBanana(prompt="a cat", extra={"new_field": 7}),
        NanoBanana(prompt="a cat", extra={"image_size": "7:1"}),
        NanoBanana(prompt="a cat", extra={"key": "no", "extra": {}}),
        custom({"prompt": ""}, "google/nano-banana"),
        custom({"output_format": "JPG", "prompt": "a"}, "google/nano-banana"),
    ],
)
def test_what_its_class_would_not_send_is_rebuilt_to_send_the_same(request_: GenerationRequest) -> None:
    again = rebuild(identify(request_).text, None)
    assert json.dumps(again.input(), sort_keys=True) == json.dumps(request_.input(), sort_keys=True)
    assert identify(again) == identify(request_)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_any_request_is_rebuilt_with_the_same_identity(given_: dict[str, Any]) -> None:
    asked = custom(given_)
    assert identify(rebuild(identify(asked).text, None)) == identify(asked)
    assert json.loads(identify(asked).text) == {"model": "m", "input": given_}


def test_a_fingerprint_distinguishes_keys_depends_on_the_salt_and_reveals_no_key() -> None:
    one = fingerprint("sk-canary-0123456789", b"a" * 16)
    assert one == fingerprint("sk-canary-0123456789", b"a" * 16)
    assert one != fingerprint("sk-canary-0123456780", b"a" * 16)
    assert one != fingerprint("sk-canary-0123456789", b"b" * 16)
    assert len(one) == 16
    assert "canary" not in one
