"""Outputs of generations that came from another process, downloaded without a client and without its key."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from harness import client_of, service_of

from ruxa_async import DownloadError, Generation, LinkExpiredError, NanoBanana, RuxaClient
from ruxa_async.downloads import OutputDownloader
from ruxa_async.emulator import Durations, Emulator, EmulatorSettings, Service, parse_fault
from ruxa_async.transports import MemoryTransport


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # files are written by threads


async def arrived(service: Service) -> Generation:
    """Return a generation as it arrives in another process."""
    async with client_of(service) as ruxa:
        made = await ruxa.generate(NanoBanana(prompt="a cat", key="cat"))
    there: Generation = pickle.loads(pickle.dumps(made))
    return there


async def test_outputs_are_saved_and_read_without_a_client_and_its_key(tmp_path: Path) -> None:
    service = service_of(image=Durations(0.05), outputs=2)
    generation = await arrived(service)
    transport = MemoryTransport(service, record=True)
    async with OutputDownloader(transport=transport) as downloader:
        paths = await downloader.save(generation, tmp_path, name="{key}-{n}")
        assert await downloader.read(generation) == [path.read_bytes() for path in paths]
    assert [path.name for path in paths] == ["cat-1.png", "cat-2.png"]
    assert len(transport.requests) == 4
    assert not [
        each for each in transport.requests if "authorization" in {name.lower() for name in each.headers}
    ]


async def test_an_expired_link_raises(tmp_path: Path) -> None:
    service = service_of(image=Durations(0.05), faults=[parse_fault("expired:file")])
    generation = await arrived(service)
    async with OutputDownloader(transport=MemoryTransport(service)) as downloader:
        with pytest.raises(LinkExpiredError):
            await downloader.save(generation, tmp_path)
    assert not [*tmp_path.iterdir()]


async def test_outputs_of_a_service_on_this_machine_need_its_base_url(tmp_path: Path) -> None:
    emulator = Emulator(EmulatorSettings(image=Durations(0.05)))
    emulator.start()
    try:
        async with RuxaClient(api_key=emulator.key, base_url=emulator.url) as ruxa:
            generation = await ruxa.generate(NanoBanana(prompt="a cat"))
        async with OutputDownloader() as downloader:
            with pytest.raises(
                DownloadError, match=r"not public; OutputDownloader\(base_url=\.\.\.\) permits"
            ):
                await downloader.read(generation)
        async with OutputDownloader(base_url=emulator.url) as downloader:
            assert downloader.here == emulator.url
            (path,) = await downloader.save(pickle.loads(pickle.dumps(generation)), tmp_path)
    finally:
        emulator.stop()
    assert path.stat().st_size > 100
    assert OutputDownloader(base_url="https://api.example.com").here == ""


async def test_a_downloader_is_used_inside_its_block(tmp_path: Path) -> None:
    service = service_of(image=Durations(0.05))
    generation = await arrived(service)
    downloader = OutputDownloader(transport=MemoryTransport(service))
    with pytest.raises(RuntimeError, match="async with"):
        await downloader.save(generation, tmp_path)
