"""Files in, files out: rows of requests read lazily, outcomes written as they finish."""

from __future__ import annotations

from ._layout import folder_journal
from ._readers import Row, Rows, open_rows
from ._requests import RowError
from ._results_file import ResultsFile
from ._run import run_batch
from ._source import InputError
from ._summary import Resumed, Summary

__all__ = (
    "InputError",
    "ResultsFile",
    "Resumed",
    "Row",
    "RowError",
    "Rows",
    "Summary",
    "folder_journal",
    "open_rows",
    "run_batch",
)
