"""The site has every page, module, error, setting and option."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from pages.blocks import DOCS, ROOT
from pages.complete import names_of, public_modules

import ruxa_async
from ruxa_async import errors, settings

CONFIG = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
SHOWN = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)


def pages_in(entry: Any) -> Iterator[str]:
    """Yield the pages of an entry of the navigation."""
    if isinstance(entry, str):
        yield entry
    for each in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
        yield from pages_in(each)


def test_every_page_is_in_the_navigation_once() -> None:
    listed = [*pages_in(CONFIG["nav"])]
    assert sorted(listed) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


@cache
def shown() -> set[str]:
    """Return what the pages of the reference show in full."""
    return {name for page in DOCS.rglob("*.md") for name in SHOWN.findall(page.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("name", public_modules())
def test_every_public_module_is_in_the_reference(name: str) -> None:
    assert name in shown()


@pytest.mark.parametrize("name", ruxa_async.__all__)
def test_every_name_of_the_package_is_in_the_reference(name: str) -> None:
    assert f"ruxa_async.{name}" in shown() or any(name in names_of(path) for path in shown())


def test_the_list_of_modules_links_every_page_of_the_reference() -> None:
    listed = (DOCS / "api" / "index.md").read_text(encoding="utf-8")
    for page in (DOCS / "api").glob("*.md"):
        assert page.name == "index.md" or f"]({page.name})" in listed


@pytest.mark.parametrize("name", errors.__all__)
def test_the_page_of_errors_says_what_to_do_about_each(name: str) -> None:
    table, _, _ = (DOCS / "errors.md").read_text(encoding="utf-8").partition("## In full")
    rows = [
        line for line in table.splitlines() if line.startswith(f"| [`{name}`](#ruxa_async.errors.{name}) |")
    ]
    assert len(rows) == 1
    assert all(cell.strip() for cell in rows[0].strip("|").split("|"))


@pytest.mark.parametrize("name", sorted({*settings.__all__} - {"Scope"}))
def test_the_page_of_settings_begins_with_a_question_for_each_class(name: str) -> None:
    assert f"](#ruxa_async.settings.{name})" in (DOCS / "settings.md").read_text(encoding="utf-8")


def test_every_example_is_on_its_page() -> None:
    page = (DOCS / "examples.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "examples").rglob("*.py")):
        assert f'{{{{ example("{path.relative_to(ROOT / "examples").as_posix()}") }}}}' in page


@pytest.mark.parametrize(
    "name", ["sync", "resume", "rate-limits", "errors", "settings", "api/index", "gather"]
)
def test_the_first_page_links_what_newcomers_look_for(name: str) -> None:
    assert f"]({name}.md)" in (DOCS / "README.md").read_text(encoding="utf-8")


def rows_of(page: str, heading: str) -> dict[str, list[str]]:
    """Return the rows of the first table below *heading* by their first cell, without ranges in brackets."""
    _, _, text = (DOCS / page).read_text(encoding="utf-8").partition(f"## {heading}\n")
    table = text[text.index("\n| client") :].split("\n\n", 1)[0]
    cells = [
        [re.sub(r" \(.* to .*\)", "", cell.strip()) for cell in line.split("|")[1:-1]]
        for line in table.split("\n")[3:]
    ]
    return {first: others for first, *others in cells}


def test_the_comparison_has_the_figures_of_the_benchmark() -> None:
    measured = rows_of("performance.md", "A hundred pictures under a quota")
    shown = rows_of("comparison.md", "Measured under one quota")
    assert len(shown) > 8
    for client, figures in shown.items():
        _rtt, finished, lost, _twice, rejections, _requests, last = measured[client]
        assert [float(each.replace(",", "")) for each in figures] == [
            float(each.replace(",", "")) for each in (finished, lost, rejections, last)
        ]
