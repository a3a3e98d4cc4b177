"""Requests are exact to the byte; every response becomes one `Reply` or a typed exception."""

from __future__ import annotations

import json
import platform
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ruxa_async import (
    APIError,
    AuthenticationError,
    CallbackURL,
    CustomRequest,
    InsufficientCreditsError,
    InvalidRequestError,
    NanoBanana,
    NanoBananaPro,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    RequestValidationError,
    ServerError,
    Sora2,
    TaskState,
    __version__,
)
from ruxa_async._api.endpoint import Endpoint, api_error, body_text, encode
from ruxa_async._api.task_status import task_status
from ruxa_async._engine.classify import (
    CreateVerdict,
    Phrase,
    QueryVerdict,
    Refusal,
    Reply,
    classify_create,
    classify_query,
    refusal_of,
)
from ruxa_async.transports import Request, Response

KEY = "sk-canary/0123+456789"
AGENT = f"ruxa-async/{__version__} (Python {platform.python_version()})"
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def wire(key: str = KEY, callback: CallbackURL | None = None) -> Endpoint:
    return Endpoint(
        "https://api.example",
        key,
        create_timeout=120.0,
        query_timeout=30.0,
        connect_timeout=10.0,
        callback=callback,
    )


def response(value: object, status: int = 200, **headers: str) -> Response:
    body = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()
    return Response(status, {name.replace("_", "-"): text for name, text in headers.items()}, body)


def created(value: object, status: int = 200, key: str = KEY, **headers: str) -> Reply:
    return wire(key).read_create(response(value, status, **headers), wall_now=1_700_000_000.0)


def queried(value: object, status: int = 200, key: str = KEY, **headers: str) -> Reply:
    return wire(key).read_query(
        response(value, status, **headers), task_id="task_1", wall_now=1_700_000_000.0
    )


# ---- what leaves


def test_a_create_is_exact_to_the_byte() -> None:
    assert wire().create(NanoBanana(prompt='a "cat" 猫\n', output_format="jpg", key="mine")) == Request(
        method="POST",
        url="https://api.example/api/v1/tasks/create",
        headers={
            "Authorization": f"Bearer {KEY}",
            "Accept": "application/json",
            "User-Agent": AGENT,
            "Content-Type": "application/json",
        },
        body=(
            r'{"model":"google/nano-banana","input":{"prompt":"a \"cat\" 猫\n","output_format":"jpeg"}}'
        ).encode(),
        timeout=120.0,
        connect_timeout=10.0,
        fresh=True,
    )


def test_a_query_is_exact_to_the_byte() -> None:
    assert wire().query("task_gemini-2.5-flash-image_1700000000000_0a1b2c3d") == Request(
        method="GET",
        url="https://api.example/api/v1/tasks/query/task_gemini-2.5-flash-image_1700000000000_0a1b2c3d",
        headers={"Authorization": f"Bearer {KEY}", "Accept": "application/json", "User-Agent": AGENT},
        body=None,
        timeout=30.0,
        connect_timeout=10.0,
        fresh=False,
    )


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (
            NanoBananaPro(prompt="a", image_input=("https://a.example/b.png",), resolution="4K"),
            (
                b'{"model":"google/nano-banana-pro","input":'
                b'{"prompt":"a","image_input":["https://a.example/b.png"],"resolution":"4k"}}'
            ),
        ),
        (
            Sora2(prompt="a", seconds="10", watermark=False),
            b'{"model":"sora-2","input":{"prompt":"a","watermark":false,"seconds":"10"}}',
        ),
        (
            CustomRequest(model="veo3.1", input={"n": 1.5, "deep": {"x": [None, True]}}),
            b'{"model":"veo3.1","input":{"n":1.5,"deep":{"x":[null,true]}}}',
        ),
        (CustomRequest(model="m"), b'{"model":"m","input":{}}'),
    ],
)
def test_each_request_has_its_body(request_: Any, body: bytes) -> None:
    assert wire().create(request_).body == body


@pytest.mark.parametrize("name", ["callback_url", "callBackUrl"])
def test_a_callback_goes_out_under_its_configured_name(name: Any) -> None:
    callback = CallbackURL("https://me.example/hook?job=1", name)
    body = wire(callback=callback).create(NanoBanana(prompt="a")).body
    assert body == (
        b'{"model":"google/nano-banana","input":{"prompt":"a"},"%s":"https://me.example/hook?job=1"}'
        % name.encode()
    )


