"""Read facts from the JSON of a reply: one function for each fact, which knows all its names and places.

The JSON comes from outside and may hold anything; no function here raises.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ruxa_async._engine.classify import Phrase, Reply
from ruxa_async.results import TaskState

from .retry_after import retry_after

__all__ = (
    "OK_CODES",
    "code_of",
    "decode",
    "documented_id",
    "message_of",
    "phrase_of",
    "read_callback",
    "read_documented_state",
    "request_id_of",
    "retry_after_in_body",
    "state_of",
    "task_id_in_truncated",
    "task_id_of",
)

#: Codes of success, in the HTTP status and in the envelope.
OK_CODES = frozenset({0, 200, 201, 202})

_STATES = {
    TaskState.WAITING: "waiting wait queuing queueing queued pending submitted",
    TaskState.RUNNING: "generating processing running in_progress",
    TaskState.SUCCESS: "success succeeded succeed completed complete done",
    TaskState.FAIL: "fail failed failure error cancelled canceled timeout expired",
}
_STATE_OF = {word: state for state, words in _STATES.items() for word in words.split()}
_ID_NAMES = ("taskId", "task_id", "taskID", "taskid")
#: Names that may also stand for the id of something else, such as the request.
_AMBIGUOUS_ID_NAMES = ("id", "uuid")
#: The id of the request, which the service's support asks for: in headers, and in the envelope.
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "cf-ray", "x-trace-id")
_REQUEST_ID_NAMES = ("requestId", "request_id", "traceId", "trace_id")
#: The envelope's code in a callback about a failed task, as a sibling service sends it.
_TASK_FAILED = 501
#: ``data`` that is a text is a task id if it is one word of at least 6 characters with a digit.
_BARE_ID = re.compile(r"(?=\S*\d)\S{6,}")
_PHRASES = {
    Phrase.CREDITS: (
        "积分不足",
        "余额不足",
        "insufficient credit",
        "insufficient balance",
        "not enough credit",
    ),
    Phrase.MODEL: (
        "未找到支持模型",
        "模型不存在",
        "model not found",
        "model does not exist",
        "model not exist",
        "unsupported model",
        "invalid model",
    ),
    Phrase.RATE: ("请求频率", "频率限制"),
}


def _integer(digits: str) -> int | float:
    """Return the number in *digits*, infinity for more digits than Python converts (4,300)."""
    try:
        return int(digits)
    except ValueError:
        return math.inf


#: Accepts endless numbers and bare control characters, so that neither hides a task id beside it.
_DECODER = json.JSONDecoder(parse_int=_integer, strict=False)
_BLANKS = " \t\r\n"
#: A task id in a truncated body. Inside a JSON string its quotes are escaped, and so do not match.
_ID_IN_TRUNCATED = re.compile(
    r'"(?:taskId|task_id|taskID|taskid)"\s*:\s*("(?:[^"\\]|\\.)*"|[0-9]+(?=\s*[,}\]]))'
)
#: Most objects that are read in one body, and most blanks between two of them.
_MOST_OBJECTS, _MOST_BLANKS = 8, 4096


def decode(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in *body*, None if it holds none."""
    try:
        # A text in a wrong encoding must not hide the task id beside it.
        return _object_in(body.decode(errors="replace").removeprefix("\ufeff").lstrip(_BLANKS))
    except (ValueError, RecursionError):
        return None


def _object_in(text: str) -> dict[str, Any] | None:
    """Return the only object in *text*; of several, the first that holds a task id, None without one.

    A relay that sent a create twice may return two replies in one body: a rejection and an acceptance.
    """
    at, alone = 0, True
    for _ in range(_MOST_OBJECTS):
        value, at = _DECODER.raw_decode(text, at)
        at += len(text[at : at + _MOST_BLANKS]) - len(text[at : at + _MOST_BLANKS].lstrip(_BLANKS))
        if not isinstance(value, dict):
            return None
        if (alone and at == len(text)) or task_id_of(value, ok=False) is not None:
            return value
        alone = False
    return None


