"""Requests, generations and errors as JSON texts that travel between processes. Pure.

The texts are ASCII, so that every serializer keeps them as they are: pydantic would turn NaN into null, and
refuses lone surrogates.
"""

from __future__ import annotations

import json
from typing import Any

from ruxa_async import errors
from ruxa_async._portable import jsonable
from ruxa_async.errors import RequestValidationError
from ruxa_async.requests import CustomRequest, GenerationRequest
from ruxa_async.results import Generation

__all__ = ("dump_error", "dump_generation", "dump_request", "load_generation", "load_request")

#: causes of an error that travel with it, at most
_MAX_CAUSES = 8


def dump_request(request: GenerationRequest) -> str:
    """Return *request* as JSON. Raises `RequestValidationError` if its input is not JSON."""
    given = request.input()
    try:
        return json.dumps({"model": request.model, "input": given, "key": request.key}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise RequestValidationError("input", given, f"this cannot be sent as JSON ({exc})") from exc


def load_request(text: str) -> GenerationRequest:
    """Return a request that sends the same and has the same key as the one in *text*."""
    return CustomRequest(**json.loads(text))


def dump_generation(generation: Generation) -> str:
    """Return *generation* as JSON."""
    return json.dumps({"generation": generation.as_dict()})


def dump_error(error: Exception) -> str:
    """Return *error* with its attributes and causes as JSON."""
    return json.dumps({"error": _describe(error, _MAX_CAUSES)})


def load_generation(text: str, request: GenerationRequest) -> Generation:
    """Return the generation of *request* in *text*, or raise the error in it."""
    held = json.loads(text)
    if "error" in held:
        raise _restore(held["error"])
    made = held["generation"]
    return Generation(
        task_id=made["task_id"],
        model=made["model"],
        urls=tuple(made["urls"]),
        request=request,
        credits=made["credits"],
        duration=made["duration"],
        raw=made["raw"],
    )


def _describe(error: BaseException, causes: int) -> dict[str, Any]:
    cause = error.__cause__ if causes else None
    return {
        "type": type(error).__name__,
        "text": str(error),
        "args": jsonable(error.args),
        "attributes": {name: jsonable(value) for name, value in vars(error).items()},
        "cause": None if cause is None else _describe(cause, causes - 1),
    }


def _restore(described: dict[str, Any]) -> Exception:
    """Return an error of this library as it was, any other as an Exception with its type and text."""
    name = described["type"]
    if name in errors.__all__:
        kind: type[Exception] = getattr(errors, name)
        error = kind.__new__(kind)
        error.args = tuple(described["args"])
        vars(error).update(described["attributes"])
    else:
        error = Exception(f"{name}: {described['text']}")
    if described["cause"] is not None:
        error.__cause__ = _restore(described["cause"])
    return error