@pytest.mark.parametrize(
    ("task_id", "segment"),
    [
        ("task_gemini-2.5_1_0a", "task_gemini-2.5_1_0a"),
        ("a/b", "a%2Fb"),
        ("a b", "a%20b"),
        ("a+b", "a%2Bb"),
        ("%2F", "%252F"),
        ("ü", "%C3%BC"),
        ("猫", "%E7%8C%AB"),
        ("a?b#c", "a%3Fb%23c"),
        ("a&b=c;d", "a%26b%3Dc%3Bd"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("../../etc", "..%2F..%2Fetc"),
        ("..a", "..a"),
        ("a\r\nb", "a%0D%0Ab"),
        ("~a-_.b", "~a-_.b"),
        ("\ud800", "%ED%A0%80"),
    ],
)
def test_an_awkward_id_is_one_segment_of_the_path(task_id: str, segment: str) -> None:
    assert wire().query(task_id).url == f"https://api.example/api/v1/tasks/query/{segment}"


@pytest.mark.parametrize(
    "held",
    [{1, 2}, b"bytes", object(), float("nan"), float("inf"), "half a \ud800", {"deep": [object()]}],
    ids=["set", "bytes", "object", "nan", "inf", "half a character", "deep object"],
)
def test_a_value_that_json_cannot_hold_raises_before_it_is_sent(held: object) -> None:
    with pytest.raises(RequestValidationError, match="this cannot be sent as JSON") as caught:
        wire().create(CustomRequest(model="m", input={"a": held}))
    assert caught.value.field == "input"


def test_circular_and_too_deep_values_raise() -> None:
    circle: dict[str, Any] = {}
    circle["self"] = circle
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for held in (circle, deep):
        with pytest.raises(RequestValidationError, match="this cannot be sent as JSON"):
            encode(held)


# ---- creates


def test_a_documented_create_is_accepted() -> None:
    reply = created({"code": 200, "message": "success", "data": {"taskId": "task_1"}})
    assert (reply.status, reply.code, reply.task_id) == (200, 200, "task_1")
    assert (reply.phrase, reply.retry_after) == (None, None)
    assert classify_create(reply) is CreateVerdict.ACCEPTED


def test_an_id_at_the_root_of_an_error_is_the_request_id() -> None:
    for value, status in (
        ({"id": "req_1", "error": {"message": "boom"}}, 500),
        ({"id": "req_1", "error": {"message": "boom"}}, 200),
        ({"id": "req_1", "code": 500, "message": "boom"}, 200),
        ({"uuid": "req_1", "message": "boom"}, 502),
    ):
        reply = created(value, status)
        assert reply.task_id is None
        assert classify_create(reply) is CreateVerdict.UNKNOWN


REFUSED, THROTTLED, UNKNOWN = CreateVerdict.REFUSED, CreateVerdict.REJECTED, CreateVerdict.UNKNOWN
CODES: list[tuple[int, type[APIError], CreateVerdict]] = [
    (400, InvalidRequestError, REFUSED),
    (401, AuthenticationError, REFUSED),
    (402, InsufficientCreditsError, REFUSED),
    (403, PermissionDeniedError, REFUSED),
    (404, NotFoundError, REFUSED),
    (405, APIError, UNKNOWN),
    (408, APIError, UNKNOWN),
    (413, APIError, UNKNOWN),
    (422, InvalidRequestError, REFUSED),
    (429, RateLimitedError, THROTTLED),
    (455, ServerError, REFUSED),
    (500, ServerError, UNKNOWN),
    (501, ServerError, UNKNOWN),
    (502, ServerError, UNKNOWN),
    (503, ServerError, UNKNOWN),
    (505, ServerError, REFUSED),
    (599, ServerError, UNKNOWN),
]


@pytest.mark.parametrize(("code", "kind", "verdict"), CODES)
def test_a_refusal_is_the_same_in_the_status_and_in_the_envelope(
    code: int, kind: type[APIError], verdict: CreateVerdict
) -> None:
    words = "what happened"
    replies = [
        created({"code": code, "message": words, "data": None}, code),
        created({"code": code, "message": words}),
        created({"code": str(code), "msg": words}),
        created({"code": f" {code}", "msg": words}, 201),
        created({"error": {"message": words, "type": "t", "code": code}}, 200),
        created({"error": {"message": words, "type": "t", "code": "c"}}, code),
        created({"error": words}, code),
        created({"message": words}, code),
        created({"code": 200, "failMsg": words}, code),
    ]
    for reply in replies:
        error = api_error(reply)
        assert type(error) is kind
        assert error.message == words
        assert (error.status, error.code) == (reply.status, reply.code)
        assert code in (error.status, error.code)
        assert str(error).startswith(f"{words} (HTTP {reply.status}")
        assert str(error).endswith(f"). {kind.advice}" if kind.advice else ")")
        assert error.body == reply.body.decode()
        assert classify_create(reply) is verdict


@pytest.mark.parametrize(
    ("words", "phrase", "kind", "verdict", "refusal"),
    [
        ("积分不足: 8.00 / 3.50", Phrase.CREDITS, InsufficientCreditsError, REFUSED, Refusal.CREDITS),
        ("余额不足", Phrase.CREDITS, InsufficientCreditsError, REFUSED, Refusal.CREDITS),
        ("Insufficient credits", Phrase.CREDITS, InsufficientCreditsError, REFUSED, Refusal.CREDITS),
        ("Not enough credits", Phrase.CREDITS, InsufficientCreditsError, REFUSED, Refusal.CREDITS),
        ("未找到支持模型 veo3 的渠道", Phrase.MODEL, NotFoundError, REFUSED, Refusal.ACCESS),
        ("模型不存在", Phrase.MODEL, NotFoundError, REFUSED, Refusal.ACCESS),
        ("Model not found", Phrase.MODEL, NotFoundError, REFUSED, Refusal.ACCESS),
        ("请求频率过高", Phrase.RATE, RateLimitedError, THROTTLED, None),
        ("频率限制", Phrase.RATE, RateLimitedError, THROTTLED, None),
    ],
)
@pytest.mark.parametrize(("status", "code"), [(200, 500), (500, 500), (200, 200), (200, None), (503, "x")])
def test_known_phrases_count_under_any_code(
    words: str,
    phrase: Phrase,
    kind: type[APIError],
    verdict: CreateVerdict,
    refusal: Refusal | None,
    status: int,
    code: object,
) -> None:
    reply = created({"code": code, "msg": words, "data": None}, status)
    assert reply.phrase is phrase
    assert type(api_error(reply)) is kind
    assert classify_create(reply) is verdict
    if refusal is not None:
        assert refusal_of(reply) is refusal


def test_a_model_phrase_does_not_hide_a_more_specific_code() -> None:
    assert type(api_error(created({"code": 422, "message": "invalid model x"}))) is InvalidRequestError


@pytest.mark.parametrize(
    ("value", "status", "headers", "seconds"),
    [
        ({"code": 429, "message": "slow"}, 429, {"retry_after": "7"}, 7.0),
        ({"code": 429, "message": "slow"}, 200, {"retry_after": "0.5"}, 0.5),
        ({"code": 429, "message": "slow"}, 200, {"retry_after_ms": "250"}, 0.25),
        ({"code": 429, "message": "slow", "retry_after": 3.5}, 200, {}, 3.5),
        ({"code": 429, "message": "slow", "data": {"retryAfter": "4"}}, 429, {}, 4.0),
        ({"error": {"message": "slow", "retry_after": 2}}, 429, {}, 2.0),
        ({"code": 429, "retry_after": 99}, 429, {"retry_after": "7"}, 7.0),
        ({"code": 429, "retry_after": 10**300}, 429, {}, 1e9),
        ({"msg": "请求频率过高"}, 200, {"retry_after": "6"}, 6.0),
        (b"<html>Too Many Requests</html>", 429, {"retry_after": "8"}, 8.0),
        ({"code": 503, "message": "busy"}, 503, {"retry_after": "9"}, 9.0),
        ({"code": 503, "message": "busy", "retry_after": 9}, 200, {}, 9.0),
        ({"code": 429, "message": "slow"}, 429, {}, None),
        ({"code": 429, "retry_after": "soon"}, 429, {"retry_after": "soon"}, None),
    ],
)
def test_a_rejection_carries_retry_after(
    value: object, status: int, headers: dict[str, str], seconds: float | None
) -> None:
    reply = created(value, status, **headers)
    error = api_error(reply)
    assert isinstance(error, RateLimitedError)
    assert (reply.retry_after, error.retry_after) == (seconds, seconds)
    assert classify_create(reply) is THROTTLED
    assert classify_query(queried(value, status, **headers)) is QueryVerdict.REJECTED


def test_a_date_is_compared_with_the_replys_own() -> None:
    headers = {"retry_after": "Tue, 14 Nov 2023 22:13:30 GMT", "date": "Tue, 14 Nov 2023 22:13:20 GMT"}
    assert created({"code": 429}, 429, **headers).retry_after == 10.0


def test_a_good_reply_asks_for_no_wait() -> None:
    reply = created({"code": 200, "data": {"taskId": "t"}, "retry_after": 5}, retry_after="5")
    assert reply.retry_after is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the reply is empty"),
        (b"<html><h1>502 Bad Gateway</h1></html>", "the reply is not a JSON object"),
        (b"\xff\xfe\x00\x80", "the reply is not a JSON object"),
        (b"[]", "the reply is not a JSON object"),
        (b'["taskId","task_1"]', "the reply is not a JSON object"),
        (b'"task_1"', "the reply is not a JSON object"),
        (b'{"code":200', "the reply is not a JSON object"),
        (b"[" * 1_000_000, "the reply is not a JSON object"),
        (b'{"data":' * 200_000, "the reply is not a JSON object"),
        (b"{}", "the reply names no reason"),
        (b'{"code":NaN,"message":7}', "the reply names no reason"),
        (b'{"code":Infinity}', "the reply names no reason"),
        (b'{"code":true,"data":[]}', "the reply names no reason"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_an_unreadable_reply_is_unknown_and_typed(body: bytes, message: str) -> None:
    for status, kind in ((200, APIError), (500, ServerError), (401, AuthenticationError)):
        reply = created(body, status)
        assert reply.task_id is None
        assert classify_create(reply) is (REFUSED if status == 401 else UNKNOWN)
        error = api_error(reply)
        assert type(error) is kind
        assert error.message == message
        assert queried(body, status).state is None


def test_a_body_of_ten_megabytes_is_read_and_shown_in_part() -> None:
    huge = created({"data": {"taskId": "task_1"}, "padding": "x" * 10_000_000})
    assert huge.task_id == "task_1"
    error = api_error(created(b"x" * 10_000_000, 502))
    assert error.body == "x" * 65_536
    assert len(str(error)) < 100


def test_invalid_utf8_is_shown_with_replacements() -> None:
    assert body_text(created(b"bad \xff gateway", 502)) == "bad � gateway"


# ---- queries


def test_a_pending_task_is_read_by_its_state_alone() -> None:
    data = {"taskId": "task_1", "state": "generating", "progress": 40}
    reply = queried({"code": 200, "message": "success", "data": data})
    assert (reply.state, reply.raw_state, reply.data) == (TaskState.RUNNING, "generating", data)
    assert classify_query(reply) is QueryVerdict.PENDING


@pytest.mark.parametrize(
    "value",
    [
        {
            "code": 200,
            "message": "success",
            "data": {"taskId": "task_1", "state": "success", "resultJson": '{"resultUrls":["https://a/b.png"]}'},
        },
        {"code": "200", "msg": "success", "data": {"status": "COMPLETED", "resultUrls": ["https://a/b.png"]}},
        {"code": 0, "data": {"state": "succeeded", "url": "https://a/b.png"}},
        {"id": "task_1", "status": "done", "result_url": "https://a/b.png"},
        {"state": "completed", "resultUrls": ["https://a/b.png"]},
    ],
)  # fmt: skip
def test_a_success_is_read_in_every_shape(value: object) -> None:
    reply = queried(value)
    assert classify_query(reply) is QueryVerdict.ENDED
    seen = task_status("task_1", reply)
    assert (seen.task_id, seen.state, seen.urls) == ("task_1", TaskState.SUCCESS, ("https://a/b.png",))


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ({"code": 200, "data": {"state": "fail", "failCode": "500", "failMsg": "why"}}, 200),
        ({"code": 501, "msg": "text", "data": {"state": "fail", "failCode": "500", "failMsg": "why"}}, 200),
        ({"code": 501, "data": {"status": "failed", "errorCode": 500, "failReason": "why"}}, 501),
        ({"task_id": "t", "status": "error", "error_code": "500", "error": "why"}, 200),
    ],
)
def test_a_failed_task_is_read_in_every_shape(value: object, status: int) -> None:
    reply = queried(value, status)
    assert classify_query(reply) is QueryVerdict.ENDED
    seen = task_status("t", reply)
    assert (seen.state, seen.fail_code, seen.fail_message) == (TaskState.FAIL, "500", "why")