def read_documented_state(root: dict[str, Any], reply: Reply) -> bool:
    """Set the state of *reply* from ``data.state``, the documented place; tell whether it is a known one."""
    data = root.get("data")
    if not isinstance(data, dict):
        return False
    word = data.get("state")
    state = _STATE_OF.get(word) if isinstance(word, str) else None
    if state is None:
        return False
    # Interned, so that all tasks in this state share one text.
    reply.data, reply.raw_state, reply.state = data, sys.intern(str(word)), state
    return True


def state_of(root: dict[str, Any], *, task_id: str, ok: bool) -> tuple[dict[str, Any], str, TaskState | None]:
    """Return a task's ``data``, the service's word for its state, and the state; "" and None without one.

    ``status`` at the root is the task's only if the reply is *ok* and names the task; otherwise it is the
    reply's own.
    """
    data = root.get("data")
    if isinstance(data, dict) and (found := _state_word(data, "state", "status")):
        return data, *found
    named = any(root.get(name) for name in _ID_NAMES) or any(
        root.get(name) == task_id for name in _AMBIGUOUS_ID_NAMES
    )
    if ok and (found := _state_word(root, "state", "status") if named else _state_word(root, "state")):
        return root, *found
    return (data if isinstance(data, dict) else root), "", None


def read_callback(body: bytes) -> Reply | None:
    """Return the body of a callback as a reply, None if it is not a JSON object.

    A state at the root is the task's, even beside an error code: the callback of a failed task has 501.
    """
    root = decode(body)
    if root is None:
        return None
    reply = Reply(status=200, code=code_of(root), message=message_of(root), body=body)
    reply.data, reply.raw_state, reply.state = _callback_state(root)
    if reply.state is None and reply.code == _TASK_FAILED:
        reply.raw_state, reply.state = str(_TASK_FAILED), TaskState.FAIL
    reply.task_id = task_id_of(root, ok=False)
    if reply.task_id is None and reply.data is root and reply.state is not None:
        # An ``id`` beside the state is the task's; elsewhere it may be the id of the callback.
        reply.task_id = next(
            filter(None, (_identifier(root.get(name)) for name in _AMBIGUOUS_ID_NAMES)), None
        )
    return reply


def _callback_state(root: dict[str, Any]) -> tuple[dict[str, Any], str, TaskState | None]:
    data = root.get("data")
    if isinstance(data, list) and data:
        data = data[0]
    places = [data, root] if isinstance(data, dict) else [root]
    for place in places:
        if found := _state_word(place, "state", "status"):
            word, state = found
            if state is not TaskState.UNKNOWN:
                return (place if place is places[0] else {**root, **places[0]}), word, state
    return places[0], "", None


def _state_word(place: Mapping[str, Any], *names: str) -> tuple[str, TaskState] | None:
    for name in names:
        word = place.get(name)
        if isinstance(word, str) and word.strip():
            return word, _STATE_OF.get(word.strip().lower().replace("-", "_"), TaskState.UNKNOWN)
    return None


