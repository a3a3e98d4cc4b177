"""A real chromium, driven by the DevTools protocol over a websocket: enough to look at one page."""

from __future__ import annotations

import base64
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import aiohttp
import anyio
from anyio.abc import Process

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--mute-audio",
    "--remote-debugging-port=0",
)


class Page:
    """One tab.

    *requests* are the URLs that it requested, *blocked* the reasons of requests that were not sent, and
    *complaints* the messages of its console and its policy.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.requests: list[str] = []
        self.blocked: list[str] = []
        self.complaints: list[str] = []
        self._socket = socket
        self._number = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call *method* and return its result; what happens meanwhile is noted."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json()
            if message.get("id") == self._number:
                assert "error" not in message, message["error"]
                result: dict[str, Any] = message["result"]
                return result
            self._note(message.get("method"), message.get("params", {}))

    def _note(self, event: str | None, values: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])
        elif event == "Network.loadingFailed" and "blockedReason" in values:
            self.blocked.append(values["blockedReason"])
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(str(values["exceptionDetails"]))
        elif event == "Log.entryAdded":
            self.complaints.append(values["entry"]["text"])
        elif event == "Page.javascriptDialogOpening":
            self.complaints.append(f"a dialog: {values['message']}")

    async def prepare(self) -> None:
        """Watch everything."""
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.call(f"{domain}.enable")

    async def size(self, width: int, height: int = 900, *, scheme: str = "light", scale: float = 1) -> None:
        """Make the window so large, and prefer the colour *scheme*."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        await self.call(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    async def open(self, path: Path) -> None:
        """Load a file and wait until its script has drawn everything."""
        await self.call("Page.navigate", url=path.as_uri())
        await self.until(
            "document.readyState === 'complete' && document.getElementById('sheet')?.dataset.full"
        )

    async def value(self, expression: str) -> Any:
        """Return what *expression* is worth in the page; of a promise, what it comes to."""
        done = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until *expression* is true."""
        with anyio.fail_after(30):
            while not await self.value(f"Boolean({expression})"):
                await anyio.sleep(0.02)

    async def press(self, key: str, *, code: int = 0, text: str = "") -> None:
        """Press and release *key*."""
        shared = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **shared)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **shared)

    async def click(self, selector: str) -> None:
        """Click in the middle of what *selector* finds, as a hand would."""
        box = await self.value(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect();"
            f" return [b.x + b.width / 2, b.y + b.height / 2] }})(document.querySelector({selector!r}))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call(
                "Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1
            )

    async def type(self, text: str) -> None:
        """Type *text* where the focus is."""
        await self.call("Input.insertText", text=text)

    async def screenshot(self, path: Path) -> bytes:
        """Save what the window shows once its pictures are there."""
        await self.until(
            "[...document.images].every(i => { const b = i.getBoundingClientRect();"
            " return i.complete || b.top > innerHeight || b.bottom < 0 })"
        )
        shot = base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])
        await anyio.Path(path).write_bytes(shot)
        return shot


@asynccontextmanager
async def opened_browser(extra: Sequence[str] = ()) -> AsyncIterator[Page]:
    """Give a tab of a browser of its own, with a profile of its own; both are gone afterwards."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(prefix="ruxa-chromium-", ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *_FLAGS, *extra, f"--user-data-dir={profile}", "about:blank"]
        async with await anyio.open_process(
            command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
        ) as process:
            try:
                port = await _port(Path(profile), process)
                async with aiohttp.ClientSession() as session:
                    async with session.get(f"http://127.0.0.1:{port}/json/list") as response:
                        (target,) = [t for t in await response.json() if t["type"] == "page"]
                    async with session.ws_connect(
                        target["webSocketDebuggerUrl"], max_msg_size=0, autoclose=True
                    ) as socket:
                        page = Page(socket)
                        await page.prepare()
                        yield page
            finally:
                process.kill()


async def _port(profile: Path, process: Process) -> int:
    """Wait for the file in which chromium says where it listens."""
    port_file = anyio.Path(profile / "DevToolsActivePort")
    with anyio.fail_after(60):
        while True:
            assert process.returncode is None, "chromium ended before it could be asked for anything"
            if await port_file.exists() and (lines := (await port_file.read_text()).splitlines()):
                return int(lines[0])
            await anyio.sleep(0.05)
