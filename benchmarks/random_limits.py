"""random_limits: how much the client uses of unknown limits that were drawn at random, in virtual time.

The whole client with its polling, and the emulator in memory. Each draw has a limit on creates (a bucket, a
minimum interval, a sliding or a fixed window), a round trip of 1 to 400 ms, a form of Retry-After, and three
times in five a disturbance; one in ten has one quota for creates and queries. Equal seeds give equal draws.

`share` is the time of an ideal client, which knows limit and disturbance exactly, over that of ours: from the
start until the last create's reply, or until the last result if the quota is shared. After 10 x the ideal +
60 s a batch is cut off; its share is then its accepted part x the ideal over that time. `rejected` are 429s
over all creates of a draw. `80 % after` are the seconds from the end of the disturbance until requests are
accepted at four fifths of the possible rate again. The last table has limits and disturbances by name.

Not measured: the ideal also knows how long each round trip takes, so if round trips vary by more than the
interval between two requests, no client reaches it. A storm's 429s carry no Retry-After. The other client
sends first and takes its share in any case.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from benchmarks._code import code_of
from benchmarks._draws import NAMED, REPORTING, TUNING
from benchmarks._harness import Options
from benchmarks._outcomes import Outcome, baseline, outcomes
from benchmarks._results import Measured
from benchmarks._verdict import seeds_of, verdict

__all__ = ("REPORTING", "TUNING", "run")

_DRAWS = 1000


def run(options: Options) -> Measured:
    """Judge the draws, and show the baseline of the same seeds beside them."""
    seeds, name = seeds_of(options, options.draws or (20 if options.quick else _DRAWS))
    print(f"random_limits: seeds {seeds[0]} to {seeds[-1]}, {name}", file=sys.stderr, flush=True)
    code = code_of(options.code)
    every = [*range(-1, -1 - len(NAMED), -1), *seeds]
    ours = outcomes(every, options)
    codes: dict[str, Sequence[Outcome]] = {code: ours}
    if options.code is None:
        codes |= baseline("random_limits", every)
    series: dict[str, Any] = {
        "seeds": [name, seeds[0], len(seeds)],
        "outcomes": [each.kept() for each in ours],
    }
    return Measured(verdict(codes, name, options.worst), series, f"_{code}" if options.code else "")
