"""Replies as bytes: in a dialect, and distorted by faults."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from attrs import frozen

from ._dialects import Dialect
from ._faults import Fault
from ._http import Enactment, ServiceReply

__all__ = ("Refusal", "distort", "error_reply", "fault_reply", "json_bytes", "success_reply", "task_fields")

_JSON_HEADERS: Mapping[str, str] = {"content-type": "application/json"}
_HTML_HEADERS: Mapping[str, str] = {"content-type": "text/html; charset=utf-8"}
_HTML_PAGE = (
    "<!DOCTYPE html><html><head><title>{0}</title></head>"
    "<body><center><h1>{0}</h1></center><hr></body></html>"
)

# One encoder for all replies; json.dumps creates one for each call.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def json_bytes(value: object) -> bytes:
    """Return *value* as compact JSON."""
    return _encode(value).encode()


@frozen
class Refusal:
    """Why a request is refused: the documented *code*, and its text in *english* and *chinese*.

    *vague* marks refusals that relays report under one code, so that only the text tells them apart.
    *extra* holds fields for the body.
    """

    code: int
    english: str
    chinese: str = ""
    vague: bool = False
    headers: Mapping[str, str] = {}
    extra: Mapping[str, Any] = {}


def success_reply(dialect: Dialect, fields: Mapping[str, Any]) -> ServiceReply:
    """Return the reply that carries *fields*, in an envelope of success unless *dialect* has none."""
    if dialect.at_root:
        return ServiceReply(headers=_JSON_HEADERS, body=json_bytes(fields))
    code = "200" if dialect.text_codes else 200
    body = {"code": code, dialect.message_key: "success", "data": fields}
    return ServiceReply(headers=_JSON_HEADERS, body=json_bytes(body))


def error_reply(dialect: Dialect, refusal: Refusal) -> ServiceReply:
    """Return the reply for *refusal*, with its code in the HTTP status or in the envelope of an HTTP 200."""
    code = dialect.vague_code if refusal.vague and dialect.vague_code is not None else refusal.code
    text = refusal.chinese if dialect.phrases == "chinese" and refusal.chinese else refusal.english
    status = 200 if dialect.errors_in == "envelope" else code
    if dialect.error_shape == "html":
        page = _HTML_PAGE.format(f"{code} {text}").encode()
        return ServiceReply(status=status, headers={**_HTML_HEADERS, **refusal.headers}, body=page)
    body = {**_error_body(dialect, code, text), **refusal.extra}
    return ServiceReply(status=status, headers={**_JSON_HEADERS, **refusal.headers}, body=json_bytes(body))


def _error_body(dialect: Dialect, code: int, text: str) -> dict[str, Any]:
    shown_code = str(code) if dialect.text_codes else code
    match dialect.error_shape:
        case "error_object":
            return {"error": {"message": text, "type": "ruxa_error", "code": shown_code}}
        case "error_string":
            return {"error": text}
        case "bare_envelope":
            return {"code": shown_code, dialect.message_key: text}
        case _:
            return {"code": shown_code, dialect.message_key: text, "data": None}


def task_fields(dialect: Dialect, task_id: str, state: str, urls: Sequence[str]) -> dict[str, Any]:
    """Return the JSON fields of a task: its id, its *state* in the dialect's word, and any output *urls*."""
    fields: dict[str, Any] = {dialect.id_key: task_id, dialect.state_key: getattr(dialect, state)}
    if urls:
        key, wrap = _RESULTS[dialect.result]
        fields[key] = wrap(list(urls))
    return fields


def _text(value: object) -> str:
    return json_bytes(value).decode()


_Wrap = Callable[[list[str]], object]
_RESULTS: dict[str, tuple[str, _Wrap]] = {
    "json_string": ("resultJson", lambda urls: _text({"resultUrls": urls})),
    "object": ("resultJson", lambda urls: {"resultUrls": urls}),
    "double": ("resultJson", lambda urls: _text(_text({"resultUrls": urls}))),
    "snake_string": ("result_json", lambda urls: _text({"result_urls": urls})),
    "snake_object": ("result_json", lambda urls: {"resultUrls": urls}),
    "flat": ("resultUrls", lambda urls: urls),
    "snake_flat": ("result_urls", lambda urls: urls),
    **{
        name: (name, lambda urls: urls[0])
        for name in ("url", "video_url", "image_url", "resultUrl", "result_url")
    },
}


_ENACTED: dict[str, Enactment] = {
    "refused": "refused",
    "reset_before": "reset",
    "stall_before": "stall",
    "reset_after": "reset",
    "stall": "stall",
    "cut": "cut",
}


def fault_reply(fault: Fault, dialect: Dialect, path: str) -> ServiceReply:
    """Return the reply to a request for *path* on which the service does not act because of *fault*."""
    if fault.kind in _ENACTED:
        return ServiceReply(fault=_ENACTED[fault.kind])
    if fault.kind == "html":
        return _html(fault.status or 502)
    if fault.kind == "redirect":
        return ServiceReply(status=fault.status or 307, headers={"location": path})
    return _server_error(fault, dialect)


def distort(fault: Fault, reply: ServiceReply, dialect: Dialect) -> ServiceReply:
    """Return *reply* changed by *fault*; the service has acted on the request, so a create is charged."""
    if fault.kind in _ENACTED:
        return attrs.evolve(reply, fault=_ENACTED[fault.kind])
    if fault.kind == "error_after":
        return _server_error(fault, dialect)
    if fault.kind == "expired":
        return _html(fault.status or 404)
    if fault.kind == "drip":
        return attrs.evolve(reply, drip=fault.seconds)
    body = _changed(fault, reply.body)
    if body is not None:
        return attrs.evolve(reply, body=body, output=None)
    return ServiceReply(headers=_JSON_HEADERS, body=_wrong_bodies(dialect, reply.body)[fault.kind])


def _changed(fault: Fault, body: bytes) -> bytes | None:
    """Return *body* padded, shortened or doubled, None if *fault* replaces it."""
    match fault.kind:
        case "oversized":
            return body.ljust(fault.size)
        case "truncated":
            return body[: len(body) // 2]
        case "duplicate":
            return body * 2
        case _:
            return None


def _wrong_bodies(dialect: Dialect, body: bytes) -> dict[str, bytes]:
    message = dialect.message_key
    return {
        "duplicate_keys": json_bytes({"code": 500, message: "error", "data": None})[:-1] + b"," + body[1:],
        "garbage": b"\x00{not json \xff",
        "empty": b"",
        "no_id": json_bytes({"code": 200, message: "success", "data": {}}),
        "wrong_types": json_bytes(
            {"code": [200], message: 7, "data": [{"taskId": None, "state": {"of": 1}}, "x"]}
        ),
    }


def _html(status: int) -> ServiceReply:
    page = _HTML_PAGE.format(f"{status} Bad Gateway" if status == 502 else f"{status} error")
    return ServiceReply(status=status, headers={"content-type": "text/html"}, body=page.encode())


def _server_error(fault: Fault, dialect: Dialect) -> ServiceReply:
    # The HTTP status is that of the fault, also in a dialect that reports errors in the envelope.
    status = fault.status or 500
    headers = {} if fault.hint is None else {"retry-after": f"{fault.hint:g}"}
    return attrs.evolve(
        error_reply(dialect, Refusal(status, "Internal server error", headers=headers)), status=status
    )
