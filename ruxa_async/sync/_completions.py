"""`Completions` without async."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from ruxa_async._client.stage import Made
from ruxa_async.errors import ClientClosedError
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import JobRecord, Outcome, Succeeded

from ._handed_batch import HandedBatch
from ._loop_thread import LoopThread

__all__ = ("Completions",)


class Completions:
    """The outcomes of ``as_completed``: a context manager and an iterator over `Outcome`.

    ``for outcome in ruxa.as_completed(requests)`` stops when you leave the loop or interrupt it, and lists
    paid tasks in ``RuxaClient.orphans``. ``with ruxa.as_completed(requests) as outcomes`` also waits for
    creates on the wire (at most ``Timeouts.create_drain``), and fills *unfinished*, *unknown* and
    *unsubmitted*.

    Several threads may iterate over one `Completions`; each outcome goes to one of them. Requests are pulled
    by the threads that iterate, one at a time. The source is kept open when you leave, so that you can pull
    the remaining requests yourself. `then` makes the next stage of the successes.
    """

    def __init__(
        self,
        thread: LoopThread,
        ruxa: object,
        batch: HandedBatch,
        source: Iterator[GenerationRequest],
        earlier: tuple[Completions, ...] = (),
    ) -> None:
        self._thread = thread
        self._ruxa = ruxa  # while this is in use, the client is not dropped
        self._batch = batch
        self._source = source
        self._earlier = earlier  # while this is in use, they are not dropped
        self._completions = batch.completions
        self._entered = False

    def then(
        self,
        make_request: Callable[[Succeeded], Made],
        *,
        name: str | None = None,
        window: int | None = None,
        task_timeout: float | None = None,
    ) -> Completions:
        """Add a stage: buy what *make_request* makes of each success, and give the outcomes of the chain.

        *make_request* is called in a thread of the client, one success at a time, so it may block and may
        call this client. Everything else is as in `ruxa_async.Completions.then`.
        """

        async def add_stage() -> None:
            self._completions._ensure_last()  # noqa: SLF001
            self._batch.then(make_request, name=name, window=window, task_timeout=task_timeout)

        self._thread.call(add_stage)
        return Completions(self._thread, self._ruxa, self._batch, self._source, self.stages)

    @property
    def stages(self) -> tuple[Completions, ...]:
        """The stages up to this one, the first one first; ``stages[outcome.stage - 1]`` is an outcome's."""
        return (*self._earlier, self)

    @property
    def unfinished(self) -> tuple[JobRecord, ...]:
        """The accepted tasks whose end was not delivered, in the order of the requests."""
        return self._completions.unfinished

    @property
    def unknown(self) -> tuple[JobRecord, ...]:
        """The requests that may have been charged, in the order of the requests."""
        return self._completions.unknown

    @property
    def unsubmitted(self) -> tuple[JobRecord, ...]:
        """The requests that were pulled and never sent, in the order of the requests."""
        return self._completions.unsubmitted

    def __enter__(self) -> Self:
        self._entered = True
        self._thread.call(self._completions.__aenter__)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread.is_forked:
            return
        try:
            self._thread.call_through_interrupts(
                partial(self._completions.__aexit__, exc_type, exc, traceback),
                interrupted=isinstance(exc, KeyboardInterrupt),
            )
        except ClientClosedError:
            self._thread.read(self._batch.drop)

    def __iter__(self) -> Iterator[Outcome]:
        return self

    if not TYPE_CHECKING:  # type checkers report it by themselves

        def __aiter__(self) -> NoReturn:
            raise TypeError(
                "outcomes of a client without async: write `for outcome in ruxa.as_completed(...)`, or, in "
                "async code, use `from ruxa_async import RuxaClient`"
            )

    def __next__(self) -> Outcome:
        """Return the next outcome. Raises what ``__anext__`` of `ruxa_async.Completions` raises."""
        self._completions._ensure_last()  # noqa: SLF001
        pulled = False
        try:
            while True:
                delivery = self._thread.call(partial(self._batch.next, pulled=pulled), self._batch.put_back)
                if delivery is not None:
                    break
                self._pull()
                pulled = True
        except StopAsyncIteration:
            raise StopIteration from None
        except BaseException:
            # The traceback of an interrupt refers to this object, so `__del__` would come too late.
            if not self._entered:
                self._thread.post(self._batch.drop)
            raise
        return delivery[1]

    def _pull(self) -> None:
        """Pull one request in this thread and hand it over; an interrupt leaves that to a later call."""
        try:
            try:
                pulled: GenerationRequest | Exception = next(self._source)
            except Exception as exc:  # noqa: BLE001 - raised after the last outcome; StopIteration is the end
                pulled = exc
            self._thread.post(self._batch.hand_over, pulled)
        except BaseException:
            self._thread.post(self._batch.ask)
            raise

    def __del__(self) -> None:
        self._thread.post(self._batch.drop)
