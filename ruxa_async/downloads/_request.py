"""One HTTP request for an output: redirects, status, and ranges that resume an interrupted transfer.

It carries no API key and no cookie. A transfer resumes only if the file is unchanged (RFC 9110, 13.1.5, 14).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Final, Protocol
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from attrs import field, frozen

from ruxa_async._internal.failpoints import failpoint
from ruxa_async.errors import DownloadError, LinkExpiredError
from ruxa_async.transports import Request, StreamedResponse

__all__ = (
    "MediaTransport",
    "Opener",
    "TransientError",
    "Version",
    "check_status",
    "length_of",
    "part_of",
    "version_of",
    "without_query",
)

_MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_TRANSIENT: Final = (408, 425, 429)
_EXPIRED: Final = (401, 403, 404, 410)
#: Values of Content-Encoding that leave a body as it is; S3 may send the last one by mistake.
_UNENCODED: Final = ("", "identity", "aws-chunked")
#: seconds that Retry-After can delay the next attempt, at most
_LONGEST_WAIT: Final = 60.0
#: seconds from Last-Modified to Date from which Last-Modified, in whole seconds, identifies a version
_SETTLED: Final = 60.0
_STRONG_ETAG: Final = re.compile(r'"[\x21\x23-\x7e]*"')
_CONTENT_RANGE: Final = re.compile(r"bytes\s+(\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.IGNORECASE)


class TransientError(Exception):
    """An attempt failed, and another one may succeed, after *wait* seconds if the server named a time."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


class MediaTransport(Protocol):
    """The part of a transport that downloads need."""

    def stream(self, request: Request) -> AbstractAsyncContextManager[StreamedResponse]:
        """Open *request* for reading its body in pieces."""


@frozen(kw_only=True)
class Opener:
    """Request outputs through *transport*; *may_be_private* says which hosts may have private addresses."""

    transport: MediaTransport = field(repr=False)
    may_be_private: Callable[[str], bool]
    user_agent: str
    connect_timeout: float

    @asynccontextmanager
    async def opened(
        self, url: str, headers: Mapping[str, str], timeout: float
    ) -> AsyncIterator[StreamedResponse]:
        """Request *url*, follow its redirects, and yield the final response."""
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
        encoded, host = _encoded(url, address)
        return Request(
            method="GET",
            url=encoded,
            headers={"User-Agent": self.user_agent, "Accept-Encoding": "identity", **headers},
            timeout=timeout,
            connect_timeout=self.connect_timeout,
            public_only=not self.may_be_private(host),
        )


def without_query(url: str) -> str:
    """Return *url* without query, fragment and credentials, so that it may be shown and logged."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("?")[0].partition("#")[0]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _encoded(url: str, address: str) -> tuple[str, str]:
    """Return *address* percent-encoded and without its fragment, and its host. Raises `DownloadError`."""
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
    # "%" is safe: parts that are percent-encoded stay as they are.
    path, query = (quote(part, safe="!$%&'()*+,/:;=?@[]~") for part in (parts.path, parts.query))
    return urlunsplit((parts.scheme, parts.netloc, path, query, "")), host


def _redirected(url: str, address: str, response: StreamedResponse) -> str:
    location = response.headers.get("location")
    if not location:
        raise DownloadError(without_query(url), f"HTTP {response.status} without a Location")
    try:
        target = urljoin(address, location)
        downgraded = urlsplit(address).scheme.lower() == "https" and urlsplit(target).scheme.lower() == "http"
    except ValueError:
        raise DownloadError(without_query(url), "redirected to an invalid URL") from None
    if downgraded:
        raise DownloadError(without_query(url), "redirected from https to http, which is not followed")
    return target


def check_status(url: str, response: StreamedResponse) -> None:
    """Raise unless *response* has the status 200 or 206 and its body is not encoded."""
    status, headers = response.status, response.headers
    if status in _TRANSIENT or status >= 500:
        raise TransientError(f"HTTP {status}", _retry_after(headers))
    if status in _EXPIRED:
        raise LinkExpiredError(without_query(url), f"HTTP {status}: the link has expired or is wrong")
    if status not in (200, 206):
        raise DownloadError(without_query(url), f"HTTP {status}")
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in _UNENCODED:
        raise DownloadError(without_query(url), f"came encoded as {encoding!r}, which was not requested")


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds in Retry-After, at most 60; a date counts as 0."""
    return min(float(_whole_number(headers.get("retry-after", "")) or 0), _LONGEST_WAIT)


@frozen
class Version:
    """A version of a file. *validator* is its strong ETag, else its Last-Modified, else ""."""

    validator: str = ""

    def headers(self, received: int) -> dict[str, str]:
        """Return the headers that request the bytes after *received*, none if resuming is not possible."""
        if not received or not self.validator:
            return {}
        return {"Range": f"bytes={received}-", "If-Range": self.validator}

    def continues(self, headers: Mapping[str, str], received: int, total: int | None) -> bool:
        """Return whether a 206 with *headers* continues this version after *received* of *total* bytes."""
        first, size = part_of(headers)
        same = self.validator in (headers.get("etag", "").strip(), headers.get("last-modified", "").strip())
        return bool(self.validator) and same and first == received and (total is None or total == size)


def version_of(headers: Mapping[str, str]) -> Version:
    """Return the version of the file that a response with *headers* carries."""
    etag = headers.get("etag", "").strip()
    if _STRONG_ETAG.fullmatch(etag):
        return Version(etag)
    changed = headers.get("last-modified", "").strip()
    try:
        age = parsedate_to_datetime(headers.get("date", "")) - parsedate_to_datetime(changed)
    except (TypeError, ValueError, OverflowError):  # not dates, or only one of them has a time zone
        return Version()
    return Version(changed) if changed.isascii() and age.total_seconds() >= _SETTLED else Version()


def part_of(headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Return the first byte and the total size from Content-Range, each None if absent."""
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    if found is None:
        return None, None
    return int(found[1]), None if found[3] == "*" else int(found[3])


def length_of(headers: Mapping[str, str]) -> int | None:
    """Return Content-Length in bytes, None if absent or invalid."""
    return _whole_number(headers.get("content-length", ""))


def _whole_number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
