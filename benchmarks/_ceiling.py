"""The most that the server can handle; a measurement below it is limited by the client."""

from __future__ import annotations

from benchmarks._figures import Row, spread
from benchmarks._processes import Server, client

__all__ = ("ceiling",)


def ceiling(rounds: int) -> Row:
    """Return how many creates and queries a second the emulator answers to 32 raw connections."""
    samples = []
    for _ in range(rounds):
        with Server(median=1.0) as server:
            samples.append(client("ceiling", url=server.url, seconds=1.0))
    return {
        "server's ceiling": "raw connections",
        "creates/s": spread(sample["creates"] for sample in samples),
        "queries/s": spread(sample["queries"] for sample in samples),
    }
