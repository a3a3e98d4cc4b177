"""Batches: rows of requests in, output files and one line of ``results.jsonl`` for each row out."""

from __future__ import annotations

from ._input_lines import InputError
from ._input_rows import Row, Rows, open_rows
from ._layout import folder_journal
from ._picks import open_picks
from ._request_parser import RowError
from ._results_file import ResultsFile
from ._run import run_batch
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
    "open_picks",
    "open_rows",
    "run_batch",
)
