"""Timeouts, minimum rate and resumption of a transfer, in virtual time."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import pytest

from ruxa_async import DownloadError, Downloads, Generation, LinkExpiredError, MaybeSentError
from ruxa_async.downloads import Downloader
from ruxa_async.downloads._request import Opener
from ruxa_async.downloads._transfer import Transfer
from ruxa_async.transports import Request

CONTENT = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 400  # 102,408 bytes
KIND = {"etag": '"one"', "content-length": str(len(CONTENT))}


@attrs.define
class Answer:
    """One reply: *rate* bytes a second in pieces of *piece*, cut off after *cut* bytes."""

    content: bytes = CONTENT
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=lambda: KIND)
    rate: float = math.inf
    piece: int = 1000
    cut: int | None = None
    silent: float = 0.0

    async def chunks(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.content), self.piece):
            if self.cut is not None and start >= self.cut:
                raise MaybeSentError("cut off")
            await anyio.sleep(self.piece / self.rate)
            yield self.content[start : start + self.piece]


class Host:
    """Answers as told, the last answer for ever; with *ranges* it sends only what is asked for."""

    def __init__(self, *answers: Answer, ranges: bool = True) -> None:
        self.answers = list(answers)
        self.ranges = ranges
        self.asked: list[tuple[float, str | None]] = []
        self.open = self.most = 0
        self.began = 0.0

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[Answer]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.asked.append((round(anyio.current_time() - self.began, 3), request.headers.get("Range")))
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await anyio.sleep(answer.silent)
            yield self._part(answer, request.headers)
        finally:
            self.open -= 1

    def _part(self, answer: Answer, headers: Mapping[str, str]) -> Answer:
        etag = answer.headers.get("etag")
        if not (self.ranges and "Range" in headers and headers["If-Range"] == etag):
            return answer
        first, size = int(headers["Range"][6:-1]), len(answer.content)
        told = {"etag": etag, "content-range": f"bytes {first}-{size - 1}/{size}"}
        return attrs.evolve(answer, content=answer.content[first:], status=206, headers=told)

    async def read(self, *, urls: int = 1, **settings: Any) -> list[bytes]:
        self.began = anyio.current_time()
        loader = Downloader(transport=self, settings=Downloads(**settings))
        made = Generation(task_id="t", model=None, urls=tuple(f"https://h/{n}" for n in range(urls)))
        return await loader.read(made)


async def fails(host: Host, said: str, **settings: Any) -> float:
    """Return the second at which reading from *host* fails."""
    with pytest.raises(DownloadError, match=said):
        await host.read(**settings)
    assert host.open == 0
    return round(anyio.current_time() - host.began, 3)


async def test_a_slow_body_is_cut_off_after_each_window() -> None:
    host = Host(Answer(rate=10, piece=10))
    ended = await fails(host, r"less than 1,024 bytes a second came for 30 s \(4 attempts\)")
    # It goes on where it was, for what came is good, but gets no more chances than others.
    assert host.asked == [
        (0.0, None),
        (30.5, "bytes=290-"),
        (62.5, "bytes=580-"),
        (97.5, "bytes=870-"),
    ]
    assert ended == 127.5


async def test_a_transfer_at_the_minimum_rate_completes() -> None:
    host = Host(Answer(rate=1100, piece=100))
    assert await host.read() == [CONTENT]
    assert len(host.asked) == 1


async def test_time_spent_on_writing_does_not_count() -> None:
    kept: list[bytes] = []

    class SlowDisk:
        async def add(self, chunk: bytes) -> None:
            await anyio.sleep(20)
            kept.append(chunk)

        async def restart(self) -> None:
            kept.clear()

    host = Host(Answer(piece=20_000))
    host.began = anyio.current_time()
    opener = Opener(transport=host, may_be_private=lambda _: True, user_agent="x", connect_timeout=1.0)
    transfer = Transfer("https://h/0", SlowDisk(), opener, Downloads(), pauses=(), window=30.0, permission="")
    assert await transfer.run() == ".png"
    assert b"".join(kept) == CONTENT
    assert anyio.current_time() - host.began == pytest.approx(120)


async def test_a_silent_server_is_cut_off_like_a_slow_one() -> None:
    host = Host(Answer(silent=31.0), Answer(silent=29.0))
    assert await host.read() == [CONTENT]
    assert [at for at, _ in host.asked] == [0.0, 30.5]


async def test_the_timeout_includes_all_attempts() -> None:
    # Each attempt comes further, so there is no end to them but the deadline.
    host = Host(Answer(rate=2000, cut=5000))
    assert await fails(host, "not complete after 20 s", timeout=20.0) == 20.0
    host = Host(Answer(silent=math.inf))
    assert await fails(host, "not complete after 12.5 s", timeout=12.5) == 12.5


async def test_pauses_grow_and_retry_after_is_obeyed() -> None:
    host = Host(Answer(status=503))
    assert await fails(host, r"HTTP 503 \(4 attempts\)") == 7.5
    assert [at for at, _ in host.asked] == [0.0, 0.5, 2.5, 7.5]
    host = Host(Answer(status=429, headers={"retry-after": "20"}))
    await fails(host, "HTTP 429")
    assert [at for at, _ in host.asked] == [0.0, 20.0, 40.0, 60.0]
    host = Host(Answer(status=503, headers={"retry-after": "86400"}), Answer())
    assert await host.read() == [CONTENT]
    assert [at for at, _ in host.asked] == [0.0, 60.0]


async def test_an_interrupted_transfer_resumes_where_it_stopped() -> None:
    host = Host(Answer(cut=50_000), Answer(cut=30_000), Answer())
    assert await host.read() == [CONTENT]
    assert [part for _, part in host.asked] == [None, "bytes=50000-", "bytes=80000-"]


async def test_progress_resets_the_count_of_failed_attempts() -> None:
    host = Host(*(Answer(cut=5000) for _ in range(19)), Answer())
    assert await host.read() == [CONTENT]
    assert len(host.asked) == 20


async def test_without_ranges_a_transfer_starts_over() -> None:
    host = Host(Answer(cut=50_000), Answer(cut=60_000), Answer(), ranges=False)
    assert await host.read() == [CONTENT]
    assert len(host.asked) == 3


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
async def test_a_file_without_a_version_starts_over(etag: str | None) -> None:
    headers = {} if etag is None else {"etag": etag}
    host = Host(Answer(cut=50_000, headers=headers), Answer(headers=headers))
    assert await host.read() == [CONTENT]
    assert [part for _, part in host.asked] == [None, None]


OTHER = CONTENT[:20] + b"changed" * 20_000


async def test_parts_of_different_versions_are_never_joined() -> None:
    changed = Answer(content=OTHER, headers={"etag": '"two"', "content-length": str(len(OTHER))})
    host = Host(Answer(cut=50_000), changed)
    assert await host.read() == [OTHER]
    assert [part for _, part in host.asked] == [None, "bytes=50000-"]


@pytest.mark.parametrize(
    "lie",
    [
        {"etag": '"two"', "content-range": "bytes 50000-102407/102408"},
        {"content-range": "bytes 50000-102407/102408"},
        {"etag": '"one"', "content-range": "bytes 49999-102407/102408"},
        {"etag": '"one"', "content-range": "bytes 50000-139999/140000"},
        {"etag": '"one"'},
    ],
)
async def test_a_part_at_another_place_is_not_joined(lie: dict[str, str]) -> None:
    host = Host(
        Answer(cut=50_000),
        Answer(content=OTHER[50_000:], status=206, headers=lie),
        Answer(),
        ranges=False,
    )
    assert await host.read() == [CONTENT]
    assert [part for _, part in host.asked] == [None, "bytes=50000-", None]


async def test_a_range_beyond_the_end_starts_over() -> None:
    host = Host(Answer(cut=50_000), Answer(status=416), Answer(), ranges=False)
    assert await host.read() == [CONTENT]
    assert [part for _, part in host.asked] == [None, "bytes=50000-", None]


async def test_bytes_beyond_content_length_are_rejected() -> None:
    told = {"etag": '"one"', "content-length": "5000"}
    host = Host(Answer(headers=told), Answer())
    assert await host.read() == [CONTENT]


async def test_an_html_page_is_not_resumed() -> None:
    page = Answer(content=b"<html>" + b"wait " * 2000, headers={"etag": '"page"'})
    host = Host(page, Answer())
    assert await host.read() == [CONTENT]
    assert [part for _, part in host.asked] == [None, None]


async def test_a_link_that_expires_between_attempts_raises() -> None:
    host = Host(Answer(cut=50_000), Answer(status=403), ranges=False)
    with pytest.raises(LinkExpiredError):
        await host.read()


@pytest.mark.parametrize(("urls", "at_once", "seconds"), [(1, 8, 10), (8, 8, 10), (9, 8, 20), (7, 2, 40)])
async def test_outputs_are_downloaded_concurrently(urls: int, at_once: int, seconds: float) -> None:
    host = Host(Answer(silent=10.0))
    assert await host.read(urls=urls, max_concurrent=at_once) == [CONTENT] * urls
    assert anyio.current_time() - host.began == pytest.approx(seconds)
    assert host.most == min(urls, at_once)


async def test_a_failed_output_does_not_stop_the_others() -> None:
    host = Host(Answer(status=400), Answer(silent=5.0))
    assert await fails(host, "HTTP 400", urls=3) == 5.0
    assert len(host.asked) == 3


async def test_an_unexpected_error_is_raised_before_a_download_error() -> None:
    class Broken(Host):
        @asynccontextmanager
        async def stream(self, request: Request) -> AsyncIterator[Answer]:
            if request.url.endswith("1"):
                raise RuntimeError("closed")
            async with super().stream(request) as answer:
                yield answer

    with pytest.raises(RuntimeError, match="closed"):
        await Broken(Answer(status=400)).read(urls=2)


@pytest.mark.parametrize("silent", [100.0, 0.0])
async def test_a_cancellation_ends_a_transfer_at_once(silent: float) -> None:
    host = Host(Answer(silent=silent, rate=2000))
    with anyio.move_on_after(10) as scope:
        await host.read(urls=3)
    assert scope.cancelled_caught
    assert anyio.current_time() - host.began == pytest.approx(10)
    assert host.open == 0
