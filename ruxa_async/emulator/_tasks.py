"""The tasks of the service: ids, durations, states and outputs."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

from attrs import frozen

from ._dialects import Dialect
from ._outputs import Output
from ._settings import EmulatorSettings, is_video

__all__ = ("EmulatedTask", "TaskMaker")

# The shares of a task's duration after which it is queuing, and generating.
_QUEUED_AT, _GENERATING_AT = 0.1, 0.3
_FORMATS: Mapping[str, Literal["png", "jpeg", "mp4"]] = {"png": "png", "jpg": "jpeg", "mp4": "mp4"}
# The names of models in task ids, as the service forms them.
_UPSTREAM = {"nano-banana": "gemini-2.5-flash-image", "sora": "sora-2"}


@frozen(kw_only=True)
class EmulatedTask:
    """One task. *created* and *ends* are seconds on the service's clock; *fails*: it ends as failed."""

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
        """Return the share of the duration that is over at *now*, in percent."""
        return 100 if now >= self.ends else max(0, min(99, int(100 * self._share(now))))

    def _share(self, now: float) -> float:
        return (now - self.created) / (self.ends - self.created)

    @property
    def suffix(self) -> str:
        """The suffix of its output files: png, jpg or mp4."""
        if is_video(self.model):
            return "mp4"
        return "jpg" if self.input.get("output_format") in ("jpg", "jpeg") else "png"

    def urls(self, base: str, count: int) -> list[str]:
        """Return the addresses of its *count* outputs under *base*."""
        return [
            f"{base}/files/{quote(self.task_id, safe='')}/{place}.{self.suffix}" for place in range(count)
        ]

    def output(self, index: int) -> Output:
        """Return what the output file with this *index* shows."""
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
        """Return the fields that *dialect* adds to the state; times are in Unix milliseconds."""
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
    """Creates tasks as the settings say: the same ones for the same seed and order of requests."""

    def __init__(self, settings: EmulatorSettings, epoch: float) -> None:
        self._settings: EmulatorSettings = settings
        self._epoch: float = epoch
        self._made: int = 0
        # Two generators, so that *fail_share* does not change the durations.
        self._durations: random.Random = random.Random(f"{settings.seed}/durations")  # noqa: S311 - repeatable, not secret
        self._failures: random.Random = random.Random(f"{settings.seed}/failures")  # noqa: S311

    def make(self, model: str, given: Mapping[str, Any], price: float, now: float) -> EmulatedTask:
        """Return a new task of *model* with the input *given*, created at *now*."""
        law = self._settings.durations_of(model)
        # The median as a factor: with a sigma of 0 every duration is exactly the median.
        duration = law.median * self._durations.lognormvariate(0.0, law.sigma) / self._settings.speed
        fails = self._failures.random() < self._settings.fail_share
        return EmulatedTask(
            task_id=self._next_id(model, now),
            model=model,
            input=given,
            credits=price,
            created=now,
            ends=now + duration,
            fails=fails,
        )

    def skip(self) -> None:
        """Make the draws of one task from before a restart, so that the restart changes no later task."""
        self._made += 1
        self._durations.lognormvariate(0.0, 1.0)
        self._failures.random()

    def _next_id(self, model: str, now: float) -> str:
        self._made += 1
        # An odd factor makes this a permutation of the 32-bit numbers, so that no id repeats.
        tail = (self._made * 0x9E3779B1 + self._settings.seed) & 0xFFFFFFFF
        name = next(
            (upstream for part, upstream in _UPSTREAM.items() if part in model), model.rpartition("/")[2]
        )
        if self._settings.task_ids == "awkward":
            name = f"a/b c%2F?#+é猫 {name}"
        return f"task_{name}_{_milliseconds(self._epoch + now)}_{tail:08x}"
