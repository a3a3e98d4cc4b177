"""Write outputs as CSV and as parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, BinaryIO

from attrs import field, frozen

from ruxa_async._internal.media_kinds import MediaKind
from ruxa_async.errors import MissingExtraError

from ._outputs import COLUMNS, Output
from ._target import ExportError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ("ParquetTable", "plain", "write_csv")

#: Bytes of files, and outputs, in a row group, which is in memory while it is written.
_GROUP_BYTES = 32 << 20
_GROUP_ROWS = 1_000
#: Bytes that a value of the Arrow type binary may have.
_MAX_VALUE = 2**31 - 2
#: A spreadsheet takes a cell that begins with one of these for a formula (OWASP, CSV injection). The
#: apostrophe is here so that a reader can tell one that was put in front from one that was there.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'", "\uff1d", "\uff0b", "\uff0d", "\uff20")
#: The columns of files in a parquet file, each there if it is needed, named by what ``datasets`` reads it as.
_FEATURES: dict[MediaKind, str] = {"image": "Image", "video": "Video", "audio": "Audio"}


def plain(value: Any) -> Any:
    """Return *value* as JSON and CSV hold it: an instant as ISO 8601, in milliseconds and UTC."""
    return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else value


def write_csv(outputs: Iterable[Output], file: BinaryIO) -> None:
    """Write one line for each of *outputs*: UTF-8 with a byte order mark, which Excel needs, and RFC 4180."""
    text = TextIOWrapper(file, "utf-8-sig", newline="", write_through=True)
    try:
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        writer.writerows([_cell(output.values[name]) for name in COLUMNS] for output in outputs)
    finally:
        text.detach()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else plain(value)


@frozen
class ParquetTable:
    """The format of a parquet file. Creating one raises `MissingExtraError` without pyarrow.

    Files of *kinds* have a column of the kind's name, a struct of bytes and path, as the features Image,
    Video and Audio of ``datasets`` read it. With *link* the path is absolute and the bytes are null.
    """

    kinds: Sequence[MediaKind]
    link: bool = False
    _schema: pa.Schema = field(init=False, repr=False)

    @_schema.default
    def _make_schema(self) -> pa.Schema:
        try:
            import pyarrow as pa  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtraError("export to parquet", "arrow") from error
        types = {
            "text": (pa.string(), "string"),
            "whole": (pa.int64(), "int64"),
            "number": (pa.float64(), "float64"),
            "instant": (pa.timestamp("ms", tz="UTC"), "timestamp[ms, tz=UTC]"),
        }
        file = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        columns = dict.fromkeys(self.kinds, file) | {name: types[of][0] for name, of in COLUMNS.items()}
        features = {kind: {"_type": _FEATURES[kind]} for kind in self.kinds} | {
            name: {"_type": "Value", "dtype": types[of][1]} for name, of in COLUMNS.items()
        }
        about = json.dumps({"info": {"features": features}})
        return pa.schema(columns, metadata={"huggingface": about})

    def write(self, outputs: Iterable[Output], file: BinaryIO) -> None:
        """Write one row for each of *outputs*, in row groups of about 32 MiB."""
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow.parquet import ParquetWriter  # noqa: PLC0415

        # A dictionary of pictures or prompts, no two of which are equal, would only be in the way.
        repeated = ["model", "state", "error_type", "error", "media_type"]
        with ParquetWriter(file, self._schema, compression="zstd", use_dictionary=repeated) as writer:
            group: list[dict[str, Any]] = []
            size = 0
            for output in outputs:
                row, taken = self._row(output)
                group.append(row)
                size += taken
                if size >= _GROUP_BYTES or len(group) >= _GROUP_ROWS:
                    writer.write_table(pa.Table.from_pylist(group, self._schema))
                    group, size = [], 0
            if group:
                writer.write_table(pa.Table.from_pylist(group, self._schema))

    def _row(self, output: Output) -> tuple[dict[str, Any], int]:
        """Return the row of *output*, and the size of its file in bytes."""
        row = dict(output.values)
        if output.path is None or output.kind not in self.kinds or output.is_missing:
            return row, 0
        if self.link:
            row[output.kind] = {"bytes": None, "path": str(output.path.resolve())}
            return row, 0
        if output.path.stat().st_size > _MAX_VALUE:
            raise ExportError(f"{output.path} is too large for one value of parquet (2 GiB): give --link")
        content = output.path.read_bytes()
        row[output.kind] = {"bytes": content, "path": row["file_name"]}
        return row, len(content)
