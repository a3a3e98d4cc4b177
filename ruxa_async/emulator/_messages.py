"""What passes between the service and the face that carries its bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, TypeAlias

from attrs import field, frozen

__all__ = ("Enactment", "Incoming", "Output", "ServiceReply", "ServiceRequest")

#: What a face does instead of delivering the reply whole; "" delivers it.
Enactment: TypeAlias = Literal["", "refused", "reset", "stall", "cut"]


class Incoming(Protocol):
    """What the service reads of a request; header names are looked up in lower case."""

    @property
    def method(self) -> str:
        """The HTTP method."""
        ...

    @property
    def path(self) -> str:
        """The path as it was sent, percent-encoded; a query string is ignored."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""
        ...

    @property
    def body(self) -> bytes:
        """The whole body."""
        ...


@frozen
class ServiceRequest:
    """One request as the service sees it."""

    method: str
    path: str
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    body: bytes = b""


@frozen(kw_only=True)
class Output:
    """The content of a file to draw: *prompt*, *model*, *ratio*, and its number among several."""

    prompt: str
    model: str
    ratio: str = "1:1"
    format: Literal["png", "jpeg", "mp4"] = "png"
    index: int = 0


@frozen(kw_only=True)
class ServiceReply:
    """One reply, and what is to become of it.

    *latency* is the seconds before its first byte, *drip* those that its body takes. *fault* is what the face
    enacts: refuse the connection, reset it, never answer, or cut the body. *output* is set on a file, whose
    body is then a valid placeholder that a face may draw better.
    """

    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = field(default=b"", repr=False)
    fault: Enactment = ""
    latency: float = 0.0
    drip: float = 0.0
    output: Output | None = None
