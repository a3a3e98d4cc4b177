"""Every fact of a reply is found in each known place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ruxa_async import TaskState
from ruxa_async._api.reply import (
    OK_CODES,
    code_of,
    decode,
    message_of,
    phrase_of,
    read_documented_state,
    retry_after_in_body,
    state_of,
    task_id_in_truncated,
    task_id_of,
)
from ruxa_async._engine.classify import Phrase, Reply

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
W, R, S, F, U = TaskState.WAITING, TaskState.RUNNING, TaskState.SUCCESS, TaskState.FAIL, TaskState.UNKNOWN

STATES = {
    W: "waiting wait queuing queueing queued pending submitted",
    R: "generating processing running in_progress in-progress",
    S: "success succeeded succeed completed complete done",
    F: "fail failed failure error cancelled canceled timeout expired",
    U: "paused 0 успех",
}
WORDS = [(word, state) for state, words in STATES.items() for word in words.split()]

NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


# ---- decoding


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"code":200}', {"code": 200}),
        (b' \n{"code":200}\n', {"code": 200}),
        (b'\xef\xbb\xbf{"code":200}', {"code": 200}),
        (b'{"code":200,"data":{"taskId":"a"}}}', {"code": 200, "data": {"taskId": "a"}}),
        (b'{"code":429}\n{"taskId":"a"} x', {"taskId": "a"}),
        (b'{"code":200,"x":' + b"1" * 5_000 + b"}", {"code": 200, "x": float("inf")}),
        ('{"message":"积分不足"}'.encode(), {"message": "积分不足"}),
        (b'{"a":1,"a":2}', {"a": 2}),
    ],
)
def test_an_object_is_decoded(body: bytes, value: object) -> None:
    assert decode(body) == value


def test_a_text_in_a_wrong_encoding_does_not_hide_what_is_beside_it() -> None:
    body = b'{"message":"' + "成功".encode("gb18030") + b'","data":{"taskId":"task_1"}}'
    root = decode(body)
    assert root is not None
    assert root["data"] == {"taskId": "task_1"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b'{"code":200}}',
        b'{"code":429}{"code":429}',
        b"null",
        b"true",
        b"17",
        b'"text"',
        b"[]",
        b'[{"taskId":"x"}]',
        b"{",
        b'{"code":200',
        b"{'code':200}",
        b"<html><body>502 Bad Gateway</body></html>",
        b"\xff\xfe\x00",
        b"\x00{not json \xff",
        '{"code":200}'.encode("utf-16"),
        b"[" * 200_000,
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_without_an_object_is_none(body: bytes) -> None:
    assert decode(body) is None


# ---- states


def spellings(word: str) -> set[str]:
    return {word, word.upper(), word.title(), f" {word}\n"}


@pytest.mark.parametrize(("word", "state"), WORDS)
@pytest.mark.parametrize("key", ["state", "status"])
def test_a_state_is_read_in_any_spelling(key: str, word: str, state: TaskState) -> None:
    for spelt in spellings(word):
        data = {key: spelt}
        assert state_of({"code": 200, "data": data}, task_id="t", ok=True) == (data, spelt, state)


@pytest.mark.parametrize(("word", "state"), WORDS)
def test_a_known_state_in_the_documented_place_is_read_alone(word: str, state: TaskState) -> None:
    reply = Reply(status=200)
    data = {"taskId": "task_1", "state": word, "resultJson": "not read"}
    known = state is not TaskState.UNKNOWN and "-" not in word
    assert read_documented_state({"code": 200, "data": data}, reply) is known
    assert (reply.raw_state, reply.state) == ((word, state) if known else ("", None))
    assert reply.data == (data if known else {})


@pytest.mark.parametrize(
    "root", [{}, {"data": None}, {"data": []}, {"data": {"state": 1}}, {"data": {"status": "waiting"}}]
)
def test_another_reply_is_unchanged_by_reading_the_documented_state(root: dict[str, Any]) -> None:
    reply = Reply(status=200)
    assert not read_documented_state(root, reply)
    assert (reply.data, reply.raw_state, reply.state) == ({}, "", None)


@pytest.mark.parametrize(
    ("root", "raw", "state"),
    [
        # at the root, as B1's callback and services without an envelope have it
        ({"state": "completed", "resultUrls": ["u"]}, "completed", S),
        ({"state": "fail", "failMsg": "why"}, "fail", F),
        ({"taskId": "t", "status": "done"}, "done", S),
        ({"task_id": "t", "status": "error", "error": "why"}, "error", F),
        ({"id": "t", "status": "in_progress"}, "in_progress", R),
        ({"id": "t", "status": "done", "url": "u"}, "done", S),
        ({"uuid": "t", "status": "failed", "error": "why"}, "failed", F),
    ],
)
def test_a_state_is_read_at_the_root(root: dict[str, Any], raw: str, state: TaskState) -> None:
    assert state_of(root, task_id="t", ok=True) == (root, raw, state)


def test_the_state_goes_before_the_status_and_the_data_before_the_root() -> None:
    data = {"status": "error", "state": "success"}
    assert state_of({"state": "fail", "data": data}, task_id="t", ok=True) == (data, "success", S)
    data = {"status": "success", "state": ""}
    assert state_of({"data": data}, task_id="t", ok=True) == (data, "success", S)


def test_a_failed_task_counts_despite_the_code() -> None:
    data = {"taskId": "t", "state": "fail", "failCode": "500", "failMsg": "why"}
    assert state_of({"code": 501, "msg": "text", "data": data}, task_id="t", ok=False) == (data, "fail", F)


@pytest.mark.parametrize(
    ("root", "ok"),
    [
        ({"status": "error", "message": "boom"}, True),
        ({"status": "error", "message": "boom"}, False),
        ({"status": "error", "id": "req_1", "message": "boom"}, True),
        ({"status": "ERROR", "uuid": "req_1", "message": "boom"}, True),
        ({"status": "failed", "message": "boom"}, True),
        ({"id": "req_1", "status": "failed"}, True),
        ({"status": "success", "message": "ok"}, True),
        ({"taskId": "t", "status": "error"}, False),
        ({"id": "t", "status": "failed"}, False),
        ({"state": "fail"}, False),
        ({"status": 500, "taskId": "t"}, True),
        ({"state": None, "data": {"state": {"of": 1}, "status": [1]}}, True),
        ({"data": "success"}, True),
        ({}, True),
    ],
)
def test_a_status_of_the_reply_is_not_a_state_of_a_task(root: dict[str, Any], ok: bool) -> None:
    _, raw, state = state_of(root, task_id="t", ok=ok)
    assert (raw, state) == ("", None)


# ---- codes and texts


@pytest.mark.parametrize(
    ("root", "code"),
    [
        ({"code": 200}, 200),
        ({"code": 0}, 0),
        ({"code": "402"}, 402),
        ({"code": " 402 "}, 402),
        ({"code": 402.0}, 402),
        ({"code": -1}, -1),
        ({"error": {"code": 429}}, 429),
        ({"error": {"code": "429"}}, 429),
        ({"code": "x", "error": {"code": 401}}, 401),
        ({"code": 500, "error": {"code": 401}}, 500),
        ({}, None),
        ({"code": None}, None),
        ({"code": True}, None),
        ({"code": False}, None),
        ({"code": float("nan")}, None),
        ({"code": float("inf")}, None),
        ({"code": 401.5}, None),
        ({"code": ""}, None),
        ({"code": "invalid_api_key"}, None),
        ({"code": "-401"}, None),
        ({"code": "4\u0660\u0661"}, None),
        ({"code": "9" * 5000}, None),
        ({"code": [401]}, None),
        ({"code": {"value": 401}}, None),
        ({"error": "401"}, None),
        ({"error": {"code": "c"}}, None),
    ],
)
def test_a_code_is_a_whole_number_however_it_is_written(root: dict[str, Any], code: int | None) -> None:
    assert code_of(root) == code


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ({"message": "a", "msg": "b", "error": {"message": "c"}, "failMsg": "d"}, "a"),
        ({"msg": "b", "error": {"message": "c"}, "failMsg": "d"}, "b"),
        ({"message": "", "msg": " ", "error": {"message": "c"}}, "c"),
        ({"error": "c"}, "c"),
        ({"failMsg": "d"}, "d"),
        ({"data": {"failMsg": "e"}}, "e"),
        ({"message": 7, "msg": ["b"], "error": {"message": {"of": 1}}, "failMsg": None}, ""),
        ({"message": {"message": "a"}, "error": ["c"]}, ""),
        ({}, ""),
    ],
)
def test_the_services_message_is_found(root: dict[str, Any], message: str) -> None:
    assert message_of(root) == message


@pytest.mark.parametrize(
    ("message", "phrase"),
    [
        ("积分不足: 8.00 / 3.50", Phrase.CREDITS),
        ("余额不足", Phrase.CREDITS),
        ("Insufficient credits: need 8", Phrase.CREDITS),
        ("INSUFFICIENT BALANCE", Phrase.CREDITS),
        ("You do not have: not enough credits", Phrase.CREDITS),
        ("未找到支持模型 veo3 的渠道", Phrase.MODEL),
        ("模型不存在", Phrase.MODEL),
        ("Model not found: x", Phrase.MODEL),
        ("the model does not exist", Phrase.MODEL),
        ("Model not exist", Phrase.MODEL),
        ("Unsupported model", Phrase.MODEL),
        ("invalid model x", Phrase.MODEL),
        ("请求频率过高", Phrase.RATE),
        ("频率限制", Phrase.RATE),
        ("success", None),
        ("", None),
        ("credits", None),
        ("the prompt was not accepted", None),
    ],
)
def test_known_phrases_are_known(message: str, phrase: Phrase | None) -> None:
    assert phrase_of(message) is phrase


@pytest.mark.parametrize(
    ("root", "seconds"),
    [
        ({"retry_after": 5}, 5.0),
        ({"retryAfter": 5}, 5.0),
        ({"retry_after": 0.25}, 0.25),
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "7.5"}, 7.5),
        ({"retry_after": 0}, 0.0),
        ({"data": {"retry_after": 3}}, 3.0),
        ({"error": {"retryAfter": "3"}}, 3.0),
        ({"retry_after": "soon", "data": {"retry_after": 3}}, 3.0),
        ({"retry_after": 1, "data": {"retry_after": 3}}, 1.0),
        ({"retry_after": 10**300}, 1e9),
        ({"retry_after": 1e300}, 1e9),
        ({"retry_after": float("nan")}, None),
        ({"retry_after": float("inf")}, None),
        ({"retry_after": -5}, None),
        ({"retry_after": True}, None),
        ({"retry_after": None}, None),
        ({"retry_after": [5]}, None),
        ({"retry_after": 10**400}, None),
        ({"data": [5], "error": "later"}, None),
        ({}, None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_retry_after_in_a_body_is_found(root: dict[str, Any], seconds: float | None) -> None:
    assert retry_after_in_body(root, {}, wall_now=NOW) == seconds


DATE = "Fri, 15 Jan 2027 08:00:{:02} GMT"


@pytest.mark.parametrize(
    ("headers", "estimated", "seconds"),
    [({"date": DATE.format(0)}, True, 30.0), ({}, False, 30.0), ({}, True, 30.0)],
)
def test_a_date_in_the_body_is_compared_with_the_time_of_the_reply(
    headers: dict[str, str], estimated: bool, seconds: float
) -> None:
    root = {"retry_after": DATE.format(30)}
    assert retry_after_in_body(root, headers, wall_now=NOW, estimated=estimated) == seconds


def test_a_date_in_the_body_far_from_our_own_clock_is_ignored() -> None:
    root = {"retry_after": DATE.format(30)}
    assert retry_after_in_body(root, {}, wall_now=NOW - 86_400, estimated=True) is None


# ---- task ids


@pytest.mark.parametrize(
    "root",
    [
        {"code": 200, "data": {"taskId": "task_1"}},
        {"code": 200, "data": {"task_id": "task_1"}},
        {"code": 200, "data": {"taskID": "task_1"}},
        {"code": 200, "data": {"taskid": "task_1"}},
        {"code": 200, "data": {"id": "task_1"}},
        {"code": 200, "data": {"uuid": "task_1"}},
        {"code": 200, "data": "task_1"},
        {"code": 200, "data": [{"taskId": "task_1"}]},
        {"code": 200, "data": [{"task_id": "task_1"}, {"task_id": "task_2"}]},
        {"code": 200, "data": [{"id": "task_1"}]},
        {"code": 200, "data": {"task": {"info": {"taskId": "task_1"}}}},
        {"code": 200, "result": {"taskId": "task_1"}},
        {"taskId": "task_1"},
        {"task_id": "task_1"},
        {"id": "task_1", "status": "queued"},
        {"uuid": "task_1"},
        {"id": "req_1", "data": {"taskId": "task_1"}},
        {"id": "req_1", "data": {"id": "task_1"}},
        {"taskId": "", "data": {"taskId": None, "task_id": "task_1"}},
    ],
)
def test_a_task_id_is_found_anywhere(root: dict[str, Any]) -> None:
    assert task_id_of(root, ok=True) == "task_1"


def test_a_number_is_an_id_too() -> None:
    assert task_id_of({"data": {"taskId": 17}}, ok=True) == "17"
    assert task_id_of({"data": {"taskId": True, "id": 1.5}}, ok=True) is None


@pytest.mark.parametrize(
    "root",
    [
        {"code": 500, "message": "boom", "data": {"taskId": "task_1"}},
        {"code": 402, "taskId": "task_1"},
        {"code": 500, "data": {"id": "task_1"}},
        {"error": {"message": "boom", "taskId": "task_1"}},
    ],
)
def test_a_task_id_in_an_error_reply_is_found(root: dict[str, Any]) -> None:
    assert task_id_of(root, ok=False) == "task_1"


@pytest.mark.parametrize(
    ("root", "ok"),
    [
        ({"code": 500, "id": "req_1", "message": "boom"}, False),
        ({"code": 500, "uuid": "req_1"}, False),
        ({"id": "req_1", "error": {"message": "boom", "type": "t"}}, True),
        ({"id": "req_1", "error": "boom"}, True),
        ({"id": "req_1", "message": "积分不足"}, True),
        ({"id": "req_1", "msg": "请求频率过高"}, True),
        ({"code": 500, "data": "internal"}, False),
        ({"code": 200, "data": "all is well"}, True),
        ({"error": "boom", "data": "internal"}, True),
        ({"code": 200, "data": {}}, True),
        ({"code": 200, "data": None}, True),
        ({"code": 200, "data": {"taskId": " ", "id": ""}}, True),
        ({"code": [200], "message": 7, "data": [{"taskId": None, "state": {"of": 1}}, "x"]}, True),
        ({}, True),
    ],
)
def test_a_reply_without_a_task_has_no_id(root: dict[str, Any], ok: bool) -> None:
    assert task_id_of(root, ok=ok) is None


# ---- anything at all

NAMES = "code message msg data error state status taskId task_id id uuid failMsg retry_after retryAfter"
_KEYS = st.sampled_from(NAMES.split())
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
    # numbers that fit no float
    | st.sampled_from([10**400, -(10**400), "success", "fail", "积分不足", "1" * 400]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(_KEYS | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=12,
)  # fmt: skip


@relaxed
@given(st.dictionaries(_KEYS, _json), st.booleans())
def test_no_json_makes_a_reader_raise(root: dict[str, Any], ok: bool) -> None:
    data, raw, state = state_of(root, task_id="t", ok=ok)
    assert isinstance(data, dict)
    assert (raw == "") is (state is None)
    assert isinstance(message_of(root), str)
    code, hint, found = code_of(root), retry_after_in_body(root, {}, wall_now=NOW), task_id_of(root, ok=ok)
    assert code is None or type(code) is int
    assert hint is None or 0 <= hint <= 1e9
    assert found is None or found.strip()
    phrase_of(message_of(root))
    read_documented_state(root, Reply(status=200))


@relaxed
@given(st.binary(max_size=200) | _json.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_make_decoding_raise(body: bytes) -> None:
    root = decode(body)
    assert root is None or isinstance(root, dict)


def test_ok_codes_are_those_of_success() -> None:
    assert {0, 200, 201, 202} == OK_CODES


# ---- a body that breaks off


@pytest.mark.parametrize(
    ("body", "task_id"),
    [
        (b'{"code":200,"data":{"taskId":"task_1","model":"goo', "task_1"),
        (b'{"code":200,"data":{"taskId":"task_1"', "task_1"),
        (b' \n{"task_id" : "task_1"', "task_1"),
        (b'\xef\xbb\xbf{"taskID":"task_1"', "task_1"),
        (rb'{"taskId":"task\u005f\"1', None),
        (rb'{"taskId":"task\u005f1","x', "task_1"),
        (b'{"taskId":12345,"x', "12345"),
        (b'{"taskId":12345}', "12345"),
        (b'{"taskId":12345', None),  # more digits may follow
        (b'{"taskId":"task_1', None),
        (b'{"taskId":', None),
        (b'{"taskId":"","task_id":"task_1"', "task_1"),
        (b'{"taskId":"\\x","task_id":"task_1"', "task_1"),
        (rb'{"message":"no \"taskId\":\"task_1\" here', None),
        (b'{"id":"task_1","x', None),
        (b'<html>{"taskId":"task_1"}', None),
        (b'["taskId":"task_1"', None),
        (b"", None),
    ],
)
def test_a_task_id_in_a_truncated_body_counts_if_it_is_complete(body: bytes, task_id: str | None) -> None:
    assert task_id_in_truncated(body) == task_id
