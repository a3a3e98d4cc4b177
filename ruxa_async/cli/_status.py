"""``ruxa-async status``: one look at one task."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

from ruxa_async.results import TaskState, TaskStatus

from ._options import Proxy
from ._runtime import DONE, SOME_FAILED, open_client, run
from ._stdout import print_text

__all__ = ("status",)


def status(
    task_id: Annotated[str, Parameter(help="The task's id, as results.jsonl and messages give it.")],
    /,
    *,
    as_json: Annotated[
        bool, Parameter(name="--json", help='Print one JSON object, the service\'s own answer under "raw".')
    ] = False,
    proxy: Proxy = None,
) -> int:
    """Ask once what has become of a task; the exit code is 1 if it failed."""

    async def command() -> int:
        async with open_client(emulator=False, speed=1.0, proxy=proxy) as client:
            seen = await client.status(task_id)
        print_text(_as_json(seen) if as_json else _as_text(seen))
        return SOME_FAILED if seen.state is TaskState.FAIL else DONE

    return run(command)


def _as_json(seen: TaskStatus) -> str:
    values = {
        "task_id": seen.task_id,
        "state": seen.state.value,
        "raw_state": seen.raw_state,
        "progress": seen.progress,
        "urls": list(seen.urls),
        "fail_code": seen.fail_code,
        "fail_message": seen.fail_message,
        "credits": seen.credits,
        "duration": seen.duration,
        "raw": dict(seen.raw),
    }
    return json.dumps(values, indent=2, default=str) + "\n"


def _as_text(seen: TaskStatus) -> str:
    word = seen.raw_state or "?" if seen.state is TaskState.UNKNOWN else seen.state.value
    details = [
        f"{seen.progress:g} %" if seen.progress is not None and not seen.state.terminal else "",
        f"{seen.duration:g} s" if seen.duration is not None else "",
        f"{seen.credits:g} credits" if seen.credits is not None else "",
        " ".join(part for part in (seen.fail_code, seen.fail_message) if part),
    ]
    first = f"{seen.task_id}: {', '.join([word, *filter(None, details)])}"
    return "".join(f"{line}\n" for line in (first, *seen.urls))
