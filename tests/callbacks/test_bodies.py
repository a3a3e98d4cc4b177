"""Every form of a callback's body that a page or a client suggests is read, and none raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from callbacks.wired import charge
from harness import service_of
from hypothesis import given
from hypothesis import strategies as st

from ruxa_async import Callback, TaskState
from ruxa_async.callbacks._messages import read_body
from ruxa_async.emulator import CALLBACK_STYLES, DIALECTS, Callbacks

URL = "https://files.example/a.png"
RESULT = json.dumps({"resultUrls": [URL]})

SUCCESS: list[tuple[dict[str, Any], str | None]] = [
    ({"state": "completed", "resultUrls": [URL]}, None),
    ({"taskId": "t1", "state": "success", "resultUrls": [URL]}, "t1"),
    ({"task_id": "t1", "status": "SUCCEEDED", "result_urls": [URL]}, "t1"),
    ({"id": "t1", "status": "done", "url": URL}, "t1"),
    ({"code": 200, "msg": "ok", "data": {"taskId": "t1", "state": "success", "resultJson": RESULT}}, "t1"),
    ({"code": 200, "data": {"task_id": "t1", "state": "success", "resultJson": {"resultUrls": [URL]}}}, "t1"),
    ({"code": 200, "data": {"state": "success", "resultJson": RESULT}}, None),
    ({"code": 200, "data": [{"taskId": "t1", "state": "success", "resultJson": RESULT}]}, "t1"),
    ({"state": "success", "data": {"taskId": "t1", "resultUrls": [URL]}}, "t1"),
    ({"id": "event-1", "data": {"state": "success", "resultUrls": [URL]}}, None),
    ({"id": "event-1", "data": {"id": "t1", "state": "success", "resultUrls": [URL]}}, "t1"),
]


@pytest.mark.parametrize(("said", "task_id"), SUCCESS)
def test_a_success_in_each_known_form(said: dict[str, Any], task_id: str | None) -> None:
    found, status = read_body(json.dumps(said).encode())
    assert found == task_id
    assert status is not None
    assert (status.state, status.urls, status.task_id) == (TaskState.SUCCESS, (URL,), task_id or "")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"state": "fail", "failMsg": "why"}, "why"),
        ({"code": 501, "msg": "text", "data": {"state": "fail", "failCode": "500", "failMsg": "why"}}, "why"),
        ({"code": 501, "state": "fail", "failMsg": "why"}, "why"),
        ({"code": "501", "msg": "generation failed", "data": {"taskId": "t"}}, ""),
        ({"code": 501, "msg": "generation failed", "data": None}, ""),
    ],
)
def test_a_failure_with_each_code(said: dict[str, Any], why: str) -> None:
    _, status = read_body(json.dumps(said).encode())
    assert status is not None
    assert (status.state, status.urls) == (TaskState.FAIL, ())
    assert why in status.fail_message


def test_a_running_task() -> None:
    task_id, status = read_body(b'{"data": {"taskId": "t", "state": "generating"}}')
    callback = Callback(job=b"x", issued_at=0.0, task_id=task_id, status=status)
    assert (callback.pending, callback.ended) == (True, False)


@pytest.mark.parametrize(
    ("body", "task_id"),
    [
        (b"", None),
        (b"{not json \xff", None),
        (b"[]", None),
        (b"[" * 100_000, None),
        (b'{"taskId": "t"}', "t"),
        (b'{"state": "perplexed", "taskId": "t"}', "t"),
        (b'{"state": 7, "data": [], "code": {}}', None),
        (b'{"data": {"state": {"of": 1}}}', None),
    ],
)
def test_a_body_without_a_state(body: bytes, task_id: str | None) -> None:
    assert read_body(body) == (task_id, None)
    callback = Callback(job=b"x", issued_at=0.0)
    assert (callback.pending, callback.ended) == (False, False)


@given(st.binary(max_size=200) | st.from_type(dict).map(lambda value: repr(value).encode()))
def test_any_bytes_are_read_without_an_error(body: bytes) -> None:
    read_body(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "state", "status", "taskId", "id", "code", "resultJson", "resultUrls"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_read_without_an_error(said: object) -> None:
    read_body(json.dumps(said).encode())


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize(
    "style", [style for style in CALLBACK_STYLES if style not in ("mixed", "empty", "id_only")]
)
@pytest.mark.parametrize("fails", [0.0, 1.0])
def test_every_style_of_the_emulator_is_read(dialect: str, style: Any, fails: float) -> None:
    service = service_of(dialect=dialect, callbacks=Callbacks(style=style), fail_share=fails)
    charge(service, "https://hooks.example/x")
    (letter,) = service.callbacks.take(1_000.0)
    task_id, status = read_body(letter.body)
    unnamed = style in ("flat", "no_id")
    assert task_id == (None if unnamed else letter.task_id)
    assert status is not None
    assert status.state is (TaskState.FAIL if fails else TaskState.SUCCESS)
    assert bool(status.urls) is not bool(fails)
