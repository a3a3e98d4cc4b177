"""Read a `TaskStatus` from the reply to a query, which may have any known name for each field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from attrs import frozen
from cattrs import Converter

from ruxa_async._engine.classify import Reply
from ruxa_async.results import TaskState, TaskStatus

from .reply import message_of

__all__ = ("find_urls", "has_result", "instants", "result_object", "task_status")


@frozen(kw_only=True)
class _Detail:
    """The fields of a task's ``data``, under one name each."""

    fail_code: str = ""
    fail_message: str = ""
    progress: float | None = None
    credits: float | None = None
    cost_time: float | None = None
    create_time: float | None = None
    complete_time: float | None = None


_ALIASES: dict[str, tuple[str, ...]] = {
    "fail_code": ("failCode", "fail_code", "errorCode", "error_code"),
    "fail_message": (
        "failMsg",
        "fail_msg",
        "failReason",
        "fail_reason",
        "errorMsg",
        "error_msg",
        "error",
        "message",
    ),
    "progress": ("progress",),
    "credits": ("creditsConsumed", "consumeCredits", "credits_consumed", "credits"),
    "cost_time": ("costTime", "cost_time"),
    "create_time": ("createTime", "create_time"),
    "complete_time": ("completeTime", "complete_time"),
}
_NAMES = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}
_RESULTS = ("resultJson", "result_json", "result")
_URL_LISTS = ("resultUrls", "result_urls")
_SINGLE_URLS = ("url", "video_url", "image_url", "resultUrl", "result_url")


def _make_converter() -> Converter:
    """Return a converter that accepts a number for a text and a numeric string for a number.

    It rejects every other wrong type.
    """
    converter = Converter(detailed_validation=False)
    converter.register_structure_hook(str, lambda value, _: _text(value))
    converter.register_structure_hook(float, lambda value, _: _float(value))
    return converter


def _text(value: object) -> str:
    if isinstance(value, (str, int, float)):
        return str(value)
    if isinstance(value, dict):  # {"error": {"message": "..."}}
        return message_of({"error": value}) or json.dumps(value, ensure_ascii=False)
    raise TypeError(f"a text is needed, not {type(value).__name__}")


def _float(value: object) -> float:
    number = (
        float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    )
    if not math.isfinite(number):
        raise ValueError(f"a number is needed, not {value!r}")
    return number


_converter = _make_converter()


def task_status(task_id: str, reply: Reply) -> TaskStatus:
    """Return the status in *reply*. Fields that cannot be read are left out."""
    data = reply.data
    detail = _structure(_named(data))
    return TaskStatus(
        task_id=task_id,
        state=reply.state or TaskState.UNKNOWN,
        raw_state=reply.raw_state,
        progress=detail.progress,
        urls=find_urls(data),
        fail_code=detail.fail_code if reply.state is TaskState.FAIL else "",
        fail_message=detail.fail_message if reply.state is TaskState.FAIL else "",
        credits=detail.credits,
        duration=_duration(detail),
        raw=data,
    )


def _named(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of *data* under one name each; the first alias that is not empty counts."""
    named: dict[str, Any] = {}
    for alias, name in _NAMES.items():
        value = data.get(alias)
        if value is not None and value != "" and name not in named:
            named[name] = value
    return named


def _structure(named: dict[str, Any]) -> _Detail:
    """Return *named* as a `_Detail`, without fields of a wrong type: a bad price must not lose a picture."""
    try:
        return _converter.structure(named, _Detail)
    except Exception:  # noqa: BLE001 - cattrs may raise anything for hostile input
        good = {}
        for name, value in named.items():
            try:
                _converter.structure({name: value}, _Detail)
            except Exception:  # noqa: BLE001, S112 - the other fields are still wanted
                continue
            good[name] = value
        return _converter.structure(good, _Detail)


def _duration(detail: _Detail) -> float | None:
    """Return the seconds that a task took.

    The instants are unix times, in milliseconds on every page. ``costTime`` is in milliseconds on one page
    and in seconds on another; no task takes less than a second, so a number below 1,000 means seconds.
    """
    if detail.create_time and detail.complete_time and detail.complete_time > detail.create_time:
        span = detail.complete_time - detail.create_time
        return span / 1000 if detail.create_time > 1e11 else span
    if detail.cost_time is None or detail.cost_time <= 0:
        return None
    return detail.cost_time / 1000 if detail.cost_time >= 1000 else detail.cost_time


def instants(data: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return when a task began and ended, in seconds of the service's clock; None if either is missing."""
    named = {}
    for name in ("create_time", "complete_time"):
        value = next((data[alias] for alias in _ALIASES[name] if data.get(alias) not in (None, "")), None)
        try:
            named[name] = _float(value)
        except (TypeError, ValueError, OverflowError):
            return None
    scale = 1000 if named["create_time"] > 1e11 else 1
    created, ended = named["create_time"] / scale, named["complete_time"] / scale
    return (created, ended) if 0 < created < ended else None


def result_object(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the object in ``resultJson``, which may be encoded once or twice; empty if it cannot be read."""
    for name in _RESULTS:
        value = data.get(name)
        for _ in range(3):
            if not isinstance(value, (str, bytes)):
                break
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                break
        if isinstance(value, dict):
            return value
        if isinstance(value, list):
            return {"resultUrls": value}
    return {}


def find_urls(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the URLs of the outputs, from every known place."""
    places = [result_object(data), data]
    for place in places:
        for name in _URL_LISTS:
            value = place.get(name)
            if isinstance(value, str) and value.strip():
                value = [value]
            if isinstance(value, list) and (
                urls := tuple(u for u in value if isinstance(u, str) and u.strip())
            ):
                return urls
    for place in places:
        for name in _SINGLE_URLS:
            value = place.get(name)
            if isinstance(value, str) and value.strip():
                return (value,)
    return ()


def has_result(status: TaskStatus) -> bool:
    """Tell whether a successful task has a result: output URLs, or another value such as a character's id."""
    return bool(status.urls) or any(
        value for name, value in result_object(status.raw).items() if name not in _URL_LISTS
    )
