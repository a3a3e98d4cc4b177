"""The service on a real socket, in real time, as a client sees it."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from PIL import Image
from yarl import URL

from ruxa_async.emulator import Durations, Emulator, EmulatorSettings, Fault
from ruxa_async.errors import MissingExtraError

CREATE = {"model": "google/nano-banana", "input": {"prompt": "a fox", "image_size": "16:9"}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": "Bearer sk-emulated"}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield session


def emulator_of(*faults: Fault, **settings: Any) -> Emulator:
    return Emulator(
        EmulatorSettings(image=Durations(0.001), video=Durations(0.001), faults=faults, **settings)
    )


async def _output(session: aiohttp.ClientSession, emulator: Emulator, **input_: str) -> tuple[str, bytes]:
    """Create a task, wait for it and return the content type and bytes of its output."""
    body = {**CREATE, "input": {**CREATE["input"], **input_}}  # type: ignore[dict-item]
    async with session.post(f"{emulator.url}/api/v1/tasks/create", json=body) as reply:
        task_id = (await reply.json())["data"]["taskId"]
    query = URL(f"{emulator.url}/api/v1/tasks/query/{quote(task_id, safe='')}", encoded=True)
    while True:
        async with session.get(query) as reply:
            data = (await reply.json())["data"]
        if data["state"] == "success":
            break
    url = json.loads(data["resultJson"])["resultUrls"][0]
    assert url.startswith(emulator.url)
    async with session.get(URL(url, encoded=True)) as reply:
        return reply.headers["content-type"], await reply.read()


@pytest.mark.parametrize("task_ids", ["plain", "awkward"])
async def test_a_picture_is_made_over_a_socket(session: aiohttp.ClientSession, task_ids: str) -> None:
    async with emulator_of(task_ids=task_ids) as emulator:
        kind, file = await _output(session, emulator)
    assert kind == "image/png"
    assert Image.open(io.BytesIO(file)).size == (512, 288)
    assert emulator.service.ledger.charged == 1


async def test_a_jpeg_is_a_jpeg(session: aiohttp.ClientSession) -> None:
    async with emulator_of() as emulator:
        kind, file = await _output(session, emulator, output_format="jpeg")
    assert (kind, Image.open(io.BytesIO(file)).format) == ("image/jpeg", "JPEG")


async def test_headers_of_a_refusal_arrive_once(session: aiohttp.ClientSession) -> None:
    async with emulator_of() as emulator:
        async with session.post(f"{emulator.url}/api/v1/tasks/create", data=b"{") as reply:
            assert (reply.status, reply.headers.getall("content-type")) == (422, ["application/json"])
        async with session.post(
            f"{emulator.url}/api/v1/tasks/create", headers={"Authorization": "x"}
        ) as reply:
            assert reply.status == 401


@pytest.mark.parametrize(
    ("kind", "error", "charged"),
    [
        ("refused", aiohttp.ClientOSError, 0),
        ("reset_before", aiohttp.ClientOSError, 0),
        ("reset_after", aiohttp.ClientOSError, 1),
        ("cut", aiohttp.ClientPayloadError, 1),
        ("stall_before", TimeoutError, 0),
        ("stall", TimeoutError, 1),
        ("slow", TimeoutError, 1),
    ],
)
async def test_faults_on_the_socket(
    session: aiohttp.ClientSession, kind: Any, error: type[Exception], charged: int
) -> None:
    async with emulator_of(Fault(kind, nth=(1,), seconds=100.0)) as emulator:
        url, timeout = f"{emulator.url}/api/v1/tasks/create", aiohttp.ClientTimeout(0.2)
        with pytest.raises(error):
            async with session.post(url, json=CREATE, timeout=timeout) as reply:
                await reply.read()
        assert emulator.service.ledger.charged == charged
        async with session.post(url, json=CREATE) as reply:
            assert reply.status == 200


async def test_replies_that_are_nonsense_arrive_as_they_are(session: aiohttp.ClientSession) -> None:
    garbage, html = Fault("garbage"), Fault("html", "file")
    async with emulator_of(garbage, html) as emulator:
        async with session.post(f"{emulator.url}/api/v1/tasks/create", json=CREATE) as reply:
            assert (reply.status, await reply.read()) == (200, b"\x00{not json \xff")
        async with session.get(f"{emulator.url}/files/x/0.png") as reply:
            assert (reply.status, reply.content_type) == (502, "text/html")


async def test_stalled_requests_do_not_hold_up_the_end(session: aiohttp.ClientSession) -> None:
    async with emulator_of(Fault("stall")) as emulator:
        waiting = asyncio.create_task(
            session.post(f"{emulator.url}/api/v1/tasks/create", json=CREATE).__aenter__()
        )
        while not emulator.service.ledger.charged:
            await asyncio.sleep(0.01)
    with pytest.raises(aiohttp.ClientError):
        await waiting


async def test_nothing_is_left_behind() -> None:
    emulator = emulator_of()
    async with emulator:
        assert any(thread.name == "ruxa-emulator" for thread in threading.enumerate())
        port = int(emulator.url.rpartition(":")[2])
    assert not any(thread.name == "ruxa-emulator" for thread in threading.enumerate())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    emulator.stop()
    assert repr(emulator) == "<Emulator not running>"


async def test_an_address_in_use_is_the_callers_error() -> None:
    async with emulator_of() as emulator:
        port = int(emulator.url.rpartition(":")[2])
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            await Emulator(port=port).__aenter__()
        with pytest.raises(RuntimeError, match="running already"):
            emulator.start()


async def test_a_failure_to_serve_is_the_callers_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*args: object) -> None:
        raise LookupError("no such loop")

    monkeypatch.setattr("ruxa_async.emulator._web.serve", broken)
    with pytest.raises(LookupError):
        async with Emulator():
            pass
    assert not any(thread.name == "ruxa-emulator" for thread in threading.enumerate())


async def test_without_pillow_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"ruxa-async\[emulator\]"):
        async with Emulator():
            pass


def test_before_the_start_it_says_how_to_start() -> None:
    for name in ("url", "service"):
        with pytest.raises(RuntimeError, match="async with"):
            getattr(Emulator(), name)
    assert Emulator(EmulatorSettings(key="sk-other")).key == "sk-other"


def test_importing_it_loads_neither_aiohttp_nor_pillow() -> None:
    code = "import sys, ruxa_async.emulator; print({'aiohttp', 'PIL', 'PIL.Image'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "set()\n"
    )


def test_it_runs_under_plain_code_and_beside_trio() -> None:
    import trio

    async def use() -> str:
        async with emulator_of() as emulator:
            stream = await trio.open_tcp_stream("127.0.0.1", int(emulator.url.rpartition(":")[2]))
            async with stream:
                await stream.send_all(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
                return (await stream.receive_some(12)).decode()

    assert trio.run(use) == "HTTP/1.1 404"


def test_plain_code_can_start_and_stop_it() -> None:
    emulator = emulator_of()
    emulator.start()
    try:
        assert emulator.service.settings.public_url == emulator.url
    finally:
        emulator.stop()
