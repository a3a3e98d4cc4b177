"""Files in, files out: rows of requests read lazily, outcomes written as they finish."""

from __future__ import annotations

from .folder import folder_journal
from .lines import ResultsFile
from .readers import InputError, Row, Rows, open_rows
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
