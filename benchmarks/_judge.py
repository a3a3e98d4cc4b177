"""The share of a draw that the whole client uses, with the emulator in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from attrs import evolve, frozen

from benchmarks._draws import REPORTING, TUNING, Draw, draw
from benchmarks._ideal import IN_FLIGHT, ideal
from benchmarks._quota import KEY, Account
from benchmarks._virtual import StallingLoop, VaryingTransport
from ruxa_async import Limits, NanoBanana, Retries, RuxaClient
from ruxa_async.transports import Transport

__all__ = (
    "REPORTING",
    "TUNING",
    "Draw",
    "Result",
    "batch",
    "draw",
    "ideal",
    "judged",
    "patience",
    "report",
    "run",
)

_FOREVER = 1e6  # seconds; longer than any batch, so that no create times out


@frozen(kw_only=True)
class Result:
    """The result of the client on *draw*.

    *ideal* and *seconds* are from the start until the last create's reply, or the last result if the draw is
    shared. *share* is *ideal* / *seconds*, at most 1. If the batch was not over after `patience`, *seconds*
    is that, and *share* is *ideal* / *seconds* x the accepted part. *rejected* counts
    429s to creates, *creates* all of them.
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
        """The 429s divided by all creates that were sent."""
        return self.rejected / max(1, self.creates)


def patience(possible: float) -> float:
    """Return the seconds after which a batch is cut off whose ideal time is *possible* seconds."""
    return 10 * possible + 60


def run(draw: Draw) -> Result:
    """Run the batch of *draw* in virtual time; of several clients, the last one counts."""
    accounts, possible = [Account(draw) for _ in range(draw.clients)], ideal(draw)
    cut_off = patience(possible)
    with asyncio.Runner(loop_factory=lambda: StallingLoop(draw.stalls)) as runner:
        last = runner.run(_batches(draw, accounts, cut_off))
    reports = [report(*each) for each in zip(accounts, last, strict=True)]
    return judged(draw, possible, cut_off, reports)


async def _batches(draw: Draw, accounts: Sequence[Account], cut_off: float) -> list[float | None]:
    each = (batch(draw, VaryingTransport(account, draw), "http://localhost", cut_off) for account in accounts)
    return list(await asyncio.gather(*each))


def report(account: Account, last_result: float | None = None) -> dict[str, Any]:
    """Return what `judged` needs of one client, as JSON values."""
    since = account.quota.since_start
    return {
        "creates": account.counts.creates,
        "rejected": account.counts.creates_throttled,
        "arrivals": [since(entry.at) for entry in account.ledger.entries],
        "last_result": last_result,
    }


def judged(draw: Draw, possible: float, cut_off: float, reports: Sequence[dict[str, Any]]) -> Result:
    """Return the result of each client's `report`, for batches that were cut off after *cut_off* seconds."""
    each = [_judged(draw, possible, cut_off, found) for found in reports]
    slowest = min(each, key=lambda result: result.share)
    creates, rejected = sum(one.creates for one in each), sum(one.rejected for one in each)
    return evolve(slowest, creates=creates, rejected=rejected)


def _judged(draw: Draw, possible: float, cut_off: float, found: dict[str, Any]) -> Result:
    arrivals = [at for at in found["arrivals"] if at <= cut_off]
    last = found["last_result"] if draw.shared else arrivals[-1] + draw.rtt / 2 if arrivals else None
    if last is not None and len(arrivals) >= draw.count:
        seconds, share = last, min(1.0, possible / last)
    else:
        seconds, share = cut_off, len(arrivals) / draw.count * possible / cut_off
    return Result(
        draw=draw,
        share=share,
        ideal=possible,
        seconds=seconds,
        accepted=len(arrivals),
        creates=found["creates"],
        rejected=found["rejected"],
        arrivals=tuple(arrivals),
    )


async def batch(draw: Draw, transport: Transport | None, url: str, cut_off: float) -> float | None:
    """Buy all of *draw* and return the seconds until the last result; None if it was cut off."""
    limits = Limits(
        max_in_flight=draw.count, max_concurrent_creates=IN_FLIGHT, max_concurrent_queries=IN_FLIGHT
    )
    retries = Retries(max_retry_after=_FOREVER, throttled_timeout=_FOREVER)
    client = RuxaClient(api_key=KEY, base_url=url, transport=transport, limits=limits, retries=retries)
    requests = (NanoBanana(prompt=str(n)) for n in range(draw.count))
    clock = asyncio.get_running_loop().time
    start = clock()
    try:
        async with asyncio.timeout(cut_off), client, client.as_completed(requests) as outcomes:
            async for outcome in outcomes:
                if not outcome.ok:
                    raise RuntimeError(f"draw {draw.seed}: {outcome.error!r}")
            return clock() - start
    except TimeoutError:
        return None
