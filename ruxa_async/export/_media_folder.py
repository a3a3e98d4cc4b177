"""Write the folder that ``datasets.load_dataset("imagefolder")`` and ``"videofolder"`` read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ._outputs import Output
from ._tables import plain
from ._target import ExportError, synced

__all__ = ("write_folder",)


def write_folder(outputs: Iterable[Output], folder: Path, *, link: bool) -> None:
    """Write ``train/`` in *folder*: the files of *outputs*, and ``metadata.jsonl`` with a line for each.

    Files are copied, with *link* linked. Raises `ExportError` if they cannot be linked.
    """
    train = folder / "train"
    train.mkdir()
    with (train / "metadata.jsonl").open("xb") as metadata, synced(metadata):
        for output in outputs:
            assert output.path is not None
            _place(output.path, train / output.values["file_name"], link=link)
            line = {name: plain(value) for name, value in output.values.items()}
            metadata.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")


def _place(source: Path, target: Path, *, link: bool) -> None:
    if target.exists():
        return  # two rows share a file if their outputs are equal
    target.parent.mkdir(parents=True, exist_ok=True)
    if not link:
        with source.open("rb") as content, target.open("xb") as copy, synced(copy):
            shutil.copyfileobj(content, copy, 1 << 20)
        return
    try:
        os.link(source, target)
    except OSError as error:
        reason = error.strerror or error
        raise ExportError(f"{source} cannot be linked ({reason}): leave --link out to copy it") from error