@pytest.mark.parametrize(
    ("value", "status", "verdict"),
    [
        ({"status": "error", "message": "boom"}, 500, QueryVerdict.UNCLEAR),
        ({"status": "error", "message": "boom", "id": "req_1"}, 500, QueryVerdict.UNCLEAR),
        ({"status": "error", "message": "boom"}, 200, QueryVerdict.UNCLEAR),
        ({"status": "error", "message": "boom", "id": "req_1"}, 200, QueryVerdict.UNCLEAR),
        ({"status": "error", "taskId": "t", "code": 500}, 200, QueryVerdict.UNCLEAR),
        ({"status": "failed", "code": 429}, 200, QueryVerdict.REJECTED),
        ({"status": "error", "code": 404}, 404, QueryVerdict.MISSING),
        ({"code": 422, "msg": "recordInfo is null", "data": None}, 200, QueryVerdict.MISSING),
        ({"status": "error", "error": {"message": "bad key"}}, 401, QueryVerdict.DENIED),
        ({"code": 403, "message": "no"}, 200, QueryVerdict.DENIED),
        ({"code": 200, "data": {"state": "paused"}}, 200, QueryVerdict.UNCLEAR),
        ({"code": 200, "data": {}}, 200, QueryVerdict.UNCLEAR),
        ({"code": 200, "data": None}, 200, QueryVerdict.UNCLEAR),
    ],
)
def test_an_error_reply_is_never_a_failed_task(value: object, status: int, verdict: QueryVerdict) -> None:
    reply = queried(value, status)
    assert reply.state in (None, TaskState.UNKNOWN)
    assert classify_query(reply) is verdict


