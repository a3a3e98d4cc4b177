"""Where things may stand in a reply: one function for each fact, every known spelling in each.

They take the decoded JSON and never raise, whatever is in it: replies come from outside.
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
    "FINE",
    "body_hint",
    "code_of",
    "decode",
    "documented_id",
    "message_of",
    "peek",
    "phrase_of",
    "read_callback",
    "request_id_of",
    "state_of",
    "task_id_in_cut",
    "task_id_of",
)

#: Codes that say all is well.
FINE = frozenset({0, 200, 201, 202})

_STATES = {
    TaskState.WAITING: "waiting wait queuing queueing queued pending submitted",
    TaskState.RUNNING: "generating processing running in_progress",
    TaskState.SUCCESS: "success succeeded succeed completed complete done",
    TaskState.FAIL: "fail failed failure error cancelled canceled timeout expired",
}
_STATE_OF = {word: state for state, words in _STATES.items() for word in words.split()}
_ID_NAMES = ("taskId", "task_id", "taskID", "taskid")
_MERE_IDS = ("id", "uuid")
#: What names the exchange itself, for the service's support to find: in headers, and in the envelope.
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "cf-ray", "x-trace-id")
_REQUEST_ID_NAMES = ("requestId", "request_id", "traceId", "trace_id")
#: What the sibling of the service puts into the envelope of a callback about a task that failed.
_TASK_FAILED = 501
#: What a text in the place of ``data`` must look like to be an id: one word of some length, with a digit in it.
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
    """Return the number in *digits*, of which Python refuses to read more than a few thousand as a whole one."""
    try:
        return int(digits)
    except ValueError:
        return math.inf


#: Nothing that stands beside a task id may hide it: no endless number, no bare control character, no text behind.
_DECODER = json.JSONDecoder(parse_int=_integer, strict=False)
_BLANKS = " \t\r\n"
#: A task id in a body that breaks off behind it. Inside a text the quotes would be escaped.
_ID_IN_CUT = re.compile(r'"(?:taskId|task_id|taskID|taskid)"\s*:\s*("(?:[^"\\]|\\.)*"|[0-9]+(?=\s*[,}\]]))')
#: As many replies in one body are looked at, and as many blanks between two.
_MOST_OBJECTS, _MOST_BLANKS = 8, 4096


def decode(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in *body*, None if it holds none."""
    try:
        # One text in a wrong encoding must not hide the task id beside it.
        return _object_in(body.decode(errors="replace").removeprefix("\ufeff").lstrip(_BLANKS))
    except (ValueError, RecursionError):
        return None


def _object_in(text: str) -> dict[str, Any] | None:
    """Return the object that *text* is, or the first that names a task if more than one thing stands there.

    An error with something behind it is no answer to trust: a relay that tried twice may have been refused once.
    """
    at, alone = 0, True
    for _ in range(_MOST_OBJECTS):
        value, at = _DECODER.raw_decode(text, at)
        at += len(text[at : at + _MOST_BLANKS]) - len(text[at : at + _MOST_BLANKS].lstrip(_BLANKS))
        if not isinstance(value, dict):
            return None
        if (alone and at == len(text)) or task_id_of(value, fine=False) is not None:
            return value
        alone = False
    return None


def peek(root: dict[str, Any], reply: Reply) -> bool:
    """Read the state out of the documented place; tell whether it is a known one, so that nothing else is needed."""
    data = root.get("data")
    if not isinstance(data, dict):
        return False
    word = data.get("state")
    state = _STATE_OF.get(word) if isinstance(word, str) else None
    if state is None:
        return False
    # Interned: one text for all the tasks that are in this state.
    reply.data, reply.raw_state, reply.state = data, sys.intern(str(word)), state
    return True


def state_of(
    root: dict[str, Any], *, task_id: str, fine: bool
) -> tuple[dict[str, Any], str, TaskState | None]:
    """Return a task's ``data``, the service's word for its state, and what that means; None where there is none.

    At the root of a reply that is not *fine*, or that does not name the task that was asked for, ``status`` is
    about the reply itself.
    """
    data = root.get("data")
    if isinstance(data, dict) and (found := _state_word(data, "state", "status")):
        return data, *found
    named = any(root.get(name) for name in _ID_NAMES) or any(root.get(name) == task_id for name in _MERE_IDS)
    if fine and (found := _state_word(root, "state", "status") if named else _state_word(root, "state")):
        return root, *found
    return (data if isinstance(data, dict) else root), "", None


