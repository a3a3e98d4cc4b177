"""What tests of code that uses this library want: time that jumps, and the service in memory.

In virtual time a test that waits for hours takes milliseconds and sees exact instants. ::

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(request):
        return virtual_time(request.param)

Time jumps whenever every task of the loop waits, so it is not for tests that use threads or real sockets.
`MemoryTransport` with the emulator's ``Service`` behind it takes the place of the network.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

__all__ = ("AutojumpEventLoop", "virtual_time")


class _JumpingSelector(selectors.DefaultSelector):
    """Advance a clock by the time-out instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)  # no timer at all: only a thread or a socket can wake the loop
        ready = super().select(0)
        if not ready and timeout > 0:
            self.now += timeout
        return ready


class AutojumpEventLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose clock starts at 0 and jumps to the next timer when nothing else is ready."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._jumping.now


def virtual_time(backend: str) -> tuple[str, dict[str, Any]]:
    """Return the ``anyio_backend`` for *backend* ("asyncio" or "trio") with a clock that jumps."""
    if backend == "asyncio":
        return "asyncio", {"loop_factory": AutojumpEventLoop}
    if backend == "trio":
        from trio.testing import MockClock  # noqa: PLC0415 - trio is the caller's choice, not a dependency

        return "trio", {"clock": MockClock(autojump_threshold=0)}
    raise ValueError(f"backend={backend!r} is not valid: 'asyncio' or 'trio' is needed")
