"""In a notebook, results show their outputs and fields, and text from outside is escaped."""

from __future__ import annotations

import time
from html.parser import HTMLParser

import attrs
import pytest
from harness import service_of

from ruxa_async import Failed, Generation, NanoBanana, Succeeded, TaskFailedError, TaskState, TaskStatus
from ruxa_async._client.clock import Clock
from ruxa_async._client.event_bus import EventBus
from ruxa_async._client.outputs import OutputFetcher
from ruxa_async.downloads import Downloader
from ruxa_async.transports import MemoryTransport

HOSTILE = "</bdi></td><script>alert(1)</script><img src=x onerror=alert(1)>\u202e\" ' &lt;"
REQUEST = NanoBanana(prompt="a cat", key="k")
MADE = Generation(
    task_id="task_1",
    model="google/nano-banana",
    urls=("https://h.example/a.png?sig=1&b=2",),
    request=REQUEST,
    credits=3.0,
    duration=12.5,
)


class Seen(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def sources(self) -> list[str | None]:
        return [attributes["src"] for _, attributes in self.tags if "src" in attributes]


def seen(value: object) -> Seen:
    return Seen(value._repr_html_())  # type: ignore[attr-defined]


def succeeded(generation: Generation, key: str = "k") -> Succeeded:
    return Succeeded(
        index=0,
        key=key,
        request=REQUEST,
        task_id="task_1",
        generation=generation,
        queries=3,
        submitted_at=1.0,
        finished_at=2.0,
    )


def failed(error: Exception, request: NanoBanana = REQUEST) -> Failed:
    return Failed(
        index=0,
        key="k",
        request=request,
        task_id="task_1",
        error=error,
        queries=3,
        submitted_at=1.0,
        finished_at=2.0,
    )


def test_a_generation_shows_its_picture_and_facts() -> None:
    page = seen(MADE)
    assert page.sources() == ["https://h.example/a.png?sig=1&b=2"]
    assert page.words == [
        "a cat",
        "model",
        "google/nano-banana",
        "task",
        "task_1",
        "took",
        "12.5 s",
        "credits",
        "3",
    ]


def test_a_video_is_loaded_when_it_is_played() -> None:
    page = seen(attrs.evolve(MADE, urls=("https://h.example/a.MP4",)))
    (video,) = [attributes for tag, attributes in page.tags if tag == "video"]
    assert (video["src"], video["preload"]) == ("https://h.example/a.MP4", "none")


@pytest.mark.parametrize(
    "url",
    [
        "http://h.example/a.png",
        "javascript:alert(1)//a.png",
        "data:image/svg+xml,<svg onload=alert(1)>",
        "file:///etc/passwd",
        "//h.example/a.png",
        "https:///a.png",
        "https://h.example/a\n.png",
        "https://[h/a.png",
        HOSTILE,
    ],
)
def test_a_url_that_is_not_https_is_only_text(url: str) -> None:
    page = seen(attrs.evolve(MADE, urls=(url,)))
    assert page.sources() == []
    assert page.words[0] == url


async def unasked(task_id: str) -> TaskStatus:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("home", "url", "shown"),
    [
        ("http://127.0.0.1:8787", "http://127.0.0.1:8787/files/a.png", True),
        ("http://localhost:8787/", "http://localhost:8787/files/a.png", True),
        ("http://127.0.0.1:8787", "http://127.0.0.1:631/printers", False),  # something else that listens here
        ("http://127.0.0.1:8787", "http://user@127.0.0.1:8787/a.png", False),
        ("http://127.0.0.1:8787", "http://[::1", False),
        ("https://api.ruxa.ai", "http://127.0.0.1:8787/a.png", False),
        ("http://api.example", "http://api.example/a.png", False),
    ],
)
def test_http_media_are_shown_only_from_a_local_emulator(home: str, url: str, shown: bool) -> None:
    downloader = Downloader(transport=MemoryTransport(service_of()), home=home)
    bus = EventBus(Clock(time.time, time.monotonic))
    media = OutputFetcher(downloader, None, status=unasked, ensure_open=lambda _: None, event_bus=bus)
    made = attrs.evolve(MADE, urls=(url,), _media=media)
    assert bool(seen(made).sources()) is shown
    assert bool(seen(succeeded(made)).sources()) is shown


def test_many_outputs_show_the_first_and_say_how_many_follow() -> None:
    page = seen(attrs.evolve(MADE, urls=tuple(f"https://h.example/{n}.png" for n in range(9))))
    assert len(page.sources()) == 4
    assert "and 5 more" in page.words


def test_outcomes_show_their_facts_or_their_error() -> None:
    assert {"queries", "k"} <= set(seen(succeeded(MADE)).words)
    words = seen(failed(TaskFailedError("task_1", "500", "why"))).words
    assert any(word.startswith("TaskFailedError: ") and "why" in word for word in words)


def test_a_status_shows_its_fields() -> None:
    running = TaskStatus(task_id="t", state=TaskState.RUNNING, progress=40.0)
    assert seen(running).words == ["state", "running", "task", "t", "progress", "40 %"]
    odd = TaskStatus(
        task_id="t", state=TaskState.UNKNOWN, raw_state="<odd>", fail_code="1", fail_message="no"
    )
    assert seen(odd).words == ["state", "unknown: <odd>", "task", "t", "failure", "1 no"]


@pytest.mark.parametrize(
    "value",
    [
        attrs.evolve(MADE, task_id=HOSTILE, model=HOSTILE, request=NanoBanana(prompt=HOSTILE)),
        succeeded(MADE, key=HOSTILE),
        failed(TaskFailedError(HOSTILE, HOSTILE, HOSTILE), NanoBanana(prompt=HOSTILE * 100)),
        TaskStatus(task_id=HOSTILE, state=TaskState.FAIL, fail_code=HOSTILE, fail_message=HOSTILE),
    ],
)
def test_hostile_text_is_escaped(value: object) -> None:
    page = seen(value)
    assert {tag for tag, _ in page.tags} <= {"div", "p", "bdi", "table", "tr", "th", "td", "img"}
    assert set(page.sources()) <= {"https://h.example/a.png?sig=1&b=2"}
    assert len(value._repr_html_()) < 10_000  # type: ignore[attr-defined]
