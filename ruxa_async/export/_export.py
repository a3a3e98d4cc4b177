"""Export the results of a batch in one of several forms."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from attrs import define

from ruxa_async._internal.media_kinds import MediaKind

from ._media_folder import write_folder
from ._outputs import Output, Outputs, open_outputs
from ._tables import ParquetTable, write_csv
from ._target import ExportError, new_file, new_folder, require_free

__all__ = ("Exported", "Form", "export_batch")

#: What an export is written as.
Form: TypeAlias = Literal["imagefolder", "videofolder", "csv", "parquet"]

#: The default names inside the batch folder.
_NAMES: dict[Form, str] = {
    "imagefolder": "imagefolder",
    "videofolder": "videofolder",
    "csv": "export.csv",
    "parquet": "export.parquet",
}
_FOLDER_KINDS: dict[Form, MediaKind] = {"imagefolder": "image", "videofolder": "video"}


@define
class Exported:
    """What an export holds, at *path*.

    *outputs* counts the outputs in it. *without_output* counts the rows that have none: a folder leaves them
    out, a table has a line for each. *missing* counts files that are not on disk, and *other_kinds* outputs
    that a folder leaves out because they are not pictures, or not videos.
    """

    path: Path
    outputs: int = 0
    without_output: int = 0
    missing: int = 0
    other_kinds: int = 0


def export_batch(
    folder: str | os.PathLike[str],
    to: Form,
    *,
    out: str | os.PathLike[str] | None = None,
    link: bool = False,
) -> Exported:
    """Export the outputs of the batch in *folder*, and return what was exported.

    *out* is the file or folder to write, by default one named after *to* inside *folder*. It appears whole or
    not at all, and replaces nothing but an empty folder. With *link* the files are not copied: folders get
    hard links, parquet gets absolute paths. Raises `ExportError`, `MissingExtraError`, OSError.
    """
    home = Path(folder)
    target = home / _NAMES[to] if out is None else Path(out)
    done = Exported(target)
    with open_outputs(home) as outputs:
        require_free(target)
        if to in _FOLDER_KINDS:
            with new_folder(target) as part:
                write_folder(_of_kind(_FOLDER_KINDS[to], outputs, done), part, link=link)
                _require_outputs(done, home, to)
        else:
            _write_table(to, outputs, done, link=link)
    return done


def _write_table(to: Form, outputs: Outputs, done: Exported, *, link: bool) -> None:
    # A column image is there even if no picture is, so that all exports of pictures can be concatenated.
    kinds: list[MediaKind] = ["image", *sorted(outputs.kinds - {"image", "other"})]
    table = ParquetTable(kinds, link) if to == "parquet" else None
    if done.path.is_dir():
        raise ExportError(f"{done.path} is a folder: give a file with --out")
    with new_file(done.path) as file:
        counted = _counted(outputs, done)
        if table is None:
            write_csv(counted, file)
        else:
            table.write(counted, file)


def _counted(outputs: Outputs, done: Exported) -> Iterator[Output]:
    """Yield each of *outputs*, and count it in *done*."""
    for output in outputs:
        if output.path is None:
            done.without_output += 1
        elif output.is_missing:
            done.missing += 1
        else:
            done.outputs += 1
        yield output


def _of_kind(kind: MediaKind, outputs: Outputs, done: Exported) -> Iterator[Output]:
    """Yield those of *outputs* that are on disk and of this *kind*; count all of them in *done*."""
    for output in _counted(outputs, done):
        if output.path is None or output.is_missing:
            continue
        if output.kind == kind:
            yield output
        else:
            done.outputs -= 1
            done.other_kinds += 1


def _require_outputs(done: Exported, home: Path, to: Form) -> None:
    """Raise `ExportError` if the folder would be empty: ``datasets`` reads none that is."""
    if done.outputs:
        return
    other: Form = "videofolder" if to == "imagefolder" else "imagefolder"
    hint = f": give --to {other}" if done.other_kinds else ""
    noun = "pictures" if to == "imagefolder" else "videos"
    raise ExportError(f"{home} holds no {noun}{hint}")
