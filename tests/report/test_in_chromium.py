"""The report in a real browser: drawing, search, keyboard, and hostile text that does nothing."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from report.browser import CHROMIUM, Page, opened_browser
from report.rows import HOSTILE, RUN, folder_of, row

import ruxa_async.emulator
from ruxa_async.batch import open_picks
from ruxa_async.report import write_report

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"
)

CLIP = Path(ruxa_async.emulator.__file__).parent / "clip.mp4"
MANY = 300


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def page() -> AsyncIterator[Page]:
    async with opened_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A batch of three hundred: pictures, a film, a task with several outputs, and some of each trouble."""
    rows = [row(n, files=[f"p{n}.png"], credits=3.0, duration=5 + n % 7, lag=n / 100) for n in range(MANY)]
    rows[1]["prompt"] = "A Café in Málaga"
    rows[1]["input"] = {"prompt": "A Café in Málaga", "aspect_ratio": "16:9"}
    rows[1]["outputs"] = [{"width": 1024, "height": 576}]
    rows[2] |= {"files": ["film.mp4"], "model": "sora-2"}
    rows[3]["files"] = ["many-1.png", "many-2.png", "many-3.png"]
    rows[4] |= {"state": "unknown", "files": [], "task_id": None}
    rows[5] |= {"state": "failed", "files": [], "error": {"type": "TaskFailedError", "message": "no cats"}}
    folder = folder_of(tmp_path_factory.mktemp("plain"), rows, [RUN])
    shutil.copy(CLIP, folder / "film.mp4")
    (folder / "p9.png").unlink()
    write_report(folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    error = {"type": "TaskFailedError", "message": "", "cause": ""}
    pairs = [(text, state) for text in HOSTILE for state in ("succeeded", "failed", text)]
    rows = [
        row(n, state, prompt=text, key=text, model=text, task_id=text)
        | {
            "error": dict.fromkeys(error, text),
            "id": f"{n} {text}",
            "input": {text: text, "image_urls": [text, f"https://h/{n - 1}"]},
            "urls": [f"https://h/{n}"],
            "files": [] if n % 2 else [f"javascript:alert({n}).png"],
        }
        for n, (text, state) in enumerate(pairs)
    ]
    folder = folder_of(tmp_path_factory.mktemp("hostile"), rows, [{**RUN, "source": HOSTILE[0]}])
    write_report(folder, title=HOSTILE[0])
    return folder / "report.html"


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A single-file page, alone in its folder: prompts over two models, an edit, a source elsewhere, a film."""
    pro = "google/nano-banana-pro"
    rows = [
        row(0, id="a", prompt="a cat", files=["a.png"], input={"prompt": "a cat"}, urls=["https://s/a.png"]),
        row(1, id="b", files=["b.png"], input={"prompt": "alone"}, prompt="alone"),
        row(2, id="c", prompt="a cat", model=pro, files=["c.png"], input={"prompt": "a cat", "size": "2k"}),
        row(3, id="d", prompt="a cat", model=pro, files=["d.png"], input={"prompt": "a cat", "size": "4k"}),
        row(4, id="e", prompt="a hat", files=["e.png"], input={"image_urls": ["https://s/a.png"]}),
        row(
            5, id="f", prompt="a hat", files=["f.png"], input={"image_urls": ["https://other.example/x.png"]}
        ),
        row(6, id="g", prompt="a film", files=["g.mp4"], input={"prompt": "a film"}),
    ]
    folder = folder_of(tmp_path_factory.mktemp("compared"), rows, [RUN])
    return write_report(folder, single_file=True, out=tmp_path_factory.mktemp("empty") / "report.html")


async def shown(page: Page) -> int:
    await page.until(
        "document.querySelectorAll('.tile').length && document.getElementById('sheet').dataset.full"
    )
    return int(await page.value("document.querySelectorAll('.tile').length"))


def quiet(page: Page) -> None:
    """Assert that the page asked nobody for anything and had nothing to complain of."""
    assert not [address for address in page.requests if not address.startswith(("file:", "data:"))]
    assert page.complaints == []


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_is_drawn_at_every_width(
    page: Page, plain: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    await page.size(width, scheme=scheme)
    await page.open(plain)
    assert await shown(page) == MANY
    assert await page.value("document.documentElement.scrollWidth <= innerWidth")
    assert await page.value("getComputedStyle(document.body).backgroundColor") == (
        "rgb(251, 250, 248)" if scheme == "light" else "rgb(21, 20, 19)"
    )
    await page.value("document.querySelector('.tile').scrollIntoView()")
    await page.until("document.querySelector('.tile img').naturalWidth === 8")
    shot = await page.screenshot(tmp_path / "report.png")
    assert shot.startswith(b"\x89PNG")
    assert int.from_bytes(shot[16:20]) == width
    quiet(page)


async def test_pictures_far_below_are_not_loaded_and_nothing_jumps(page: Page, plain: Path) -> None:
    await page.size(1280)
    page.requests.clear()
    await page.open(plain)
    before = await page.value("document.documentElement.scrollHeight")
    assert 0 < sum(address.endswith(".png") for address in page.requests) < MANY / 2
    await page.value("scrollTo(0, document.documentElement.scrollHeight)")
    await page.until("document.querySelector('#sheet > :last-child img').naturalWidth === 8")
    assert await page.value("document.documentElement.scrollHeight") == before
    assert any(address.endswith(f"/p{MANY - 1}.png") for address in page.requests)


async def test_of_five_thousand_tiles_only_those_in_view_are_loaded_and_drawn(
    page: Page, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, (row(n, files=[f"p{n}.png"]) for n in range(5_000)))
    write_report(folder)
    await page.size(1280)
    page.requests.clear()
    await page.open(folder / "report.html")
    assert await shown(page) == 5_000
    assert sum(address.endswith(".png") for address in page.requests) < 100
    # A tile far away is skipped: its inside has no layout until somebody scrolls there.
    drawn = "[...document.querySelectorAll('.mat')].filter(e => e.checkVisibility({contentVisibilityAuto: true})).length"
    assert 0 < await page.value(drawn) < 200
    last = "document.querySelector('#sheet > :last-child img')"
    await page.value(f"{last}.scrollIntoView()")
    await page.until(f"{last}.naturalWidth === 8")
    await page.press("/", text="/")
    await page.type("prompt 4321")
    assert await shown(page) == 1
    quiet(page)


async def test_searching_and_filtering_narrow_the_sheet(page: Page, plain: Path) -> None:
    await page.size(1280)
    await page.open(plain)
    await page.press("/", text="/")
    await page.type("cafe MALAGA")
    assert await shown(page) == 1
    assert await page.value("document.getElementById('count').textContent") == "1 of 300"
    assert await page.value("document.querySelector('.tile bdi').textContent") == "A Café in Málaga"
    await page.type(" nowhere")
    await page.until("!document.getElementById('nothing').hidden")
    await page.click("#clear")
    assert await shown(page) == MANY
    await page.click("#states [data-state=failed]")
    assert await shown(page) == 1
    assert "no cats" in await page.value("document.querySelector('.tile').textContent")
    await page.click("#states [data-state='']")
    await page.value(
        "(m => { m.value = 'sora-2'; m.dispatchEvent(new Event('change')) })(document.getElementById('model'))"
    )
    assert await shown(page) == 1


async def test_advice_leads_to_its_results(page: Page, plain: Path) -> None:
    await page.size(1280)
    await page.open(plain)
    await page.click(".group summary")
    assert "ruxa-async journal" in await page.value("document.querySelector('.group code').textContent")
    await page.click(".group [data-show=unknown]")
    assert await shown(page) == 1
    await page.click(".group [data-open]")
    await page.until("document.getElementById('item').open")
    facts = await page.value("document.getElementById('facts').textContent")
    assert "Unknown" in facts
    assert "Look at your account first" in facts


async def test_an_opened_item_shows_all_facts_and_is_used_by_keyboard(page: Page, plain: Path) -> None:
    await page.size(1280)
    await page.open(plain)
    await page.value("document.querySelector('.tile').focus()")
    await page.press("ArrowRight")
    await page.press("Enter", code=13, text="\r")
    await page.until(
        "document.getElementById('item').open && document.querySelector('.stage img')?.naturalWidth"
    )
    facts = await page.value(
        "[...document.querySelectorAll('#facts dt')].map(e => [e.textContent, e.nextSibling.textContent])"
    )
    known = dict(facts)
    assert {
        "State": "Succeeded",
        "Model": "google/nano-banana",
        "Task": "task_1",
        "Run time": "6 s",
    }.items() <= known.items()
    assert {
        "Credits": "3",
        "Queries": "2",
        "Delay until the end was seen": "0.01 s",
        "Line": "2",
    }.items() <= known.items()
    assert known["File"].startswith("p1.png 1024 \N{MULTIPLICATION SIGN} 576, ")
    assert known["aspect_ratio"] == "16:9"
    await page.press("ArrowRight")
    await page.until("document.querySelector('.stage video')?.readyState >= 1")
    await page.press("ArrowRight")
    assert await page.value("document.querySelectorAll('.strip button').length") == 3
    await page.click(".strip button:last-child")
    assert (await page.value("document.querySelector('.stage > img').src")).endswith("many-3.png")
    for _ in range(2):
        await page.press("ArrowLeft")
    assert await page.value("document.getElementById('place').textContent") == "2 of 300"
    await page.press("Escape", code=27)
    await page.until("!document.getElementById('item').open")
    assert await page.value("document.activeElement.dataset.place") == "1"
    quiet(page)


async def test_a_tile_says_that_its_file_is_missing(page: Page, plain: Path) -> None:
    await page.size(1280)
    await page.open(plain)
    assert "File is missing" in await page.value("document.querySelector('[data-place=\"9\"]').textContent")


async def test_an_object_in_a_store_is_named_and_not_requested(page: Page, tmp_path: Path) -> None:
    url = "s3://bucket/prefix/cat.png"
    output = {"bytes": 1234, "width": 8, "height": 8}
    made = row(0) | {"files": [url], "outputs": [output]}
    (tmp_path / "results.jsonl").write_text(json.dumps(made) + "\n")
    await page.size(1280)
    await page.open(write_report(tmp_path))
    tile = await page.value("document.querySelector('[data-place=\"0\"]').textContent")
    assert url in tile
    assert "missing" not in tile
    await page.value("document.querySelector('.tile').click()")
    await page.until("document.getElementById('item').open")
    facts = await page.value(
        "[...document.querySelectorAll('#facts dt')].map(e => [e.textContent, e.nextSibling.textContent])"
    )
    assert dict(facts)["File"] == f"{url} 8 \N{MULTIPLICATION SIGN} 8, 1 kB"
    assert await page.value("document.querySelectorAll('#facts a').length") == 0
    quiet(page)


async def test_controls_have_a_name_and_show_their_focus(page: Page, plain: Path) -> None:
    await page.size(1280)
    await page.open(plain)
    await page.value("document.querySelector('.tile').click()")
    tree = (await page.call("Accessibility.getFullAXTree"))["nodes"]
    roles = ("button", "link", "combobox", "searchbox", "image", "dialog")
    used = [node for node in tree if not node["ignored"] and node["role"]["value"] in roles]
    assert {node["role"]["value"] for node in used} >= {"button", "dialog"}
    assert [node["role"] for node in used if not node["name"]["value"].strip()] == []
    await page.press("Tab", code=9)
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert await page.value(outline) == "solid"


async def test_hostile_texts_are_shown_as_text_and_do_nothing(page: Page, hostile: Path) -> None:
    for width in (1280, 400):
        await page.size(width)
        page.requests.clear()
        await page.open(hostile)
        number = await shown(page)
        assert number == 3 * len(HOSTILE)
        assert await page.value("document.documentElement.scrollWidth <= innerWidth")
        heights = await page.value(
            "[...new Set([...document.querySelectorAll('#sheet > li')].map(e => e.offsetHeight))].length"
        )
        assert heights == 1
        tops = "[...new Set([...document.querySelectorAll('.mat')].map(e => e.offsetTop))].length"
        assert await page.value(tops) == 1  # in its tile, however long the caption
        await page.value("document.querySelector('.tile').click()")
        for place in range(number):
            prompt = await page.value("document.querySelector('#facts > bdi').textContent")
            assert prompt == HOSTILE[place // 3].replace("\ud800", "?").replace("\r\n", "\n")
            links = await page.value("[...document.querySelectorAll('#facts a')].map(e => e.href)")
            assert all(link.startswith(("file:///", "https://h/")) for link in links)
            assert "https://evil.example" not in "".join(links)  # text around it: not an address
            assert await page.value("document.querySelector('.side').scrollWidth <= innerWidth")
            await page.press("ArrowRight")
    assert await page.value("typeof window.hurt") == "undefined"
    assert await page.value("document.scripts.length") == 2
    quiet(page)


async def test_the_policy_stops_injected_markup(page: Page, hostile: Path) -> None:
    """The second wall: were something not escaped, the policy would keep it from running and from loading."""
    await page.open(hostile)
    page.requests.clear()
    await page.value(
        "document.body.insertAdjacentHTML('beforeend',"
        ' \'<img src="https://evil.example/a.png" onerror="window.hurt = 1"><iframe srcdoc="x"></iframe>\')'
    )
    await page.value(
        "(s => { s.textContent = 'window.hurt = 2'; document.body.append(s) })(document.createElement('script'))"
    )
    await page.value("new Promise(done => setTimeout(done, 100))")
    assert await page.value("typeof window.hurt") == "undefined"
    assert page.blocked == ["csp"]
    assert page.complaints
    page.complaints.clear()


CAPTIONS = "[...document.querySelectorAll('.sheet .caption > bdi')].map(e => e.textContent)"


async def test_a_single_file_shows_its_pictures_from_an_empty_folder(page: Page, compared: Path) -> None:
    await page.size(1280)
    page.requests.clear()
    await page.open(compared)
    assert await shown(page) == 7
    await page.until("[...document.querySelectorAll('.tile img')].every(e => e.naturalWidth === 8)")
    assert await page.value("document.querySelectorAll('.tile img').length") == 6
    film = await page.value("document.querySelector('[data-place=\"6\"]').textContent")
    assert "Video, not in this page" in film
    await page.value("document.querySelector('.tile').click()")
    assert await page.value("document.querySelector('.stage img').naturalWidth") == 8
    assert await page.value("document.querySelectorAll('#facts a').length") == 0
    assert [one for one in page.requests if not one.startswith("data:")] == [compared.as_uri()]
    quiet(page)


@pytest.mark.parametrize("width", [1280, 390])
async def test_equal_prompts_are_compared_side_by_side(page: Page, compared: Path, width: int) -> None:
    await page.size(width)
    await page.open(compared)
    await page.click("#compare")
    titles = "[...document.querySelectorAll('.comparison h3')].map(e => e.textContent)"
    assert await page.value(titles) == ["a cat", "a hat", "a hat"]
    assert await page.value(CAPTIONS) == [
        *("nano-banana", "nano-banana-pro · size 2k", "nano-banana-pro · size 4k"),
        *("Before", "nano-banana", "Before", "nano-banana"),
    ]
    tops = "[...document.querySelectorAll('.comparison:first-child .tile')].map(e => e.getBoundingClientRect().top)"
    assert len(set(await page.value(tops))) == 1
    heights = "[...new Set([...document.querySelectorAll('.comparison')].map(e => e.offsetHeight))].length"
    assert await page.value(heights) == 1
    assert await page.value("document.documentElement.scrollWidth <= innerWidth")
    await page.value("document.querySelector('.tile').focus()")
    for key, place in (
        ("ArrowRight", "2"),
        ("ArrowDown", "4"),
        ("ArrowUp", "0"),
        ("End", "5"),
        ("Home", "0"),
    ):
        await page.press(key)
        assert await page.value("document.activeElement.dataset.place") == place
    await page.click("#compare")
    assert await shown(page) == 7
    assert (await page.value(CAPTIONS))[2] == "a cat"
    quiet(page)


async def test_an_edit_shows_before_and_after_and_links_to_a_source_elsewhere(
    page: Page, compared: Path
) -> None:
    await page.size(1280)
    page.requests.clear()
    await page.open(compared)
    await page.value("document.querySelector('[data-place=\"4\"]').click()")
    assert await page.value("[...document.querySelectorAll('.pair figcaption')].map(e => e.textContent)") == [
        "Before",
        "After",
    ]
    assert await page.value("document.querySelector('.pair img').alt") == "Source: a cat"
    await page.until("[...document.querySelectorAll('.pair img')].every(e => e.naturalWidth === 8)")
    await page.press("ArrowRight")
    assert await page.value("document.querySelectorAll('.pair').length") == 0
    link = await page.value("(e => [e.href, e.rel, e.target])(document.querySelector('#facts a'))")
    assert link == ["https://other.example/x.png", "noopener noreferrer", "_blank"]
    assert not [address for address in page.requests if "other.example" in address]


async def picked(page: Page) -> list[str]:
    found: list[str] = await page.value(
        "[...document.querySelectorAll('.pick[aria-pressed=true]')].map(e => e.previousElementSibling.dataset.place)"
    )
    return found


async def test_picks_are_made_by_key_or_hand_kept_and_saved(
    page: Page, compared: Path, tmp_path: Path
) -> None:
    await page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    await page.size(1280)
    await page.open(compared)
    await page.value("localStorage.clear()")
    await page.open(compared)
    assert await page.value("document.getElementById('picked').hidden")
    await page.value("document.querySelector('.tile').focus()")
    await page.press("p", text="p")
    await page.press("ArrowRight")
    await page.press("Enter", code=13, text="\r")
    await page.press("p", text="p")
    assert await page.value("document.getElementById('pick').getAttribute('aria-pressed')") == "true"
    await page.press("Escape", code=27)
    await page.click("[data-place='3'] + .pick")
    await page.click("[data-place='3'] + .pick")
    await page.click("[data-place='4'] + .pick")
    assert await picked(page) == ["0", "1", "4"]
    assert await page.value("document.getElementById('picks').textContent") == "3 picks"
    await page.press("/", text="/")
    await page.type("p")  # a letter in the search does not pick
    assert await page.value("document.getElementById('picks').textContent") == "3 picks"
    await page.open(compared)
    assert await picked(page) == ["0", "1", "4"]
    assert await page.value("document.getElementById('forgetful').hidden")
    await page.click("#show-picks")
    assert await shown(page) == 3
    await page.click("#save-picks")
    saved = tmp_path / "picks.jsonl"
    with anyio.fail_after(20):
        while not saved.exists() or not saved.stat().st_size:
            await anyio.sleep(0.05)
    with open_picks(saved) as rows:
        assert [read.request.key for read in rows if read.request is not None] == ["a-pick", "b-pick"]
    assert [json.loads(line)["id"] for line in saved.read_text().splitlines()] == ["a", "b", "e"]
    quiet(page)


async def test_without_storage_picks_last_as_long_as_the_page_which_says_so(
    page: Page, compared: Path
) -> None:
    denied = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError') } })"
    added = await page.call("Page.addScriptToEvaluateOnNewDocument", source=denied)
    try:
        await page.open(compared)
        await page.value("document.querySelector('.tile').focus()")
        await page.press("p", text="p")
        assert await picked(page) == ["0"]
        assert not await page.value("document.getElementById('forgetful').hidden")
        assert "save the picks" in await page.value("document.getElementById('forgetful').textContent")
    finally:
        await page.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])
    quiet(page)


@pytest.mark.parametrize("clipboard", [True, False])
async def test_copying_works_with_and_without_a_clipboard(
    page: Page, compared: Path, clipboard: bool
) -> None:
    """Without permission or without the interface, a selection is copied."""
    await page.size(1280)
    await page.open(compared)
    await page.value(
        "window.copied = []; document.addEventListener('copy', () => copied.push(document.activeElement.value));"
        "Object.defineProperty(navigator, 'clipboard', { value: "
        + ("{ writeText: async (text) => { copied.push(text) } }" if clipboard else "undefined")
        + " })"
    )
    await page.value("document.querySelector('[data-place=\"2\"]').click()")
    for name in ("prompt", "python", "command", "task_id"):
        await page.click(f"[data-copy={name}]")
        await page.until("document.getElementById('copied').textContent === 'Copied'")
        await page.value("document.getElementById('copied').textContent = ''")
    prompt, python, command, task = await page.value("copied")
    assert (prompt, task) == ("a cat", "task_2")
    assert "CustomRequest(model='google/nano-banana-pro', input={'prompt': 'a cat', 'size': '2k'})" in python
    assert command == (
        "ruxa-async generate --model google/nano-banana-pro --input 'prompt=a cat' --input size=2k"
    )
    assert await page.value("document.activeElement.dataset.copy") == "task_id"
    assert await page.value("document.querySelectorAll('textarea').length") == 0
    quiet(page)


async def test_hostile_texts_do_nothing_in_comparisons_picks_and_copies(page: Page, hostile: Path) -> None:
    await page.size(390)
    page.requests.clear()
    await page.open(hostile)
    await page.value(
        "window.copied = [];"
        "Object.defineProperty(navigator, 'clipboard', { value: { writeText: async (text) => { copied.push(text) } } })"
    )
    await page.click("#compare")
    number = await shown(page)
    assert number == 3 * len(HOSTILE)
    assert await page.value("document.documentElement.scrollWidth <= innerWidth")
    heights = "[...new Set([...document.querySelectorAll('.comparison')].map(e => e.offsetHeight))].length"
    assert await page.value(heights) == 1
    links = await page.value("[...document.querySelectorAll('.sheet a')].map(e => e.href)")
    assert links
    assert all(re.fullmatch(r"https://h/-?\d+", link) for link in links)
    await page.value("[...document.querySelectorAll('.pick')].forEach(e => e.click())")
    picks = await page.value("document.querySelectorAll('.pick[aria-pressed=true]').length")
    assert picks > len(HOSTILE)
    await page.value("document.querySelector('.tile').click()")
    for _ in range(number):
        await page.value("[...document.querySelectorAll('[data-copy]')].forEach(e => e.hidden || e.click())")
        await page.press("ArrowRight")
    for text in await page.value("copied.filter(e => e.startsWith('from ruxa_async'))"):
        compile(text, "snippet", "exec")
    await page.press("Escape", code=27)
    await page.open(hostile)
    assert await page.value("document.querySelectorAll('.pick[aria-pressed=true]').length") == picks
    await page.value("localStorage.clear()")
    assert await page.value("typeof window.hurt") == "undefined"
    assert await page.value("document.scripts.length") == 2
    quiet(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_has_enough_contrast(page: Page, compared: Path, scheme: str) -> None:
    """At least 4.5 to 1 for text, 3 to 1 for the border of a button (WCAG 2.2 AA)."""
    await page.size(1280, scheme=scheme)
    await page.open(compared)
    colours = await page.value(
        "Object.fromEntries(['paper', 'mat', 'ink', 'soft', 'good', 'warn', 'bad', 'edge-line'].map(name =>"
        " [name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`)]))"
    )

    def contrast(one: str, other: str) -> float:
        def luminance(name: str) -> float:
            channels = [int(colours[name].strip()[at : at + 2], 16) / 255 for at in (1, 3, 5)]
            red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
            return 0.2126 * red + 0.7152 * green + 0.0722 * blue

        low, high = sorted((luminance(one), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    for name in ("ink", "soft", "warn", "bad"):
        assert min(contrast(name, "paper"), contrast(name, "mat")) >= 4.5, name
    assert contrast("good", "paper") >= 4.5
    assert contrast("edge-line", "paper") >= 3


async def test_on_paper_every_picture_is_there_and_no_control(
    page: Page, compared: Path, tmp_path: Path
) -> None:
    await page.size(1280, scheme="dark")
    await page.open(compared)
    await page.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert await page.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        hidden = "[...document.querySelectorAll('search, nav, .pick, dialog')].filter(e => e.checkVisibility()).length"
        assert await page.value(hidden) == 0
        assert await page.value("document.querySelector('h1').checkVisibility()")
    finally:
        await page.call("Emulation.setEmulatedMedia", media="")
    pdf = base64.b64decode((await page.call("Page.printToPDF"))["data"])
    assert pdf.startswith(b"%PDF-")
    assert pdf.count(b"/Subtype /Image") >= 6
