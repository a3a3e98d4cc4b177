"""What the service charged: the witness when a test asks whether anything was bought twice or lost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define, field, frozen

__all__ = ("Counts", "Ledger", "Purchase")


@frozen(kw_only=True)
class Purchase:
    """One accepted create.

    *at* is when, on the service's clock; *callback* the address it was given, if any.
    """

    task_id: str
    model: str
    input: Mapping[str, Any]
    credits: float
    at: float
    callback: str | None = None

    @property
    def identity(self) -> str:
        """A request in one spelling: equal for requests that differ only in the order of their fields."""
        return json.dumps([self.model, self.input], sort_keys=True, ensure_ascii=False, separators=(",", ":"))


@define(eq=False)
class Ledger:
    """Every purchase in order, and what they cost together in credits."""

    entries: list[Purchase] = field(factory=list)
    credits_spent: float = 0.0

    @property
    def charged(self) -> int:
        """How many creates were charged."""
        return len(self.entries)

    def record(self, purchase: Purchase) -> None:
        """Write down *purchase*."""
        self.entries.append(purchase)
        self.credits_spent += purchase.credits

    def duplicates(self) -> list[tuple[Purchase, ...]]:
        """Return the purchases of the same model and input, grouped, where there is more than one."""
        groups: dict[str, list[Purchase]] = {}
        for purchase in self.entries:
            groups.setdefault(purchase.identity, []).append(purchase)
        return [tuple(group) for group in groups.values() if len(group) > 1]

    def missing(self, known: Iterable[str]) -> list[Purchase]:
        """Return the purchases whose task ids are not in *known*: paid for, and lost to the client."""
        ids = set(known)
        return [purchase for purchase in self.entries if purchase.task_id not in ids]


@define(eq=False)
class Counts:
    """The number of requests that the service got, by outcome. Files need no key and are never limited."""

    creates: int = 0
    queries: int = 0
    files: int = 0
    creates_throttled: int = 0
    queries_throttled: int = 0
    #: Refusals because too many tasks were running; among *creates_throttled*.
    creates_capped: int = 0
    #: Posts to callback addresses, forged ones among them, and those that no 2xx answered.
    callbacks: int = 0
    callbacks_refused: int = 0
    #: Requests answered by something else than their plain reply.
    faults: int = 0

    @property
    def throttled(self) -> int:
        """The number of requests that were rejected with 429."""
        return self.creates_throttled + self.queries_throttled
