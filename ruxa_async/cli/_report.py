"""``ruxa-async report``: write the report page of a folder again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ruxa_async.batch import InputError
from ruxa_async.report import write_report

from ._runtime import DONE
from ._stdout import print_text

__all__ = ("report",)


def report(folder: Annotated[Path, Parameter(name="DIR", help="The --out folder of a batch.")], /) -> int:
    """Write report.html from results.jsonl and the files of a folder, and print its path."""
    try:
        page = write_report(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{folder} holds no results.jsonl: give the --out folder of a batch") from error
    print_text(f"{page}\n")
    return DONE
