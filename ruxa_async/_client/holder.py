"""A task that holds a client open between two calls, which may come from different tasks.

A task group must be entered and left in one task. In a REPL or a notebook each input is a task of its own.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import anyio
from anyio.lowlevel import checkpoint

__all__ = ("Holder",)


class Holder:
    """Enter *client* with `open` and leave it with `aclose`, both in a task of its own."""

    def __init__(self, client: AbstractAsyncContextManager[object]) -> None:
        self._client = client
        self.is_used: bool = False
        self._opened = anyio.Event()
        self._closing = anyio.Event()
        self._ended = anyio.Event()
        self._task: asyncio.Task[None] | None = None
        self._error: Exception | None = None

    async def open(self) -> None:
        """Start the task, and wait until the client is open. Raises what entering it raises."""
        if self.is_used:
            raise RuntimeError("a RuxaClient is opened once: make a new one")
        self.is_used = True
        self._start()
        try:
            await self._opened.wait()
        except BaseException:
            self._closing.set()
            raise
        self._raise_error()

    async def aclose(self) -> None:
        """Leave the client, and wait until it is closed, shielded. Raises what leaving raises, once."""
        await checkpoint()
        if self.is_used:
            self._closing.set()
            with anyio.CancelScope(shield=True):
                await self._ended.wait()
            self._raise_error()

    def _start(self) -> None:
        # Neither library starts a task outside of a task group through anyio.
        if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
            self._task = asyncio.get_running_loop().create_task(self._hold(), name="ruxa_async holder")
        else:
            import trio  # noqa: PLC0415 - not a dependency, but it runs

            trio.lowlevel.spawn_system_task(self._hold, name="ruxa_async holder")

    async def _hold(self) -> None:
        try:
            async with self._client:
                self._opened.set()
                await self._closing.wait()
        except Exception as exc:  # noqa: BLE001 - `open` or `aclose` raises it
            self._error = exc
        finally:
            self._opened.set()
            self._ended.set()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
