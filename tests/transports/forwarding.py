"""A proxy that tunnels (CONNECT), forwards plain HTTP, and may require a password."""

from __future__ import annotations

import asyncio
import base64
import contextlib

from ruxa_async.testing._servers import Peer, Script, reply

CREDENTIALS = "user:s%40fe-canary"
"""As they stand in the address of the proxy; the password is ``s@fe-canary``."""

_EXPECTED = b"proxy-authorization: basic " + base64.b64encode(b"user:s@fe-canary").lower()


def forwarding_to(url: str, *, asks: bool = False) -> Script:
    """Connect everybody to the server at *url*, whatever host they name; with *asks*, only those who know
    `CREDENTIALS`.

    The heads that reach the proxy are in ``Server.requests``, all that passes up through tunnels in
    ``Server.bodies``.
    """
    port = int(url.rpartition(":")[2])

    async def script(peer: Peer) -> None:
        head = await peer.reader.readuntil(b"\r\n\r\n")
        peer.server.requests.append(head.decode("latin-1"))
        if asks and _EXPECTED not in head.lower():
            await peer.say(reply(b"", "407 Proxy Authentication Required", "Proxy-Authenticate: Basic\r\n"))
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            if head.startswith(b"CONNECT "):
                await peer.say(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                method, target, rest = head.split(b" ", 2)
                path = b"/" + target.split(b"/", 3)[3]
                writer.write(b" ".join((method, path, rest)))
            async with asyncio.TaskGroup() as tg:
                tg.create_task(_pump(peer.reader, writer, peer.server.bodies))
                tg.create_task(_pump(reader, peer.writer, []))
        finally:
            writer.close()

    return script


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: list[bytes]) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            seen.append(data)
            writer.write(data)
            await writer.drain()
    writer.close()
