"""One call into the event loop of another thread, whose result is never lost."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio

from ruxa_async.errors import ClientClosedError

__all__ = ("Call",)

_T = TypeVar("_T")


class Call(Generic[_T]):
    """A call of *function* for a caller in another thread, which sets *caller_left* if it leaves.

    *on_lost* then gets the result, or the error, if it is too late to cancel the function.
    """

    def __init__(
        self, function: Callable[[], Awaitable[_T]], on_lost: Callable[[_T | BaseException], object] | None
    ) -> None:
        self._function = function
        self._on_lost = on_lost
        self._started = False
        self._scope: anyio.CancelScope | None = None
        self.finished: threading.Event = threading.Event()
        self.caller_left: bool = False
        #: The result, once it has finished without an error.
        self.result: list[_T] = []
        self.error: BaseException | None = None

    async def run(self) -> None:
        """Call the function, once, unless the caller has left already. Runs in the event loop."""
        if self._started:
            return
        self._started = True
        try:
            with anyio.CancelScope() as self._scope:
                if not self.caller_left:
                    self.result.append(await self._function())
        except anyio.get_cancelled_exc_class():
            self.error = ClientClosedError("the client was closed while this call was waiting")
            raise
        except BaseException as exc:  # noqa: BLE001 - an interrupt of the caller's source would end the loop
            self.error = exc
        finally:
            self.finished.set()
            if self.caller_left:
                self._pass_on()

    def on_caller_left(self) -> None:
        """Cancel the call, or give away a result that came too late. Runs in the event loop."""
        if self.finished.is_set():
            self._pass_on()
        elif self._scope is not None:
            self._scope.cancel()

    def _pass_on(self) -> None:
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None and self.error is not None:
            on_lost(self.error)
        elif on_lost is not None and self.result:
            on_lost(self.result[0])
