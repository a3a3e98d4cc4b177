"""The callbacks of the service: what it posts, to which address, and when.

Pure: the caller passes the time, sends the posts and reports failed ones.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import hmac
import math
import random
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Literal, TypeAlias

import attrs
from attrs import field, frozen

from ._dialects import DIALECTS, Dialect
from ._ledger import Counts
from ._replies import json_bytes
from ._settings import CALLBACK_STYLES, EmulatorSettings
from ._tasks import EmulatedTask

__all__ = ("CallbackPlan", "CallbackPost")


@frozen(kw_only=True)
class CallbackPost:
    """One request to send: POST *body* with *headers* to *url*.

    *genuine* is False if it poses as a post of the service. *attempt* counts from 1.
    """

    url: str = field(repr=False)
    task_id: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes
    genuine: bool = True
    attempt: int = 1


_Kind: TypeAlias = Literal["genuine", "forged", "malformed"]


class CallbackPlan:
    """The scheduled posts. *on_change* is called when one is scheduled that comes before all others."""

    def __init__(
        self,
        settings: EmulatorSettings,
        epoch: float,
        counts: Counts,
        fields: Callable[[EmulatedTask, Dialect, float], dict[str, Any]],
    ) -> None:
        self._settings: EmulatorSettings = settings
        self._epoch: float = epoch
        self._counts: Counts = counts
        self._fields: Callable[[EmulatedTask, Dialect, float], dict[str, Any]] = fields
        self._random: random.Random = random.Random(f"{settings.seed}/callbacks")  # noqa: S311 - repeatable, not secret
        self._numbers: count[int] = count()
        self._scheduled: list[tuple[float, int, Callable[[float], CallbackPost]]] = []
        self._mixed: int = 0
        self.on_change: Callable[[], object] = lambda: None

    def next_time(self) -> float:
        """Return the time of the next post, infinity if none is scheduled."""
        return self._scheduled[0][0] if self._scheduled else math.inf

    def take(self, now: float) -> list[CallbackPost]:
        """Return the posts that are due, and remove them."""
        due = []
        while self._scheduled and self._scheduled[0][0] <= now:
            due.append(heapq.heappop(self._scheduled)[2](now))
        self._counts.callbacks += len(due)
        return due

    def failed(self, post: CallbackPost, now: float) -> None:
        """Count that *post* got no 2xx reply, and schedule its next attempt if one is left."""
        self._counts.callbacks_refused += 1
        if post.genuine and post.attempt < self._settings.callbacks.attempts:
            again = attrs.evolve(post, attempt=post.attempt + 1)
            pause = self._settings.callbacks.pause * 2.0 ** (post.attempt - 1)
            self._schedule(now + pause, lambda _: again)

    def plan(self, task: EmulatedTask, url: str) -> None:
        """Schedule the posts for *task* to *url*."""
        how, chance = self._settings.callbacks, self._random
        half = (task.created + task.ends) / 2
        # All numbers are drawn for every task, so that one setting does not change the draws of another.
        lost, duplicated, forged, malformed = (chance.random() for _ in range(4))
        spreads = [how.spread * chance.random() for _ in range(2)]
        if how.progress:
            self._schedule(half, lambda now: self._post(task, url, now))
        if forged < how.forged:
            self._schedule(half, lambda now: self._post(task, _with_wrong_token(url), now, "forged"))
        if malformed < how.malformed:
            self._schedule(half, lambda now: self._post(task, url, now, "malformed"))
        if lost < how.lost:
            return
        for spread in spreads[: 2 if duplicated < how.duplicated else 1]:
            self._schedule(task.ends + how.delay + spread, lambda now: self._post(task, url, now))

    def _schedule(self, at: float, make: Callable[[float], CallbackPost]) -> None:
        heapq.heappush(self._scheduled, (at, next(self._numbers), make))
        if self._scheduled[0][0] == at:
            self.on_change()

    def _post(self, task: EmulatedTask, url: str, now: float, kind: _Kind = "genuine") -> CallbackPost:
        # A forged callback states the end of a task that still runs.
        stated_at = task.ends if kind == "forged" else now
        body = b"{not json \xff" if kind == "malformed" else self._body(task, stated_at)
        headers = {"Content-Type": "application/json", "User-Agent": "ruxa-emulator"}
        key = self._settings.callbacks.signing_key
        if key is not None and kind == "genuine":
            headers |= _signature(key, task.task_id, str(int(self._epoch + now)))
        return CallbackPost(
            url=url, task_id=task.task_id, headers=headers, body=body, genuine=kind == "genuine"
        )

    def _body(self, task: EmulatedTask, now: float) -> bytes:
        style = self._settings.callbacks.style
        if style == "mixed":
            style = CALLBACK_STYLES[self._mixed % (len(CALLBACK_STYLES) - 1)]
            self._mixed += 1
        dialect = DIALECTS["sibling"] if style == "sibling" else self._settings.dialect
        fields = self._fields(task, dialect, now)
        if style == "empty":
            return b""
        if style == "id_only":
            return json_bytes({"taskId": task.task_id})
        if style in ("flat", "flat_id", "snake"):
            return json_bytes(self._flat(task, style, now))
        if style == "no_id":
            fields.pop(dialect.id_key)
        failed = style == "sibling" and task.state(now) == "fail"
        if dialect.at_root:
            return json_bytes(fields)
        return json_bytes({"code": 501 if failed else 200, dialect.message_key: "text", "data": fields})

    def _flat(self, task: EmulatedTask, style: str, now: float) -> dict[str, Any]:
        """Return the fields that the sample handler in the service's blog reads, or those in snake case."""
        names = {"flat": "completed", "flat_id": "completed", "snake": "succeeded"}
        fields = self._fields(task, DIALECTS["flat"], now)
        state = {"success": names[style]}.get(fields["state"], fields["state"])
        named = {"state": state, "resultUrls": fields.get("resultUrls"), "failMsg": fields.get("failMsg")}
        if style == "flat_id":
            named = {"taskId": task.task_id, **named}
        elif style == "snake":
            named = {
                "task_id": task.task_id,
                "status": state,
                "result_urls": named["resultUrls"],
                "fail_reason": named["failMsg"],
            }
        return {name: value for name, value in named.items() if value is not None}


def _with_wrong_token(url: str) -> str:
    """Return *url* with its token, the last segment, reversed."""
    head, slash, token = url.rpartition("/")
    return f"{head}{slash}{token[::-1]}"


def _signature(key: str, task_id: str, timestamp: str) -> dict[str, str]:
    mac = hmac.digest(key.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256)
    return {"X-Webhook-Timestamp": timestamp, "X-Webhook-Signature": base64.b64encode(mac).decode()}
