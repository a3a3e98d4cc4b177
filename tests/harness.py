"""Shared by tests of the client: a client and an emulated service, connected in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ruxa_async import NanoBanana, Polling, RuxaClient
from ruxa_async.emulator import Durations, EmulatorSettings, Service
from ruxa_async.sync import RuxaClient as SyncClient
from ruxa_async.transports import MemoryTransport

KEY = "sk-canary-0123456789"
URL = "http://localhost"


def service_of(**settings: Any) -> Service:
    """Return a service on which every task takes exactly ten seconds by default."""
    settings.setdefault("image", Durations(10.0, 0.0))
    return Service(EmulatorSettings(key=KEY, **settings))


def client_of(service: Any, **options: Any) -> RuxaClient:
    """Return a client of *service*, a `Service` or a plain handler."""
    return RuxaClient(**client_options(service), **options)


def client_options(service: Any) -> dict[str, Any]:
    """Return what connects a client, with or without async, to *service* in memory."""
    return {"api_key": KEY, "base_url": URL, "transport": MemoryTransport(service)}


def sync_client_of(service: Any, **options: Any) -> SyncClient:
    """Return a client without async. It runs in real time, so it polls often."""
    return SyncClient(**client_options(service), polling=Polling(min_interval=0.01), **options)


def prompts(count: int, prefix: str = "prompt") -> Iterable[NanoBanana]:
    return (NanoBanana(prompt=f"{prefix} {n}", key=f"{prefix}-{n}") for n in range(count))
