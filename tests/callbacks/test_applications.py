"""The applications on real sockets: each gives the same responses to any sender."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import litestar
import pytest
import uvicorn
from aiohttp import ClientSession, web
from callbacks.test_receiver import DONE, JOB, Ear, job
from callbacks.wired import receiver_of
from fastapi import FastAPI
from quart import Quart
from starlette.applications import Starlette
from starlette.routing import Mount

from ruxa_async import CallbackReceiver

APPLICATIONS = (
    "serve",
    "aiohttp",
    "aiohttp mounted",
    "asgi",
    "asgi mounted",
    "starlette",
    "litestar",
    "quart",
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def on_aiohttp(app: web.Application) -> AsyncIterator[int]:
    runner = web.AppRunner(app, keepalive_timeout=2, lingering_time=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


class Quiet(uvicorn.Server):
    def install_signal_handlers(self) -> None: ...


@asynccontextmanager
async def on_uvicorn(app: Any) -> AsyncIterator[int]:
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1, lifespan="on")
    )
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield int(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        await task


def beside(prefix: str, callbacks: Any, rest: Any) -> Any:
    """Mount *callbacks* as docs/callbacks.md says it for Quart, which has no mounts of its own."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        ours = scope["type"] == "http" and scope["path"].startswith(f"{prefix}/")
        await (callbacks if ours else rest)(scope, receive, send)

    return app


@asynccontextmanager
async def served(
    application: str, receiver: CallbackReceiver, **options: Any
) -> AsyncIterator[tuple[int, str]]:
    """Serve *receiver*; give the port, and the prefix that stands before a token."""
    if application == "serve":
        async with receiver.serve("127.0.0.1", 0, **options) as (_, port):
            yield port, ""
    elif application == "aiohttp":
        async with on_aiohttp(receiver.aiohttp_app()) as port:
            yield port, ""
    elif application == "aiohttp mounted":
        outer = web.Application()
        outer.add_subapp("/deep/hooks", receiver.aiohttp_app())
        async with on_aiohttp(outer) as port:
            yield port, "/deep/hooks"
    elif application == "asgi":
        async with on_uvicorn(receiver.asgi_app()) as port:
            yield port, ""
    elif application == "starlette":
        async with on_uvicorn(Starlette(routes=[Mount("/deep/hooks", receiver.asgi_app())])) as port:
            yield port, "/deep/hooks"
    elif application == "litestar":
        mounted = litestar.asgi("/deep/hooks", is_mount=True, copy_scope=False)(receiver.asgi_app())
        async with on_uvicorn(litestar.Litestar([mounted], logging_config=None)) as port:
            yield port, "/deep/hooks"
    elif application == "quart":
        async with on_uvicorn(beside("/deep/hooks", receiver.asgi_app(), Quart(__name__))) as port:
            yield port, "/deep/hooks"
    else:
        fast = FastAPI()
        fast.mount("/deep/hooks", receiver.asgi_app())
        async with on_uvicorn(fast) as port:
            yield port, "/deep/hooks"


def listened(**options: Any) -> tuple[CallbackReceiver, Ear]:
    receiver, ear = receiver_of(**options), Ear()
    receiver.attach(ear)
    return receiver, ear


def token(receiver: CallbackReceiver, number: int = 0) -> str:
    return receiver.url(job(number)).rpartition("/")[2]


