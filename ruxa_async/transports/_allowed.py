"""The guard against real requests, for transports."""

from __future__ import annotations

from ruxa_async._internal.real_requests import refusal_of
from ruxa_async.errors import ConfigurationError, NotSentError

from ._base import Request

__all__ = ("check_allowed",)


def check_allowed(request: Request) -> None:
    """Raise `NotSentError` if RUXA_ALLOW_REQUESTS=0 is set and *request* is for another machine.

    Call it first in ``send`` and ``stream`` of your own transport. The cause of the error is a
    `ConfigurationError`, after which a download is not tried again.
    """
    refusal = refusal_of(request.url)
    if refusal:
        raise NotSentError(f"{request.method}: nothing was sent: {refusal}") from ConfigurationError(refusal)