def read_callback(body: bytes) -> Reply | None:
    """Fold the body of a callback into one value, None if it is no JSON object.

    Whoever posts knows the secret in the address, so a state at the root is the task's, whatever the codes say: those
    of a task that failed are 501 in the callback.
    """
    root = decode(body)
    if root is None:
        return None
    reply = Reply(status=200, code=code_of(root), message=message_of(root), body=body)
    reply.data, reply.raw_state, reply.state = _callback_state(root)
    if reply.state is None and reply.code == _TASK_FAILED:
        reply.raw_state, reply.state = str(_TASK_FAILED), TaskState.FAIL
    reply.task_id = task_id_of(root, fine=False)
    if reply.task_id is None and reply.data is root and reply.state is not None:
        # An ``id`` beside the state is the task's; elsewhere it may be that of the post.
        reply.task_id = next(filter(None, (_identifier(root.get(name)) for name in _MERE_IDS)), None)
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
    """Return the envelope's code, which may be written as a text."""
    code = _whole(root.get("code"))
    error = root.get("error")
    if code is None and isinstance(error, dict):
        code = _whole(error.get("code"))
    return code


def message_of(root: Mapping[str, Any]) -> str:
    """Return the service's own words, empty if there are none."""
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
    """Return what *message* says whatever its code, None for any other text."""
    lowered = message.lower()
    for phrase, texts in _PHRASES.items():
        if any(text in lowered for text in texts):
            return phrase
    return None


def body_hint(root: Mapping[str, Any]) -> float | None:
    """Return the seconds to wait that a body names, as some services do beside or instead of the header."""
    for place in (root, root.get("data"), root.get("error")):
        if not isinstance(place, dict):
            continue
        for name in ("retry_after", "retryAfter"):
            told = place.get(name)
            if isinstance(told, float):
                told = f"{told:f}"
            elif isinstance(told, int) and not isinstance(told, bool):
                told = str(told)
            if (
                isinstance(told, str)
                and (seconds := retry_after({"retry-after": told}, wall_now=0.0)) is not None
            ):
                return seconds
    return None


def _identifier(value: object) -> str | None:
    if isinstance(value, str) and value.strip():
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def documented_id(root: Mapping[str, Any]) -> str | None:
    """Return the task id if it stands where the service's pages put it."""
    data = root.get("data")
    found = data.get("taskId") if isinstance(data, dict) else None
    return found if isinstance(found, str) and found.strip() else None


def task_id_of(root: Mapping[str, Any], *, fine: bool) -> str | None:
    """Return the task id in a reply.

    A name that can mean nothing else counts wherever it stands. A mere ``id`` counts in ``data``, and at the root
    only of a reply that is *fine* and names no error: there an error puts the id of the request.
    """
    fine = fine and not root.get("error") and phrase_of(message_of(root)) is None
    for place in _objects(root, depth=4):
        for name in _ID_NAMES:
            if (found := _identifier(place.get(name))) is not None:
                return found
    data = root.get("data")
    if isinstance(data, list) and data:
        data = data[0]
    places = [data] if isinstance(data, dict) else []
    for place in (*places, root) if fine else places:
        for name in _MERE_IDS:
            if (found := _identifier(place.get(name))) is not None:
                return found
    return data if fine and isinstance(data, str) and _BARE_ID.fullmatch(data) else None


def request_id_of(headers: Mapping[str, str], root: Mapping[str, Any]) -> str | None:
    """Return what names this exchange at the service or before it, None if nothing does."""
    error = root.get("error")
    places = (root, error) if isinstance(error, dict) else (root,)
    found = (
        *(headers.get(name) for name in _REQUEST_ID_HEADERS),
        *(_identifier(place.get(name)) for place in places for name in _REQUEST_ID_NAMES),
    )
    return next((name for name in found if name and name.strip()), None)


def task_id_in_cut(body: bytes) -> str | None:
    """Return the task id in the JSON object that *body* begins, although it breaks off or breaks a rule of JSON.

    Only a name that can mean nothing else counts, and only an id whose end is there.
    """
    text = body.decode(errors="replace").removeprefix("\ufeff").lstrip(_BLANKS)
    if not text.startswith("{"):
        return None
    for match in _ID_IN_CUT.finditer(text):
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
