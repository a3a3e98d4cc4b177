"""Events for the user's hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ruxa_async import events
from ruxa_async._logging import logger

from .clock import Clock
from .job import ClientJob

__all__ = ("EventBus",)


class EventBus:
    """Call the user's hook with each event. Without a hook no event is made."""

    def __init__(self, hook: events.EventHook | None, clock: Clock) -> None:
        self._hook = hook
        self._clock = clock
        #: Whether there is a hook.
        self.enabled: bool = hook is not None
        self._hook_failed = False

    def emit(self, kind: Callable[..., events.Event], job: ClientJob, *details: Any) -> None:
        """Send an event of *kind* about *job*."""
        if self._hook is not None:
            self._send(self._hook, kind(self._clock.now(), job.record(), *details))

    def emit_for_client(self, kind: Callable[..., events.ClientEvent], *details: Any) -> None:
        """Send an event of *kind* about the client as a whole."""
        if self._hook is not None:
            self._send(self._hook, kind(self._clock.now(), *details))

    def _send(self, hook: events.EventHook, event: events.Event | events.ClientEvent) -> None:
        try:
            hook(event)
        except Exception:  # noqa: BLE001 - it is logged with its traceback
            if not self._hook_failed:
                self._hook_failed = True
                logger.exception("on_event raised on %r; this is logged once, and the work goes on", event)
