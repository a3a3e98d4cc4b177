"""The part of the transport contract on cancellation: it passes, and nothing stays open."""

from __future__ import annotations

import itertools
from contextlib import suppress

import anyio
import pytest

from ruxa_async.errors import TransportError
from ruxa_async.transports import Transport

from . import _servers as servers
from ._asking import BIG, ContractBase, Send, is_cancel, request
from ._servers import Server, answering, reply, saying_then_silent, serving
from ._stepping import ASYNCIO_ONLY, MEANS, Stepped, interrupted, nothing_leaks

__all__ = ("CancelContract",)


class CancelContract(ContractBase):
    """Cancellations by every means and at every step."""

    @pytest.mark.parametrize("stage", ["connect", "handshake", "pool", "headers", "body", "request"])
    async def test_a_cancel_passes_and_the_pool_stays_whole(self, send: Send, stage: str) -> None:
        scripts = {
            "handshake": servers.silent_from_the_start,
            "headers": saying_then_silent(),
            "pool": saying_then_silent(),
            "body": saying_then_silent(reply(b"{", length=100)),
        }
        body = BIG if stage == "request" else b"{}"
        with (
            servers.never_accepting() as nowhere,
            serving(scripts.get(stage, saying_then_silent())) as silent,
            serving(answering(reply())) as good,
        ):
            async with self.make(pool_size=2) as transport:
                url = nowhere if stage == "connect" else silent.url
                if stage == "handshake":
                    url = url.replace("http:", "https:")
                ended: list[bool] = []

                async def run() -> None:
                    try:
                        await send(transport, request(url, body=body))
                    except BaseException as exc:
                        ended.append(is_cancel(exc))
                        raise

                count = 4 if stage == "pool" else 2
                async with anyio.create_task_group() as tg:
                    for _ in range(count):
                        tg.start_soon(run)
                    if stage in {"headers", "body", "pool"}:
                        await silent.seen(2)
                    await anyio.sleep(0.05)
                    tg.cancel_scope.cancel()
                assert ended == [True] * count
                await silent.left(silent.connections)
                await self.fills_its_pool(transport, good)

    async def fills_its_pool(self, transport: Transport, good: Server) -> None:
        """Check that two requests at once, all that the pool has, still get through."""
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tg:
                for _ in range(2):
                    tg.start_soon(transport.send, request(good.url))
        assert len(good.requests) == 2

    @pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
    @pytest.mark.parametrize("asleep", [True, False], ids=["asleep", "waking"])
    @pytest.mark.parametrize("means", MEANS)
    async def test_a_cancel_at_any_step_by_any_means_leaves_nothing_behind(
        self, send: Send, means: str, asleep: bool, warm: bool, anyio_backend_name: str
    ) -> None:
        if means in ASYNCIO_ONLY and anyio_backend_name != "asyncio":
            pytest.skip("there is no such thing on trio")
        with serving(answering(reply(b"x" * 70_000))) as server:
            for turn in itertools.count():
                async with nothing_leaks(server), self.make(pool_size=1) as transport:
                    if warm:
                        await transport.send(request(server.url))
                    stepped = Stepped(send(transport, request(server.url)), turn, asleep=asleep)
                    answer = await interrupted(means, stepped)
                    assert answer is None or len(answer.body) == 70_000
                    with anyio.fail_after(10):
                        assert len((await transport.send(request(server.url))).body) == 70_000
                if not stepped.acted:
                    break
        assert turn > 0

    async def test_its_own_deadline_at_any_moment_leaves_nothing_behind(self, send: Send) -> None:
        with serving(answering(reply(b"x" * 70_000))) as server:
            async with nothing_leaks(server), self.make(pool_size=1) as transport:
                for step in range(60):
                    with suppress(TransportError):
                        await send(transport, request(server.url, timeout=step * 0.0001))
                    assert (await transport.send(request(server.url))).status == 200

    async def test_a_timeout_of_the_caller_stays_its_own(self, send: Send) -> None:
        with serving(saying_then_silent()) as server:
            async with self.make() as transport:
                with anyio.move_on_after(0.1) as scope:
                    await send(transport, request(server.url))
                assert scope.cancelled_caught
