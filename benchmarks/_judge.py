"""How much of what a draw allows the client uses: the whole client with its poller, before the emulator in memory."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from attrs import frozen

from benchmarks._draws import REPORTING, TUNING, Draw, draw
from benchmarks._ideal import IN_FLIGHT, ideal
from benchmarks._quota import KEY, Account
from benchmarks._virtual import StallingLoop, VaryingTransport
from ruxa_async import Limits, NanoBanana, Retries, RuxaClient

__all__ = ("REPORTING", "TUNING", "Draw", "Result", "draw", "ideal", "judged", "patience", "run")

_FOREVER = 1e6  # seconds; how long a client tries is not what is judged


@frozen(kw_only=True)
class Result:
    """What the client made of *draw*.

    *ideal* and *seconds* are from the start until the last create's reply, or the last result if the draw is shared.
    *share* is *ideal* / *seconds*, at most 1. If the batch was not over after `patience`, *seconds* is that, and *share* is
    *ideal* / *seconds* x what was accepted of all that had to be. *rejected* counts 429s to creates, *creates* all of them.
    """

    draw: Draw
    share: float
    ideal: float
    seconds: float
    accepted: int
    creates: int
    rejected: int
    arrivals: tuple[float, ...] = ()

    @property
    def rejected_share(self) -> float:
        """429s over all creates that were sent."""
        return self.rejected / max(1, self.creates)


def patience(possible: float) -> float:
    """Return after how many seconds a batch is cut off that *possible* seconds are enough for."""
    return 10 * possible + 60


def run(draw: Draw) -> Result:
    """Run the batch of *draw* in virtual time."""
    account, possible = Account(draw), ideal(draw)
    cut_off = patience(possible)
    with asyncio.Runner(loop_factory=lambda: StallingLoop(draw.stalls)) as runner:
        last = runner.run(_batch(draw, account, cut_off))
    return judged(draw, possible, cut_off, report(account, last))


def report(account: Account, last_result: float) -> dict[str, Any]:
    """Return what `judged` needs to know, as JSON can carry it."""
    since = account.quota.since_start
    return {
        "creates": account.counts.creates,
        "rejected": account.counts.creates_throttled,
        "arrivals": [since(entry.at) for entry in account.ledger.entries],
        "last_result": last_result,
    }


def judged(draw: Draw, possible: float, cut_off: float, told: dict[str, Any]) -> Result:
    """Return the result that a `report` shows of a batch that was cut off after *cut_off* seconds."""
    arrivals = [at for at in told["arrivals"] if at <= cut_off]
    done = len(arrivals) >= draw.count and (not draw.shared or told["last_result"] < cut_off)
    if done:
        seconds = told["last_result"] if draw.shared else arrivals[draw.count - 1] + draw.rtt / 2
        share = min(1.0, possible / seconds)
    else:
        seconds, share = cut_off, len(arrivals) / draw.count * possible / cut_off
    return Result(
        draw=draw,
        share=share,
        ideal=possible,
        seconds=seconds,
        accepted=len(arrivals),
        creates=told["creates"],
        rejected=told["rejected"],
        arrivals=tuple(arrivals),
    )


async def _batch(draw: Draw, account: Account, cut_off: float) -> float:
    """Return when the last result was there; infinity if the batch was cut off."""
    limits = Limits(
        max_in_flight=draw.count, max_concurrent_creates=IN_FLIGHT, max_concurrent_queries=IN_FLIGHT
    )
    client = RuxaClient(
        api_key=KEY,
        base_url="http://localhost",
        transport=VaryingTransport(account, draw),
        limits=limits,
        retries=Retries(max_retry_after=_FOREVER, throttled_for=_FOREVER),
    )
    requests = (NanoBanana(prompt=str(n)) for n in range(draw.count))
    try:
        async with asyncio.timeout(cut_off), client, client.as_completed(requests) as outcomes:
            async for outcome in outcomes:
                if not outcome.ok:
                    raise RuntimeError(f"draw {draw.seed}: {outcome.error!r}")
            return asyncio.get_running_loop().time()
    except TimeoutError:
        return math.inf
