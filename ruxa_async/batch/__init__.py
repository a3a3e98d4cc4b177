"""Files in, files out: rows of requests read lazily, outcomes written as they finish."""

from __future__ import annotations

from .layout import folder_journal
from .readers import InputError, Row, Rows, open_rows
from .results_file import ResultsFile
from .run import run_batch
from .summary import Resumed, Summary

__all__ = (
    "InputError",
    "ResultsFile",
    "Resumed",
    "Row",
    "Rows",
    "Summary",
    "folder_journal",
    "open_rows",
    "run_batch",
)
