"""``ruxa-async report``: write the report page of a folder again, or as one file to pass around."""

# ruff: noqa: RUF009 - option() returns a field of attrs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from attrs import frozen
from cyclopts import Parameter

from ruxa_async.batch import InputError
from ruxa_async.report import write_report

from ._options import Flag, option
from ._runtime import DONE
from ._stdout import print_text

__all__ = ("report",)


@frozen(kw_only=True)
class _ReportOptions:
    title: str | None = option(None, "The title of the page. Default: the name of the input.")
    single_file: Flag = option(
        False,
        "Put small copies of the pictures into the page, so that it can be mailed. Needs the extra emulator.",
    )
    out: Annotated[Path | None, Parameter(metavar="FILE")] = option(
        None,
        "Where to write the page, a name that ends in .html; only with --single-file. Default: "
        "report-single-file.html in the folder.",
    )


_DEFAULTS = _ReportOptions()


def report(
    folder: Annotated[Path, Parameter(name="DIR", help="The --out folder of a batch.")],
    /,
    *,
    options: Annotated[_ReportOptions, Parameter(name="*")] = _DEFAULTS,
) -> int:
    """Write the report of a folder from results.jsonl and the files beside it, and print its path."""
    out = options.out
    if out is not None and not options.single_file:
        raise InputError("--out goes with --single-file: the other page loads the pictures beside it")
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out {out} does not end in .html: give the name of a page")
    if out is not None and not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}")
    try:
        page = write_report(folder, title=options.title, single_file=options.single_file, out=out)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{folder} holds no results.jsonl: give the --out folder of a batch") from error
    print_text(f"{page}\n")
    return DONE
