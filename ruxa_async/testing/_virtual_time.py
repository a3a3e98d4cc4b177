"""Event loops in virtual time.

In virtual time a test that waits for hours takes milliseconds and sees exact times. The marker
``ruxa_virtual_time`` selects it for a test; for all tests of a module or a folder use a fixture. ::

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(request):
        return virtual_time(request.param)

Time jumps to the next timer whenever all tasks wait, so do not use it with threads or real sockets. Replace
the network by `MemoryTransport` with the emulator's ``Service``.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

__all__ = ("AutojumpEventLoop", "virtual_time")


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that advances its clock by the timeout instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)  # no timer: only a thread or a socket can wake the loop
        ready = super().select(0)
        if not ready and timeout > 0:
            self.now += timeout
        return ready


class AutojumpEventLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose clock starts at 0 and jumps to the next timer when all tasks wait."""

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
        from trio.testing import MockClock  # noqa: PLC0415 - not a dependency

        return "trio", {"clock": MockClock(autojump_threshold=0)}
    raise ValueError(f"backend={backend!r} is not valid: 'asyncio' or 'trio' is needed")
