"""Purchases as results of tools: sentences for the model, values for programs, links and small pictures."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from anyio import to_thread
from mcp_types import CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent

from ._charges import Charged, sentence_of
from ._purchase import Purchase, State
from ._thumbnail import MEDIA_TYPE, thumbnail

__all__ = ("OUTPUTS", "answer", "error_result", "link_of", "result_of", "sentences_of", "values_of")

#: The start of the URI of an output, before its file name.
OUTPUTS = "ruxa://outputs/"
#: Thumbnails in one result; further outputs are links only.
_MAX_THUMBNAILS = 4


def answer(text: str, values: dict[str, Any]) -> CallToolResult:
    """Return a result that is not an error."""
    return CallToolResult(content=[TextContent(text=text)], structured_content=values)


def error_result(text: str, charged: Charged = Charged.NO, **values: Any) -> CallToolResult:
    """Return an error of a tool; *text* says what is wrong, and a sentence about the charge follows."""
    charge = "This call charged nothing." if charged is Charged.NO else sentence_of(charged, None)
    return CallToolResult(
        content=[TextContent(text=f"{text.rstrip('.')}. {charge}")],
        structured_content={"error": text, "charged": charged.value, **values},
        is_error=True,
    )


async def result_of(purchase: Purchase) -> CallToolResult:
    """Return the state of *purchase*, an error if it has one, with links and thumbnails of its files."""
    content: list[ContentBlock] = [TextContent(text=sentences_of(purchase))]
    content += [link_of(path) for path in purchase.files]
    for path in purchase.files[:_MAX_THUMBNAILS]:
        small = await to_thread.run_sync(thumbnail, path)
        if small is not None:
            content.append(ImageContent(data=base64.b64encode(small).decode(), mime_type=MEDIA_TYPE))
    return CallToolResult(
        content=content, structured_content=values_of(purchase), is_error=purchase.error is not None
    )


def link_of(path: Path) -> ResourceLink:
    """Return the link to an output."""
    return ResourceLink(
        name=path.name,
        uri=OUTPUTS + quote(path.name, safe=""),
        description=str(path),
        mime_type=mimetypes.guess_type(path.name)[0],
        size=path.stat().st_size if path.exists() else None,
    )


def values_of(purchase: Purchase) -> dict[str, Any]:
    """Return *purchase* as JSON values."""
    sent = purchase.request.input()
    return {
        "handle": purchase.handle,
        "state": purchase.state.value,
        "charged": purchase.charged.value,
        "credits": purchase.credits,
        "model": purchase.request.model,
        "prompt": sent.get("prompt"),
        "task_id": purchase.task_id,
        "progress": purchase.progress,
        "files": [str(path) for path in purchase.files],
        "result": purchase.result,
        "error": purchase.error,
    }


def sentences_of(purchase: Purchase) -> str:
    """Return the state of *purchase* in plain English, whether it was charged, and what to do next."""
    return " ".join(_sentences(purchase))


def _sentences(purchase: Purchase) -> Iterator[str]:
    charge = sentence_of(purchase.charged, purchase.credits)
    yield f"{purchase.handle}:"
    if purchase.error is not None:
        yield f"{purchase.error.rstrip('.')}."
    match purchase.state:
        case State.BUYING:
            yield f"{purchase.request.model} is being bought. Call wait with this handle."
        case State.RUNNING:
            done = "" if purchase.progress is None else f", {purchase.progress:g} % done"
            yield f"task {purchase.task_id} runs{done}. {charge} Call wait with this handle for the files."
        case State.SUCCEEDED if purchase.result is not None:
            yield f"done. {charge} It has no files; result holds what the service says."
        case State.SUCCEEDED if purchase.files and purchase.error is None:
            yield f"done. {charge} Saved: {_listed(purchase.files)}."
        case State.SUCCEEDED:
            yield f"{charge} Its files are not saved yet: call wait with this handle, which costs nothing."
        case State.FAILED:
            yield f"{charge} To try again for another charge, call generate with a higher variant."
        case State.UNKNOWN:
            yield (
                f"{charge} It is not sent again. Ask the user to look at the account, to stop this server "
                "and to settle it with 'ruxa-async journal'."
            )
        case State.NOT_BOUGHT:
            yield charge


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join(map(str, paths))
