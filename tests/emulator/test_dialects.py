from __future__ import annotations

from typing import Any

import pytest
from emulator.asking import create, created, query, said, service_of

from ruxa_async.emulator import DIALECTS, Dialect, Durations, ServiceReply, TokenBucket
from ruxa_async.emulator._dialects import dialect

URL = "https://emulator.test/files/{}/0.png"
TIMES = {"createTime": 1700000000000, "completeTime": 1700000010000, "costTime": 10000}


def _json(text: str) -> str:
    return f'{{"resultUrls":["{text}"]}}'


def _documented(**result: Any) -> dict[str, Any]:
    return {"code": 200, "message": "success", "data": {"taskId": "ID", "state": "success", **result}}


# The reply to a query of a task that succeeded after ten seconds, with ID for its id and URL for its output.
_ENDED: dict[str, Any] = {
    "documented": _documented(resultJson=_json("URL")),
    "blog": {
        "code": 200,
        "message": "success",
        "data": {"taskId": "ID", "state": "completed", "resultJson": _json("URL")},
    },
    "detailed": _documented(
        resultJson=_json("URL"), model="google/nano-banana", **TIMES, creditsConsumed=3, progress=100
    ),
    "sibling": {
        "code": 200,
        "msg": "success",
        "data": {
            "taskId": "ID",
            "state": "success",
            "resultJson": _json("URL"),
            "model": "google/nano-banana",
            **TIMES,
            "creditsConsumed": 3,
            "progress": 100,
        },
    },
    "apixo": _documented(resultJson=_json("URL"), **TIMES),
    "snake": {
        "code": 200,
        "message": "success",
        "data": {"task_id": "ID", "status": "succeeded", "result_json": '{"result_urls":["URL"]}'},
    },
    "upper": {
        "code": "200",
        "message": "success",
        "data": {"uuid": "ID", "state": "SUCCESS", "result_urls": ["URL"]},
    },
    "bare": {"id": "ID", "status": "done", "url": "URL"},
    "relay": _documented(resultJson=_json("URL")),
    "openai": {
        "code": 200,
        "message": "success",
        "data": {"taskId": "ID", "state": "succeed", "resultJson": _json("URL")},
    },
    "html_errors": _documented(resultJson=_json("URL")),
    "text_codes": {**_documented(resultJson=_json("URL")), "code": "200"},
    "grace_404": _documented(resultJson=_json("URL")),
    "grace_422": _documented(resultJson=_json("URL")),
    "object": _documented(resultJson={"resultUrls": ["URL"]}),
    "double": _documented(resultJson='"{\\"resultUrls\\":[\\"URL\\"]}"'),
    "snake_object": {
        "code": 200,
        "message": "success",
        "data": {"taskId": "ID", "state": "complete", "result_json": {"resultUrls": ["URL"]}},
    },
    "flat": _documented(resultUrls=["URL"]),
    "video_url": _documented(video_url="URL"),
    "image_url": _documented(image_url="URL"),
    "resultUrl": _documented(resultUrl="URL"),
    "result_url": _documented(result_url="URL"),
}


def _plain(reply: ServiceReply, task_id: str) -> str:
    return reply.body.decode().replace(URL.format(task_id), "URL").replace(task_id, "ID")


@pytest.mark.parametrize("name", DIALECTS)
def test_a_query_of_an_ended_task_in_each_dialect(name: str) -> None:
    service = service_of(dialect=name)
    task_id = created(service, 0.0)
    reply = query(service, 10.0, task_id)
    assert said(ServiceReply(body=_plain(reply, task_id).encode())) == _ENDED[name]


# The words for waiting, queuing, generating and failed; the key of the reason; whether there is a code.
_WORDS: dict[str, tuple[str, str, str, str, str, bool]] = {
    "blog": ("generating", "generating", "generating", "fail", "failMsg", False),
    "apixo": ("pending", "pending", "processing", "failed", "failMsg", True),
    "snake": ("queued", "queueing", "in_progress", "error", "message", True),
    "upper": ("SUBMITTED", "WAIT", "RUNNING", "FAILURE", "errorMsg", True),
    "bare": ("waiting", "queuing", "generating", "failed", "error", True),
    "openai": ("waiting", "queuing", "generating", "cancelled", "failReason", True),
}
_DOCUMENTED_WORDS = ("waiting", "queuing", "generating", "fail", "failMsg", True)


