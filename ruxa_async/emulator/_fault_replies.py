"""What a struck request is answered."""

from __future__ import annotations

import attrs

from ._dialects import Dialect
from ._faults import Fault
from ._messages import Enactment, ServiceReply
from ._render import HTML_PAGE, JSON_HEADERS, Refusal, json_bytes, refused

__all__ = ("distort", "strike")

_ENACTED: dict[str, Enactment] = {
    "refused": "refused",
    "reset_before": "reset",
    "stall_before": "stall",
    "reset_after": "reset",
    "stall": "stall",
    "cut": "cut",
}


def strike(fault: Fault, dialect: Dialect, path: str) -> ServiceReply:
    """Return the reply to a request for *path* that *fault* strikes before the service acts on it."""
    if fault.kind in _ENACTED:
        return ServiceReply(fault=_ENACTED[fault.kind])
    if fault.kind == "html":
        return _html(fault.status or 502)
    if fault.kind == "redirect":
        return ServiceReply(status=fault.status or 307, headers={"location": path})
    return _server_error(fault, dialect)


def distort(fault: Fault, reply: ServiceReply, dialect: Dialect) -> ServiceReply:
    """Return *reply*, the good reply to a request that was carried out, with the fault applied."""
    if fault.kind in _ENACTED:
        return attrs.evolve(reply, fault=_ENACTED[fault.kind])
    if fault.kind == "error_after":
        return _server_error(fault, dialect)
    if fault.kind == "expired":
        return _html(fault.status or 404)
    if fault.kind == "drip":
        return attrs.evolve(reply, drip=fault.seconds)
    body = _spoilt(fault, reply.body)
    if body is not None:
        return attrs.evolve(reply, body=body, output=None)
    return ServiceReply(headers=JSON_HEADERS, body=_nonsense(dialect, reply.body)[fault.kind])


def _spoilt(fault: Fault, body: bytes) -> bytes | None:
    """Return what is left of *body* under faults that keep its kind, None under others."""
    match fault.kind:
        case "oversized":
            return body.ljust(fault.size)
        case "truncated":
            return body[: len(body) // 2]
        case "duplicate":
            return body * 2
        case _:
            return None


def _nonsense(dialect: Dialect, body: bytes) -> dict[str, bytes]:
    said = dialect.message_key
    return {
        "duplicate_keys": json_bytes({"code": 500, said: "error", "data": None})[:-1] + b"," + body[1:],
        "garbage": b"\x00{not json \xff",
        "empty": b"",
        "no_id": json_bytes({"code": 200, said: "success", "data": {}}),
        "wrong_types": json_bytes(
            {"code": [200], said: 7, "data": [{"taskId": None, "state": {"of": 1}}, "x"]}
        ),
    }


def _html(status: int) -> ServiceReply:
    page = HTML_PAGE.format(f"{status} Bad Gateway" if status == 502 else f"{status} error")
    return ServiceReply(status=status, headers={"content-type": "text/html"}, body=page.encode())


def _server_error(fault: Fault, dialect: Dialect) -> ServiceReply:
    # The HTTP status is the fault's even where the dialect keeps its own errors in the envelope.
    status = fault.status or 500
    headers = {} if fault.hint is None else {"retry-after": f"{fault.hint:g}"}
    return attrs.evolve(
        refused(dialect, Refusal(status, "Internal server error", headers=headers)), status=status
    )