# ---- secrets


@pytest.mark.parametrize("spelt", [KEY, KEY.replace("/", "\\/")])
@pytest.mark.parametrize(
    "body",
    ['{{"code":401,"message":"bad key {0}","data":{{"state":"fail","failMsg":"{0}"}}}}', "<p>{0}</p>{0}"],
)  # fmt: skip
def test_a_key_that_the_service_repeats_is_masked_everywhere(body: str, spelt: str) -> None:
    raw = body.format(spelt).encode()
    for reply in (created(raw, 401), queried(raw, 401), queried(raw)):
        error = api_error(reply)
        texts = [
            *(repr(reply), reply.message, reply.body.decode(), repr(reply.data), body_text(reply)),
            *(str(error), repr(error), error.message, error.body, repr(task_status("t", reply))),
        ]
        assert not [text for text in texts if KEY in text or spelt in text]
        assert "***" in body_text(reply)


def test_a_key_that_json_must_escape_is_masked_too() -> None:
    key = 'sk-"quoted"\\key'
    reply = created({"code": 401, "message": f"bad key {key}"}, key=key)
    assert reply.message == "bad key ***"


@pytest.mark.parametrize("key", ["k", "a", "test", "200"])
def test_a_key_too_short_to_be_secret_does_not_garble_replies(key: str) -> None:
    data = {"taskId": "task_1", "state": "success", "resultUrls": ["https://emulator.test/200/a.png"]}
    assert created({"code": 200, "data": data}, key=key).task_id == "task_1"
    reply = queried({"code": 200, "data": data}, key=key)
    assert task_status("task_1", reply).urls == ("https://emulator.test/200/a.png",)


