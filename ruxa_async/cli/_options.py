"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from ruxa_async.batch import InputError
from ruxa_async.downloads import check_template
from ruxa_async.errors import ConfigurationError

__all__ = (
    "EMULATOR_SPEED",
    "Count",
    "EmulatorFlag",
    "InputFormat",
    "Model",
    "Name",
    "Out",
    "Proxy",
    "Speed",
    "check_template_option",
    "shortened",
)

#: Times real time: quick enough to be a pleasure, slow enough to watch.
EMULATOR_SPEED = 20.0

_POSITIVE = Number(gt=0)

Count = Annotated[int, Parameter(validator=_POSITIVE)]
Model = Annotated[str, Parameter(help="The model's id.")]
InputFormat = Annotated[
    Literal["jsonl", "csv", "tsv", "text"] | None,
    Parameter(name="--format", help="What the input is (default: by its extension, else by its first line)."),
]
Out = Annotated[Path, Parameter(help="The folder for the outputs; it is made if it does not exist.")]
Name = Annotated[
    str | None,
    Parameter(
        show_default=False,
        help="How to name files: {key}, {model}, {n}, {prompt}, {slug} (the prompt in small letters and "
        "hyphens), {task_id} and, in a batch, {index} (the row, from 0), as in '{key}-{n}' or "
        "'{index:04}-{slug}'. The default is the key; without one the latter in a batch, else the task's id. "
        "Several outputs of a task are numbered.",
    ),
]
Proxy = Annotated[
    str | None,
    Parameter(
        show_default=False,
        help="The proxy for all requests, such as http://host:3128 (default: HTTPS_PROXY). Other users of "
        "this machine can see arguments: put a proxy with a password into the variable HTTPS_PROXY instead.",
    ),
]
EmulatorFlag = Annotated[
    bool,
    Parameter(
        name="--emulator",
        show_default=False,
        help="Use an emulator started for this command: no key, no cost.",
    ),
]
Speed = Annotated[
    float, Parameter(validator=_POSITIVE, help="How many times faster than real time the emulator goes.")
]


def check_template_option(name: str, fields: tuple[str, ...]) -> None:
    """Raise `InputError` if files cannot be named by ``--name`` *name*."""
    try:
        check_template(name, fields)
    except ConfigurationError as error:
        raise InputError(str(error).replace("name=", "--name ", 1)) from None


def shortened(text: str, limit: int = 60) -> str:
    """Return *text* on one line, cut to *limit* characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
