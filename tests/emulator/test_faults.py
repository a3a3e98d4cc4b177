from __future__ import annotations

from typing import Any

import pytest
from emulator.asking import create, created, fetch, query, said, service_of

from ruxa_async.emulator import AFTER, BEFORE, Fault, Service, TokenBucket, parse_fault

_ERROR = {"code": 500, "message": "Internal server error", "data": None}
# By kind: HTTP status, what happens to the connection, whether the create is charged, the JSON (None: any).
_ON_CREATE: dict[str, tuple[int, str, bool, Any]] = {
    "refused": (200, "refused", False, None),
    "reset_before": (200, "reset", False, None),
    "stall_before": (200, "stall", False, None),
    "error": (500, "", False, _ERROR),
    "html": (502, "", False, None),
    "redirect": (307, "", False, None),
    "reset_after": (200, "reset", True, None),
    "stall": (200, "stall", True, None),
    "cut": (200, "cut", True, None),
    "drip": (200, "", True, None),
    "truncated": (200, "", True, None),
    "duplicate": (200, "", True, None),
    "duplicate_keys": (200, "", True, None),
    "error_after": (500, "", True, _ERROR),
    "garbage": (200, "", True, None),
    "empty": (200, "", True, None),
    "no_id": (200, "", True, {"code": 200, "message": "success", "data": {}}),
    "wrong_types": (
        200,
        "",
        True,
        {"code": [200], "message": 7, "data": [{"taskId": None, "state": {"of": 1}}, "x"]},
    ),
}


@pytest.mark.parametrize("kind", sorted(_ON_CREATE))
def test_a_fault_decides_the_reply_and_whether_the_create_is_charged(kind: Any) -> None:
    service = service_of(faults=[Fault(kind)])
    reply = create(service, 0.0)
    status, enacted, charged, body = _ON_CREATE[kind]
    assert (reply.status, reply.fault, service.ledger.charged == 1) == (status, enacted, charged)
    if body is not None:
        assert said(reply) == body
    assert service.counts.faults == 1


def test_every_kind_is_tested() -> None:
    assert {*_ON_CREATE, "slow", "oversized", "expired"} == {*BEFORE, *AFTER}


def test_bodies_that_are_not_json() -> None:
    service = service_of(faults=[Fault("garbage", nth=(1,)), Fault("empty", nth=(2,))])
    assert create(service, 0.0).body == b"\x00{not json \xff"
    assert create(service, 0.0).body == b""
    page = create(service_of(faults=[Fault("html", status=503)]), 0.0)
    assert (page.status, page.headers["content-type"]) == (503, "text/html")
    assert page.body.startswith(b"<!DOCTYPE html>")


def test_a_redirect_names_the_same_path() -> None:
    reply = create(service_of(faults=[Fault("redirect", status=308)]), 0.0)
    assert (reply.status, reply.headers["location"]) == (308, "/api/v1/tasks/create")


def test_an_error_has_a_retry_after_if_the_fault_has_a_hint() -> None:
    faults = [Fault("error", status=503, hint=1.5, nth=(1,)), Fault("error_after", hint=0.0)]
    service = service_of(faults=faults)
    replies = [create(service, 0.0) for _ in range(2)]
    assert [(each.status, each.headers["retry-after"]) for each in replies] == [(503, "1.5"), (500, "0")]
    assert "retry-after" not in create(service_of(faults=[Fault("error")]), 0.0).headers


def test_a_dripping_body_is_the_normal_one() -> None:
    service = service_of(faults=[Fault("drip", seconds=3.0)])
    reply = create(service, 0.0)
    assert (reply.drip, said(reply)["data"]["taskId"]) == (3.0, service.ledger.entries[0].task_id)


def test_json_can_be_truncated_or_doubled() -> None:
    plain = len(create(service_of(), 0.0).body)
    assert len(create(service_of(faults=[Fault("truncated")]), 0.0).body) == plain // 2
    assert len(create(service_of(faults=[Fault("duplicate")]), 0.0).body) == plain * 2
    doubled = create(service_of(faults=[Fault("duplicate_keys")]), 0.0)
    assert doubled.body.count(b'"data"') == 2
    assert said(doubled)["code"] == 200


def test_slow_is_the_normal_reply_later() -> None:
    service = service_of(latency=0.5, faults=[Fault("slow", seconds=7.0, nth=(2,))])
    assert create(service, 0.0).latency == 0.5
    late = create(service, 0.0)
    assert (late.latency, late.status, service.ledger.charged) == (7.5, 200, 2)


def test_oversized_is_the_normal_reply_with_padding() -> None:
    service = service_of(faults=[Fault("oversized", size=5000)])
    reply = create(service, 0.0)
    assert len(reply.body) == 5000
    assert said(reply)["data"]["taskId"] == service.ledger.entries[0].task_id


@pytest.mark.parametrize("status", [None, 410])
def test_an_expired_file_is_gone(status: int | None) -> None:
    service = service_of(faults=[Fault("expired", "file", status=status)])
    task = service.task(created(service, 0.0))
    assert task is not None
    assert fetch(service, 10.0, task.urls("http://x", 1)[0]).status == (status or 404)


def test_a_fault_strikes_only_its_operation() -> None:
    service = service_of(faults=[Fault("error", "query", nth=(2,), status=503)])
    task_id = created(service, 0.0)
    assert [query(service, 1.0, task_id).status for _ in range(3)] == [200, 503, 200]


def test_nth_and_every_count_from_one() -> None:
    service = service_of(faults=[Fault("error", nth=(1, 4)), Fault("html", every=3)])
    assert [create(service, 0.0).status for _ in range(6)] == [500, 200, 502, 500, 200, 502]


def test_a_fault_after_the_charge_does_not_count_refused_creates() -> None:
    service = service_of(creates=TokenBucket(1.0), faults=[Fault("reset_after", nth=(2,))])
    assert [create(service, 0.0).fault for _ in range(3)] == ["", "", ""]
    assert create(service, 1.0).fault == "reset"
    assert service.ledger.charged == 2


def _struck(service: Service, count: int) -> list[bool]:
    return [create(service, 0.0).status == 500 for _ in range(count)]


def test_a_share_strikes_the_same_requests_for_the_same_seed() -> None:
    faults = [Fault("error", share=0.3)]
    first, again, other = (_struck(service_of(seed=seed, faults=faults), 1000) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert 250 < sum(first) < 350


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("reset_after:create:share=0.1", Fault("reset_after", share=0.1)),
        ("error:query:nth=3,5:status=503", Fault("error", "query", nth=(3, 5), status=503)),
        ("slow:every=10:seconds=2.5", Fault("slow", every=10, seconds=2.5)),
        ("oversized:size=99", Fault("oversized", size=99)),
        ("error:status=503:hint=2.5", Fault("error", status=503, hint=2.5)),
        ("expired", Fault("expired", "file")),
        ("stall", Fault("stall")),
    ],
)
def test_a_fault_is_read_from_text(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("bogus", "use one of refused"),
        ("error:upload", "is not one of create, query, file"),
        ("error:often=1", "use nth, every"),
        ("error:nth=x", "invalid literal"),
        ("error:share=2", "'share' must be <= 1.0"),
        ("error:nth=1:every=2", "give one of them"),
        ("expired:query", "only files expire"),
    ],
)
def test_an_invalid_fault_is_refused_with_what_is_accepted(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_fault(text)
