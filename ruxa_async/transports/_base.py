"""The protocol of a transport: it moves bytes, and it knows whether any of them were sent.

A transport makes no decisions: it never retries, follows a redirect, keeps a cookie or interprets a status.
It must report failures correctly: `NotSentError` if no byte of the request left this machine,
`MaybeSentError` if any may have. The client's guarantee against double purchases depends on that difference.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from attrs import field, frozen

from ruxa_async.errors import MaybeSentError, NotSentError, TransportError

__all__ = (
    "MaybeSentError",
    "NotSentError",
    "Request",
    "Response",
    "StreamedResponse",
    "Transport",
    "TransportError",
)


@frozen(kw_only=True)
class Request:
    """One HTTP request.

    *url* is absolute and percent-encoded, and is sent unchanged. *timeout* (30) bounds the whole exchange in
    seconds, *connect_timeout* (10) the part before the first byte. *fresh* requires a new connection or one
    that was idle for less than 2 s, so that a stale connection cannot make a create unknown. *public_only*
    requires a connection to a public address (see `check_public`); otherwise nothing is sent, and the cause
    of the `NotSentError` is a `PrivateAddressError`.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(factory=dict, repr=False)  # the key is among them
    body: bytes | None = field(default=None, repr=False)
    timeout: float = 30.0
    connect_timeout: float = 10.0
    fresh: bool = False
    public_only: bool = False


@frozen
class Response:
    """One complete reply. *headers* are looked up by lower-case names."""

    status: int
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


class StreamedResponse(Protocol):
    """A reply whose body is still arriving."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, looked up by lower-case names."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Iterate over the body as it arrives, not decompressed. Raises `MaybeSentError` if it breaks off."""
        ...


@runtime_checkable
class Transport(Protocol):
    """Sends requests; `MemoryTransport` is the smallest example."""

    async def send(self, request: Request) -> Response:
        """Send *request* and return the complete reply.

        Raises `NotSentError` if no byte was sent, `MaybeSentError` if some may have been: after a timeout, a
        reset, or a reply that breaks off or is too large.
        """
        ...

    def stream(self, request: Request) -> AbstractAsyncContextManager[StreamedResponse]:
        """Send *request* and yield the reply, whose body is read in pieces. It is used for media only.

        Redirects are returned, not followed. Raises what `send` raises.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections. Calling it again does nothing."""
        ...
