"""One request for an output: redirects followed by hand, and nothing of ours sent along."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from attrs import field, frozen

from ruxa_async._internal.failpoints import failpoint
from ruxa_async.errors import DownloadError, LinkExpiredError
from ruxa_async.transports import Request, StreamedResponse

from ._failures import PassingError
from ._ranges import length_of

__all__ = ("MediaTransport", "Opener", "check_status", "without_query")

_MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_PASSING: Final = (408, 425, 429)
_EXPIRED: Final = (401, 403, 404, 410)
#: What a body may be said to be encoded with and still come as it is; S3 forgets to remove the last.
_AS_IT_IS: Final = ("", "identity", "aws-chunked")
_LONGEST_WAIT: Final = 60.0


class MediaTransport(Protocol):
    """The part of a transport that downloads need."""

    def stream(self, request: Request) -> AbstractAsyncContextManager[StreamedResponse]:
        """Open *request* for reading its body in pieces."""
        ...


@frozen(kw_only=True)
class Opener:
    """Ask for outputs through *transport*; *is_ours* tells which hosts may be at an address that is not public."""

    transport: MediaTransport = field(repr=False)
    is_ours: Callable[[str], bool]
    user_agent: str
    connect_timeout: float

    @asynccontextmanager
    async def opened(
        self, url: str, headers: Mapping[str, str], timeout: float
    ) -> AsyncIterator[StreamedResponse]:
        """Open *url* and give the reply whose body is the output."""
        address = url
        for _ in range(_MAX_REDIRECTS + 1):
            request = self._request(url, address, headers, timeout)
            async with self.transport.stream(request) as response:
                if response.status not in _REDIRECTS:
                    failpoint("download begun")
                    yield response
                    return
                address = _redirected(url, request.url, response)
        raise DownloadError(without_query(url), f"redirected more than {_MAX_REDIRECTS} times")

    def _request(self, url: str, address: str, headers: Mapping[str, str], timeout: float) -> Request:
        on_the_wire, host = _on_the_wire(url, address)
        return Request(
            method="GET",
            url=on_the_wire,
            headers={"User-Agent": self.user_agent, "Accept-Encoding": "identity", **headers},
            timeout=timeout,
            connect_timeout=self.connect_timeout,
            public_only=not self.is_ours(host),
        )


def without_query(url: str) -> str:
    """Return *url* without its query, fragment and credentials: what may be shown and logged."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("?")[0].partition("#")[0]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _on_the_wire(url: str, address: str) -> tuple[str, str]:
    """Return *address* percent-encoded and without its fragment, and its host; raise if it is none that we fetch."""
    host = None
    try:
        parts = urlsplit(address.strip())
        if parts.scheme.lower() in ("http", "https"):
            parts.port  # noqa: B018 - reading it checks it
            host = parts.hostname
    except ValueError:
        pass
    if not host:
        raise DownloadError(without_query(url), f"not an http(s) address: {without_query(address)!r}")
    # "%" is safe: what is encoded already stays as it is.
    path, query = (quote(part, safe="!$%&'()*+,/:;=?@[]~") for part in (parts.path, parts.query))
    return urlunsplit((parts.scheme, parts.netloc, path, query, "")), host


def _redirected(url: str, address: str, response: StreamedResponse) -> str:
    location = response.headers.get("location")
    if not location:
        raise DownloadError(without_query(url), f"HTTP {response.status} that names no place to go to")
    try:
        target = urljoin(address, location)
        downgraded = urlsplit(address).scheme.lower() == "https" and urlsplit(target).scheme.lower() == "http"
    except ValueError:
        raise DownloadError(without_query(url), "redirected to something that is not a URL") from None
    if downgraded:
        raise DownloadError(without_query(url), "redirected from https to http, which is not followed")
    return target


def check_status(url: str, response: StreamedResponse) -> None:
    """Raise unless *response* brings the bytes of an output as they are."""
    status, headers = response.status, response.headers
    if status in _PASSING or status >= 500:
        raise PassingError(f"HTTP {status}", _told_to_wait(headers))
    if status in _EXPIRED:
        raise LinkExpiredError(without_query(url), f"HTTP {status}: the link has expired, or was never right")
    if status not in (200, 206):
        raise DownloadError(without_query(url), f"HTTP {status}")
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in _AS_IT_IS:
        raise DownloadError(without_query(url), f"came encoded as {encoding!r}, which was not asked for")


def _told_to_wait(headers: Mapping[str, str]) -> float:
    """Return the seconds of Retry-After, a minute at most; a date is not worth the trouble here."""
    seconds = length_of({"content-length": headers.get("retry-after", "")})
    return min(float(seconds or 0), _LONGEST_WAIT)
