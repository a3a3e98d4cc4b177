"""``ruxa-async status``: query one task once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ruxa_async.results import TaskState, TaskStatus

from ._options import Flag, Proxy
from ._runtime import DONE, SOME_FAILED, open_client, require_folder, run, say
from ._stdout import print_text

__all__ = ("status",)


def status(
    task_id: Annotated[str, Parameter(help="The task id, as in results.jsonl and in messages.")],
    /,
    *,
    as_json: Annotated[
        Flag, Parameter(name="--json", help='Print one JSON object. Its field "raw" is the reply itself.')
    ] = False,
    out: Annotated[
        Path | None, Parameter(help="Download the outputs into this folder, if the task has succeeded.")
    ] = None,
    proxy: Proxy = None,
) -> int:
    """Print the state of a task and return the exit code, which is 1 if the task failed."""

    async def command() -> int:
        if out is not None:
            require_folder(out)
        files: list[Path] = []
        async with open_client(proxy=proxy) as client:
            found = await client.status(task_id)
            if out is not None and found.state is TaskState.SUCCESS:
                generation = await client.attach(task_id).result()
                files = await generation.save(out)
        print_text(_as_json(found, files) if as_json else _as_text(found, files))
        if out is not None and not found.state.terminal:
            say(f"task {task_id} has not ended, so there is nothing to download: run the same again later")
            return SOME_FAILED
        return SOME_FAILED if found.state is TaskState.FAIL else DONE

    return run(command)


def _as_json(found: TaskStatus, files: list[Path]) -> str:
    values = {
        "task_id": found.task_id,
        "state": found.state.value,
        "raw_state": found.raw_state,
        "progress": found.progress,
        "urls": list(found.urls),
        "files": [str(path) for path in files],
        "fail_code": found.fail_code,
        "fail_message": found.fail_message,
        "credits": found.credits,
        "duration": found.duration,
        "raw": dict(found.raw),
    }
    return json.dumps(values, indent=2, default=str) + "\n"


def _as_text(found: TaskStatus, files: list[Path]) -> str:
    word = found.raw_state or "?" if found.state is TaskState.UNKNOWN else found.state.value
    details = [
        f"{found.progress:g} %" if found.progress is not None and not found.state.terminal else "",
        f"{found.duration:g} s" if found.duration is not None else "",
        f"{found.credits:g} credits" if found.credits is not None else "",
        " ".join(part for part in (found.fail_code, found.fail_message) if part),
    ]
    first = f"{found.task_id}: {', '.join([word, *filter(None, details)])}"
    return "".join(f"{line}\n" for line in (first, *(files or found.urls)))
