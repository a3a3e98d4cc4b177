"""Tests of your own code without an account: fixtures for pytest, virtual time, a contract for transports.

The pytest plugin is active as soon as this package is installed. It gives the fixtures ``ruxa``,
``ruxa_service`` and ``ruxa_emulator``, and the markers ``ruxa`` and ``ruxa_virtual_time``; docs/testing.md
explains them. ::

    @pytest.mark.anyio
    async def test_a_prompt_is_bought_once(ruxa, ruxa_service):
        await ruxa.generate(NanoBanana(prompt="a fox"))
        assert ruxa_service.ledger.charged == 1

Each name imports its module when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ruxa_async._internal.lazy import lazy_names

if TYPE_CHECKING:
    from ._client import memory_client
    from ._transport_contract import TransportContract
    from ._virtual_time import AutojumpEventLoop, virtual_time

__all__ = ("AutojumpEventLoop", "TransportContract", "memory_client", "virtual_time")

__getattr__: Callable[[str], object] = lazy_names(
    __name__,
    {
        "_client": "memory_client",
        "_transport_contract": "TransportContract",
        "_virtual_time": "AutojumpEventLoop virtual_time",
    },
)
