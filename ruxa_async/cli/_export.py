"""``ruxa-async export``: the outputs of a folder as data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ruxa_async.batch import InputError
from ruxa_async.export import Exported, ExportError, Form, export_batch

from ._options import Flag
from ._runtime import DONE, SOME_FAILED, say
from ._stdout import print_text
from ._text import counted

__all__ = ("export",)


def export(
    folder: Annotated[Path, Parameter(name="DIR", help="The --out folder of a batch.")],
    /,
    *,
    to: Annotated[Form, Parameter(help="What to write.")],
    out: Annotated[
        Path | None,
        Parameter(metavar="PATH", help="The file or folder to write. Default: one in DIR, named after --to."),
    ] = None,
    link: Annotated[
        Flag,
        Parameter(
            help="Do not copy the files: a folder gets hard links, parquet absolute paths. A program that "
            "changes a linked picture changes the one in DIR."
        ),
    ] = False,
) -> int:
    """Export the outputs of a folder, print the path and say what is not in it."""
    try:
        done = export_batch(folder, to, out=out, link=link)
    except ExportError as error:
        raise InputError(str(error)) from error
    say(_sentence(done, is_table=to in {"csv", "parquet"}))
    if done.missing:
        say(
            f"{counted(done.missing, 'file')} not on disk: run the batch again, which downloads what is "
            "missing, and export to another --out"
        )
    print_text(f"{done.path}\n")
    return SOME_FAILED if done.missing else DONE


def _sentence(done: Exported, *, is_table: bool) -> str:
    parts = [counted(done.outputs, "output")]
    if done.without_output:
        rows = counted(done.without_output, "row")
        parts.append(f"{rows} without an output {'in it too' if is_table else 'left out'}")
    if done.other_kinds:
        parts.append(f"{counted(done.other_kinds, 'output')} of another kind left out")
    return "; ".join(parts)
