"""The request of a row, as a line of ``picks.jsonl``, as Python and as a command, to make it again."""

from __future__ import annotations

import json
import shlex
from typing import Any

from ._folder import Entry

__all__ = ("repeats_of",)

#: Characters of an input, of which the page holds three forms. Longer ones are left out.
_LONGEST = 20_000


def repeats_of(entry: Entry) -> dict[str, str]:
    """Return the forms of the request of *entry*: pick, python, command; none if its input is not known."""
    if not entry.model or not entry.input or (entry.id or entry.key) is None:
        return {}
    try:
        pick = json.dumps(
            {"v": 1, "id": entry.id, "key": entry.key, "model": entry.model, "input": entry.input},
            ensure_ascii=False,
        )
    except RecursionError:
        return {}
    if len(pick) > _LONGEST:
        return {}
    return {"pick": pick, "python": _python(entry), "command": _command(entry)}


def _python(entry: Entry) -> str:
    return (
        "from ruxa_async import CustomRequest\n"
        "from ruxa_async.sync import RuxaClient\n\n"
        "with RuxaClient() as ruxa:\n"
        f"    request = CustomRequest(model={entry.model!r}, input={entry.input!r})\n"
        "    print(ruxa.save(ruxa.generate(request)))\n"
    )


def _command(entry: Entry) -> str:
    """Return the command for a POSIX shell."""
    arguments = ["ruxa-async", "generate", "--model", entry.model]
    for name, value in entry.input.items():
        arguments += ["--input", f"{name}={_argument(value)}"]
    return shlex.join(map(str, arguments))


def _argument(value: Any) -> str:
    """Return *value* so that ``--input`` reads it: text as it is, unless that would be read as JSON."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except (ValueError, RecursionError):
            if not value.lstrip().startswith(("{", "[")):
                return value
    return json.dumps(value, ensure_ascii=False)
