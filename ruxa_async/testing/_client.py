"""A client and an emulated service in one process, without sockets."""

from __future__ import annotations

from typing import Any

from ruxa_async import Polling, RuxaClient
from ruxa_async.emulator import Durations, EmulatorSettings, Service
from ruxa_async.transports import MemoryTransport

__all__ = ("QUICK", "memory_client", "quick_settings")

#: Loopback, so that RUXA_ALLOW_REQUESTS=0 and plain http are no obstacle. Nothing listens there.
_URL = "http://localhost"
#: Settings under which a test in real time takes milliseconds.
QUICK: dict[str, Any] = {"image": Durations(0.05), "video": Durations(0.1)}


def quick_settings(**settings: Any) -> EmulatorSettings:
    """Return *settings* of an emulated service whose images take 0.05 s and videos 0.1 s by default."""
    return EmulatorSettings(**(QUICK | settings))


def memory_client(service: Service, **options: Any) -> RuxaClient:
    """Return a client of *service* in this process; *options* are those of `RuxaClient`.

    It sends nothing over the network. It polls every 0.01 s at most often, unless *options* has ``polling``.
    """
    options.setdefault("polling", Polling(min_interval=0.01))
    return RuxaClient(
        api_key=service.settings.key, base_url=_URL, transport=MemoryTransport(service), **options
    )
