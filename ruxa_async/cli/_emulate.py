"""``ruxa-async emulate``: the service in a box, on a port."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import anyio
from cyclopts import Parameter
from cyclopts.validators import Number

from ruxa_async.emulator import (
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

__all__ = ("emulate",)

_DialectName = Literal[
    "documented",
    "detailed",
    "blog",
    "sibling",
    "apixo",
    "snake",
    "upper",
    "bare",
    "relay",
    "openai",
    "html_errors",
    "text_codes",
    "grace_404",
    "grace_422",
    "object",
    "double",
    "snake_object",
    "flat",
    "video_url",
    "image_url",
    "resultUrl",
    "result_url",
]


async def emulate(
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 8787,
    speed: float = 1.0,
    create_rate: float | None = None,
    create_burst: int = 10,
    query_rate: float | None = None,
    query_burst: int = 10,
    create_limit: str | None = None,
    query_limit: str | None = None,
    shared: bool = False,
    max_running: int | None = None,
    retry_after: RetryAfterForm = "seconds",
    rate_limit_headers: RateLimitHeadersForm = "none",
    false_rate_limit_headers: FalseRateLimitHeaders = "none",
    dialect: _DialectName = "documented",
    fail_share: float = 0.0,
    callback_style: CallbackStyle = "query",
    callback_delay: float = 0.0,
    callback_spread: float = 0.0,
    callback_loss: float = 0.0,
    callback_duplicates: float = 0.0,
    callback_forgeries: float = 0.0,
    callback_garbage: float = 0.0,
    callback_attempts: int = 1,
    fault: Annotated[list[str] | None, Parameter(negative=())] = None,
    credits: float = float("inf"),  # noqa: A002 - the option is named as the service names it
    key: str = "sk-emulated",
    seed: int = 0,
    latency: float = 0.0,
    ledger: Path | None = None,
) -> int:
    """Run the service in a box: its API on this machine, with no account and no real credits.

    Generated files are real pictures that show their prompt. It runs until Ctrl-C, then says what was
    charged.

    Parameters
    ----------
    host
        Address to listen on.
    port
        Port to listen on; 0 takes a free one.
    speed
        How many times faster than the real service tasks are done.
    create_rate
        Creates a second that are let in; the default is any number.
    create_burst
        Creates that are let in at once.
    query_rate
        Queries a second that are let in; the default is any number.
    query_burst
        Queries that are let in at once.
    create_limit
        A limit of another shape for creates, instead of their rate: token:rate=2,burst=20,
        leaky:rate=2,burst=20 (as nginx: burst more than one at once), sliding:count=20,per=10 or
        fixed:count=20,per=10,phase=0 (windows in seconds from the start). One that changes, here 30 seconds
        after the start:
        token:rate=50,burst=10@30=token:rate=25,burst=10
    query_limit
        The same for queries.
    shared
        Let the limit of creates stand for creates and queries together.
    max_running
        Tasks that may run at once; the default is any number.
    retry_after
        How a refusal says when to come back.
    rate_limit_headers
        How every reply says what is left of the limit.
    false_rate_limit_headers
        What these fields say instead of the truth.
    dialect
        How the service spells its replies: as documented, the same with credits and times (detailed), as
        the blog, siblings and relays do, with errors as HTML or text codes, with tasks that are not
        there at once (grace), or with the outputs under another name.
    fail_share
        Part of the tasks that fail, from 0 to 1.
    callback_style
        What is posted to the callback address of a task that ended: the reply of a query, the same as the
        sibling of the service writes it, flat fields with or without the id, an envelope without it, the id
        alone, nothing, or a mix.
    callback_delay
        Seconds from the end of a task to that post.
    callback_spread
        A random delay of up to this many seconds more, so that posts arrive out of order.
    callback_loss
        Part of these posts that are never made, from 0 to 1.
    callback_duplicates
        Part of them that are made twice.
    callback_forgeries
        Part of the tasks for which somebody else posts a success to an address with a wrong token.
    callback_garbage
        Part of the tasks to whose true address somebody posts what is no JSON.
    callback_attempts
        How often a post is made in all until it is answered by 2xx.
    fault
        Something that goes wrong, as kind:operation:when; repeat the option for more. Kinds before anything
        is charged: refused, reset_before, stall_before, error, html, redirect, slow; after it: reset_after,
        stall, cut, drip, error_after, garbage, empty, no_id, wrong_types, truncated, duplicate,
        duplicate_keys, oversized; for files: expired. The operation is create, query or file; when is nth=3,5
        or every=10 or share=0.1; status=, hint=, seconds= and size= say more. Examples:
        reset_after:create:share=0.1 and error:create:status=503:hint=2
    credits
        What the account holds; the default never ends.
    key
        The API key that is let in.
    seed
        Decides every draw.
    latency
        Seconds before each reply.
    ledger
        A file that keeps what was charged: started again with it, the emulator goes on with its tasks.

    """
    try:
        settings = EmulatorSettings(
            speed=speed,
            creates=_limit("create", create_limit, create_rate, create_burst),
            queries=_limit("query", query_limit, query_rate, query_burst),
            shared=shared,
            max_running=max_running,
            retry_after=retry_after,
            rate_limit_headers=rate_limit_headers,
            false_rate_limit_headers=false_rate_limit_headers,
            dialect=dialect,
            fail_share=fail_share,
            callbacks=Callbacks(
                style=callback_style,
                delay=callback_delay,
                spread=callback_spread,
                lost=callback_loss,
                duplicated=callback_duplicates,
                forged=callback_forgeries,
                malformed=callback_garbage,
                attempts=callback_attempts,
            ),
            faults=tuple(parse_fault(text) for text in fault or ()),
            credits=credits,
            key=key,
            seed=seed,
            latency=latency,
        )
    except ValueError as error:
        print(f"ruxa-async emulate: {error}", file=sys.stderr)  # noqa: T201 - the command's own output
        return 2
    return await _run(Emulator(settings, host=host, port=port, ledger=ledger))


def _limit(name: str, text: str | None, rate: float | None, burst: int) -> Limit | None:
    if text is None:
        return TokenBucket(rate, burst) if rate else None
    if rate is not None:
        raise ValueError(f"give --{name}-limit or --{name}-rate, not both")
    return parse_limit(text, start=time.monotonic())  # the clock of the service


async def _run(unserved: Emulator) -> int:
    try:
        # The signals first: one that comes while the socket opens must end this as cleanly as a later one.
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with unserved as emulator:
                print(_greeting(emulator), flush=True)  # noqa: T201
                await anext(aiter(signals))
    except (OSError, ImportError, ValueError) as error:
        print(f"ruxa-async emulate: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(_summary(emulator.service), flush=True)  # noqa: T201
    return 0


def _greeting(emulator: Emulator) -> str:
    return "\n".join(
        (
            f"The emulated service listens on {emulator.url} (Ctrl-C ends it). Point a client at it with:",
            f"  export RUXA_BASE_URL={emulator.url}",
            f"  export RUXA_API_KEY={emulator.key}",
        )
    )


def _summary(service: Service) -> str:
    ledger, counts = service.ledger, service.counts
    lines = [
        f"Charged {ledger.charged} tasks for {ledger.credits_spent:g} credits.",
        f"Saw {counts.creates} creates ({counts.creates_throttled} throttled).",
        f"Saw {counts.queries} queries ({counts.queries_throttled} throttled) and {counts.files} downloads.",
        f"Faults struck {counts.faults} of them.",
    ]
    if counts.callbacks:
        lines.append(
            f"Posted {counts.callbacks} callbacks, of which {counts.callbacks_refused} were not answered by "
            "2xx."
        )
    doubled = ledger.duplicates()
    if not doubled:
        return "\n".join([*lines, "Nothing was bought twice."])
    lines.append(f"{len(doubled)} requests were bought more than once:")
    lines += [
        f"  {len(each)} x {each[0].model}: {str(each[0].input['prompt'])[:60]}" for each in doubled[:20]
    ]
    return "\n".join(lines)
