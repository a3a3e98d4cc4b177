"""Hostile downloads do not fill the memory: measured in a process of its own, on each transport."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from functools import cache
from pathlib import Path

import pytest

from ruxa_async.testing._servers import Peer, Script, reply, serving

MEBIBYTE = 1 << 20
#: The size of the decompressed bomb, in MiB.
BOMB = 256
PNG = b"\x89PNG\r\n\x1a\n"

#: Fetches each address to disk and to memory, and prints by how many MiB the process grew at most, and the
#: errors.
CLIENT = """
import json, resource, sys
from contextlib import aclosing
from pathlib import Path
import anyio
from ruxa_async import DownloadError, Downloads, Generation
from ruxa_async.downloads import Downloader
from ruxa_async.transports import AiohttpTransport, Httpx2Transport

async def main(stack, folder, good, *urls):
    errors = []
    async with aclosing(AiohttpTransport() if stack == "aiohttp" else Httpx2Transport()) as transport:
        loader = Downloader(transport=transport, settings=Downloads(max_bytes=64 << 20), home=good, pauses=())
        def of(url): return Generation(task_id="t", model=None, urls=(url,))
        await loader.save(of(good), folder)
        await loader.read(of(good))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for url in urls:
            for work in (loader.save(of(url), folder), loader.read(of(url))):
                try:
                    await work
                    errors.append(None)
                except DownloadError as error:
                    errors.append(error.message)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps([grown, errors]))

anyio.run(main, *sys.argv[1:], backend="trio" if sys.argv[1] == "trio" else "asyncio")
"""


@cache
def bomb() -> bytes:
    """Return 256 MiB of zeros as gzip, in less than a mebibyte."""
    packer = zlib.compressobj(9, wbits=-15)
    zeros = bytes(MEBIBYTE)
    # Blocks that refer to nothing before them can be repeated.
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(BOMB):
        checksum = zlib.crc32(zeros, checksum)
    end = packer.flush() + checksum.to_bytes(4, "little") + (BOMB * MEBIBYTE).to_bytes(4, "little")
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block * BOMB + end


def test_the_bomb_expands_a_thousandfold() -> None:
    unpacker, size, packed = zlib.decompressobj(wbits=31), 0, bomb()
    assert len(packed) < BOMB * MEBIBYTE / 500
    while not unpacker.eof:
        size += len(unpacker.decompress(packed, 16 * MEBIBYTE))
        packed = unpacker.unconsumed_tail
    assert size == BOMB * MEBIBYTE


def hostile() -> Script:
    packed = bomb()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            match peer.server.requests[-1].split(" ")[1]:
                case "/good":
                    await peer.say(reply(PNG + bytes(2 * MEBIBYTE)))
                case "/bomb":
                    await peer.say(
                        reply(packed, headers="Content-Encoding: gzip\r\nContent-Type: image/png\r\n")
                    )
                case "/hidden":
                    await peer.say(reply(packed, headers="Content-Type: image/png\r\n"))
                case "/large":
                    await peer.say(reply(PNG, length=1 << 40))
                case _:
                    await peer.say(
                        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n", PNG, b"\r\n"
                    )
                    while True:
                        await peer.say(b"100000\r\n", bytes(MEBIBYTE), b"\r\n")

    return script


@pytest.mark.parametrize("stack", ["aiohttp", "asyncio", "trio"])
def test_bombs_and_endless_streams_cost_no_memory_and_leave_no_file(stack: str, tmp_path: Path) -> None:
    with serving(hostile()) as server:
        paths = ("good", "bomb", "hidden", "large", "endless")
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, stack, tmp_path, *(f"{server.url}/{path}" for path in paths)],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
    assert done.stderr == ""
    grown, errors = json.loads(done.stdout)
    too_large = "larger than the 67,108,864 bytes allowed (Downloads(max_bytes=...))"
    expected = [
        "came encoded as 'gzip', which was not requested",
        "came compressed (gzip), which was not requested (1 attempts)",
        too_large,
        too_large,
    ]
    assert errors == [error for error in expected for _ in ("save", "read")]
    assert grown <= 32
    assert [path.name for path in tmp_path.iterdir()] == ["t.png"]
