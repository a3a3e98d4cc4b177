"""Rounds: each round measures every variant in turn, so that a disturbance affects all of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TypeAlias

from attrs import frozen

from benchmarks._figures import Sample

__all__ = ("Measure", "Options", "Round", "interleaved")

#: The measurements of one round, by variant.
Round: TypeAlias = dict[str, Sample]
#: One measurement; it receives the measurements of the same round so far.
Measure: TypeAlias = Callable[[Round], Sample]


@frozen(kw_only=True)
class Options:
    """The options of the command line. *rounds* None leaves their number to the benchmark.

    The last five are for the random limits: how many *draws* from *seed* on ("tuning", "reporting" or a
    number), how many of the *worst* to show, how many *jobs* to run at once, and the checkout whose *code* is
    measured (None: this one).
    """

    rounds: int | None = None
    quick: bool = False
    huge: bool = False
    draws: int | None = None
    seed: str = "reporting"
    worst: int = 10
    jobs: int | None = None
    code: str | None = None

    def times(self, usual: int, *, quick: int = 1) -> int:
        """Return the number of rounds, *usual* or *quick* unless it was given."""
        return self.rounds or (quick if self.quick else usual)


def interleaved(variants: Mapping[str, Measure], rounds: int, *, about: str) -> list[Round]:
    """Measure A B C A B C ... and return the rounds; *about* names the case in the progress."""
    done: list[Round] = []
    for number in range(1, rounds + 1):
        current: Round = {}
        for name, measure in variants.items():
            print(f"{about}: round {number} of {rounds}: {name}", file=sys.stderr, flush=True)
            current[name] = measure(current)
        done.append(current)
    return done
