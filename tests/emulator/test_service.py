from __future__ import annotations

import json
import math
import re
import statistics
from typing import Any
from urllib.parse import quote

import pytest
from emulator.asking import KEY, create, created, fetch, query, said, service_of

from ruxa_async.emulator import Durations, EmulatorSettings, Service, ServiceRequest, TokenBucket


def test_an_accepted_create_returns_an_id_in_the_form_of_the_service() -> None:
    reply = create(service_of(), 1.5)
    body = said(reply)
    assert (reply.status, body["code"], body["message"]) == (200, 200, "success")
    assert re.fullmatch(r"task_gemini-2\.5-flash-image_1700000001500_[0-9a-f]{8}", body["data"]["taskId"])


def test_a_task_goes_through_its_states() -> None:
    service = service_of()
    task_id = created(service, 100.0)
    states = [
        (at, said(query(service, 100.0 + at, task_id))["data"]["state"])
        for at in (0, 0.9, 1, 2.9, 3, 9.9, 10, 1e6)
    ]
    words = ["waiting", "waiting", "queuing", "queuing", "generating", "generating", "success", "success"]
    assert [state for _, state in states] == words


def test_a_finished_task_names_its_outputs_and_they_can_be_fetched() -> None:
    service = service_of(outputs=2, public_url="http://127.0.0.1:1/")
    task_id = created(service, 0.0)
    urls = json.loads(said(query(service, 10.0, task_id))["data"]["resultJson"])["resultUrls"]
    assert urls == [f"http://127.0.0.1:1/files/{task_id}/{place}.png" for place in (0, 1)]
    files = [fetch(service, 10.0, url) for url in urls]
    assert [(file.status, file.headers["content-type"]) for file in files] == [(200, "image/png")] * 2
    assert files[0].body != files[1].body


@pytest.mark.parametrize(
    ("model", "given", "suffix", "kind", "start"),
    [
        ("google/nano-banana", {}, "png", "image/png", b"\x89PNG\r\n\x1a\n"),
        ("google/nano-banana", {"output_format": "jpeg"}, "jpg", "image/jpeg", b"\xff\xd8\xff\xfe"),
        ("sora-2", {}, "mp4", "video/mp4", b"\0\0\0\x18ftypisom"),
    ],
)
def test_files_are_of_the_kind_that_was_asked_for(
    model: str, given: dict[str, str], suffix: str, kind: str, start: bytes
) -> None:
    service = service_of()
    task_id = created(service, 0.0, "a fox", model, **given)
    file = fetch(service, 500.0, f"http://x/files/{task_id}/0.{suffix}")
    assert (file.headers["content-type"], file.body[: len(start)]) == (kind, start)
    assert file.output is not None
    assert (file.output.prompt, file.output.model) == ("a fox", model)


def test_a_file_exists_only_after_the_end_and_under_its_name() -> None:
    service = service_of()
    task_id = created(service, 0.0)
    assert fetch(service, 9.9, f"http://x/files/{task_id}/0.png").status == 404
    for name in ("1.png", "0.jpg", "x.png", "0", "", "0.png/more"):
        assert fetch(service, 10.0, f"http://x/files/{task_id}/{name}").status == 404
    assert fetch(service, 10.0, "http://x/files/other/0.png").status == 404


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer sk-other"}, {"authorization": "sk-emulated"}]
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/v1/tasks/create"), ("GET", "/api/v1/tasks/query/t")]
)
def test_requests_without_the_key_are_refused(headers: dict[str, str], method: str, path: str) -> None:
    reply = service_of().handle(ServiceRequest(method, path, headers), 0.0)
    assert (reply.status, said(reply)["code"]) == (401, 401)


@pytest.mark.parametrize(
    "path", ["/", "/api/v1/tasks", "/api/v1/tasks/query/", "/api/v1/tasks/query/a/b", "/files/"]
)
def test_an_unknown_path_is_not_found(path: str) -> None:
    assert service_of().handle(ServiceRequest("GET", path, KEY), 0.0).status == 404


def test_a_wrong_method_is_refused() -> None:
    assert service_of().handle(ServiceRequest("GET", "/api/v1/tasks/create", KEY), 0.0).status == 405


def test_an_unknown_task_is_not_found() -> None:
    assert query(service_of(), 0.0, "task_other").status == 404


def test_a_query_string_is_ignored() -> None:
    service = service_of()
    path = f"/api/v1/tasks/query/{created(service, 0.0)}?verbose=1"
    assert service.handle(ServiceRequest("GET", path, KEY), 0.0).status == 200


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "model is required"),
        (b'{"model": 3}', "model is required"),
        (b'{"model": "m"}', "input is required"),
        (b'{"model": "m", "input": {}}', "prompt is required"),
        (b'{"model": "m", "input": {"prompt": " "}}', "prompt is required"),
    ],
)
def test_wrong_parameters_are_refused_and_not_charged(body: bytes, complaint: str) -> None:
    service = service_of()
    reply = service.handle(ServiceRequest("POST", "/api/v1/tasks/create", KEY, body), 0.0)
    assert (reply.status, service.ledger.charged) == (422, 0)
    assert complaint in said(reply)["message"]


@pytest.mark.parametrize("name", ["callback_url", "callBackUrl"])
def test_the_callback_address_is_recorded(name: str) -> None:
    service = service_of()
    body = json.dumps({"model": "m", "input": {"prompt": "x"}, name: "https://me.example/hook"}).encode()
    service.handle(ServiceRequest("POST", "/api/v1/tasks/create", KEY, body), 0.0)
    assert service.ledger.entries[0].callback == "https://me.example/hook"


