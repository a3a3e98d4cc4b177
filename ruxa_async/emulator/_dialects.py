"""The forms that the service's replies may have, because its documentation, siblings and users disagree.

A `Dialect` has a field for each difference. `DIALECTS` holds presets, each seen somewhere or assumed;
``documented`` follows docs.ruxa.ai.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import evolve, field, frozen, validators

__all__ = ("DIALECTS", "Dialect", "ErrorShape", "Phrases", "ResultShape", "dialect")

#: Where the output URLs are: in ``resultJson`` as JSON text, an object, or JSON text encoded twice; in
#: ``result_json``; in ``resultUrls`` or ``result_urls`` beside the state; or a single URL under this name.
ResultShape: TypeAlias = Literal[
    "json_string",
    "object",
    "double",
    "snake_string",
    "snake_object",
    "flat",
    "snake_flat",
    "url",
    "video_url",
    "image_url",
    "resultUrl",
    "result_url",
]
#: How a refusal looks: ``{"code", "message", "data": null}``, the same without data, ``{"error": {...}}``,
#: ``{"error": "text"}`` or an HTML page.
ErrorShape: TypeAlias = Literal["envelope", "bare_envelope", "error_object", "error_string", "html"]
Phrases: TypeAlias = Literal["english", "chinese"]


@frozen(kw_only=True)
class Dialect:
    """The form of the service's replies: names, words and codes. The defaults are as documented."""

    name: str = "custom"
    # The words for the five states, and their key.
    waiting: str = "waiting"
    queuing: str = "queuing"
    generating: str = "generating"
    success: str = "success"
    fail: str = "fail"
    state_key: Literal["state", "status"] = "state"
    # The keys of the text and of the task id; *at_root*: fields are at the root instead of under ``data``.
    message_key: Literal["message", "msg"] = "message"
    id_key: Literal["taskId", "task_id", "id", "uuid"] = "taskId"
    at_root: bool = False
    result: ResultShape = "json_string"
    fail_key: Literal["failMsg", "failReason", "errorMsg", "error", "message"] = "failMsg"
    # Further fields of a query: failCode, the model, times, credits, percentage.
    fail_code: bool = True
    echo: bool = False
    times: bool = False
    credits: bool = False
    progress: bool = False
    # Errors are in the HTTP status, or in the envelope of an HTTP 200; *text_codes*: codes are strings.
    errors_in: Literal["status", "envelope"] = "status"
    error_shape: ErrorShape = "envelope"
    text_codes: bool = False
    phrases: Phrases = "english"
    #: One code for missing credits, exceeded rates and unknown models; None: each has its own.
    vague_code: int | None = None
    #: The code of queries in the first *grace_seconds* after a create, when the task seems missing; 0: none.
    grace: Literal[0, 404, 422] = 0
    grace_seconds: float = field(default=2.0, validator=validators.ge(0))


_DOCUMENTED = Dialect(name="documented")
_RESULTS: tuple[ResultShape, ...] = (
    "object",
    "double",
    "flat",
    "video_url",
    "image_url",
    "resultUrl",
    "result_url",
)
_PRESETS = (
    _DOCUMENTED,
    # As documented, with model, times, credits and progress.
    evolve(_DOCUMENTED, name="detailed", echo=True, times=True, credits=True, progress=True),
    # The sample in the service's blog: one word for all pending states, and "completed".
    Dialect(name="blog", waiting="generating", queuing="generating", success="completed", fail_code=False),
    # docs.kie.ai, whose interface the service copies, and apixo.ai, with the same envelope.
    Dialect(
        name="sibling",
        message_key="msg",
        errors_in="envelope",
        grace=422,
        echo=True,
        times=True,
        credits=True,
        progress=True,
    ),
    Dialect(
        name="apixo", waiting="pending", queuing="pending", generating="processing", fail="failed", times=True
    ),
    Dialect(
        name="snake",
        waiting="queued",
        queuing="queueing",
        generating="in_progress",
        success="succeeded",
        fail="error",
        state_key="status",
        id_key="task_id",
        result="snake_string",
        fail_key="message",
    ),
    Dialect(
        name="upper",
        waiting="SUBMITTED",
        queuing="WAIT",
        generating="RUNNING",
        success="SUCCESS",
        fail="FAILURE",
        id_key="uuid",
        result="snake_flat",
        fail_key="errorMsg",
        text_codes=True,
        errors_in="envelope",
    ),
    # No envelope, one URL, errors as text.
    Dialect(
        name="bare",
        success="done",
        fail="failed",
        state_key="status",
        id_key="id",
        at_root=True,
        result="url",
        fail_key="error",
        error_shape="error_string",
    ),
    # Relays, which resell the service: Chinese texts, one code for several errors.
    Dialect(
        name="relay", phrases="chinese", vague_code=500, errors_in="envelope", error_shape="bare_envelope"
    ),
    Dialect(
        name="openai", error_shape="error_object", fail_key="failReason", success="succeed", fail="cancelled"
    ),
    Dialect(name="html_errors", error_shape="html"),
    evolve(_DOCUMENTED, name="text_codes", text_codes=True, errors_in="envelope"),
    evolve(_DOCUMENTED, name="grace_404", grace=404),
    evolve(_DOCUMENTED, name="grace_422", grace=422, errors_in="envelope"),
    evolve(_DOCUMENTED, name="snake_object", result="snake_object", success="complete"),
    *(evolve(_DOCUMENTED, name=shape, result=shape) for shape in _RESULTS),
)
#: The presets by name.
DIALECTS: dict[str, Dialect] = {preset.name: preset for preset in _PRESETS}


def dialect(name: str) -> Dialect:
    """Return the preset with this name. Raises ValueError with the known names."""
    try:
        return DIALECTS[name]
    except KeyError:
        raise ValueError(f"the dialect {name!r} is not known: use one of {', '.join(DIALECTS)}") from None
