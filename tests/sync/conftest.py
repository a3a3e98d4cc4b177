"""A client without async lives in a thread of its own, so these tests run in real time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import service_of, sync_client_of

from ruxa_async.emulator import Durations, Service
from ruxa_async.sync import RuxaClient


@pytest.fixture
def service() -> Service:
    return service_of(image=Durations(0.02, 0.0))


@pytest.fixture
def ruxa(service: Service) -> Iterator[RuxaClient]:
    with sync_client_of(service) as ruxa:
        yield ruxa
