"""Events for the user's hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ruxa_async import events
from ruxa_async._logging import logger

from .clock import Clock
from .job import ClientJob

__all__ = ("EventBus",)


class EventBus:
    """Call each hook with each event. Without a hook no event is made."""

    def __init__(self, clock: Clock, hook: events.EventHook | None = None) -> None:
        self._hooks: tuple[events.EventHook, ...] = ()
        self._clock = clock
        #: Whether there is a hook.
        self.enabled: bool = False
        self._hook_failed = False
        if hook is not None:
            self.add(hook)

    def add(self, hook: events.EventHook) -> None:
        """Call *hook* with each event from now on."""
        self._hooks = (*self._hooks, hook)
        self.enabled = True

    def emit(self, kind: Callable[..., events.Event], job: ClientJob, *details: Any) -> None:
        """Send an event of *kind* about *job*."""
        if self.enabled:
            self._send(kind(self._clock.now(), job.record(), *details, job_id=id(job)))

    def emit_for_client(self, kind: Callable[..., events.ClientEvent], *details: Any) -> None:
        """Send an event of *kind* about the client as a whole."""
        if self.enabled:
            self._send(kind(self._clock.now(), *details))

    def _send(self, event: events.Event | events.ClientEvent) -> None:
        for hook in self._hooks:
            try:
                hook(event)
            except Exception:  # noqa: BLE001 - it is logged with its traceback
                if not self._hook_failed:
                    self._hook_failed = True
                    logger.exception(
                        "an event hook raised on %r; this is logged once, and the work goes on", event
                    )
