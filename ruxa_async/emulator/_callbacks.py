"""What the service posts to callback addresses, and when.

Pure: the caller sends the posts and reports their outcomes.

No page shows a body, so there is a style for each that a sample, a sibling or a client's code suggests.
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
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import attrs
from attrs import field, frozen, validators

from ._dialects import DIALECTS, Dialect
from ._ledger import Counts
from ._render import json_bytes

if TYPE_CHECKING:
    from ._settings import EmulatorSettings
    from ._tasks import EmulatedTask

__all__ = ("CALLBACK_STYLES", "CallbackPlan", "CallbackPost", "CallbackStyle", "Callbacks")

#: ``query``: the reply of a query in the service's dialect. ``sibling``: the same in the sibling's, with code
#: 501 for a task that failed. ``flat`` and ``flat_id``: state and ``resultUrls`` at the root, without and
#: with the task id. ``snake``: flat, other names. ``no_id``: an envelope without the id. ``id_only``: the id
#: and nothing else. ``empty`` has no body at all. ``mixed`` takes all of them in turn.
CallbackStyle: TypeAlias = Literal[
    "query", "sibling", "flat", "flat_id", "snake", "no_id", "id_only", "empty", "mixed"
]
CALLBACK_STYLES: tuple[CallbackStyle, ...] = get_args(CallbackStyle)

_Share = validators.and_(validators.ge(0.0), validators.le(1.0))


@frozen(kw_only=True)
class Callbacks:
    """How tasks are reported to the callback address that their create gave.

    Each task is posted *delay* seconds after its end, and at random up to *spread* seconds later, so that
    posts overtake each other. *lost* of them are never sent, *duplicated* twice. *forged* is the share of
    tasks for which somebody else posts to an address with a wrong token, *malformed* of those to whose true
    address somebody posts garbage, both while they run. *progress* posts the state at half-time as well.
    *signing_key* signs as the sibling does. A post that is not answered by 2xx is tried *attempts* times in
    all, with *pause* seconds between, doubling.
    """

    style: CallbackStyle = field(default="query", validator=validators.in_(CALLBACK_STYLES))
    delay: float = field(default=0.0, validator=validators.ge(0))
    spread: float = field(default=0.0, validator=validators.ge(0))
    lost: float = field(default=0.0, validator=_Share)
    duplicated: float = field(default=0.0, validator=_Share)
    forged: float = field(default=0.0, validator=_Share)
    malformed: float = field(default=0.0, validator=_Share)
    progress: bool = False
    signing_key: str | None = field(default=None, repr=False)
    attempts: int = field(default=1, validator=validators.ge(1))
    pause: float = field(default=1.0, validator=validators.gt(0))


@frozen(kw_only=True)
class CallbackPost:
    """One post to make. *genuine* is whether it is the service's own."""

    url: str = field(repr=False)
    task_id: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes
    genuine: bool = True
    attempt: int = 1


_Kind: TypeAlias = Literal["genuine", "forged", "malformed"]


