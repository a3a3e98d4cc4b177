"""The identity of a request within a run. Pure.

A request is identified by its key, or without one by its model and input and the number of equal requests
before it. Its row number is not used, because it changes when the input file is edited.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from attrs import frozen

from ruxa_async.errors import RequestValidationError, RuxaError
from ruxa_async.requests import CustomRequest, GenerationRequest, request_class

__all__ = ("Identity", "fingerprint", "identify", "rebuild")

#: The first byte of a handle: a key follows, or a digest.
_KEY, _HASH = b"k", b"h"
#: hex digits of a digest that people see
_SHOWN = 12


@frozen
class Identity:
    """The identity of a request.

    *text* is its model and input as canonical JSON, from which `rebuild` makes the request again. *digest* is
    the SHA-256 of *text*. *handle* is the request's key, or the digest if it has none.
    """

    handle: bytes
    digest: bytes
    text: str


def identify(request: GenerationRequest) -> Identity:
    """Return the identity of *request*. Raises `RequestValidationError` if its input is not JSON."""
    text = _canonical({"model": request.model, "input": request.input()})
    digest = hashlib.sha256(text.encode()).digest()
    handle = _HASH + digest if request.key is None else _KEY + request.key.encode("utf-8", "surrogatepass")
    return Identity(handle, digest, text)


def key_of(handle: bytes) -> str | None:
    """Return the request's key in *handle*, None if it has none."""
    return handle[1:].decode("utf-8", "surrogatepass") if handle[:1] == _KEY else None


def name_of(handle: bytes, ordinal: int) -> str:
    """Return `JournalEntry.name`: the key, else 12 digits of the digest; ``~2`` is added for the second."""
    key = key_of(handle)
    name = f"#{handle[1:].hex()[:_SHOWN]}" if key is None else key
    return name if ordinal == 1 else f"{name}~{ordinal}"


def rebuild(text: str, key: str | None) -> GenerationRequest:
    """Return the request that *text* was made from, or a `CustomRequest` that sends the same."""
    held = json.loads(text)
    model, given = held["model"], held["input"]
    kind = request_class(model)
    if kind is not None:
        try:
            typed = kind(**given, key=key)
        except (RuxaError, TypeError):
            pass  # fields that this version does not know, or that came from `extra`
        else:
            if typed.input() == given:
                return typed
    return CustomRequest(model=model, input=given, key=key)


def fingerprint(secret: str, salt: bytes) -> str:
    """Return 16 hex digits of a salted BLAKE2b of *secret*, which do not reveal it."""
    return hashlib.blake2b(secret.encode(), salt=salt[:16], digest_size=8, person=b"ruxa-async").hexdigest()


def _canonical(value: Any) -> str:
    """Return canonical JSON, in ASCII, because a database cannot store a lone surrogate."""
    try:
        try:
            return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
        except TypeError:  # keys of mixed types can only be sorted as the strings that JSON makes of them
            plain = json.loads(json.dumps(value, allow_nan=False))
            return json.dumps(plain, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as exc:
        raise RequestValidationError("input", value, f"this cannot be sent as JSON ({exc})") from exc
