"""Read the rows of a parquet file: only the columns that are asked for, a page at a time.

pyarrow (extra ``arrow``) is imported when the first file is opened.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from attrs import frozen

from ruxa_async.errors import MissingExtraError

from ._input_lines import InputError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

__all__ = ("MAGIC", "ParquetTable", "open_parquet")

#: The first bytes of a parquet file.
MAGIC = b"PAR1"
#: Rows that are decoded at once; prompts have some kilobytes at most.
_ROWS = 256
#: Bytes that are read of a column at once. By default pyarrow reads a column of a whole row group.
_BUFFER = 1 << 20


@frozen
class ParquetTable:
    """An open parquet file called *name*."""

    name: str
    _file: ParquetFile

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(self._file.schema_arrow.names)

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Yield the values of *columns* in each row. Raises `InputError` at the first damaged page."""
        with _explained(self.name):
            # Without threads: they would decode ahead of what is consumed.
            for batch in self._file.iter_batches(_ROWS, columns=list(columns), use_threads=False):
                yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)


def open_parquet(source: BinaryIO, name: str) -> ParquetTable:
    """Open *source*, which stays the caller's to close. Raises `InputError`, `MissingExtraError`."""
    try:
        from pyarrow.parquet import ParquetFile  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError(f"reading {Path(name).name}, a parquet file,", "arrow") from error
    with _explained(name):
        return ParquetTable(name, ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False))


@contextmanager
def _explained(name: str) -> Generator[None]:
    """Raise `InputError` for what pyarrow raises."""
    from pyarrow import ArrowException  # noqa: PLC0415 - an extra

    try:
        yield
    except (ArrowException, OSError, ValueError) as error:
        raise InputError(f"{name} is not a parquet file that can be read: {error}") from error
