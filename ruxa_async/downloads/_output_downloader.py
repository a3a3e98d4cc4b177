"""Downloads without a client: the outputs of generations that came from another process."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import anyio

from ruxa_async._internal.hosts import is_loopback
from ruxa_async.results import Generation
from ruxa_async.settings import Downloads

from ._downloader import Downloader

if TYPE_CHECKING:
    from ruxa_async.transports import Transport

__all__ = ("OutputDownloader",)

_PERMISSION: Final = (
    "OutputDownloader(base_url=...) permits the host of your service, such as an emulator on this machine; "
    "Downloads(allow_private=True) permits every host"
)


class OutputDownloader:
    """Download the outputs of generations that another process or machine bought, without an API key.

    Use it as ``async with OutputDownloader() as downloader:``. Downloads are as safe as those of
    `Generation.save`: complete files only, from public addresses, within the bounds of *downloads*. An
    expired link is not renewed, because that takes a query with the API key: it raises `LinkExpiredError`.

    *base_url* is needed for a service on this machine, such as the emulator, whose outputs have loopback
    addresses. *transport* replaces aiohttp, for example on trio; it is closed with the block.
    """

    def __init__(
        self,
        *,
        downloads: Downloads = Downloads(),  # noqa: B008 - frozen
        base_url: str = "",
        transport: Transport | None = None,
    ) -> None:
        self._settings = downloads
        self._base_url = base_url
        self._transport = transport
        self._downloader: Downloader | None = None

    async def __aenter__(self) -> Self:
        if self._transport is None:
            from ruxa_async.transports import AiohttpTransport  # noqa: PLC0415 - aiohttp takes long to import

            self._transport = AiohttpTransport(pool_size=self._settings.max_concurrent)
        self._downloader = Downloader(
            transport=self._transport, settings=self._settings, home=self._base_url, permission=_PERMISSION
        )
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._downloader = None
        if self._transport is not None:
            with anyio.CancelScope(shield=True):
                await self._transport.aclose()

    @property
    def here(self) -> str:
        """The base URL if it is on loopback, as an emulator's is, otherwise empty."""
        return self._base_url if is_loopback(urlsplit(self._base_url).hostname or "") else ""

    async def save(
        self, generation: Generation, folder: str | PathLike[str] = ".", *, name: str | None = None
    ) -> list[Path]:
        """Download every output of *generation* into *folder*; return the paths in the order of its URLs.

        Files appear whole or not at all, and never replace a different file. *name* is a template, as in
        `Generation.save`. Raises `DownloadError` and its subclass `LinkExpiredError`.
        """
        return await self._opened().save(generation, folder, name=name)

    async def read(self, generation: Generation) -> list[bytes]:
        """Download every output of *generation* into memory; return them in the order of its URLs.

        Raises `DownloadError` and its subclass `LinkExpiredError`.
        """
        return await self._opened().read(generation)

    def _opened(self) -> Downloader:
        if self._downloader is None:
            raise RuntimeError("this OutputDownloader is not open: use it inside `async with`")
        return self._downloader
