"""Attributes of spans and metrics: the GenAI conventions of OpenTelemetry where they fit, else ``ruxa.*``."""

from __future__ import annotations

import json
from typing import TypeAlias

from ruxa_async import events
from ruxa_async.errors import APIError, TaskFailedError
from ruxa_async.requests import GenerationRequest

__all__ = ("Attributes", "attributes_of", "error_type", "outcome_of", "prompt_of")

Attributes: TypeAlias = dict[str, str | int | float]

_OUTPUT_TYPES = {"google/nano-banana": "image", "sora-2": "video"}
_OUTCOMES: dict[type[events.Event], str] = {
    events.CreateAbandoned: "not bought",
    events.CreateRefused: "refused",
    events.CreateUnknown: "unknown",
    events.JobWithdrawn: "withdrawn",
    events.TaskOrphaned: "orphaned",
    events.TaskReleased: "released",
}


def attributes_of(model: str | None, task_id: str | None = None) -> Attributes:
    """Return what identifies an operation: the provider, *model*, the type of its outputs, and *task_id*."""
    attributes: Attributes = {"gen_ai.operation.name": "generate_content", "gen_ai.provider.name": "ruxa"}
    if model is not None:
        attributes["gen_ai.request.model"] = model
        for prefix, output in _OUTPUT_TYPES.items():
            if model.startswith(prefix):
                attributes["gen_ai.output.type"] = output
    if task_id is not None:
        attributes["ruxa.task.id"] = task_id
    return attributes


def prompt_of(request: GenerationRequest | None) -> Attributes:
    """Return the prompt of *request* in the form of the conventions, nothing if it has none."""
    prompt = None if request is None else request.input().get("prompt")
    if not isinstance(prompt, str):
        return {}
    message = {"role": "user", "parts": [{"type": "text", "content": prompt}]}
    return {"gen_ai.input.messages": json.dumps([message], ensure_ascii=False)}


def outcome_of(event: events.Event) -> str | None:
    """Return how *event* ended its job; None if it did not."""
    if not isinstance(event, events.TaskEnded):
        return _OUTCOMES.get(type(event))
    if event.error is None:
        return "succeeded"
    return "failed" if isinstance(event.error, TaskFailedError) else "not followed"


def error_type(error: BaseException) -> str:
    """Return a name with few values for *error*: its class, with the HTTP status if it has one."""
    name = type(error).__name__
    return f"{name} {error.status}" if isinstance(error, APIError) else name
