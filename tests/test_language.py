"""Docstrings, comments and pages are plain: these phrases are kept out of them."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Regular expressions that match whole words in any case, and what to write instead.
PHRASES = {
    "told": "configured (by the user), retry_after (by the server), recorded (in the journal), given",
    "untold": "unknown, not configured",
    "whoever": "name the caller, the user or the task",
    "whatever": "any, or say which",
    "anew": "again",
    "briskly": "quickly, or a number",
    "scouts?": "exploration poll",
    "a no": "a rejection (429)",
    "last no": "the last rejection (429)",
    "no news": "nothing changed",
    "(?:is|are) news": "say what changed",
    "so many": "name the number",
    "so much": "name the amount",
    "of (?:no )?use": "useful, needed",
    "let through": "accepted",
    "(?:refused|refusals?) for (?:its|the|their|a) rate": "rejected (429)",
    "nobody there": "say who is absent",
    "has it that": "state the fact",
    "is no (?:field|key|limit|more|wait)": "is not a ..., no longer",
    "goes by": "is called, uses",
    "what (?:came|comes|became|becomes) of": "the outcome of",
    "said so": "say what was stated, and where",
    "sees? that": "ensure that",
    "as good as": "nearly, or the condition",
    "at some odd time": "later, at an unknown time",
    "to be had": "available",
    "be it": "whether",
    "this very": "this",
    "without a word": "without an error",
    "lest": "so that ... not",
    "fate": "outcome",
    "(?:had|has) (?:its|their) fill": "reached the limit",
    "(?:its|their) kin": "name the fields",
    "trips?": "round trip",
}
_PHRASE = re.compile(
    rf"(?<![\w-])(?:{'|'.join(PHRASES).replace(' ', chr(92) + 's+')})(?![\w-])", re.IGNORECASE
)
_ROUND_TRIP = re.compile(r"round\s+trips?", re.IGNORECASE)
_CODE = re.compile(r"`[^`]*`")
_GENERATED = re.compile(r"^<!-- (\w+) -->$.*?^<!-- /\1 -->$", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

#: The pages and the modules in which these phrases must not stand.
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
MODULES = sorted((ROOT / "ruxa_async").rglob("*.py"))


def _blanked(found: re.Match[str]) -> str:
    """Keep the line breaks of *found*, so that the numbers of later lines stay right."""
    return re.sub(r"[^\n]", " ", found[0])


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node, clean=False)
            if text is not None:
                yield node.body[0].lineno, text


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield each block of comment lines with the number of its first line."""
    first, lines = 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        text = token.string.lstrip("#:! ")
        if lines and token.start[0] == first + len(lines):
            lines.append(text)
        else:
            if lines:
                yield first, "\n".join(lines)
            first, lines = token.start[0], [text]
    if lines:
        yield first, "\n".join(lines)


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each text of *path* that a reader reads, with the number of its first line."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from _docstrings(ast.parse(source))
        yield from _comments(source)
    else:
        yield 1, _FENCED.sub(_blanked, _GENERATED.sub(_blanked, source))


def phrases_in(text: str) -> Iterator[tuple[int, str]]:
    """Yield each phrase in *text* with the number of lines before it; what stands in backticks is code."""
    plain = _ROUND_TRIP.sub(_blanked, _CODE.sub(_blanked, text))
    for found in _PHRASE.finditer(plain):
        yield plain.count("\n", 0, found.start()), " ".join(found[0].split())


def found_in(path: Path) -> list[str]:
    """Return ``file:line: phrase`` for each phrase that should not be in *path*."""
    name = path.relative_to(ROOT)
    return [
        f"{name}:{first + before}: {phrase}"
        for first, text in texts_of(path)
        for before, phrase in phrases_in(text)
    ]


@pytest.mark.parametrize("path", [*PAGES, *MODULES], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_listed_phrase_stands_in_a_docstring_a_comment_or_a_page(path: Path) -> None:
    found = found_in(path)
    assert not found, "\n".join(["PHRASES in tests/test_language.py says what to write instead:", *found])


def test_phrases_are_found_as_whole_words_over_line_breaks_and_not_in_code() -> None:
    assert list(phrases_in("One request.\nIt is told\n    so\n    many times.")) == [
        (1, "told"),
        (2, "so many"),
    ]
    assert list(phrases_in("A round trip, `told`, a non-event and a notice of 2 stripes.")) == []
    assert list(phrases_in("It is `let` through; trips cost")) == [(0, "trips")]


def test_docstrings_comments_and_pages_are_read_with_their_lines(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('"""First."""\n\n# one\n# two\nX = "no # comment"  # three\n', encoding="utf-8")
    assert list(texts_of(module)) == [(1, "First."), (3, "one\ntwo\nthree")]
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\ntold\n<!-- /x -->\n```\ntold\n```\nb\n", encoding="utf-8")
    ((line, text),) = texts_of(page)
    assert (line, text.split()) == (1, ["a", "b"])
