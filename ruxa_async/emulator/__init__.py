"""The Ruxa service on your machine, with limits, failures and a ledger. It needs no account and no credits.

::

    async with Emulator(EmulatorSettings(speed=10)) as emulator:
        async with RuxaClient(api_key=emulator.key, base_url=emulator.url) as ruxa:
            ...
    assert emulator.service.ledger.duplicates() == []

For tests without sockets, in virtual time, pass a `Service` to `ruxa_async.transports.MemoryTransport`.
"""

from __future__ import annotations

from ._callbacks import CallbackPost
from ._dialects import DIALECTS, Dialect
from ._emulator import Emulator
from ._faults import AFTER, BEFORE, Fault, parse_fault
from ._http import ServiceReply, ServiceRequest
from ._ledger import Counts, Ledger, Purchase
from ._limit_state import Limiter
from ._limits import Changing, FixedWindow, LeakyBucket, Limit, Shape, SlidingWindow, TokenBucket, parse_limit
from ._outputs import Output
from ._rate_limit_headers import FalseRateLimitHeaders, RateLimitHeadersForm, RetryAfterForm
from ._service import Service, post_callbacks
from ._settings import CALLBACK_STYLES, Callbacks, CallbackStyle, Durations, EmulatorSettings

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