@pytest.mark.parametrize("application", APPLICATIONS)
async def test_every_application_gives_the_same_responses(
    application: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver, ear = listened(max_body=1_000)
    given = [token(receiver, number) for number in range(4)]
    async with served(application, receiver) as (port, prefix), ClientSession() as session:
        base = f"http://127.0.0.1:{port}{prefix}"

        async def ask(method: str, path: str, body: bytes = b"") -> int:
            async with session.request(method, base + path, data=body) as response:
                text = await response.read()
                assert response.content_type == "application/json" or method == "HEAD"
                assert not any(each.encode() in text for each in given)
                return response.status

        assert await ask("POST", f"/{given[0]}", DONE) == 200
        assert await ask("POST", f"/{given[0]}", DONE) == 200
        assert await ask("POST", f"/more/{given[1]}", b"garbage") == 200
        assert await ask("POST", f"/{given[0]}?a=b", DONE) == 200
        assert await ask("POST", f"/{given[0][::-1]}", DONE) == 401
        assert await ask("POST", "/", DONE) == 404
        assert await ask("POST", "/nowhere", DONE) == 404
        assert await ask("GET", f"/{given[0]}") == 405
        assert await ask("DELETE", f"/{given[0]}") == 405
        assert await ask("POST", f"/{given[2]}", b"x" * 1_001) == 413
    assert [callback.job for callback in ear.heard] == [job(0), job(1)]
    shown = caplog.text
    assert "200" in shown or application == "serve", "the servers' own logs are on"
    assert not any(each in shown or each[::-1] in shown for each in given)


@pytest.mark.parametrize("application", APPLICATIONS)
async def test_a_body_without_a_length_is_bounded_too(application: str) -> None:
    receiver, ear = listened(max_body=1_000)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100

    async with served(application, receiver) as (port, prefix), ClientSession() as session:
        url = f"http://127.0.0.1:{port}{prefix}/{token(receiver)}"
        async with session.post(url, data=pieces()) as response:
            assert response.status == 413
    assert not ear.heard


@pytest.mark.parametrize("application", APPLICATIONS)
async def test_a_body_that_stalls_is_cut_and_other_requests_are_served(application: str) -> None:
    receiver, ear = listened(body_timeout=0.3)
    async with served(application, receiver) as (port, prefix), ClientSession() as session:
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        for number, (_, writer) in enumerate(slow):
            head = f"POST {prefix}/{token(receiver, number)} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf"
            writer.write(head.encode())
        url = f"http://127.0.0.1:{port}{prefix}"
        for number in range(100, 120):
            async with session.post(f"{url}/{token(receiver, number)}", data=DONE) as response:
                assert response.status == 200
        for reader, writer in slow:
            async with asyncio.timeout(20):
                answer = await reader.read()
            assert b" 408 " in answer.split(b"\r\n")[0]
            writer.close()
    assert len(ear.heard) == 20


async def test_a_connection_with_an_incomplete_header_is_closed() -> None:
    receiver, ear = listened()
    async with receiver.serve("127.0.0.1", 0, header_timeout=0.5) as (host, port):
        silent = await asyncio.open_connection(host, port)
        half = await asyncio.open_connection(host, port)
        dripping = await asyncio.open_connection(host, port)
        half[1].write(b"POST /x HTTP/1.1\r\nHost:")

        async def drip() -> None:
            for letter in b"POST /x HTTP/1.1\r\nX-Long: " + b"x" * 10_000:
                dripping[1].write(bytes([letter]))
                await asyncio.sleep(0.05)

        dripper = asyncio.create_task(drip())
        async with ClientSession() as session:
            url = f"http://{host}:{port}/{token(receiver)}"
            async with session.post(url, data=DONE) as response:
                assert response.status == 200
        for reader, writer in (silent, half, dripping):
            async with asyncio.timeout(20):
                with suppress(ConnectionResetError):
                    assert await reader.read() == b""
            writer.close()
        dripper.cancel()
    assert len(ear.heard) == 1


@pytest.mark.parametrize("application", APPLICATIONS)
async def test_a_sender_that_hangs_up_does_not_disturb_the_next(application: str) -> None:
    receiver, ear = listened()
    async with served(application, receiver) as (port, prefix), ClientSession() as session:
        for number in range(10):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"POST {prefix}/{token(receiver, number)} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"
            writer.write(head.encode())
            await writer.drain()
            writer.transport.abort()
        async with session.post(
            f"http://127.0.0.1:{port}{prefix}/{token(receiver, 99)}", data=DONE
        ) as response:
            assert response.status == 200
    assert [callback.job for callback in ear.heard] == [job(99)]


async def test_a_forged_token_is_rejected_before_the_body_arrives() -> None:
    receiver, _ = listened()
    async with receiver.serve("127.0.0.1", 0) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"POST /{'x' * 43} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".encode())
        async with asyncio.timeout(20):
            assert b" 401 " in await reader.readline()
        writer.close()


async def test_an_address_in_use_raises() -> None:
    receiver, _ = listened()
    async with receiver.serve("127.0.0.1", 0) as (host, port):
        with pytest.raises(OSError, match="address already in use"):
            async with receiver.serve(host, port):
                pass


def test_this_module_runs_in_real_time() -> None:
    assert abs(receiver_of().wall() - time.time()) < 5
    assert job(0) == JOB
