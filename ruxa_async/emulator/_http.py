"""Requests and replies as values, between the service and what carries their bytes: a socket or memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, TypeAlias

from attrs import field, frozen

from ._outputs import Output

__all__ = ("Enactment", "Incoming", "ServiceReply", "ServiceRequest")

#: What happens to the connection instead of delivering the whole reply; "" delivers it.
Enactment: TypeAlias = Literal["", "refused", "reset", "stall", "cut"]


class Incoming(Protocol):
    """What the service reads of a request. It looks header names up in lower case."""

    @property
    def method(self) -> str:
        """The HTTP method."""

    @property
    def path(self) -> str:
        """The path as sent, percent-encoded. A query string is ignored."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""

    @property
    def body(self) -> bytes:
        """The whole body."""


@frozen
class ServiceRequest:
    """One request to a `Service`: *path* is percent-encoded, names in *headers* are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    body: bytes = b""


@frozen(kw_only=True)
class ServiceReply:
    """One reply of a `Service`, and how to send it.

    Wait *latency* seconds before its first byte, and take *drip* seconds for its body. *fault* says what to
    do with the connection: refuse it, reset it, never answer (stall), or stop within the body (cut).
    *output* is set for a file: *body* is then a placeholder, for which you may send a drawn picture.
    """

    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = field(default=b"", repr=False)
    fault: Enactment = ""
    latency: float = 0.0
    drip: float = 0.0
    output: Output | None = None