def test_no_repr_of_what_leaves_shows_the_key_or_the_prompt() -> None:
    for request in (wire().create(NanoBanana(prompt="private")), wire().query("t")):
        assert KEY not in repr(request)
        assert "private" not in repr(request)
    assert KEY not in repr(wire())


# ---- anything at all

NAMES = (
    "code message msg data error state status taskId task_id id uuid failMsg failCode retry_after resultJson "
    "resultUrls costTime createTime completeTime progress credits"
)
_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_scalars |= st.sampled_from(["success", "fail", "error", "waiting", 401, "429", 200, 10**400, "积分不足"])
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES.split()) | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=15,
)
_headers = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "date", "ratelimit"]), st.text(max_size=20)
)
_bodies = _values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)


@relaxed
@given(body=_bodies, status=st.integers(100, 599), headers=_headers)
def test_reading_a_reply_never_raises(body: bytes, status: int, headers: dict[str, str]) -> None:
    answer = Response(status, headers, body)
    bought = wire().read_create(answer, wall_now=0.0)
    asked = wire().read_query(answer, task_id="task_1", wall_now=0.0)
    classify_create(bought)
    classify_query(asked)
    refusal_of(bought)
    assert task_status("t", asked).task_id == "t"
    for reply in (bought, asked):
        assert isinstance(api_error(reply), APIError)
        assert reply.retry_after is None or 0 <= reply.retry_after <= 1e9
    if bought.task_id is not None:
        assert wire().query(bought.task_id).url.isascii()
