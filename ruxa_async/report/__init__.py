"""The report of a batch: an HTML page, made from the files in its folder, opened from there or from a mail.

It needs only the files that docs/results.md describes, so it can be written for any folder, also during a run
or after a kill.
"""

from __future__ import annotations

from ._page import REPORT, SINGLE_FILE, write_report

__all__ = ("REPORT", "SINGLE_FILE", "write_report")
