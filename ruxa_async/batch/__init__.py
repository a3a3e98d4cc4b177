"""Files in, files out: rows of requests read lazily, outcomes written as they finish."""

from __future__ import annotations

from .readers import InputError, Row, Rows, open_rows
from .results import ResultsFile
from .run import Summary, run_batch

__all__ = ("InputError", "ResultsFile", "Row", "Rows", "Summary", "open_rows", "run_batch")