def test_credits_run_out() -> None:
    service = service_of(credits=7)
    assert [create(service, 0.0).status for _ in range(3)] == [200, 200, 402]
    assert (service.ledger.credits_spent, service.credits_left) == (6, 1)
    assert said(create(service, 0.0))["message"] == "Insufficient credits: need / have 3.00 / 1.00"


def test_a_model_without_a_price_does_not_exist_unless_there_is_a_default() -> None:
    assert create(service_of(default_price=None), 0.0, model="other").status == 404
    service = service_of()
    created(service, 0.0, model="other")
    assert service.ledger.credits_spent == 5


def test_creates_and_queries_have_separate_limits() -> None:
    service = service_of(creates=TokenBucket(1.0, 2), queries=TokenBucket(1.0))
    task_id = created(service, 0.0)
    assert [create(service, 0.0).status for _ in range(2)] == [200, 429]
    assert [query(service, 0.0, task_id).status for _ in range(2)] == [200, 429]
    counts = service.counts
    assert (counts.creates, counts.creates_throttled, counts.queries, counts.queries_throttled) == (
        3,
        1,
        2,
        1,
    )
    assert (service.ledger.charged, counts.throttled) == (2, 2)


def test_creates_and_queries_can_share_a_limit() -> None:
    service = service_of(creates=TokenBucket(1.0, 2), shared=True)
    task_id = created(service, 0.0)
    assert [query(service, 0.0, task_id).status, create(service, 0.0).status] == [200, 429]


def test_a_shared_limit_without_a_limit_of_creates_is_an_error() -> None:
    with pytest.raises(ValueError, match="give it as creates"):
        EmulatorSettings(shared=True, queries=TokenBucket(1.0))


def test_creates_beyond_max_running_are_rejected_without_retry_after_until_a_task_ends() -> None:
    service = service_of(max_running=2, retry_after="seconds")
    assert [create(service, at).status for at in (0.0, 1.0, 2.0)] == [200, 200, 429]
    assert "retry-after" not in create(service, 9.9).headers
    assert create(service, 10.0).status == 200
    assert (service.counts.creates_capped, service.ledger.charged) == (2, 3)


def test_a_rejection_names_the_wait() -> None:
    service = service_of(creates=TokenBucket(0.4), retry_after="float", throttle_status=503)
    assert create(service, 0.0).status == 200
    late = create(service, 1.0)
    assert (late.status, late.headers["retry-after"], said(late)["code"]) == (503, "1.500", 503)
    body = create(service_of(creates=TokenBucket(0.4), retry_after="body"), 0.0)
    assert "retry_after" not in said(body)


def test_retry_after_in_the_body_is_beside_the_code() -> None:
    service = service_of(creates=TokenBucket(0.4), retry_after="body")
    create(service, 0.0)
    reply = said(create(service, 1.0))
    assert (reply["code"], reply["retry_after"]) == (429, 1.5)


def test_durations_follow_the_model_and_the_speed() -> None:
    settings: dict[str, Any] = {"speed": 10.0, "durations": {"sora-2": Durations(30.0)}}
    service = service_of(**settings)
    durations = []
    for model in ("google/nano-banana", "sora-2", "veo3"):
        task = service.task(created(service, 5.0, model=model))
        assert task is not None
        durations.append(task.ends - task.created)
    assert durations == pytest.approx([1.0, 3.0, 12.0])


def test_durations_are_log_normal_and_the_same_for_the_same_seed() -> None:
    def logs(seed: int) -> list[float]:
        service = Service(EmulatorSettings(seed=seed))
        tasks = [service.task(created(service, 0.0)) for _ in range(2000)]
        return [math.log(task.ends) for task in tasks if task]

    first = logs(1)
    assert first == logs(1)
    assert first != logs(2)
    assert statistics.median(first) == pytest.approx(math.log(10.0), abs=0.03)
    assert statistics.stdev(first) == pytest.approx(0.4, abs=0.03)


def test_failed_tasks_name_the_reason_and_change_no_duration() -> None:
    service = Service(EmulatorSettings(fail_share=0.25))
    plain = Service(EmulatorSettings())
    ids = [created(service, 0.0) for _ in range(1000)]
    same = [created(plain, 0.0) for _ in range(1000)]
    for mine, other in zip(ids, same, strict=True):
        assert getattr(service.task(mine), "ends", 0) == getattr(plain.task(other), "ends", 1)
    failed = [data for each in ids if (data := said(query(service, 1e6, each))["data"])["state"] == "fail"]
    assert 200 < len(failed) < 300
    assert failed[0]["failCode"] == "500"
    assert failed[0]["failMsg"] == "The model could not make this; try another prompt"
    assert "resultJson" not in failed[0]


def test_awkward_ids_arrive_percent_encoded_and_are_found() -> None:
    service = service_of(task_ids="awkward")
    task_id = created(service, 0.0)
    assert quote(task_id, safe="") != quote(task_id, safe="/ %é?#+猫")
    data = said(query(service, 10.0, task_id))["data"]
    assert (data["taskId"], data["state"]) == (task_id, "success")
    assert fetch(service, 10.0, json.loads(data["resultJson"])["resultUrls"][0]).status == 200


def test_ids_never_repeat() -> None:
    service = service_of()
    assert len({created(service, 0.0) for _ in range(5000)}) == 5000
