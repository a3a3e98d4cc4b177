"""The cases beside this file: a line of JSON each, with what must come of it.

A long repetition is written ⟦text*times⟧.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_REPEATED = re.compile(r"⟦(.+?)\*(\d+)⟧", re.DOTALL)


def cases(name: str) -> list[Any]:
    """Return the cases in the file called *name*."""
    lines = Path(__file__).with_name(f"{name}.jsonl").read_text().splitlines()
    return [_spelt_out(json.loads(line)) for line in lines]


def body_of(text: str) -> bytes:
    """Return *text* as the bytes that it stands for; what is no Latin-1 was text of the service's."""
    try:
        return text.encode("latin-1") if "\xff" in text or "\x1f\x8b" in text else text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _spelt_out(value: Any) -> Any:
    if isinstance(value, str):
        return _REPEATED.sub(lambda match: match[1] * int(match[2]), value)
    if isinstance(value, list):
        return [_spelt_out(each) for each in value]
    if isinstance(value, dict):
        return {name: _spelt_out(each) for name, each in value.items()}
    return value
