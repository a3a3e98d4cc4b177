"""Print a fixed-seed sample of docstrings and comments with the code around them, for people who grade them.

Run ``python tests/sample_docstrings.py --seed 12 --count 60``. Each sample is numbered and names its file and
line. A docstring comes with the source of its function or class, a comment with the ten lines around it.
Grade each as clear or unclear at first reading.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import ast
import io
import random
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
#: Lines of a class, or of a module, that are shown below its docstring.
LONGEST_SOURCE = 60
#: Lines that are shown before and after a comment.
AROUND = 5


class Sample(NamedTuple):
    """A docstring or comment, and the code that explains it."""

    place: str
    text: str
    source: str


def _lines(source: list[str], first: int, last: int) -> str:
    """Return the lines from *first* to *last*, which count from 1, with their numbers."""
    last = min(last, len(source))
    return "\n".join(f"{number:5} {source[number - 1]}" for number in range(max(first, 1), last + 1))


def docstrings(path: Path, text: str) -> Iterator[Sample]:
    """Yield each docstring of a module, a class or a function in *path*."""
    source, name = text.splitlines(), path.relative_to(ROOT)
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        docstring = ast.get_docstring(node)
        if docstring is None:
            continue
        first = (
            1
            if isinstance(node, ast.Module)
            else min([node.lineno, *(d.lineno for d in node.decorator_list)])
        )
        last = len(source) if isinstance(node, ast.Module) else (node.end_lineno or first)
        shown = _lines(source, first, min(last, first + LONGEST_SOURCE))
        yield Sample(f"{name}:{node.body[0].lineno}", docstring, shown)


def comments(path: Path, text: str) -> Iterator[Sample]:
    """Yield each comment in *path*, of one or more lines, without directives such as ``noqa``."""
    source, name = text.splitlines(), path.relative_to(ROOT)
    blocks: list[list[tuple[int, str]]] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT or token.string.startswith(
            ("# noqa", "# type:", "# pragma", "# ----")
        ):
            continue
        if blocks and blocks[-1][-1][0] == token.start[0] - 1:
            blocks[-1].append((token.start[0], token.string))
        else:
            blocks.append([(token.start[0], token.string)])
    for block in blocks:
        first, last = block[0][0], block[-1][0]
        yield Sample(
            f"{name}:{first}",
            "\n".join(line for _, line in block),
            _lines(source, first - AROUND, last + AROUND),
        )


def samples() -> list[Sample]:
    """Return every docstring and comment of the package, in the order of its files."""
    found: list[Sample] = []
    for path in sorted((ROOT / "ruxa_async").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found += [*docstrings(path, text), *comments(path, text)]
    return found


def main() -> None:
    """Print the sample that the arguments name."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--count", type=int, default=60)
    options = parser.parse_args()
    everything = samples()
    drawn = random.Random(options.seed).sample(everything, min(options.count, len(everything)))
    print(f"{len(drawn)} of {len(everything)} docstrings and comments, seed {options.seed}")
    for number, sample in enumerate(drawn, 1):
        print(f"\n======== {number}. {sample.place}\n\n{sample.text}\n\n-------- the code\n\n{sample.source}")


if __name__ == "__main__":
    main()
