"""Replies in a dialect: what the service means, written as bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from ._dialects import Dialect
from ._messages import ServiceReply

__all__ = ("HTML_PAGE", "JSON_HEADERS", "Refusal", "accepted", "json_bytes", "refused", "task_fields", "told")

JSON_HEADERS: Mapping[str, str] = {"content-type": "application/json"}
_HTML_HEADERS: Mapping[str, str] = {"content-type": "text/html; charset=utf-8"}
HTML_PAGE = (
    "<!DOCTYPE html><html><head><title>{0}</title></head>"
    "<body><center><h1>{0}</h1></center><hr></body></html>"
)


# Made once: json.dumps would make one for each reply.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def json_bytes(value: object) -> bytes:
    """Return *value* as compact JSON."""
    return _encode(value).encode()


@frozen
class Refusal:
    """Why a request is refused: *code* as documented, *english* and *chinese* words.

    *by_phrase* marks those that relays report under a code that says nothing. *extra* fields go into the
    body.
    """

    code: int
    english: str
    chinese: str = ""
    by_phrase: bool = False
    headers: Mapping[str, str] = {}
    extra: Mapping[str, Any] = {}


def accepted(dialect: Dialect, task_id: str) -> ServiceReply:
    """Say that a create was accepted as *task_id*."""
    return told(dialect, {dialect.id_key: task_id})


def told(dialect: Dialect, fields: Mapping[str, Any]) -> ServiceReply:
    """Say *fields* in an envelope of success."""
    if dialect.at_root:
        return ServiceReply(headers=JSON_HEADERS, body=json_bytes(fields))
    code = "200" if dialect.text_codes else 200
    return ServiceReply(
        headers=JSON_HEADERS, body=json_bytes({"code": code, dialect.message_key: "success", "data": fields})
    )


def refused(dialect: Dialect, refusal: Refusal) -> ServiceReply:
    """Say why a request is refused, in the HTTP status or in the envelope."""
    code = dialect.vague_code if refusal.by_phrase and dialect.vague_code is not None else refusal.code
    text = refusal.chinese if dialect.phrases == "chinese" and refusal.chinese else refusal.english
    status = 200 if dialect.errors_in == "envelope" else code
    if dialect.error_shape == "html":
        page = HTML_PAGE.format(f"{code} {text}").encode()
        return ServiceReply(status=status, headers={**_HTML_HEADERS, **refusal.headers}, body=page)
    body = {**_error_body(dialect, code, text), **refusal.extra}
    return ServiceReply(status=status, headers={**JSON_HEADERS, **refusal.headers}, body=json_bytes(body))


def _error_body(dialect: Dialect, code: int, text: str) -> dict[str, Any]:
    spelt = str(code) if dialect.text_codes else code
    match dialect.error_shape:
        case "error_object":
            return {"error": {"message": text, "type": "ruxa_error", "code": spelt}}
        case "error_string":
            return {"error": text}
        case "bare_envelope":
            return {"code": spelt, dialect.message_key: text}
        case _:
            return {"code": spelt, dialect.message_key: text, "data": None}


def task_fields(dialect: Dialect, task_id: str, state: str, urls: Sequence[str]) -> dict[str, Any]:
    """Return a task's id, its *state* in the dialect's word and, where there are any, its output *urls*."""
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
