"""A stage of `Completions.then`: a batch whose requests are made of the successes of an earlier one."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from itertools import count
from typing import TypeAlias

import anyio
from attrs import define, evolve, field

from ruxa_async.requests import GenerationRequest
from ruxa_async.results import Succeeded

from .job import ClientJob
from .pipeline import Pipeline

__all__ = ("Made", "MakeRequest", "Stage")

Made: TypeAlias = GenerationRequest | Iterable[GenerationRequest] | None
#: Returns the next request for a success, several, or None for none.
MakeRequest: TypeAlias = Callable[[Succeeded], Made | Awaitable[Made]]


@define(eq=False)
class Stage(Pipeline):
    """The batch of what *make_request* makes of each success of *previous*; leaving it leaves *previous* too.

    A failure of *previous* is delivered as it is, and counts in the window until it is taken. A success from
    which no request was made yet goes back to *previous*, which lists it.
    """

    _previous: Pipeline = field(kw_only=True)
    _make_request: MakeRequest = field(kw_only=True)
    _succeeded: Callable[[ClientJob], Succeeded] = field(kw_only=True)

    @property
    def chain(self) -> tuple[Pipeline, ...]:
        return (*self._previous.chain, self)

    # ---- pulling

    async def _pull_source(self) -> None:
        # Only now, because the first stage may buy once the budget knows what all runs have spent.
        self._previous.start()
        try:
            while (job := await self._previous.next_job()) is not None:
                if not await (self._pass_on(job) if job.error is not None else self._enqueue_next(job)):
                    return
        finally:
            self._previous.stop_sending()  # nobody takes more of its outcomes

    async def _pass_on(self, failed: ClientJob) -> bool:
        self._pulled += 1
        self._ready.append(failed)
        self._changed.set()
        return await self._wait_for_room()

    async def _enqueue_next(self, succeeded: ClientJob) -> bool:
        try:
            made = self._make_request(self._succeeded(succeeded))
            if inspect.isawaitable(made):
                made = await made
            jobs = deque(self._new_jobs(succeeded, made))
        except BaseException:
            self._previous.put_back(succeeded)
            raise
        try:
            while jobs:
                if not await self._enqueue(jobs.popleft()):
                    return False
        finally:
            self.unsubmitted.extend(job.record() for job in jobs)
        return self._pulling

    def _new_jobs(self, parent: ClientJob, made: Made) -> list[ClientJob]:
        """Return the jobs of what *make_request* returned for *parent*; they keep its index and its key."""
        assert parent.index is not None
        requests: list[GenerationRequest]
        if made is None:
            requests = []
        elif isinstance(made, GenerationRequest):
            requests = [_with_key(made, parent.key)]
        elif isinstance(made, Iterable):
            key = parent.key
            keys = (None if key is None else f"{key}.{n}" for n in count(1))
            requests = [_with_key(each, key) for each, key in zip(made, keys, strict=False)]
        else:
            raise _not_requests(made)
        return [self._new_job(request, parent.index) for request in requests]

    # ---- leaving

    async def end(self) -> None:
        self.finish()
        await self._previous.leave(orphaned=True)  # of tasks that are left after an error

    def leave_now(self) -> None:
        super().leave_now()
        self._previous.leave_now()

    async def leave(self, *, orphaned: bool, until: float | None = None) -> None:
        until = anyio.current_time() + self._options.drain if until is None else until
        try:
            await super().leave(orphaned=orphaned, until=until)
        finally:
            await self._previous.leave(orphaned=orphaned, until=until)


def _with_key(request: GenerationRequest, key: str | None) -> GenerationRequest:
    """Return *request* with *key*, unless it has one of its own."""
    if not isinstance(request, GenerationRequest):
        raise _not_requests(request)
    return request if request.key is not None or key is None else evolve(request, key=key)


def _not_requests(made: object) -> TypeError:
    return TypeError(
        f"a function for `then` returns a request such as NanoBanana(...), several, or None, not {made!r}"
    )