def _whole(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.strip().isdigit() and len(value) < 10:
        return int(value)
    return None


def code_of(root: Mapping[str, Any]) -> int | None:
    """Return the envelope's code, which may be a number or a text."""
    code = _whole(root.get("code"))
    error = root.get("error")
    if code is None and isinstance(error, dict):
        code = _whole(error.get("code"))
    return code


def message_of(root: Mapping[str, Any]) -> str:
    """Return the service's message, empty if there is none."""
    error = root.get("error")
    data = root.get("data")
    places = (
        root.get("message"),
        root.get("msg"),
        error.get("message") if isinstance(error, dict) else error,
        root.get("failMsg"),
        data.get("failMsg") if isinstance(data, dict) else None,
    )
    return next((text for text in places if isinstance(text, str) and text.strip()), "")


def phrase_of(message: str) -> Phrase | None:
    """Return the meaning of *message* if it holds a known phrase, else None."""
    lowered = message.lower()
    for phrase, texts in _PHRASES.items():
        if any(text in lowered for text in texts):
            return phrase
    return None


def retry_after_in_body(
    root: Mapping[str, Any], headers: Mapping[str, str], *, wall_now: float, estimated: bool = False
) -> float | None:
    """Return the seconds to wait that the body names, None if it names none.

    A date is compared with the ``Date`` of *headers*, else with *wall_now*; see `retry_after`.
    """
    sent = {"date": headers["date"]} if "date" in headers else {}
    for place in (root, root.get("data"), root.get("error")):
        if not isinstance(place, dict):
            continue
        for name in ("retry_after", "retryAfter"):
            value = place.get(name)
            if isinstance(value, float):
                value = f"{value:f}"
            elif isinstance(value, int) and not isinstance(value, bool):
                value = str(value)
            if not isinstance(value, str):
                continue
            named = {"retry-after": value, **sent}
            if (seconds := retry_after(named, wall_now=wall_now, estimated=estimated)) is not None:
                return seconds
    return None


def _identifier(value: object) -> str | None:
    if isinstance(value, str) and value.strip():
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def documented_id(root: Mapping[str, Any]) -> str | None:
    """Return the task id in ``data.taskId``, the documented place; None if it is not there."""
    data = root.get("data")
    found = data.get("taskId") if isinstance(data, dict) else None
    return found if isinstance(found, str) and found.strip() else None


def task_id_of(root: Mapping[str, Any], *, ok: bool) -> str | None:
    """Return the task id in a reply.

    An unambiguous name such as ``taskId`` counts anywhere. ``id`` counts in ``data``; at the root it counts
    only if the reply is *ok* and names no error, because an error has the id of the request there.
    """
    ok = ok and not root.get("error") and phrase_of(message_of(root)) is None
    for place in _objects(root, depth=4):
        for name in _ID_NAMES:
            if (found := _identifier(place.get(name))) is not None:
                return found
    data = root.get("data")
    if isinstance(data, list) and data:
        data = data[0]
    places = [data] if isinstance(data, dict) else []
    for place in (*places, root) if ok else places:
        for name in _AMBIGUOUS_ID_NAMES:
            if (found := _identifier(place.get(name))) is not None:
                return found
    return data if ok and isinstance(data, str) and _BARE_ID.fullmatch(data) else None


def request_id_of(headers: Mapping[str, str], root: Mapping[str, Any]) -> str | None:
    """Return the id that the service or a proxy gave to the request, None if there is none."""
    error = root.get("error")
    places = (root, error) if isinstance(error, dict) else (root,)
    found = (
        *(headers.get(name) for name in _REQUEST_ID_HEADERS),
        *(_identifier(place.get(name)) for place in places for name in _REQUEST_ID_NAMES),
    )
    return next((name for name in found if name and name.strip()), None)


def task_id_in_truncated(body: bytes) -> str | None:
    """Return the task id in *body*, a JSON object that is truncated or malformed.

    Only an unambiguous name counts, and only an id that is complete.
    """
    text = body.decode(errors="replace").removeprefix("\ufeff").lstrip(_BLANKS)
    if not text.startswith("{"):
        return None
    for match in _ID_IN_TRUNCATED.finditer(text):
        try:
            found = _identifier(_DECODER.decode(match[1]))
        except ValueError:
            continue
        if found is not None:
            return found
    return None


def _objects(value: object, depth: int) -> Iterator[Mapping[str, Any]]:
    """Yield *value* and every object inside it, outermost first, down to *depth*."""
    if isinstance(value, dict):
        yield value
        inner: Any = value.values()
    elif isinstance(value, list):
        inner = value
    else:
        return
    if depth:
        for item in inner:
            yield from _objects(item, depth - 1)
