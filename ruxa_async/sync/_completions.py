"""`Completions` without async."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from ruxa_async.errors import ClientClosedError
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import JobRecord, Outcome

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
    the remaining requests yourself.
    """

    def __init__(
        self, thread: LoopThread, ruxa: object, batch: HandedBatch, source: Iterator[GenerationRequest]
    ) -> None:
        self._thread = thread
        self._ruxa = ruxa  # while this is in use, the client is not dropped
        self._batch = batch
        self._source = source
        self._entered = False

    @property
    def unfinished(self) -> tuple[JobRecord, ...]:
        """The accepted tasks whose end was not delivered, in the order of the requests."""
        return self._batch.completions.unfinished

    @property
    def unknown(self) -> tuple[JobRecord, ...]:
        """The requests that may have been charged, in the order of the requests."""
        return self._batch.completions.unknown

    @property
    def unsubmitted(self) -> tuple[JobRecord, ...]:
        """The requests that were pulled and never sent, in the order of the requests."""
        return self._batch.completions.unsubmitted

    def __enter__(self) -> Self:
        self._entered = True
        self._thread.call(self._batch.completions.__aenter__)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread.is_forked:
            return
        try:
            self._thread.call_through_interrupts(
                partial(self._batch.completions.__aexit__, exc_type, exc, traceback),
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
