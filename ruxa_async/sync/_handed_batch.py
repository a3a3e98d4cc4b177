"""A batch whose requests another thread pulls, each when the pipeline asks for it.

So a plain iterable runs in its user's thread: it may block, use a database session or call the client, and it
never runs at the same time as the body of the loop over the outcomes. Everything here runs in the event loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeAlias

import anyio
from anyio import to_thread

from ruxa_async._client.completions import Completions
from ruxa_async._client.job import ClientJob
from ruxa_async._client.pipeline import Pipeline, PipelineState
from ruxa_async._client.stage import Made
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import Outcome, Succeeded

__all__ = ("Delivery", "HandedBatch")

#: A job that has ended, and its outcome.
Delivery: TypeAlias = tuple[ClientJob, Outcome]


class HandedBatch(AsyncIterator[GenerationRequest]):
    """The source of the batch that *start* makes of it: an async iterator over what is handed over."""

    def __init__(self, start: Callable[[AsyncIterator[GenerationRequest]], Completions]) -> None:
        self._asked = False
        self._stopped = False
        self._handed: deque[GenerationRequest | Exception] = deque()
        self._changed = anyio.Event()
        self._consumers: set[anyio.CancelScope] = set()
        #: Those of the last stage.
        self.completions: Completions = start(self)
        self._first_pipeline = self._pipeline

    @property
    def _pipeline(self) -> Pipeline:
        return self.completions._pipeline  # noqa: SLF001 - the two are one batch

    def then(self, make_request: Callable[[Succeeded], Made], **options: Any) -> None:
        """Add a stage; *make_request* is called in a thread, in which it may block and call the client."""

        def call(succeeded: Succeeded) -> Made:
            made = make_request(succeeded)
            return list(made) if isinstance(made, Iterator) else made  # a generator may block, too

        async def make(succeeded: Succeeded) -> Made:
            return await to_thread.run_sync(call, succeeded)

        self.completions = self.completions.then(make, **options)

    async def next(self, *, pulled: bool) -> Delivery | None:
        """Return the next delivery, or None if the caller is to pull a request and hand it over.

        A caller that has *pulled* one pulls another only while no delivery is ready, so that a slow source
        does not hold back outcomes. Raises what `Completions` raises at the end.
        """
        while not self._asked or (pulled and self._pipeline.has_ready):
            with anyio.CancelScope() as scope:  # `ask` cancels it; a delivery is not lost then
                self._consumers.add(scope)
                try:
                    return await self.completions._next_delivery()  # noqa: SLF001
                finally:
                    self._consumers.discard(scope)
        self._asked = False
        return None

    def ask(self) -> None:
        """Have one consumer pull a request; also called if one that was asked could not."""
        self._asked = True
        for scope in self._consumers:
            scope.cancel()

    def hand_over(self, request: GenerationRequest | Exception) -> None:
        """Give *request* to the pipeline, or what pulling it raised: StopIteration at the end."""
        self._handed.append(request)
        self._changed.set()
        if self._stopped:
            self._list_unwanted()

    def put_back(self, lost: Delivery | BaseException | None) -> None:
        """Deliver *lost* to the next caller of `next`: its own had left."""
        if isinstance(lost, tuple):
            self._pipeline.put_back(lost[0])
        elif lost is None:
            self.ask()

    def drop(self) -> None:
        """Stop without waiting; paid tasks become orphans."""
        if self._pipeline.state is PipelineState.RUNNING:
            self._pipeline.leave_now()

    # ---- for the pipeline

    async def __anext__(self) -> GenerationRequest:
        try:
            if not self._handed:
                self.ask()
            while not self._handed:
                self._changed = anyio.Event()
                await self._changed.wait()
        except BaseException:  # the pipeline has stopped
            self._stopped = True
            self._list_unwanted()
            raise
        handed = self._handed.popleft()
        if isinstance(handed, StopIteration):
            raise StopAsyncIteration
        if isinstance(handed, Exception):
            raise handed
        return handed

    def _list_unwanted(self) -> None:
        """List the request that was pulled while the pipeline stopped."""
        while self._handed:
            handed = self._handed.popleft()
            if isinstance(handed, GenerationRequest):
                self._first_pipeline.list_unsubmitted(handed)
