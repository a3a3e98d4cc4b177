"""A terminal answer is read in every spelling, and one bad field never loses a picture."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ruxa_async import TaskState, TaskStatus
from ruxa_async._api.task_status import find_urls, has_result, result_object, task_status
from ruxa_async._engine.classify import Reply

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
A, B = "https://files.example/a.png", "https://files.example/b.png"
TEXT = json.dumps({"resultUrls": [A, B]})


def status(data: dict[str, Any], state: TaskState = TaskState.SUCCESS) -> TaskStatus:
    return task_status("task_1", Reply(status=200, state=state, raw_state=state.value, data=data))


# ---- outputs


@pytest.mark.parametrize(
    "data",
    [
        {"resultJson": TEXT},
        {"resultJson": {"resultUrls": [A, B]}},
        {"resultJson": json.dumps(TEXT)},
        {"resultJson": json.dumps(json.dumps(TEXT))},
        {"resultJson": {"result_urls": [A, B]}},
        {"resultJson": json.dumps([A, B])},
        {"resultJson": [A, B]},
        {"result_json": TEXT},
        {"result_json": {"resultUrls": [A, B]}},
        {"result_json": json.dumps({"result_urls": [A, B]})},
        {"result": {"resultUrls": [A, B]}},
        {"resultUrls": [A, B]},
        {"result_urls": [A, B]},
        {"resultJson": "", "resultUrls": [A, B]},
        {"resultJson": None, "result_json": TEXT},
        {"resultJson": "{}", "resultUrls": [A, B]},
        {"resultJson": "{not json", "resultUrls": [A, B]},
        {"resultJson": "[" * 100_000, "resultUrls": [A, B]},
        {"resultJson": TEXT, "resultUrls": ["https://files.example/other.png"]},
        {"resultUrls": [None, A, 7, "", " ", B, {"url": "x"}]},
    ],
    ids=lambda data: repr(data)[:60],
)
def test_all_outputs_are_found(data: dict[str, Any]) -> None:
    assert find_urls(data) == (A, B)
    assert status(data).urls == (A, B)
    assert has_result(status(data))


@pytest.mark.parametrize("name", ["url", "video_url", "image_url", "resultUrl", "result_url"])
def test_a_single_output_is_found_under_its_own_name(name: str) -> None:
    assert find_urls({name: A}) == (A,)
    assert find_urls({"resultJson": json.dumps({name: A})}) == (A,)


def test_a_list_that_is_one_text_is_one_output() -> None:
    assert find_urls({"resultUrls": A}) == (A,)
    assert find_urls({"resultJson": json.dumps({"resultUrls": A})}) == (A,)


def test_a_list_overrides_a_single_url() -> None:
    assert find_urls({"url": "https://files.example/thumb.png", "resultUrls": [A]}) == (A,)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"resultJson": None},
        {"resultJson": ""},
        {"resultJson": "{}"},
        {"resultJson": {}},
        {"resultJson": "null"},
        {"resultJson": 7},
        {"resultJson": {"resultUrls": []}},
        {"resultJson": {"resultUrls": None}},
        {"resultJson": {"resultUrls": [None, ""]}},
        {"resultUrls": {"0": A}},
        {"url": ["x"]},
        {"url": " "},
        {"param": json.dumps({"input": {"image_input": [A]}})},
    ],
)
def test_a_success_without_an_output_has_no_result(data: dict[str, Any]) -> None:
    assert find_urls(data) == ()
    assert not has_result(status(data))


@pytest.mark.parametrize(
    "held", [{"resultObject": {"text": "hi"}}, {"character_id_list": ["c1"]}, {"character_id": "c1"}]
)
def test_a_result_without_a_file_is_a_result(held: dict[str, Any]) -> None:
    seen = status({"resultJson": json.dumps(held)})
    assert seen.urls == ()
    assert has_result(seen)
    assert result_object(seen.raw) == held


# ---- failures


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        ({"failCode": "500", "failMsg": "why"}, "500", "why"),
        ({"failCode": 501, "failMsg": "why"}, "501", "why"),
        ({"failCode": "SENSITIVE_WORD_ERROR", "fail_msg": "why"}, "SENSITIVE_WORD_ERROR", "why"),
        ({"fail_code": "500", "failReason": "why"}, "500", "why"),
        ({"errorCode": "500", "fail_reason": "why"}, "500", "why"),
        ({"error_code": "500", "errorMsg": "why"}, "500", "why"),
        ({"failCode": "", "error_msg": "why"}, "", "why"),
        ({"failCode": None, "failMsg": "", "error": "why"}, "", "why"),
        ({"message": "why"}, "", "why"),
        ({"error": {"message": "why", "code": "c"}}, "", "why"),
        ({"error": {"reason": "why"}}, "", '{"reason": "why"}'),
        ({"failCode": ["500"], "failMsg": "why"}, "", "why"),
        ({"failCode": "500", "failMsg": ["why"]}, "500", ""),
        ({}, "", ""),
    ],
)
def test_the_failure_code_and_message_are_found(data: dict[str, Any], code: str, message: str) -> None:
    seen = status(data, TaskState.FAIL)
    assert (seen.fail_code, seen.fail_message) == (code, message)


@pytest.mark.parametrize("state", [TaskState.SUCCESS, TaskState.RUNNING])
def test_only_a_failed_task_has_a_reason_for_failing(state: TaskState) -> None:
    seen = status({"failCode": "0", "failMsg": "ok", "message": "success"}, state)
    assert (seen.fail_code, seen.fail_message) == ("", "")


# ---- numbers


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        # costTime: ms in the OpenAPI, plainly seconds in the callback's sample
        ({"costTime": 8}, 8.0),
        ({"costTime": 8.5}, 8.5),
        ({"costTime": "8"}, 8.0),
        ({"costTime": 999}, 999.0),
        ({"costTime": 1000}, 1.0),
        ({"costTime": 10_250}, 10.25),
        ({"costTime": "10250"}, 10.25),
        ({"cost_time": 10_250}, 10.25),
        # instants in unix ms or seconds, before costTime
        ({"createTime": 1_700_000_000_000, "completeTime": 1_700_000_012_500}, 12.5),
        ({"createTime": "1700000000000", "completeTime": "1700000012500"}, 12.5),
        ({"create_time": 1_700_000_000, "complete_time": 1_700_000_012}, 12.0),
        ({"createTime": 1_700_000_000_000, "completeTime": 1_700_000_012_500, "costTime": 99_000}, 12.5),
        ({"createTime": 1_700_000_000_000, "completeTime": None, "costTime": 9_000}, 9.0),
        ({"createTime": 0, "completeTime": 0, "costTime": 9_000}, 9.0),
        ({"createTime": 1_700_000_012_500, "completeTime": 1_700_000_000_000, "costTime": 9_000}, 9.0),
        ({"createTime": "yesterday", "completeTime": 1_700_000_012_500, "costTime": 9_000}, 9.0),
        ({"costTime": 0}, None),
        ({"costTime": -5}, None),
        ({"costTime": None}, None),
        ({"costTime": ""}, None),
        ({"costTime": True}, None),
        ({"costTime": "soon"}, None),
        ({"costTime": float("nan")}, None),
        ({"costTime": float("inf")}, None),
        ({"costTime": 10**400}, None),
        ({}, None),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_the_seconds_that_a_task_took_are_read(data: dict[str, Any], seconds: float | None) -> None:
    assert status(data).duration == seconds


@pytest.mark.parametrize("name", ["creditsConsumed", "consumeCredits", "credits_consumed", "credits"])
@pytest.mark.parametrize(
    ("given", "read"),
    [(8, 8.0), (7.1, 7.1), ("7.10", 7.1), (0, 0.0), ("free", None), (None, None), ([8], None)],
)  # fmt: skip
def test_credits_are_read(name: str, given: object, read: float | None) -> None:
    assert status({name: given}).credits == read


@pytest.mark.parametrize(
    ("given", "read"),
    [(0, 0.0), (37, 37.0), ("37", 37.0), (99.5, 99.5), (True, None), ("half", None), ({}, None)],
)  # fmt: skip
def test_progress_is_read(given: object, read: float | None) -> None:
    assert status({"progress": given}, TaskState.RUNNING).progress == read


# ---- the whole


def test_a_documented_answer_is_read_whole() -> None:
    data = {
        "taskId": "task_1",
        "model": "google/nano-banana",
        "state": "success",
        "param": "{}",
        "resultJson": TEXT,
        "failCode": "",
        "failMsg": "",
        "costTime": 12_500,
        "completeTime": 1_700_000_012_500,
        "createTime": 1_700_000_000_000,
        "progress": 100,
        "creditsConsumed": 3,
    }
    assert status(data) == TaskStatus(
        task_id="task_1",
        state=TaskState.SUCCESS,
        raw_state="success",
        progress=100.0,
        urls=(A, B),
        credits=3.0,
        duration=12.5,
        raw=data,
    )


def test_one_unreadable_field_does_not_lose_the_others() -> None:
    seen = status({"resultUrls": [A], "creditsConsumed": {"of": 1}, "costTime": [1], "progress": "x"})
    assert (seen.urls, seen.credits, seen.duration, seen.progress) == ((A,), None, None, None)


def test_an_answer_without_a_state_is_unknown() -> None:
    assert task_status("task_1", Reply(status=200)) == TaskStatus(task_id="task_1", state=TaskState.UNKNOWN)


NAMES = (
    "resultJson result_json result resultUrls result_urls url failCode failMsg error message progress "
    "credits "
    "costTime createTime completeTime"
)
_NAMES = st.sampled_from(NAMES.split())
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
    | st.sampled_from([10**400, -(10**400), 1e308, -1e308, TEXT]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(_NAMES | st.text(max_size=5), inner, max_size=4)
    | inner.map(lambda value: json.dumps(value, default=str)),
    max_leaves=10,
)  # fmt: skip


@relaxed
@given(st.dictionaries(_NAMES, _json), st.sampled_from(TaskState))
def test_no_json_makes_an_answer_unreadable(data: dict[str, Any], state: TaskState) -> None:
    seen = status(data, state)
    assert seen.raw is data
    assert all(url.strip() for url in seen.urls)
    assert all(type(n) is float for n in (seen.progress, seen.credits, seen.duration) if n is not None)
    has_result(seen)