@pytest.mark.parametrize("name", DIALECTS)
def test_states_and_failures_in_each_dialect(name: str) -> None:
    dialect = DIALECTS[name]
    service = service_of(dialect=name, fail_share=1.0, fail_message="no", image=Durations(100.0))
    task_id = created(service, 0.0)
    data = [_data(query(service, at, task_id)) for at in (5.0, 20.0, 50.0, 100.0)]
    *pending, fail, key, has_code = _WORDS.get(name, _DOCUMENTED_WORDS)
    assert [each[dialect.state_key] for each in data] == [*pending, fail]
    assert (data[3][key], "failCode" in data[3]) == ("no", has_code)


def _data(reply: ServiceReply) -> Any:
    body = said(reply)
    return body.get("data", body)


_SLOW = "Too many requests: slow down"
# The reply to a throttled create: the HTTP status, and the JSON or a part of the HTML page.
_THROTTLED: dict[str, tuple[int, Any]] = {
    "sibling": (200, {"code": 429, "msg": _SLOW, "data": None}),
    "upper": (200, {"code": "429", "message": _SLOW, "data": None}),
    "bare": (429, {"error": _SLOW}),
    "relay": (200, {"code": 500, "message": "请求频率过高, 请稍后再试"}),
    "openai": (429, {"error": {"message": _SLOW, "type": "ruxa_error", "code": 429}}),
    "html_errors": (429, f"<h1>429 {_SLOW}</h1>"),
    "text_codes": (200, {"code": "429", "message": _SLOW, "data": None}),
    "grace_422": (200, {"code": 429, "message": _SLOW, "data": None}),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_a_rejection_in_each_dialect(name: str) -> None:
    service = service_of(dialect=name, creates=TokenBucket(1.0))
    created(service, 0.0)
    reply = create(service, 0.0)
    status, body = _THROTTLED.get(name, (429, {"code": 429, "message": _SLOW, "data": None}))
    assert reply.status == status
    assert body in reply.body.decode() if isinstance(body, str) else said(reply) == body


def test_relays_report_errors_in_chinese() -> None:
    poor = said(create(service_of(dialect="relay", credits=1), 0.0))
    assert poor == {"code": 500, "message": "积分不足, 需要 / 余额 3.00 / 1.00"}
    unknown = said(create(service_of(dialect="relay", default_price=None), 0.0, model="x"))
    assert unknown == {"code": 500, "message": "未找到支持模型 x 的渠道"}


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [
        ("grace_404", 404, {"code": 404, "message": "task not found", "data": None}),
        ("grace_422", 200, {"code": 422, "message": "recordInfo is null", "data": None}),
        ("sibling", 200, {"code": 422, "msg": "recordInfo is null", "data": None}),
    ],
)
def test_a_new_task_seems_missing_during_the_grace(name: str, status: int, body: dict[str, Any]) -> None:
    service = service_of(dialect=name)
    task_id = created(service, 0.0)
    early = query(service, 1.9, task_id)
    assert (early.status, said(early)) == (status, body)
    assert _data(query(service, 2.0, task_id))["state"] == "queuing"


def test_a_running_task_states_its_progress_and_no_end() -> None:
    service = service_of(dialect="sibling")
    data = _data(query(service, 5.5, created(service, 0.0)))
    assert (data["progress"], data["completeTime"], data["costTime"]) == (55, None, None)
    assert "creditsConsumed" not in data


def test_a_custom_dialect_can_be_given() -> None:
    service = service_of(dialect=Dialect(id_key="uuid", at_root=True))
    assert said(create(service, 0.0)) == {"uuid": service.ledger.entries[0].task_id}


def test_an_unknown_dialect_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'klingon' is not known: use one of documented, detailed, blog"):
        dialect("klingon")
