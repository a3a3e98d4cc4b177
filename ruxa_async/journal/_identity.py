"""Which job of a run a request is. Pure.

A job is known by the caller's key; without one by its model and input, and by how many equal requests came before
it: never by the number of its row, which changes with every edit of the file that it came from.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from attrs import frozen

from ruxa_async.errors import RequestValidationError, RuxaError
from ruxa_async.requests import CustomRequest, GenerationRequest, request_class

__all__ = ("Identity", "fingerprint", "identify", "rebuild")

_KEY, _HASH = b"k", b"h"
_SHOWN = 12


@frozen
class Identity:
    """What a request is known by.

    *handle* is the key, or the digest where there is no key; *digest* is made from model and input alone; *text* is
    both as JSON, from which `rebuild` makes the request again.
    """

    handle: bytes
    digest: bytes
    text: str


def identify(request: GenerationRequest) -> Identity:
    """Return what *request* is known by. Raises `RequestValidationError` for an input that is no JSON."""
    text = _canonical({"model": request.model, "input": request.input()})
    digest = hashlib.sha256(text.encode()).digest()
    handle = _HASH + digest if request.key is None else _KEY + request.key.encode("utf-8", "surrogatepass")
    return Identity(handle, digest, text)


def key_of(handle: bytes) -> str | None:
    """Return the caller's key in *handle*, None if there was none."""
    return handle[1:].decode("utf-8", "surrogatepass") if handle[:1] == _KEY else None


def name_of(handle: bytes, ordinal: int) -> str:
    """Return what a person calls the job: its key, else the beginning of its digest; with its number from the second on."""
    key = key_of(handle)
    name = f"#{handle[1:].hex()[:_SHOWN]}" if key is None else key
    return name if ordinal == 1 else f"{name}~{ordinal}"


def rebuild(text: str, key: str | None) -> GenerationRequest:
    """Return the request that *text* was made from, or one that sends the same."""
    held = json.loads(text)
    model, given = held["model"], held["input"]
    kind = request_class(model)
    if kind is not None:
        try:
            typed = kind(**given, key=key)
        except (RuxaError, TypeError):
            pass  # fields that this version does not know, or that went out unchecked as `extra`
        else:
            if typed.input() == given:
                return typed
    return CustomRequest(model=model, input=given, key=key)


def fingerprint(secret: str, salt: bytes) -> str:
    """Return 16 hex digits that tell one key from another and say nothing else about it."""
    return hashlib.blake2b(secret.encode(), salt=salt[:16], digest_size=8, person=b"ruxa-async").hexdigest()


def _canonical(value: Any) -> str:
    """Write JSON of which there is one for equal values, in ASCII: half a surrogate pair is no text for a database."""
    try:
        try:
            return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
        except (
            TypeError
        ):  # keys of several types cannot be sorted before they are texts, as they are when sent
            plain = json.loads(json.dumps(value, allow_nan=False))
            return json.dumps(plain, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as exc:
        raise RequestValidationError("input", value, f"this cannot be sent as JSON ({exc})") from exc
