"""What a transport is: it moves bytes, and it knows whether any of them left.

A transport decides nothing: it never retries, never follows a redirect, never keeps a cookie, and reads no
meaning into a status. All that is asked of it beyond the exchange is honesty about failure: `NotSentError` when
no byte of the request left this machine, `MaybeSentError` whenever some may have. The whole money safety of the
client stands on that difference.
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
    """One HTTP request, ready to leave.

    *url* is complete and already percent-encoded: it goes out as it is. *timeout* bounds the whole exchange in
    seconds, *connect_timeout* the part before the first byte. *fresh* asks for a new connection or one idle for
    less than two seconds, so that a stale keep-alive socket cannot turn a create into an unknown. *public_only*
    asks for a connection that was made to a public address (`ruxa_async.transports.check_public`); where there is none to
    be had, nothing is sent, and `NotSentError` has a `PrivateAddressError` for its cause.
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
    """One whole reply. *headers* are looked up by lower-case names."""

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
        """Iterate over the body as it arrives, undecoded; raise `MaybeSentError` when it breaks off."""
        ...


@runtime_checkable
class Transport(Protocol):
    """Three methods; see `MemoryTransport` for the smallest whole one."""

    async def send(self, request: Request) -> Response:
        """Exchange *request* for a whole reply.

        Raise `NotSentError` if no byte of it left, `MaybeSentError` if some may have: after a time-out, a reset,
        a reply that breaks off or one that is larger than the transport's cap.
        """
        ...

    def stream(self, request: Request) -> AbstractAsyncContextManager[StreamedResponse]:
        """Open *request* for reading its body in pieces; used for media, never for the API.

        Redirects are returned, not followed. Errors are those of `send`.
        """
        ...

    async def aclose(self) -> None:
        """Let go of every connection. Calling it again does nothing."""
        ...
