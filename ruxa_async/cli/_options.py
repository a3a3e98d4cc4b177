"""Options that several commands share."""

# ruff: noqa: RUF009 - option() returns a field of attrs

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from attrs import field, frozen
from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ruxa_async.batch import InputError
from ruxa_async.downloads import check_template
from ruxa_async.errors import ConfigurationError
from ruxa_async.requests import MODELS

__all__ = (
    "JOURNAL_VARIABLE",
    "Count",
    "Flag",
    "JournalAddress",
    "Model",
    "Name",
    "Out",
    "Proxy",
    "Repeated",
    "ServiceOptions",
    "check_name",
    "journal_address",
    "option",
    "panel",
)

_T = TypeVar("_T")
_POSITIVE = Number(gt=0)

Flag = Annotated[bool, Parameter(show_default=False)]
Repeated = Annotated[tuple[str, ...], Parameter(show_default=False)]
Count = Annotated[int, Parameter(validator=_POSITIVE)]
Model = Annotated[
    str, Parameter(help="The id of the model.", metavar="MODEL", completer=lambda _context: list(MODELS))
]
Out = Annotated[Path, Parameter(help="The folder for the outputs. It is created if it does not exist.")]
Name = Annotated[
    str | None,
    Parameter(
        metavar="TEMPLATE",
        help="The template for file names, such as '{key}-{n}' or '{index:04}-{slug}'. Fields: {key}, "
        "{model}, {n}, {prompt}, {slug} (the prompt in lower case with hyphens), {task_id} and, in a batch, "
        "{index} (the number of the row, from 0). Default: the key; without a key '{index:04}-{slug}' in a "
        "batch, otherwise the task id. Several outputs of a task are numbered.",
    ),
]
#: The environment variable that may hold the address of a journal on a server.
JOURNAL_VARIABLE = "RUXA_JOURNAL"
JournalAddress = Annotated[
    str | None,
    Parameter(
        metavar="URL",
        help="The address of a journal in PostgreSQL, postgresql://USER@HOST/DATABASE, instead of a file in "
        "the folder. Other users of this machine can read arguments: put an address with a password into the "
        f"variable {JOURNAL_VARIABLE} instead.",
    ),
]
Proxy = Annotated[
    str | None,
    Parameter(
        metavar="URL",
        help="The proxy for all requests, such as http://host:3128. Default: HTTPS_PROXY. Other users of "
        "this machine can read arguments: put a proxy with a password into the variable HTTPS_PROXY instead.",
    ),
]


def option(default: _T, help: str) -> _T:  # noqa: A002 - as in cyclopts
    """Return the field of an option with its *default* and its text in ``--help``."""
    return field(default=default, metadata={"help": help})


def panel(name: str) -> Parameter:
    """Return the annotation of a class whose fields are options in a panel *name* of ``--help``."""
    return Parameter(name="*", group=Group.create_ordered(name))


@frozen(kw_only=True)
class ServiceOptions:
    """Which service the requests go to."""

    emulator: Flag = option(False, "Use an emulator that runs during this command: no API key, no cost.")
    #: A picture takes about half a second at the default.
    speed: Annotated[float, Parameter(validator=_POSITIVE)] = option(
        20.0, "The speed of that emulator, in multiples of real time."
    )
    proxy: Proxy = None


def journal_address(given: str | None) -> str | None:
    """Return the address of the journal that is *given* or in RUXA_JOURNAL, None if there is none.

    Raises `InputError`, which does not repeat it, if it is not a URL of PostgreSQL.
    """
    address = given or os.environ.get(JOURNAL_VARIABLE) or None
    if address is not None and not address.startswith(("postgresql://", "postgres://")):
        source = "--journal" if given else JOURNAL_VARIABLE
        raise InputError(f"{source} is not the address of a database: give postgresql://USER@HOST/DATABASE")
    return address


def check_name(name: str | None, fields: Sequence[str]) -> None:
    """Raise `InputError` if ``--name`` *name* cannot name files with these template *fields*."""
    if name is None:
        return
    try:
        check_template(name, tuple(fields))
    except ConfigurationError as error:
        raise InputError(str(error).replace("name=", "--name ", 1)) from None
