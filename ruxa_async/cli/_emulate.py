"""``ruxa-async emulate``: serve an emulator of the service."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
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

from ._options import Flag, panel
from ._runtime import DONE, SOME_FAILED, say
from ._text import shortened

__all__ = ("emulate",)


@frozen(kw_only=True)
class _ServiceOptions:
    """Fields of `EmulatorSettings`."""

    key: Annotated[str, Parameter(help="The API key that is accepted.")] = "sk-emulated"
    credits: Annotated[
        float, Parameter(show_default=False, help="The credits of the account. Default: unlimited.")
    ] = float("inf")
    speed: Annotated[float, Parameter(help="The speed of tasks, in multiples of the real service.")] = 1.0
    fail_share: Annotated[float, Parameter(help="The share of tasks that fail, from 0 to 1.")] = 0.0
    latency: Annotated[float, Parameter(help="Seconds before each reply.")] = 0.0
    seed: Annotated[int, Parameter(help="The seed of all random draws.")] = 0
    dialect: Annotated[
        str,
        Parameter(
            help="The format of the replies: documented; with credits and times (detailed); as in the blog, "
            "in similar services and in relays; with errors as HTML or text codes; with tasks that are not "
            f"found at first (grace); with the outputs under another name. Choices: {', '.join(DIALECTS)}."
        ),
    ] = "documented"


@frozen(kw_only=True)
class _RejectionOptions:
    """Fields of `EmulatorSettings`."""

    shared: Annotated[Flag, Parameter(help="Apply the limit of creates to creates and queries together.")] = (
        False
    )
    max_running: Annotated[
        int | None, Parameter(help="The number of tasks that may run at once. Default: unlimited.")
    ] = None
    retry_after: Annotated[
        RetryAfterForm, Parameter(help="The form in which a rejection names the time to wait.")
    ] = "seconds"
    rate_limit_headers: Annotated[
        RateLimitHeadersForm,
        Parameter(help="The headers in which each reply states what remains of the limit."),
    ] = "none"
    false_rate_limit_headers: Annotated[
        FalseRateLimitHeaders, Parameter(help="The false values that these headers state.")
    ] = "none"


@frozen(kw_only=True)
class _LimitOptions:
    create_rate: Annotated[
        float | None, Parameter(help="Creates per second that are accepted. Default: unlimited.")
    ] = None
    create_burst: Annotated[int, Parameter(help="Creates that are accepted back to back.")] = 10
    query_rate: Annotated[
        float | None, Parameter(help="Queries per second that are accepted. Default: unlimited.")
    ] = None
    query_burst: Annotated[int, Parameter(help="Queries that are accepted back to back.")] = 10
    create_limit: Annotated[
        str | None,
        Parameter(
            help="A limit of another shape, instead of --create-rate: token:rate=2,burst=20 or "
            "leaky:rate=2,burst=20 (as in nginx: burst more than one back to back) or "
            "sliding:count=20,per=10 or fixed:count=20,per=10,phase=0 (windows; times in seconds). A limit "
            "that changes after 30 seconds: token:rate=50,burst=10@30=token:rate=25,burst=10"
        ),
    ] = None
    query_limit: Annotated[str | None, Parameter(help="The same for queries, instead of --query-rate.")] = (
        None
    )


@frozen(kw_only=True)
class _CallbackOptions:
    """Fields of `Callbacks`."""

    style: Annotated[
        CallbackStyle,
        Parameter(
            name="--callback-style",
            help="The body of the post to the callback URL of a task that ended: the reply of a query, the "
            "same in the form of a similar service, flat fields with or without the task id, an envelope "
            "without it, the task id alone, nothing, or all of them in turn.",
        ),
    ] = "query"
    delay: Annotated[
        float, Parameter(name="--callback-delay", help="Seconds from the end of a task to its post.")
    ] = 0.0
    spread: Annotated[
        float,
        Parameter(
            name="--callback-spread",
            help="The most seconds of a random delay in addition, so that posts arrive out of order.",
        ),
    ] = 0.0
    lost: Annotated[
        float, Parameter(name="--callback-loss", help="The share of posts that are not sent, from 0 to 1.")
    ] = 0.0
    duplicated: Annotated[
        float, Parameter(name="--callback-duplicates", help="The share of posts that are sent twice.")
    ] = 0.0
    forged: Annotated[
        float,
        Parameter(
            name="--callback-forgeries",
            help="The share of tasks for which a stranger posts a success to a URL with a wrong token.",
        ),
    ] = 0.0
    malformed: Annotated[
        float,
        Parameter(
            name="--callback-garbage",
            help="The share of tasks for which a stranger posts a body that is not JSON to the right URL.",
        ),
    ] = 0.0
    attempts: Annotated[
        int,
        Parameter(
            name="--callback-attempts", help="How often a post is sent in all until the response is a 2xx."
        ),
    ] = 1


@frozen(kw_only=True)
class _FaultOptions:
    fault: Annotated[
        tuple[str, ...],
        Parameter(
            show_default=False,
            help="A fault, as KIND:OPERATION:WHEN. Can be repeated. Kinds before anything is charged: "
            f"{', '.join(BEFORE)}. Kinds after a charge: {', '.join(AFTER)}; expired is for files. "
            "Operation: create, query or file. When: nth=3,5 or every=10 or share=0.1. Further values: "
            "status=, hint=, seconds=, size=. Examples: reset_after:create:share=0.1 and "
            "error:create:status=503:hint=2",
        ),
    ] = ()


_SERVICE = panel("Service")
_RATE_LIMITS = panel("Rate limits")


@frozen(kw_only=True)
class _EmulateOptions:
    host: Annotated[str, Parameter(help="The address to listen on.")] = "127.0.0.1"
    port: Annotated[
        int, Parameter(validator=Number(gte=0, lte=65535), help="The port to listen on. 0 takes a free one.")
    ] = 8787
    ledger: Annotated[
        Path | None,
        Parameter(
            help="A file for the charges. An emulator that is started with it again continues its tasks."
        ),
    ] = None
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
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with unserved as emulator:
                print(_greeting(emulator), flush=True)  # noqa: T201
                await anext(aiter(signals))
    except (OSError, ImportError, ValueError) as error:
        say(str(error))
        return SOME_FAILED
    print("\n".join(_charges(emulator.service)), flush=True)  # noqa: T201
    return DONE


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
