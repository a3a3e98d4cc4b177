"""The report of a batch: one HTML page, made from the files in its folder and opened from disk.

It needs only the files that docs/results.md describes, so it can be written for any folder, also during a run
or after a kill.
"""

from __future__ import annotations

from ._page import REPORT, write_report

__all__ = ("REPORT", "write_report")
