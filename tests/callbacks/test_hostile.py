"""Two thousand forged posts during a run: no outcome changes, no token is shown, and no memory grows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from callbacks.test_receiver import DONE
from callbacks.wired import PUBLIC, SECRET, Wired, post, wired
from harness import prompts

from ruxa_async import SqliteJournal, TaskFailedError
from ruxa_async.callbacks._authentication import Tokens
from ruxa_async.emulator import Callbacks, Durations

POSTS, TASKS = 2_000, 200
LIES = (
    DONE,
    b'{"taskId": "task_of_somebody_else", "state": "success", "resultUrls": ["http://evil.example/x.png"]}',
    b'{"state": "fail", "failMsg": "a lie"}',
    b'{"code": 501, "data": {"state": "fail"}}',
    b"{not json \xff",
    b"[" * 50_000,
    b"",
)


def hostile(w: Wired, chance: random.Random) -> Iterator[tuple[str, str, bytes]]:
    """Make up posts without end: their kind, where to, and what they say."""
    others = Tokens([b"a secret of somebody else"], 1e9)
    ours = Tokens([SECRET.encode()], 1e9)
    while True:
        now, job, lie = w.receiver.wall(), chance.randbytes(12), chance.choice(LIES)
        real = chance.choice(w.service.ledger.entries).callback or ""
        head, _, token = real.rpartition("/")
        yield "forged", f"{PUBLIC}/{others.issue(job, now)}", lie
        yield "stale", f"{PUBLIC}/{ours.issue(job, now - 4 * 86_400)}", lie
        yield "mangled", f"{head}/{token[1:]}{token[0]}", lie
        yield "nowhere", f"{PUBLIC}/{token}x", lie
        yield "true", real, lie


async def test_hostile_posts_change_no_outcome(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    chance, answers, events = random.Random(5), Counter[tuple[str, int]](), list[Any]()
    how = Callbacks(style="mixed", duplicated=0.5, spread=2.0)
    client = {"on_event": events.append}
    async with wired(how=how, image=Durations(10.0, 0.4), fail_share=0.3, client=client) as w:

        async def attack() -> None:
            await anyio.sleep(1)
            made = hostile(w, chance)
            for number in range(POSTS):
                kind, url, body = next(made)
                answers[kind, await post(w.receiver, url, body)] += 1
                if number % 20 == 0:
                    await anyio.sleep(0.15)

        async with anyio.create_task_group() as tg:
            tg.start_soon(attack)
            outcomes = [outcome async for outcome in w.ruxa.as_completed(prompts(TASKS))]
        await anyio.sleep(5)
        shown = "".join(map(repr, [*outcomes, *events, w.ruxa, w.receiver, w.ruxa.stats()])) + caplog.text
    each = POSTS // 5
    assert answers == {
        ("forged", 401): each,
        ("stale", 401): each,
        ("mangled", 401): each,
        ("nowhere", 404): each,
        ("true", 200): each,
    }
    assert len(outcomes) == len({outcome.task_id for outcome in outcomes}) == TASKS
    for outcome in outcomes:
        task = w.service.task(outcome.task_id or "")
        assert task is not None
        assert outcome.ok is not task.fails
        if outcome.ok:
            assert outcome.generation.urls == (f"https://emulator.test/files/{outcome.task_id}/0.png",)
        else:
            assert isinstance(outcome.error, TaskFailedError)
            assert outcome.error.fail_message != "a lie"
    assert w.service.ledger.charged == w.service.counts.creates == TASKS
    # What a liar with a true address can do is have a task asked a few times more.
    assert w.service.counts.queries <= 12 * TASKS
    tokens = [(purchase.callback or "").rpartition("/")[2] for purchase in w.service.ledger.entries]
    assert not any(token in shown for token in tokens)
    assert SECRET not in shown
    # No stranger is remembered, and nothing waits.
    assert len(w.receiver._processed) <= TASKS
    assert all(len(news) <= 4 for news in w.receiver._processed.values())
    assert not w.receiver._waiting
    assert w.receiver._waiting_bytes == 0


class TestInRealTime:
    """In real time, because a journal has a thread."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_no_token_is_in_the_journal(self, tmp_path: Path) -> None:
        path = tmp_path / "journal.sqlite"
        client = {"journal": SqliteJournal(path)}
        how = Callbacks(style="mixed")
        async with (
            wired(how=how, image=Durations(0.05), client=client) as w,
            w.ruxa.as_completed(prompts(20), resume="run") as outcomes,
        ):
            assert [outcome.ok async for outcome in outcomes] == [True] * 20
        tokens = [(purchase.callback or "").rpartition("/")[2] for purchase in w.service.ledger.entries]
        kept = b"".join(each.read_bytes() for each in tmp_path.iterdir())
        assert len(tokens) == 20
        assert b"prompt-0" in kept
        assert not any(token.encode() in kept for token in tokens)
        assert SECRET.encode() not in kept
