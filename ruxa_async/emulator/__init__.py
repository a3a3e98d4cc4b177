"""The Ruxa service in a box: behaves and misbehaves like the real one, with no key and no credits.

::

    async with Emulator(EmulatorSettings(speed=10)) as emulator:
        async with RuxaClient(api_key=emulator.key, base_url=emulator.url) as ruxa:
            ...
    assert emulator.service.ledger.duplicates() == []

For tests without sockets, in virtual time, give a `Service` to `ruxa_async.transports.MemoryTransport`.
"""

from __future__ import annotations

from ._callback_sender import post_callbacks
from ._callbacks import CALLBACK_STYLES, CallbackPost, Callbacks, CallbackStyle
from ._dialects import DIALECTS, Dialect
from ._emulator import Emulator
from ._faults import AFTER, BEFORE, Fault, parse_fault
from ._ledger import Counts, Ledger, Purchase
from ._limit_specs import parse_limit
from ._limiters import Limiter
from ._limits import Changing, FixedWindow, LeakyBucket, Limit, Shape, SlidingWindow, TokenBucket
from ._messages import Output, ServiceReply, ServiceRequest
from ._rate_limit_headers import FalseRateLimitHeaders, RateLimitHeadersForm, RetryAfterForm
from ._service import Service
from ._settings import Durations, EmulatorSettings

__all__ = (
    "AFTER",
    "BEFORE",
    "CALLBACK_STYLES",
    "DIALECTS",
    "CallbackPost",
    "CallbackStyle",
    "Callbacks",
    "Changing",
    "Counts",
    "Dialect",
    "Durations",
    "Emulator",
    "EmulatorSettings",
    "FalseRateLimitHeaders",
    "Fault",
    "FixedWindow",
    "LeakyBucket",
    "Ledger",
    "Limit",
    "Limiter",
    "Output",
    "Purchase",
    "RateLimitHeadersForm",
    "RetryAfterForm",
    "Service",
    "ServiceReply",
    "ServiceRequest",
    "Shape",
    "SlidingWindow",
    "TokenBucket",
    "parse_fault",
    "parse_limit",
    "post_callbacks",
)
