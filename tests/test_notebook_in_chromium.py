"""What a notebook shows, in a real browser and of a real emulator."""

from __future__ import annotations

from pathlib import Path

import pytest
from report.browser import CHROMIUM, opened_browser

from ruxa_async import NanoBanana, RuxaClient
from ruxa_async.emulator import Emulator, EmulatorSettings

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_outcomes_show_their_picture_or_their_error(tmp_path: Path) -> None:
    settings = EmulatorSettings(speed=200, fail_share=0.5, dialect="sibling")
    async with (
        Emulator(settings) as service,
        RuxaClient(api_key=service.key, base_url=service.url) as ruxa,
    ):
        requests = [NanoBanana(prompt=f"<b>a cat</b> on windowsill {n}") for n in range(12)]
        async with ruxa.as_completed(requests) as results:
            outcomes = [outcome async for outcome in results]
        cells = [outcome._repr_html_() for outcome in outcomes]
        cells += [outcome.generation._repr_html_() for outcome in outcomes if outcome.ok]
        notebook = tmp_path / "notebook.html"
        head = '<!doctype html><meta charset="utf-8"><body style="font: 14px sans-serif">'
        notebook.write_text(head + "<hr>".join(cells), encoding="utf-8")
        made = sum(outcome.ok for outcome in outcomes)
        assert 0 < made < 12
        async with opened_browser() as page:
            await page.size(800)
            await page.call("Page.navigate", url=notebook.as_uri())
            await page.until("document.readyState === 'complete'")
            pictures = "[...document.images]"
            await page.value(f"{pictures}.forEach(i => i.loading = 'eager')")
            await page.until(f"{pictures}.every(i => i.naturalWidth === 512)")
            assert await page.value(f"{pictures}.length") == 2 * made
            words = await page.value("document.body.innerText")
            await page.screenshot(tmp_path / "notebook.png")
            assert page.complaints == []
    assert words.count("<b>a cat</b> on windowsill") == 12 + made
    assert words.count("TaskFailedError") == 12 - made
