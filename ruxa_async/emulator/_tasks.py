"""The service's tasks: their ids, how long they take, the state each is in."""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

from attrs import define, field, frozen

from ._dialects import Dialect
from ._messages import Output
from ._settings import EmulatorSettings, is_video

__all__ = ("EmulatedTask", "Running", "TaskMaker")

# How much of a task's duration is over when it leaves the first two states.
_QUEUED_AT, _GENERATING_AT = 0.1, 0.3
_FORMATS: Mapping[str, Literal["png", "jpeg", "mp4"]] = {"png": "png", "jpg": "jpeg", "mp4": "mp4"}
_UPSTREAM = {"nano-banana": "gemini-2.5-flash-image", "sora": "sora-2"}


@frozen(kw_only=True)
class EmulatedTask:
    """One task; instants are on the service's clock, *credits* what it cost. *fails* is how it ends."""

    task_id: str
    model: str
    input: Mapping[str, Any]
    credits: float
    created: float
    ends: float
    fails: bool

    def state(self, now: float) -> str:
        """Return the state at *now*: waiting, queuing, generating, success or fail."""
        if now >= self.ends:
            return "fail" if self.fails else "success"
        share = self._share(now)
        return "waiting" if share < _QUEUED_AT else "queuing" if share < _GENERATING_AT else "generating"

    def progress(self, now: float) -> int:
        """Return the percentage that is done at *now*."""
        return 100 if now >= self.ends else max(0, min(99, int(100 * self._share(now))))

    def _share(self, now: float) -> float:
        return (now - self.created) / (self.ends - self.created)

    @property
    def suffix(self) -> str:
        """The ending of its outputs' names: png, jpg or mp4."""
        if is_video(self.model):
            return "mp4"
        return "jpg" if self.input.get("output_format") in ("jpg", "jpeg") else "png"

    def urls(self, base: str, count: int) -> list[str]:
        """Return the addresses of its *count* outputs under *base*."""
        return [
            f"{base}/files/{quote(self.task_id, safe='')}/{place}.{self.suffix}" for place in range(count)
        ]

    def output(self, index: int) -> Output:
        """Return what the file called *index* shows."""
        return Output(
            prompt=str(self.input.get("prompt", "")),
            model=self.model,
            ratio=str(
                self.input.get("aspect_ratio")
                or self.input.get("image_size")
                or self.input.get("size")
                or "1:1"
            ),
            format=_FORMATS[self.suffix],
            index=index,
        )

    def details(self, dialect: Dialect, now: float, epoch: float) -> dict[str, Any]:
        """Return what *dialect* adds to the state: model, times in Unix milliseconds, credits, percentage."""
        fields: dict[str, Any] = {}
        ended = now >= self.ends
        if dialect.echo:
            fields["model"] = self.model
        if dialect.times:
            fields["createTime"] = _milliseconds(epoch + self.created)
            fields["completeTime"] = _milliseconds(epoch + self.ends) if ended else None
            fields["costTime"] = _milliseconds(self.ends - self.created) if ended else None
        if dialect.credits and ended:
            fields["creditsConsumed"] = self.credits
        if dialect.progress:
            fields["progress"] = self.progress(now)
        return fields


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


class TaskMaker:
    """Makes tasks as the settings say; the same ones for the same seed and order of requests."""

    def __init__(self, settings: EmulatorSettings, epoch: float) -> None:
        self._settings = settings
        self._epoch = epoch
        self._made = 0
        # One source for each question, so that asking for failures leaves the durations as they were.
        self._durations = random.Random(f"{settings.seed}/durations")  # noqa: S311 - repeatable, not secret
        self._failures = random.Random(f"{settings.seed}/failures")  # noqa: S311

    def make(self, model: str, given: Mapping[str, Any], price: float, now: float) -> EmulatedTask:
        """Return a new task of *model* that begins *now*."""
        law = self._settings.lasting(model)
        # The median as a factor: with a sigma of 0 every task takes exactly that long.
        lasts = law.median * self._durations.lognormvariate(0.0, law.sigma) / self._settings.speed
        fails = self._failures.random() < self._settings.fail_share
        return EmulatedTask(
            task_id=self._next_id(model, now),
            model=model,
            input=given,
            credits=price,
            created=now,
            ends=now + lasts,
            fails=fails,
        )

    def skip(self) -> None:
        """Skip the draws of one earlier task, so that later tasks come out the same."""
        self._made += 1
        self._durations.lognormvariate(0.0, 1.0)
        self._failures.random()

    def _next_id(self, model: str, now: float) -> str:
        self._made += 1
        # An odd factor makes this a permutation of the 32-bit numbers: it looks random and never repeats.
        tail = (self._made * 0x9E3779B1 + self._settings.seed) & 0xFFFFFFFF
        name = next(
            (upstream for part, upstream in _UPSTREAM.items() if part in model), model.rpartition("/")[2]
        )
        if self._settings.task_ids == "awkward":
            name = f"a/b c%2F?#+é猫 {name}"
        return f"task_{name}_{_milliseconds(self._epoch + now)}_{tail:08x}"


@define(eq=False)
class Running:
    """How many tasks run, kept as a heap of the instants at which they end."""

    _ends: list[float] = field(factory=list)

    def add(self, ends: float) -> None:
        """Count one more task, until *ends*."""
        heapq.heappush(self._ends, ends)

    def count(self, now: float) -> int:
        """Return how many are running at *now*. Time must not go back."""
        while self._ends and self._ends[0] <= now:
            heapq.heappop(self._ends)
        return len(self._ends)
