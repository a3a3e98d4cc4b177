"""The time of an ideal client, which knows a draw exactly: limit, disturbance, and the time of each reply.

Each request arrives at the first instant at which the quota accepts it. It leaves half a mean round trip
earlier, never during a stall, and at most `IN_FLIGHT` creates wait for their replies. Under a cap on running
tasks, the next create leaves when the end of a task can be known, half a round trip after it. If creates and
queries share the quota, each task also costs one query after its end.
"""

from __future__ import annotations

import heapq
from collections import deque

from attrs import define, field

from benchmarks._draws import Draw, Span
from benchmarks._quota import Quota

__all__ = ("IN_FLIGHT", "ideal", "schedule")

#: Creates and queries that a client may have on the wire, each: more than any draw can use.
IN_FLIGHT = 256


def ideal(draw: Draw) -> float:
    """Return the seconds until the last create's reply, or until the last result if *draw* is shared."""
    return schedule(draw)[-1] + draw.rtt / 2


def schedule(draw: Draw) -> list[float]:
    """Return when each request arrives at the service."""
    return _queried(draw) if draw.shared else _created(draw)


def _created(draw: Draw) -> list[float]:
    client, places = _QuotaClient(draw), [0.0] * (draw.cap or draw.count)
    replies = deque([0.0] * IN_FLIGHT, maxlen=IN_FLIGHT)
    arrivals = []
    for _ in range(draw.count):
        at = client.accepted_at(max(heapq.heappop(places), replies[0]) + draw.rtt / 2)
        heapq.heappush(places, at + draw.duration + draw.rtt / 2)
        replies.append(at + draw.rtt / 2)
        arrivals.append(at)
    return arrivals


def _queried(draw: Draw) -> list[float]:
    client, arrivals, ends = _QuotaClient(draw), [], deque[float]()
    for _ in range(draw.count):
        arrivals.append(client.accepted_at(draw.rtt / 2))
        ends.append(arrivals[-1] + draw.duration)
    return arrivals + [client.accepted_at(end) for end in ends]


@define(eq=False)
class _QuotaClient:
    """A quota, and one client of it whose requests arrive one after another."""

    draw: Draw
    now: float = 0.0
    quota: Quota = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.quota = Quota(self.draw)

    def accepted_at(self, earliest: float) -> float:
        """Return the first instant from *earliest* on at which a request is accepted, and accept it."""
        self.now = max(self.now, earliest)
        while True:
            self.now = awake(self.now - self.draw.rtt / 2, self.draw.stalls) + self.draw.rtt / 2
            wait = self.quota.take(self.now)
            if not wait:
                return self.now
            self.now += wait


def awake(at: float, stalls: tuple[Span, ...]) -> float:
    """Return *at*, or the end of the stall around it."""
    return next((end for start, end in stalls if start <= at < end), at)
