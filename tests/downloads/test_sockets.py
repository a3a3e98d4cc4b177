"""Downloads over real sockets, on each transport: interruptions, redirects, private addresses, slow bodies."""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
from collections.abc import Callable
from contextlib import ExitStack, aclosing
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from attrs import evolve
from transports.test_addresses import SPELLINGS

from ruxa_async import DownloadError, Downloads, Generation, NotSentError, RuxaClient
from ruxa_async.downloads import Downloader
from ruxa_async.testing._servers import Peer, Script, Server, answering, reply, serving
from ruxa_async.transports import AiohttpTransport, Httpx2Transport, Request
from ruxa_async.transports import _addresses as addresses

KEY = "sk-canary-0123456789"
PNG = b"\x89PNG\r\n\x1a\n"
CONTENT = PNG + random.Random(6).randbytes(1_000_000)
#: A service that is elsewhere, so that loopback is nothing of ours.
ELSEWHERE = "https://api.ruxa.ai"

Make = Callable[[], Any]


@pytest.fixture(params=["aiohttp", "httpx2-asyncio", "httpx2-trio"])
def stack(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend(stack: str) -> str:
    return "trio" if stack == "httpx2-trio" else "asyncio"


@pytest.fixture
def make(stack: str) -> Make:
    return AiohttpTransport if stack == "aiohttp" else Httpx2Transport


async def save(make: Make, url: str, folder: Path, home: str, **options: Any) -> list[Path]:
    options.setdefault("pauses", (0, 0, 0))
    async with aclosing(make()) as transport:
        loader = Downloader(transport=transport, home=home, connect_timeout=2.0, **options)
        return await loader.save(Generation(task_id="t", model=None, urls=(url,)), folder)


def part(head: str) -> int:
    found = re.search(r"\r\nrange: bytes=(\d+)-\r\n", head, re.IGNORECASE)
    return int(found[1]) if found else 0


def cutting(chance: random.Random, cuts: int, *, ranges: bool = True, changing: bool = False) -> Script:
    """Serve `CONTENT` and break off *cuts* times, each time somewhere else and in one of three ways."""
    left = cuts

    async def script(peer: Peer) -> None:
        nonlocal left
        await peer.request()
        first = part(peer.server.requests[-1]) if ranges else 0
        body = CONTENT[first:]
        etag = f'"{left}"' if changing else '"one"'
        headers = f"ETag: {etag}\r\nContent-Type: image/png\r\n"
        status = "200 OK"
        if first and f"If-Range: {etag}".lower() in peer.server.requests[-1].lower():
            status = "206 Partial Content"
            headers += f"Content-Range: bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}\r\n"
        else:
            body = CONTENT
        if not left:
            await peer.say(reply(body, status, headers))
            return
        left -= 1
        cut = min(chance.randrange(5000, 30_000), len(body) - 1)
        await peer.say(reply(body[:cut], status, headers, length=len(body)))
        if chance.random() < 0.3:
            peer.reset()

    return script


async def test_fifty_random_cuts_leave_the_same_bytes(make: Make, tmp_path: Path) -> None:
    with serving(cutting(random.Random(50), 50)) as server:
        (path,) = await save(make, f"{server.url}/x", tmp_path, server.url)
    assert path.read_bytes() == CONTENT
    assert len(server.requests) >= 51
    # It went on where it was: what was asked for again is less than what was cut off unseen.
    asked = [part(head) for head in server.requests]
    assert asked == sorted(asked)
    assert [each.name for each in tmp_path.iterdir()] == ["t.png"]


@pytest.mark.parametrize("options", [{"ranges": False}, {"changing": True}])
async def test_a_transfer_that_cannot_be_resumed_starts_over(
    make: Make, tmp_path: Path, options: dict[str, bool]
) -> None:
    with serving(cutting(random.Random(3), 3, **options)) as server:
        (path,) = await save(make, f"{server.url}/x", tmp_path, server.url)
    assert path.read_bytes() == CONTENT


async def test_a_slow_body_is_cut_off(make: Make, tmp_path: Path) -> None:
    async def dripping(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", PNG)
        while not peer.reader.at_eof():
            await peer.say(b".")
            await asyncio.sleep(0.1)

    with (
        serving(dripping) as server,
        pytest.raises(DownloadError, match=r"less than 1,024 bytes a second came for 0.3 s \(2 attempts\)"),
    ):
        await save(make, f"{server.url}/x", tmp_path, server.url, window=0.3, pauses=(0,))
    assert [*tmp_path.iterdir()] == []


def hops(chance: random.Random, hosts: list[str], chains: int) -> dict[str, str]:
    """Return where each path leads: chains of up to five redirects between *hosts*, which end in a picture."""
    leads: dict[str, str] = {}
    for chain in range(chains):
        length = chance.randrange(1, 6)
        for step in range(length):
            there = f"/c{chain}/{step + 1}" if step + 1 < length else f"/c{chain}/picture"
            host = chance.choice(hosts)
            spelling = chance.choice(
                ["{url}{there}", "//{bare}{there}", "{there}", "http://user:pw@{bare}{there}"]
            )
            leads[f"/c{chain}/{step}"] = spelling.format(
                url=host, bare=host.removeprefix("http://"), there=there
            )
    return leads


async def test_a_hundred_chains_of_redirects_never_carry_the_key(make: Make) -> None:
    chance, chains = random.Random(100), 100
    leads: dict[str, str] = {}

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            target = peer.server.requests[-1].split(" ")[1]
            if target in leads:
                status = chance.choice(["301 a", "302 b", "303 c", "307 d", "308 e"])
                await peer.say(reply(b"", status, f"Location: {leads[target]}\r\nSet-Cookie: a=b\r\n"))
            elif target.endswith("/picture"):
                await peer.say(reply(PNG + target.encode()))
            else:
                urls = [f"{peer.server.url}/c{chain}/0" for chain in range(chains)]
                data = {"state": "success", "taskId": "t", "resultJson": json.dumps({"resultUrls": urls})}
                await peer.say(reply(json.dumps({"code": 200, "data": data}).encode()))

    with ExitStack() as opened:
        service, *others = (opened.enter_context(serving(script)) for _ in range(4))
        leads |= hops(chance, [each.url for each in (service, *others)], chains)
        async with RuxaClient(api_key=KEY, base_url=service.url, transport=make()) as ruxa:
            made = await ruxa.attach("t").result()
            assert await made.read() == [PNG + f"/c{chain}/picture".encode() for chain in range(chains)]
    assert sum(len(other.requests) for other in others) > 100
    for other in others:
        assert not any(KEY in head or "cookie" in head.lower() for head in other.requests)
    with_key = [head for head in service.requests if KEY in head]
    assert len(with_key) == 1
    assert "/api/" in with_key[0].split(" ")[1]


@pytest.fixture
def listening() -> Any:
    with serving(answering(reply(PNG))) as server:
        yield server


async def test_no_private_address_is_connected_to_however_it_is_spelled(
    make: Make, tmp_path: Path, listening: Server
) -> None:
    port = listening.url.rpartition(":")[2]
    refused = 0
    async with aclosing(make()) as transport:
        loader = Downloader(transport=transport, home=ELSEWHERE, connect_timeout=2.0, pauses=())
        for spelling in SPELLINGS:
            host = f"[{spelling}]" if ":" in spelling else spelling
            made = Generation(task_id="t", model=None, urls=(f"http://{host}:{port}/x",))
            with pytest.raises(DownloadError) as caught:
                await loader.save(made, tmp_path)
            refused += "not public" in str(caught.value)
    assert listening.connections == 0
    # A library may take some spellings for no address at all, and then there is nothing to refuse.
    assert refused >= 60
    assert [*tmp_path.iterdir()] == []


async def test_a_redirect_to_a_private_address_is_rejected(
    make: Make, tmp_path: Path, listening: Server
) -> None:
    away = reply(b"", "302 Found", f"Location: {listening.url.replace('127.0.0.1', '0.0.0.0')}/x\r\n")
    with serving(answering(away)) as server:
        # The service may be on this host, but not what it leads to under another name.
        with pytest.raises(DownloadError, match="not public"):
            await save(make, f"{server.url}/x", tmp_path, server.url)
        assert listening.connections == 0
        allowed = Downloads(allow_private=True)
        assert await save(make, f"{server.url}/x", tmp_path, ELSEWHERE, settings=allowed)
    assert listening.connections == 1


async def test_a_connection_that_may_go_anywhere_serves_no_request_for_public_addresses(
    make: Make, listening: Server
) -> None:
    async with aclosing(make()) as transport:
        asked = Request(method="GET", url=f"{listening.url}/x")
        assert (await transport.send(asked)).status == 200
        with pytest.raises(NotSentError) as caught:
            await transport.send(evolve(asked, public_only=True))
        assert isinstance(caught.value.__cause__, addresses.PrivateAddressError)
    assert len(listening.requests) == 1


@pytest.mark.parametrize("stack", ["aiohttp"], indirect=True)
async def test_a_supplied_session_is_not_used_for_public_addresses(listening: Server) -> None:
    async with ClientSession(headers={"X-Secret": "of the user"}) as session:
        async with aclosing(AiohttpTransport(session)) as transport:
            asked = Request(method="GET", url=f"{listening.url}/x")
            assert (await transport.send(asked)).status == 200
            with pytest.raises(NotSentError):
                await transport.send(evolve(asked, public_only=True))
        assert not session.closed
    assert len(listening.requests) == 1


Answers = list[list[str]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Let 127.0.0.1 be public and 127.0.0.2 not, and files.example lead to these, another answer each time."""
    answers: Answers = []
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in ("files.example", b"files.example"):
            return real(host, *args, **kwargs)
        answer = answers.pop(0)
        return [info for address in answer for info in real(address, args[0], type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(addresses, "_NOT_PUBLIC_4", (IPv4Network("127.0.0.2"),))
    return answers


@pytest.mark.parametrize(
    ("answers", "fetched"),
    [
        ([["127.0.0.1"], ["127.0.0.2"]], True),  # looked up once: what is checked is what is connected to
        ([["127.0.0.2"], ["127.0.0.1"]], False),
        ([["127.0.0.2", "127.0.0.1"]], True),  # one of two will do, if it is the public one
        ([["127.0.0.2", "127.0.0.2"]], False),
        ([["127.0.0.3", "127.0.0.2", "127.0.0.1"]], True),  # nobody listens at the first
    ],
)
async def test_a_name_whose_address_becomes_private_is_rejected(
    make: Make, tmp_path: Path, names: Answers, answers: Answers, fetched: bool
) -> None:
    names += answers
    with serving(answering(reply(PNG))) as public, socket.socket() as private:
        port = int(public.url.rpartition(":")[2])
        private.bind(("127.0.0.2", port))
        private.listen()
        private.setblocking(False)
        url = f"http://files.example:{port}/x"
        if fetched:
            assert len(await save(make, url, tmp_path, ELSEWHERE, pauses=())) == 1
        else:
            with pytest.raises(DownloadError, match="not public"):
                await save(make, url, tmp_path, ELSEWHERE, pauses=())
        assert public.connections == fetched
        with pytest.raises(BlockingIOError):
            private.accept()