class CallbackPlan:
    """The posts that are to come. *news* is called when one is planned that may be the next."""

    def __init__(
        self,
        settings: EmulatorSettings,
        epoch: float,
        counts: Counts,
        fields: Callable[[EmulatedTask, Dialect, float], dict[str, Any]],
    ) -> None:
        self._settings = settings
        self._how = settings.callbacks
        self._epoch = epoch
        self._counts = counts
        self._fields = fields
        self._random = random.Random(f"{settings.seed}/callbacks")  # noqa: S311 - repeatable, not secret
        self._numbers = count()
        self._planned: list[tuple[float, int, Callable[[float], CallbackPost]]] = []
        self._made = 0
        self.news: Callable[[], object] = lambda: None

    def next_time(self) -> float:
        """Return when the next post is due, infinity if none is planned."""
        return self._planned[0][0] if self._planned else math.inf

    def take(self, now: float) -> list[CallbackPost]:
        """Return the posts that are due."""
        due = []
        while self._planned and self._planned[0][0] <= now:
            due.append(heapq.heappop(self._planned)[2](now))
        self._counts.callbacks += len(due)
        return due

    def refused(self, post: CallbackPost, now: float) -> None:
        """Note that *post* was not answered by 2xx, and plan it again if that is worth it."""
        self._counts.callbacks_refused += 1
        if post.genuine and post.attempt < self._how.attempts:
            again = attrs.evolve(post, attempt=post.attempt + 1)
            self._set(now + self._how.pause * 2.0 ** (post.attempt - 1), lambda _: again)

    def plan(self, task: EmulatedTask, url: str) -> None:
        """Plan the posts for *task*, whose callback address is *url*."""
        how, chance = self._how, self._random
        half = (task.created + task.ends) / 2
        # Every number is drawn for every task, so that one setting leaves the others' draws as they were.
        lost, duplicated, forged, malformed = (chance.random() for _ in range(4))
        spreads = [how.spread * chance.random() for _ in range(2)]
        if how.progress:
            self._set(half, lambda now: self._post(task, url, now))
        if forged < how.forged:
            self._set(half, lambda now: self._post(task, _with_wrong_token(url), now, "forged"))
        if malformed < how.malformed:
            self._set(half, lambda now: self._post(task, url, now, "malformed"))
        if lost < how.lost:
            return
        for spread in spreads[: 2 if duplicated < how.duplicated else 1]:
            self._set(task.ends + how.delay + spread, lambda now: self._post(task, url, now))

    def _set(self, at: float, make: Callable[[float], CallbackPost]) -> None:
        heapq.heappush(self._planned, (at, next(self._numbers), make))
        if self._planned[0][0] == at:
            self.news()

    def _post(self, task: EmulatedTask, url: str, now: float, kind: _Kind = "genuine") -> CallbackPost:
        # A forged callback claims that the task ended.
        said_at = task.ends if kind == "forged" else now
        body = b"{not json \xff" if kind == "malformed" else self._body(task, said_at)
        headers = {"Content-Type": "application/json", "User-Agent": "ruxa-emulator"}
        if self._how.signing_key is not None and kind == "genuine":
            headers |= _signed(self._how.signing_key, task.task_id, str(int(self._epoch + now)))
        return CallbackPost(
            url=url, task_id=task.task_id, headers=headers, body=body, genuine=kind == "genuine"
        )

    def _body(self, task: EmulatedTask, now: float) -> bytes:
        style = self._how.style
        if style == "mixed":
            style = CALLBACK_STYLES[self._made % (len(CALLBACK_STYLES) - 1)]
            self._made += 1
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
        """Return what the handler in the service's blog reads, under its names or those of a snake."""
        names = {"flat": "completed", "flat_id": "completed", "snake": "succeeded"}
        fields = self._fields(task, DIALECTS["flat"], now)
        state = {"success": names[style]}.get(fields["state"], fields["state"])
        said = {"state": state, "resultUrls": fields.get("resultUrls"), "failMsg": fields.get("failMsg")}
        if style == "flat_id":
            said = {"taskId": task.task_id, **said}
        elif style == "snake":
            said = {
                "task_id": task.task_id,
                "status": state,
                "result_urls": said["resultUrls"],
                "fail_reason": said["failMsg"],
            }
        return {name: value for name, value in said.items() if value is not None}


def _with_wrong_token(url: str) -> str:
    """Return *url* with another last segment of the same shape."""
    head, slash, token = url.rpartition("/")
    return f"{head}{slash}{token[::-1]}"


def _signed(key: str, task_id: str, timestamp: str) -> dict[str, str]:
    mac = hmac.digest(key.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256)
    return {"X-Webhook-Timestamp": timestamp, "X-Webhook-Signature": base64.b64encode(mac).decode()}
