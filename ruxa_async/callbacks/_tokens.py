"""What stands at the end of a callback's path: a job's id, when it was given out, and an HMAC over both. Pure.

Nobody documents a signature of the service, so the address itself is the proof that a post comes from whoever was told
it: the service alone. It stands in the path because nobody knows whether query strings survive.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence

from attrs import frozen

__all__ = ("ID_SIZE", "SHORTEST_SECRET", "Token", "Tokens", "looks_like_token")

#: Random ids of this many bytes never meet, in one process or in many that share a secret.
ID_SIZE = 12
#: A shorter secret, in bytes, could be guessed.
SHORTEST_SECRET = 16
#: Clocks of several hosts differ; a token may seem to be from so many seconds ahead.
_AHEAD = 300.0
_MAC_SIZE = 16
_PURPOSE = b"ruxa_async callback 1\0"
_SHAPE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


@frozen
class Token:
    """What a valid token says: which job, and when it was given out, in seconds since the epoch."""

    job: bytes
    issued_at: float


def looks_like_token(text: str) -> bool:
    """Tell whether *text* has the shape of a token, be it a valid one or not."""
    return _SHAPE.fullmatch(text) is not None


class Tokens:
    """Give out tokens signed with the first of *secrets*, and take those of any, for *max_age* seconds."""

    def __init__(self, secrets: Sequence[bytes], max_age: float) -> None:
        self._secrets = tuple(secrets)
        self._max_age = max_age

    def __repr__(self) -> str:
        return f"<Tokens of {len(self._secrets)} secrets, valid for {self._max_age:g} s>"

    def issue(self, job: bytes, wall_now: float) -> str:
        """Return the token of *job*, which is `ID_SIZE` bytes long."""
        said = job + struct.pack(">I", int(wall_now))
        return urlsafe_b64encode(said + _mac(self._secrets[0], said)).decode().rstrip("=")

    def read(self, text: str, wall_now: float) -> Token | None:
        """Return what the token *text* says, None if it is not one of ours or too old."""
        if not looks_like_token(text):
            return None
        raw = urlsafe_b64decode(text + "=")
        said, mac = raw[:-_MAC_SIZE], raw[-_MAC_SIZE:]
        # Every secret is tried, so that the time taken says nothing about which one fits.
        matches = [hmac.compare_digest(mac, _mac(secret, said)) for secret in self._secrets]
        issued_at = float(struct.unpack(">I", said[ID_SIZE:])[0])
        if not any(matches) or not -_AHEAD <= wall_now - issued_at <= self._max_age:
            return None
        return Token(said[:ID_SIZE], issued_at)


def _mac(secret: bytes, said: bytes) -> bytes:
    return hmac.digest(secret, _PURPOSE + said, hashlib.sha256)[:_MAC_SIZE]
