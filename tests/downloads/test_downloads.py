"""Outputs are saved whole, under safe names, by requests that carry nothing secret."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import attrs
import pytest

from ruxa_async import (
    DownloadError,
    Downloads,
    Generation,
    LinkExpiredError,
    MaybeSentError,
    NanoBanana,
    NotSentError,
)
from ruxa_async.downloads import Downloader, without_query
from ruxa_async.journal import SavedFile
from ruxa_async.transports import Request

PNG = b"\x89PNG\r\n\x1a\npicture"
URL = "https://files.example/a/one.png?sig=secret"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@attrs.define
class Reply:
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)
    parts: tuple[bytes, ...] = (PNG,)
    error: Exception | None = None
    stall: bool = False

    async def chunks(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            yield part
        if self.stall:
            await anyio.sleep_forever()
        if self.error is not None:
            raise self.error


class Site:
    """A transport: answers each address with the next of its replies, the last one for ever."""

    def __init__(self, *replies: Reply | Exception, **by_path: Reply) -> None:
        self.requests: list[Request] = []
        self.opened = 0
        self._replies = list(replies)
        self._by_path = by_path

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[Reply]:
        self.requests.append(request)
        name = request.url.partition("?")[0].rpartition("/")[2]
        reply = self._by_path.get(name) or (
            self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        )
        if isinstance(reply, Exception):
            raise reply
        self.opened += 1
        try:
            yield reply
        finally:
            self.opened -= 1


def downloader(site: Site, **settings: object) -> Downloader:
    names = {name for name in settings if name in attrs.fields_dict(Downloads)}
    told = Downloads(**{name: settings.pop(name) for name in names})  # type: ignore[arg-type]
    return Downloader(transport=site, settings=told, pauses=(0, 0), **settings)  # type: ignore[arg-type]


def made(*urls: str, key: str | None = "pic") -> Generation:
    return Generation(task_id="task_1", model=None, urls=urls, request=NanoBanana(prompt="x", key=key))


async def save(site: Site, folder: Path, url: str = URL, **settings: object) -> list[Path]:
    return await downloader(site, **settings).save(made(url), folder)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


async def test_output_is_saved_under_its_key(tmp_path: Path) -> None:
    generation = Generation(
        task_id="task_1", model=None, urls=(URL,), request=NanoBanana(prompt="x", key="cat")
    )
    paths = await downloader(Site(Reply())).save(generation, tmp_path / "new" / "folder")
    assert paths == [tmp_path / "new" / "folder" / "cat.png"]
    assert paths[0].read_bytes() == PNG
    assert names(paths[0].parent) == ["cat.png"]


async def test_output_without_a_key_is_named_after_its_task(tmp_path: Path) -> None:
    generation = Generation(task_id="task_1", model=None, urls=(URL,))
    assert [p.name for p in await downloader(Site(Reply())).save(generation, tmp_path)] == ["task_1.png"]


async def test_several_outputs_are_numbered_in_order(tmp_path: Path) -> None:
    site = Site(a=Reply(parts=(PNG,)), b=Reply(parts=(b"GIF89a",)))
    paths = await downloader(site).save(made("http://h/a", "http://h/b"), tmp_path)
    assert [(p.name, p.read_bytes()) for p in paths] == [("pic-1.png", PNG), ("pic-2.gif", b"GIF89a")]


async def test_outputs_are_read_in_order() -> None:
    site = Site(**{"a.png": Reply(parts=(PNG, b"a", b"b")), "b.png": Reply(parts=(PNG,))})
    generation = Generation(task_id="t", model=None, urls=("http://h/a.png", "http://h/b.png"))
    assert await downloader(site).read(generation) == [PNG + b"ab", PNG]


async def test_large_output_is_written_block_by_block(tmp_path: Path) -> None:
    parts = (PNG, *(bytes([n]) * 700_000 for n in range(5)))
    (path,) = await save(Site(Reply(parts=parts)), tmp_path)
    assert path.read_bytes() == b"".join(parts)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(parts=()), "the file is empty"),
        (Reply(parts=(b"<!DOCTYPE html><html><p>Gone",)), "an HTML page came instead of a picture"),
        (Reply(parts=(b'{"code": 404}',)), "JSON came instead"),
        (Reply(headers={"content-type": "image/png"}, parts=(b"\0\1\2",)), "has the Content-Type image/png"),
        (Reply(parts=(b"\x1f\x8b\x08" + bytes(1000),)), "gzip"),
    ],
)
async def test_a_file_that_is_not_media_raises_and_leaves_no_file(
    tmp_path: Path, reply: Reply, said: str
) -> None:
    with pytest.raises(DownloadError, match=said):
        await save(Site(reply), tmp_path)
    assert names(tmp_path) == []
    # It may be a page of something on the way, so it is asked for again.
    (path,) = await save(Site(reply, Reply()), tmp_path)
    assert path.read_bytes() == PNG


async def test_only_two_harmless_headers_are_sent(tmp_path: Path) -> None:
    site = Site(Reply())
    await save(site, tmp_path, user_agent="agent")
    assert site.requests[0].headers == {"User-Agent": "agent", "Accept-Encoding": "identity"}
    assert site.requests[0].url == URL


async def test_the_url_is_percent_encoded_once(tmp_path: Path) -> None:
    site = Site(Reply())
    await save(site, tmp_path, "http://h/a b%20ü.png?q=ü&x=%2F#part")
    assert site.requests[0].url == "http://h/a%20b%20%C3%BC.png?q=%C3%BC&x=%2F"


async def test_the_extension_follows_the_content(tmp_path: Path) -> None:
    site = Site(Reply(headers={"content-type": "image/png"}, parts=(b"\xff\xd8", b"\xff\xe0 jpeg")))
    (path,) = await save(site, tmp_path, "http://h/x.mp4?name=y.webp")
    assert path.name == "pic.jpg"


async def test_saving_twice_is_harmless(tmp_path: Path) -> None:
    assert await save(Site(Reply()), tmp_path) == await save(Site(Reply()), tmp_path)
    assert names(tmp_path) == ["pic.png"]


async def test_a_different_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "pic.png").write_bytes(b"mine")
    first = await save(Site(Reply()), tmp_path)
    assert first == await save(Site(Reply()), tmp_path)
    assert (tmp_path / "pic.png").read_bytes() == b"mine"
    assert first[0].read_bytes() == PNG
    assert len(names(tmp_path)) == 2


async def test_a_symbolic_link_with_the_name_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "pic.png").symlink_to(outside)
    (path,) = await save(Site(Reply()), tmp_path / "in")
    assert path.name != "pic.png"
    assert not outside.exists()


async def test_a_disk_without_hard_links_is_supported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    first = await save(Site(Reply()), tmp_path)
    assert first == await save(Site(Reply()), tmp_path)
    other = await save(Site(Reply(parts=(PNG + b"other",))), tmp_path)
    assert (first[0].read_bytes(), other[0].read_bytes()) == (PNG, PNG + b"other")
    assert len(names(tmp_path)) == 2


async def test_a_file_in_place_of_the_folder_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="cannot be written"):
        await save(Site(Reply()), tmp_path / "file")


@pytest.mark.parametrize(
    "replies",
    [
        (NotSentError("no route"), Reply()),
        (MaybeSentError("reset"), Reply()),
        (Reply(parts=(PNG[:12],), error=MaybeSentError("cut")), Reply()),
        (Reply(headers={"content-length": "100"}), Reply()),
        (Reply(status=503), Reply(status=429), Reply()),
        (Reply(status=500), MaybeSentError("reset"), Reply()),
    ],
)
async def test_a_transient_failure_is_repeated(tmp_path: Path, replies: tuple[Reply, ...]) -> None:
    (path,) = await save(Site(*replies), tmp_path)
    assert path.read_bytes() == PNG
    assert names(tmp_path) == ["pic.png"]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (NotSentError("no route"), "no route"),
        (Reply(parts=(PNG + b"x" * 2_000_000,), error=MaybeSentError("cut")), "cut"),
        (Reply(headers={"content-length": "17"}), "broke off after 15 of 17 bytes"),
        (Reply(status=502), "HTTP 502"),
    ],
)
async def test_a_lasting_failure_raises_and_leaves_no_file(
    tmp_path: Path, reply: Reply | Exception, said: str
) -> None:
    site = Site(reply)
    with pytest.raises(DownloadError, match=said) as caught:
        await save(site, tmp_path)
    # The first attempt that came far takes nothing from the chances of the others.
    assert len(site.requests) == (4 if said == "cut" else 3)
    assert names(tmp_path) == []
    assert "secret" not in str(caught.value)
    assert caught.value.url == "https://files.example/a/one.png"


@pytest.mark.parametrize("status", [204, 304, 400, 206, 300])
async def test_a_refusal_is_not_repeated(tmp_path: Path, status: int) -> None:
    site = Site(Reply(status=status))
    with pytest.raises(DownloadError, match=str(status)):
        await save(site, tmp_path)
    assert len(site.requests) == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_expired_links_have_an_error_of_their_own(tmp_path: Path, status: int) -> None:
    site = Site(Reply(status=status))
    with pytest.raises(LinkExpiredError, match=f"HTTP {status}: the link has expired"):
        await save(site, tmp_path)
    assert len(site.requests) == 1
    assert names(tmp_path) == []


async def test_an_encoding_that_changes_nothing_is_accepted(tmp_path: Path) -> None:
    assert await save(Site(Reply(headers={"content-encoding": "aws-chunked"})), tmp_path)


async def test_an_encoded_body_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="gzip"):
        await save(Site(Reply(headers={"content-encoding": "gzip"})), tmp_path)


@pytest.mark.parametrize("headers", [{}, {"content-length": "21"}, {"content-length": "junk"}])
async def test_an_output_above_max_bytes_is_rejected(tmp_path: Path, headers: dict[str, str]) -> None:
    site = Site(Reply(headers=headers, parts=(PNG, b"67890", b"1")))
    with pytest.raises(DownloadError, match="larger than the 20 bytes"):
        await save(site, tmp_path, max_bytes=20)
    assert len(site.requests) == 1
    assert names(tmp_path) == []


async def test_an_output_of_max_bytes_is_saved(tmp_path: Path) -> None:
    (path,) = await save(Site(Reply(parts=(PNG, b"67890"))), tmp_path, max_bytes=20)
    assert path.stat().st_size == 20


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(tmp_path: Path, status: int) -> None:
    site = Site(Reply(status=status, headers={"location": "../b/two.jpg"}), Reply())
    (path,) = await save(site, tmp_path)
    assert [r.url for r in site.requests] == [URL, "https://files.example/b/two.jpg"]
    assert path.name == "pic.png"


async def test_redirects_from_http_to_https_are_followed(tmp_path: Path) -> None:
    site = Site(Reply(status=302, headers={"location": "https://other/x.png"}), Reply())
    assert await save(site, tmp_path, "http://h/x")


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("http://files.example/one.png", "https to http"),
        ("file:///etc/passwd", "not an http"),
        ("ftp://h/x", "not an http"),
        ("https://[broken", "invalid URL"),
        ("", "without a Location"),
    ],
)
async def test_invalid_redirects_are_rejected(tmp_path: Path, location: str, said: str) -> None:
    site = Site(Reply(status=302, headers={"location": location}))
    with pytest.raises(DownloadError, match=said):
        await save(site, tmp_path)
    assert len(site.requests) == 1


async def test_endless_redirects_end(tmp_path: Path) -> None:
    site = Site(Reply(status=302, headers={"location": "/again"}))
    with pytest.raises(DownloadError, match="more than 5 times"):
        await save(site, tmp_path)
    assert len(site.requests) == 6


@pytest.mark.parametrize(
    "url", ["", "file:///etc/passwd", "data:image/png;base64,AA", "http://", "//h/x", "http://[x"]
)
async def test_only_http_is_fetched(tmp_path: Path, url: str) -> None:
    site = Site(Reply())
    with pytest.raises(DownloadError):
        await save(site, tmp_path, url)
    assert site.requests == []


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
async def test_cancel_leaves_nothing_behind(tmp_path: Path, size: int) -> None:
    site = Site(Reply(parts=(PNG, b"x" * size), stall=True))
    async with anyio.create_task_group() as tg:
        tg.start_soon(save, site, tmp_path)
        while not site.opened or (size > 1_000_000 and not names(tmp_path)):
            await anyio.sleep(0.001)
        tg.cancel_scope.cancel()
    assert names(tmp_path) == []
    assert site.opened == 0


async def test_native_cancel_leaves_nothing_behind(tmp_path: Path) -> None:
    for turns in range(12):
        site = Site(Reply(parts=(PNG, *(b"x" * 1_100_000,) * 3), stall=True))
        task = asyncio.create_task(save(site, tmp_path / "sub"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await anyio.sleep(0.01)
        assert names(tmp_path / "sub") == []


def test_query_and_credentials_are_not_shown() -> None:
    assert without_query("https://me:pw@h:8/a?b=c#d") == "https://h:8/a"
    assert without_query("http://[x/a?b=c") == "http://[x/a"


async def test_cancel_at_any_moment_leaves_a_whole_file_or_nothing(tmp_path: Path) -> None:
    content = PNG + b"x" * 2_500_000
    noted: list[str] = []

    async def saved(task_id: str, file: SavedFile) -> None:
        await anyio.sleep(0.002)
        noted.append(file.name)

    left = set()
    for step in range(60):
        folder = tmp_path / str(step)
        folder.mkdir()
        site = Site(Reply(parts=(content[:1_200_000], content[1_200_000:])))
        task = asyncio.create_task(save(site, folder, saved=saved))
        await asyncio.sleep(step * 0.0005)
        task.cancel()
        await asyncio.wait([task])
        left.add(tuple(names(folder)))
        assert all(path.read_bytes() == content for path in folder.iterdir())
    assert left <= {(), ("pic.png",)}
    assert () in left


async def test_files_are_recorded_before_they_get_their_final_names(tmp_path: Path) -> None:
    told: list[tuple[str, SavedFile, list[str]]] = []

    async def saved(task_id: str, file: SavedFile) -> None:
        told.append((task_id, file, [name for name in names(tmp_path) if not name.startswith(".")]))

    (path,) = await save(Site(Reply()), tmp_path, saved=saved)
    digest = hashlib.sha256(PNG).hexdigest()
    assert told == [("task_1", SavedFile(number=0, name="pic.png", size=len(PNG), sha256=digest), [])]
    assert path.name == "pic.png"
    # One of another content has its other name from the beginning.
    (path,) = await save(Site(Reply(parts=(PNG + b"2",))), tmp_path, saved=saved)
    assert told[1][1].name == path.name != "pic.png"


async def test_a_file_whose_name_is_taken_meanwhile_is_recorded_again(tmp_path: Path) -> None:
    told: list[str] = []

    async def saved(_: str, file: SavedFile) -> None:
        if not told:
            (tmp_path / file.name).write_bytes(b"of somebody else")
        told.append(file.name)

    made_by = downloader(Site(Reply()), saved=saved)
    (path,) = await made_by.save(made(URL), anyio.Path(tmp_path))
    assert told == ["pic.png", path.name]
    assert path.read_bytes() == PNG
