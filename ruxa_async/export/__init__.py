"""The results of a batch as data: a folder for Hugging Face ``datasets``, CSV, or parquet (extra ``arrow``).

It needs only the files that docs/results.md describes, so it can be made of any folder, also during a run or
after a kill. docs/export.md describes what it writes.
"""

from __future__ import annotations

from ._export import Exported, Form, export_batch
from ._target import ExportError

__all__ = ("ExportError", "Exported", "Form", "export_batch")
