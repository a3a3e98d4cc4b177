"""An observer of outages: checks how many creates may end as unknown."""

from __future__ import annotations

import math

from attrs import define, evolve, field

from ruxa_async import JobRecord
from ruxa_async.emulator import Fault
from ruxa_async.events import (
    ClientEvent,
    CreateRefused,
    CreateSent,
    CreateThrottled,
    CreateUnknown,
    CreateUnsent,
    Event,
    TaskAccepted,
)

#: What an outage of the whole service looks like from outside.
KINDS = {
    "bad_gateway": Fault("html"),
    "unavailable": Fault("error", status=503),
    "reply_lost": Fault("reset_after"),
    "request_lost": Fault("reset_before"),
}
ANSWERED = (CreateRefused, CreateThrottled, CreateUnknown, CreateUnsent, TaskAccepted)


@define
class Outage:
    """The time from the first unknown outcome to the first acceptance of a create that was sent later."""

    began: float
    on_wire: int
    ended: float = math.inf
    probes: int = 0
    last_probe: float = -math.inf

    @property
    def most_probes(self) -> float:
        """Two probes at once, then one after each wait from 1 s to 60 s; queries may free as many again."""
        seconds = max(self.last_probe, self.began) - self.began
        return 2 + 2 * math.ceil(math.log2(seconds + 2)) + 2 * seconds / 60


@define
class Observer:
    """Pass `on_event` to the client."""

    outages: list[Outage] = field(factory=list)
    accepted_at: list[float] = field(factory=list)
    unknown: int = 0
    _on_wire: dict[str | None, float] = field(factory=dict)

    def on_event(self, event: Event | ClientEvent) -> None:
        if isinstance(event, ClientEvent):
            return
        if isinstance(event, CreateSent):
            self._on_wire[_key(event.job)] = event.at
            if self._in_outage:
                self.outages[-1].probes += 1
                self.outages[-1].last_probe = event.at
        elif isinstance(event, ANSWERED):
            self._answered(event)

    def _answered(self, event: Event) -> None:
        on_wire = len(self._on_wire)
        sent_at = self._on_wire.pop(_key(event.job))
        if isinstance(event, CreateUnknown):
            self.unknown += 1
            if not self._in_outage:
                self.outages.append(Outage(event.at, on_wire))
        elif isinstance(event, TaskAccepted):
            self.accepted_at.append(event.at)
            if self._in_outage and sent_at > self.outages[-1].began:
                self.outages[-1].ended = event.at

    @property
    def _in_outage(self) -> bool:
        return bool(self.outages) and self.outages[-1].ended == math.inf

    def check(self, *, concurrent_creates: int = 16) -> None:
        """Assert that no more creates are of unknown outcome than each outage allows."""
        for outage in self.outages:
            assert outage.on_wire <= concurrent_creates
            assert outage.probes <= outage.most_probes
        assert self.unknown <= sum(outage.on_wire + outage.probes for outage in self.outages)


def lasting(fault: Fault, begin: float, seconds: float) -> tuple[Fault, ...]:
    """Return *fault* for every create and query from *begin* on, for *seconds*."""
    during = begin, begin + seconds
    return evolve(fault, operation="create", during=during), evolve(fault, operation="query", during=during)


def _key(job: JobRecord) -> str | None:
    return job.key
