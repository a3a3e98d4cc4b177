"""The responses to callbacks, which reveal as little as possible."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

__all__ = (
    "FULL",
    "NO_METHOD",
    "NO_PATH",
    "NO_TOKEN",
    "SHOWN_PATH",
    "TAKEN",
    "TOO_LARGE",
    "TOO_LATE",
    "Answer",
)


@frozen
class Answer:
    """A response: HTTP *status*, JSON *body*, and *headers* besides Content-Type."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(factory=dict)


TAKEN = Answer(200, b'{"code":200,"msg":"success"}')
NO_TOKEN = Answer(401, b'{"code":401,"msg":"unauthorized"}')
NO_PATH = Answer(404, b'{"code":404,"msg":"not found"}')
NO_METHOD = Answer(405, b'{"code":405,"msg":"method not allowed"}', {"Allow": "POST"})
#: The path that logs show, because the real one holds a token.
SHOWN_PATH = "/(callback)"
TOO_LATE = Answer(408, b'{"code":408,"msg":"request timeout"}')
TOO_LARGE = Answer(413, b'{"code":413,"msg":"content too large"}')
FULL = Answer(503, b'{"code":503,"msg":"try again later"}', {"Retry-After": "10"})
