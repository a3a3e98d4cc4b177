"""The report that a batch leaves: one page made from the lines in its folder, to be opened from disk.

It knows the files, described in docs/results.md, and nothing of what wrote them; so a report can be made of
any folder at any time, of a run that was killed as well.
"""

from __future__ import annotations

from ._page import REPORT, write_report

__all__ = ("REPORT", "write_report")
