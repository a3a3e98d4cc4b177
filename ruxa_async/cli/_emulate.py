"""``ruxa-async emulate``: serve an emulator of the service."""

# ruff: noqa: RUF009 - option() returns a field of attrs

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import anyio
from attrs import asdict, field, frozen
from cyclopts import Parameter
from cyclopts.validators import Number

from ruxa_async.emulator import (
    AFTER,
    BEFORE,
    DIALECTS,
    Callbacks,
    CallbackStyle,
    Emulator,
    EmulatorSettings,
    FalseRateLimitHeaders,
    Limit,
    RateLimitHeadersForm,
    RetryAfterForm,
    Service,
    TokenBucket,
    parse_fault,
    parse_limit,
)

from ._options import Flag, Repeated, option, panel
from ._runtime import DONE, SOME_FAILED, say
from ._text import shortened

__all__ = ("emulate",)


@frozen(kw_only=True)
class _ServiceOptions:
    """Fields of `EmulatorSettings`."""

    key: str = option("sk-emulated", "The API key that is accepted.")
    credits: Annotated[float, Parameter(show_default=False)] = option(
        float("inf"), "The credits of the account. Default: unlimited."
    )
    speed: float = option(1.0, "The speed of tasks, in multiples of the real service.")
    fail_share: float = option(0.0, "The share of tasks that fail, from 0 to 1.")
    latency: float = option(0.0, "Seconds before each reply.")
    seed: int = option(0, "The seed of all random draws.")
    dialect: str = option(
        "documented",
        "The format of the replies: documented; with credits and times (detailed); as in the blog, "
        "in similar services and in relays; with errors as HTML or text codes; with tasks that are not "
        f"found at first (grace); with the outputs under another name. Choices: {', '.join(DIALECTS)}.",
    )


@frozen(kw_only=True)
class _RejectionOptions:
    """Fields of `EmulatorSettings`."""

    shared: Flag = option(False, "Apply the limit of creates to creates and queries together.")
    max_running: int | None = option(None, "The number of tasks that may run at once. Default: unlimited.")
    retry_after: RetryAfterForm = option("seconds", "The form in which a rejection names the time to wait.")
    rate_limit_headers: RateLimitHeadersForm = option(
        "none", "The headers in which each reply states what remains of the limit."
    )
    false_rate_limit_headers: FalseRateLimitHeaders = option(
        "none", "The false values that these headers state."
    )


@frozen(kw_only=True)
class _LimitOptions:
    create_rate: float | None = option(None, "Creates per second that are accepted. Default: unlimited.")
    create_burst: int = option(10, "Creates that are accepted back to back.")
    query_rate: float | None = option(None, "Queries per second that are accepted. Default: unlimited.")
    query_burst: int = option(10, "Queries that are accepted back to back.")
    create_limit: str | None = option(
        None,
        "A limit of another shape, instead of --create-rate: token:rate=2,burst=20 or "
        "leaky:rate=2,burst=20 (as in nginx: burst more than one back to back) or "
        "sliding:count=20,per=10 or fixed:count=20,per=10,phase=0 (windows; times in seconds). A limit "
        "that changes after 30 seconds: token:rate=50,burst=10@30=token:rate=25,burst=10",
    )
    query_limit: str | None = option(None, "The same for queries, instead of --query-rate.")


@frozen(kw_only=True)
class _CallbackOptions:
    """Fields of `Callbacks`."""

    style: Annotated[CallbackStyle, Parameter(name="--callback-style")] = option(
        "query",
        "The body of the post to the callback URL of a task that ended: the reply of a query, the "
        "same in the form of a similar service, flat fields with or without the task id, an envelope "
        "without it, the task id alone, nothing, or all of them in turn.",
    )
    delay: Annotated[float, Parameter(name="--callback-delay")] = option(
        0.0, "Seconds from the end of a task to its post."
    )
    spread: Annotated[float, Parameter(name="--callback-spread")] = option(
        0.0, "A further random delay of up to this number of seconds, so that posts arrive out of order."
    )
    lost: Annotated[float, Parameter(name="--callback-loss")] = option(
        0.0, "The share of posts that are not sent, from 0 to 1."
    )
    duplicated: Annotated[float, Parameter(name="--callback-duplicates")] = option(
        0.0, "The share of posts that are sent twice."
    )
    forged: Annotated[float, Parameter(name="--callback-forgeries")] = option(
        0.0, "The share of tasks for which a stranger posts a success to a URL with a wrong token."
    )
    malformed: Annotated[float, Parameter(name="--callback-garbage")] = option(
        0.0, "The share of tasks for which a stranger posts a body that is not JSON to the right URL."
    )
    attempts: Annotated[int, Parameter(name="--callback-attempts")] = option(
        1, "How often a post is sent in all until the response is a 2xx."
    )


