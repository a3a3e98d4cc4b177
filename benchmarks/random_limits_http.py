"""random_limits_http: the draws of `random_limits` over sockets.

Each draw has a client and an emulator in processes of their own, on loopback; the last row by name has eleven
clients in one process, and the slowest of them counts. The draws are shorter than in virtual time: about 30 s
at the limit's rate, or one and a half windows if a window takes longer. A batch is cut off after 4 x the
ideal + 30 s. Eight draws run side by side, while their ideal rates add up to at most 200 tasks a second,
because they mostly wait; `--jobs` sets another number. Columns are those of `random_limits`. "this" is the
code of this checkout.

Not measured: the server delays both halves of a round trip, so a stall of the client's event loop never
delays a request that has left it. A busy machine shows if the round trip is a millisecond and the burst is 1.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from benchmarks._children import Child
from benchmarks._code import code_of
from benchmarks._draws import NAMED, Draw, draw
from benchmarks._harness import Options
from benchmarks._ideal import ideal
from benchmarks._judge import judged
from benchmarks._outcomes import Outcome, baseline
from benchmarks._results import Measured
from benchmarks._verdict import seeds_of, verdict

__all__ = ("run",)

_DRAWS = 48
_JOBS = 8
_LONGEST = 30.0  # seconds at the limit's rate
_RATES_AT_ONCE = 200  # requests a second; two cores carry several times as many
_TARGETS = (75.0, 93.0, 85.0, None, 15.0)


def run(options: Options) -> Measured:
    """Judge the draws, and show the baseline of the same seeds beside them."""
    seeds, name = seeds_of(options, options.draws or (4 if options.quick else _DRAWS))
    every = [*range(-1, -1 - len(NAMED), -1), *seeds]
    print(f"random_limits_http: seeds {seeds[0]} to {seeds[-1]}, {name}", file=sys.stderr, flush=True)
    ours = _side_by_side([draw(seed, longest=_LONGEST) for seed in every], options)
    code = code_of(options.code)
    codes: dict[str, Sequence[Outcome]] = {code: ours}
    if options.code is None:
        codes |= baseline("random_limits_http", every)
    series: dict[str, Any] = {
        "seeds": [name, seeds[0], len(seeds)],
        "outcomes": [each.kept() for each in ours],
    }
    rows = verdict(codes, name, options.worst, _TARGETS)
    return Measured(rows, series, f"_{code}" if options.code else "")


def _side_by_side(draws: Sequence[Draw], options: Options) -> list[Outcome]:
    capacity = _Capacity(_RATES_AT_ONCE)
    # The longest first, so that no long one runs alone at the end.
    order = sorted(range(len(draws)), key=lambda index: -ideal(draws[index]))
    with ThreadPoolExecutor(options.jobs or _JOBS) as pool:
        pending = {index: pool.submit(_outcome, draws[index], options.code, capacity) for index in order}
        return [pending[index].result() for index in range(len(draws))]


class _Capacity:
    """A semaphore for the requests a second that this machine can handle."""

    def __init__(self, width: int) -> None:
        self._width = self._free = width
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, rate: float) -> Iterator[None]:
        """Reserve *rate* requests a second during the block, at most the whole capacity."""
        part = math.ceil(min(rate, self._width))
        with self._changed:
            self._changed.wait_for(lambda: self._free >= part)
            self._free -= part
        try:
            yield
        finally:
            with self._changed:
                self._free += part
                self._changed.notify_all()


def _outcome(drawn: Draw, code: str | None, capacity: _Capacity) -> Outcome:
    """Run a client and a server on *drawn* and return the outcome."""
    possible = ideal(drawn)
    cut_off = 4 * possible + 30
    with (
        capacity.taken(drawn.clients * drawn.count / possible),
        Child("_drawn_server") as server,
        Child("_drawn_client") as client,
    ):
        same = {"seed": drawn.seed, "longest": _LONGEST}
        urls = server.ask(same)["urls"]
        client.ask(same | {"urls": urls, "code": code, "cut_off": cut_off})
        last = client.ask("go")["last"]
        reports = server.ask("report")["reports"]
    found = [each | {"last_result": at} for each, at in zip(reports, last, strict=True)]
    outcome = Outcome.of(judged(drawn, possible, cut_off, found))
    print(f"{outcome.share:5.1f} % {drawn}", file=sys.stderr, flush=True)
    return outcome
