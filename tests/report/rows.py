"""Folders of results for tests, also with hostile text."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

#: What people, models and services may put into a text.
HOSTILE = (
    "</script><script>window.hurt = 1</script>",
    "<img src=x onerror='window.hurt = 2'>",
    '"><svg onload="window.hurt = 3"><a href="javascript:window.hurt = 4">x</a>',
    "<!-- <script> ]]> &lt; &amp; {{data}} {{script}} \\u003c",
    "\u202egnp.exe \u2066 \u2069\u2069 \u200f\u05e9\u05dc\u05d5\u05dd",
    "\u2028\u2029\x00\x1b[31m\x7f",
    "https://evil.example/?q=1 javascript:alert(1) data:text/html,<script>window.hurt=5</script>",
    "e" + "\u0301" * 300,
    "long " * 2_000,
    "x" * 10_000,
    "$(touch hurt) `touch hurt`; ' \" \\ \n rm",
    "\ud800 lone",
)


def png(red: int = 90, green: int = 140, blue: int = 180, size: int = 8) -> bytes:
    """Return a small picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    lines = (b"\0" + bytes((red, green, blue)) * size) * size
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def row(index: int, state: str = "succeeded", **values: Any) -> dict[str, Any]:
    """Return one line as a batch writes it."""
    return {
        "v": 1,
        "index": index,
        "line": index + 1,
        "key": None,
        "model": "google/nano-banana",
        "prompt": f"prompt {index}",
        "task_id": f"task_{index}",
        "state": state,
        "files": [],
        "urls": [],
        "error": None,
        "credits": None,
        "duration": None,
        "queries": 2,
        "submitted_at": 1000.0 + index,
        "finished_at": 1010.0 + index,
        **values,
    }


def folder_of(path: Path, rows: Iterable[dict[str, Any]], runs: Iterable[dict[str, Any]] = ()) -> Path:
    """Write *rows* and *runs* to *path*, with a picture for each file they name."""
    path.mkdir(parents=True, exist_ok=True)
    written = list(rows)
    (path / "results.jsonl").write_text("".join(json.dumps(one) + "\n" for one in written))
    if runs := list(runs):
        (path / "runs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in runs))
    for one in written:
        for place, name in enumerate(one["files"]):
            (path / name).write_bytes(png(blue=40 * (one["index"] + place) % 256))
    return path


RUN = {
    "v": 1,
    "version": "0.1",
    "source": "some/prompts.txt",
    "started_at": 1000.0,
    "ended_at": 1040.0,
    "ending": "finished",
    "throttled_over_time": {"step": 2.0, "create": [3, 0, 1], "query": [0, 5]},
}