@frozen(kw_only=True)
class _FaultOptions:
    fault: Repeated = option(
        (),
        "A fault, as KIND:OPERATION:WHEN. Can be repeated. Kinds before anything is charged: "
        f"{', '.join(BEFORE)}. Kinds after a charge: {', '.join(AFTER)}; expired is for files. "
        "Operation: create, query or file. When: nth=3,5 or every=10 or share=0.1. Further values: "
        "status=, hint=, seconds=, size=. Examples: reset_after:create:share=0.1 and "
        "error:create:status=503:hint=2",
    )


#: Panels appear in the order of their creation.
_SERVICE, _RATE_LIMITS = panel("Service"), panel("Rate limits")


@frozen(kw_only=True)
class _EmulateOptions:
    host: str = option("127.0.0.1", "The address to listen on.")
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = option(
        8787, "The port to listen on. 0 takes a free one."
    )
    ledger: Path | None = option(
        None, "A file for the charges. An emulator that is started with it again continues its tasks."
    )
    service: Annotated[_ServiceOptions, _SERVICE] = field(factory=_ServiceOptions)
    limits: Annotated[_LimitOptions, _RATE_LIMITS] = field(factory=_LimitOptions)
    rejections: Annotated[_RejectionOptions, _RATE_LIMITS] = field(factory=_RejectionOptions)
    callbacks: Annotated[_CallbackOptions, panel("Callbacks")] = field(factory=_CallbackOptions)
    faults: Annotated[_FaultOptions, panel("Faults")] = field(factory=_FaultOptions)

    def emulator(self) -> Emulator:
        """Return the emulator, not yet started. Raises ValueError for options that contradict each other."""
        limits = self.limits
        settings = EmulatorSettings(
            **asdict(self.service),
            **asdict(self.rejections),
            creates=_limit("create", limits.create_limit, limits.create_rate, limits.create_burst),
            queries=_limit("query", limits.query_limit, limits.query_rate, limits.query_burst),
            callbacks=Callbacks(**asdict(self.callbacks)),
            faults=tuple(parse_fault(text) for text in self.faults.fault),
        )
        return Emulator(settings, host=self.host, port=self.port, ledger=self.ledger)


_DEFAULTS = _EmulateOptions()


async def emulate(*, options: Annotated[_EmulateOptions, Parameter(name="*")] = _DEFAULTS) -> int:
    """Serve an emulator until a signal, print what was charged and return the exit code."""
    unserved = options.emulator()
    try:
        # The signals first: one that comes while the socket opens ends this as cleanly as a later one.
        with _stop_signals() as stopped:
            async with unserved as emulator:
                print(_greeting(emulator), flush=True)  # noqa: T201
                await stopped.wait()
    except (OSError, ImportError, ValueError) as error:
        say(str(error))
        return SOME_FAILED
    print("\n".join(_charges(emulator.service)), flush=True)  # noqa: T201
    return DONE


@contextmanager
def _stop_signals() -> Iterator[anyio.Event]:
    """Yield an event that SIGINT and SIGTERM set, also on Windows, whose event loops receive no signals."""
    stopped, loop = anyio.Event(), asyncio.get_running_loop()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stopped.set)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _limit(name: str, text: str | None, rate: float | None, burst: int) -> Limit | None:
    if text is None:
        return TokenBucket(rate, burst) if rate else None
    if rate is not None:
        raise ValueError(f"give --{name}-limit or --{name}-rate, not both")
    return parse_limit(text, start=time.monotonic())  # the clock of the service


def _greeting(emulator: Emulator) -> str:
    return (
        f"The emulated service listens on {emulator.url} (Ctrl-C ends it). Point a client at it with:\n"
        f"  export RUXA_BASE_URL={emulator.url}\n"
        f"  export RUXA_API_KEY={emulator.key}"
    )


def _charges(service: Service) -> Iterator[str]:
    ledger, counts = service.ledger, service.counts
    yield f"Charged {ledger.charged} tasks for {ledger.credits_spent:g} credits."
    yield f"Saw {counts.creates} creates ({counts.creates_throttled} throttled)."
    yield f"Saw {counts.queries} queries ({counts.queries_throttled} throttled) and {counts.files} downloads."
    yield f"Faults struck {counts.faults} of them."
    if counts.callbacks:
        refused = f"of which {counts.callbacks_refused} were not answered by 2xx"
        yield f"Posted {counts.callbacks} callbacks, {refused}."
    duplicates = ledger.duplicates()
    if not duplicates:
        yield "Nothing was bought twice."
        return
    yield f"{len(duplicates)} requests were bought more than once:"
    for each in duplicates[:20]:
        yield f"  {len(each)} x {each[0].model}: {shortened(str(each[0].input['prompt']))}"
