"""``ruxa-async report``: the page that shows what lies in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ruxa_async.batch import InputError
from ruxa_async.report import write_report

from ._runtime import DONE
from ._stdout import print_text

__all__ = ("report",)


def report(
    folder: Annotated[Path, Parameter(name="DIR", help="The folder of a batch: the one given as --out.")], /
) -> int:
    """Make report.html from results.jsonl and the files beside it, and print its path.

    It can be made at any time, of a batch that still runs or was killed as well.
    """
    try:
        made = write_report(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"{folder} holds no results.jsonl: give the folder that a batch had as --out"
        ) from error
    print_text(f"{made}\n")
    return DONE
