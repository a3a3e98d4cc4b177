"""callbacks: how soon the end of a task is seen if the service calls back, and what forged posts can do.

*tasks*: a client buys pictures of about 2 s over HTTP on this machine, at most 100 at a time. "lag" is from
the end of a task to its outcome, on one clock. Callbacks come always, for half of the tasks, or never;
"polling" has no receiver. Targets: with all callbacks at most 1.1 queries a task and 50 ms of lag; everything
finishes without them; with half of them the lag is below that of polling.

*attack*: beside such a run another process sends 10,000 posts, 8 at a time: forged tokens, expired ones, real
addresses of running tasks with a false state or with garbage. "wrong" counts outcomes that differ from the
service's ledger. Targets: none, and 99 in 100 responses within 50 ms.

*lost*: the reply to every create is lost. Target: all are recovered, none is sent again.

The emulator is a thread of this process, so it takes its share of the same processor.
"""

from __future__ import annotations

import json
import random
import string
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
from anyio import to_thread

from benchmarks._figures import Row, Sample, figures
from benchmarks._harness import Options, Round, interleaved
from ruxa_async import CallbackReceiver, NanoBanana, RuxaClient
from ruxa_async.callbacks._authentication import Tokens
from ruxa_async.emulator import Callbacks, Durations, Emulator, EmulatorSettings, Fault

__all__ = ("run",)

_SECRET = "a secret of the benchmark, no other"
_POSTS = 10_000


def run(options: Options) -> list[Row]:
    """Measure tasks, the attack, and lost creates."""
    tasks, posts = (100, 1_000) if options.quick else (1_000, _POSTS)
    rounds = options.times(3)
    variants = {
        "all come": partial(_tasks, Callbacks(), tasks),
        "half come": partial(_tasks, Callbacks(lost=0.5), tasks),
        "none come": partial(_tasks, Callbacks(lost=1.0), tasks),
        "polling": partial(_tasks, None, tasks),
    }
    measured = interleaved(variants, rounds, about=f"{tasks:,} tasks")
    rows = [_task_row(name, [each[name] for each in measured]) for name in variants]
    attacked = interleaved({"attack": partial(_attacked, tasks, posts)}, rounds, about=f"{posts:,} posts")
    rows.append(
        {
            "variant": "attack",
            **figures(
                [each["attack"] for each in attacked],
                {
                    "posts": lambda s: s["posts"],
                    "wrong": lambda s: s["wrong"],
                    "finished": lambda s: s["finished"],
                    "p50 ms": lambda s: 1e3 * s["p50"],
                    "p99 ms": lambda s: 1e3 * s["p99"],
                    "longest ms": lambda s: 1e3 * s["longest"],
                },
            ),
        }
    )
    for style in ("query", "no_id"):
        lost = interleaved({style: partial(_lost, style)}, rounds, about="lost creates")
        rows.append(
            {
                "variant": f"lost, {style}",
                **figures(
                    [each[style] for each in lost],
                    {"adopted": lambda s: s["adopted"], "sent": lambda s: s["sent"]},
                ),
            }
        )
    return rows


def _task_row(name: str, samples: list[Sample]) -> Row:
    columns = {
        "finished": lambda s: s["finished"],
        "queries/task": lambda s: s["queries"] / s["tasks"],
        "mean lag ms": lambda s: 1e3 * s["lag"],
        "p99 lag ms": lambda s: 1e3 * s["p99"],
    }
    return {"variant": name, **figures(samples, columns)}


@asynccontextmanager
async def _connected(
    how: Callbacks | None, **settings: Any
) -> AsyncIterator[tuple[RuxaClient, Emulator, str]]:
    """Yield a client of an emulator, and the address of its receiver; *how* None: without a receiver."""
    made = EmulatorSettings(image=Durations(2.0, 0.4), callbacks=how or Callbacks(), seed=7, **settings)
    async with Emulator(made) as emulator:
        if how is None:
            async with RuxaClient(api_key=emulator.key, base_url=emulator.url) as ruxa:
                yield ruxa, emulator, ""
            return
        listener = CallbackReceiver(public_url="http://127.0.0.1:1", secret=_SECRET)
        async with listener.serve("127.0.0.1", 0) as (host, port):
            listener.public_url = f"http://{host}:{port}"
            async with RuxaClient(api_key=emulator.key, base_url=emulator.url, callbacks=listener) as ruxa:
                yield ruxa, emulator, listener.public_url


def _tasks(how: Callbacks | None, tasks: int, _: Round) -> Sample:
    async def main() -> Sample:
        async with _connected(how) as (ruxa, emulator, _):
            return await _bought(ruxa, emulator, tasks)

    return anyio.run(main)


async def _bought(ruxa: RuxaClient, emulator: Emulator, tasks: int) -> Sample:
    lags: list[float] = []
    wrong = 0
    async for outcome in ruxa.as_completed(NanoBanana(prompt=f"picture {n}") for n in range(tasks)):
        now = time.monotonic()
        task = emulator.service.task(outcome.task_id or "")
        if task is None or outcome.ok is task.fails:
            wrong += 1
        else:
            lags.append(now - task.ends)
    lags.sort()
    return {
        "tasks": tasks,
        "finished": len(lags),
        "wrong": wrong,
        "queries": emulator.service.counts.queries,
        "lag": sum(lags) / len(lags),
        "p99": lags[int(0.99 * len(lags))],
    }


def _attacked(tasks: int, posts: int, _: Round) -> Sample:
    async def main() -> Sample:
        how = Callbacks(style="mixed", duplicated=0.5, malformed=0.2, spread=0.5)
        async with (
            _connected(how, fail_share=0.3) as (ruxa, emulator, address),
        ):
            answers: list[Sample] = []

            async def attack() -> None:
                await anyio.sleep(1)
                letters = json.dumps(_letters(emulator, address, posts))
                command = [sys.executable, "-m", "benchmarks._posts"]
                done = await to_thread.run_sync(
                    partial(
                        subprocess.run, command, input=letters, capture_output=True, text=True, check=True
                    )
                )
                answers.append(json.loads(done.stdout))

            async with anyio.create_task_group() as tg:
                tg.start_soon(attack)
                sample = await _bought(ruxa, emulator, tasks)
        times = sorted(answers[0]["times"])
        at = {"p50": times[len(times) // 2], "p99": times[int(0.99 * len(times))], "longest": times[-1]}
        return {**sample, **at, "posts": len(times)}

    return anyio.run(main)


def _letters(emulator: Emulator, address: str, posts: int) -> list[tuple[str, str]]:
    chance = random.Random(1)
    old = Tokens([_SECRET.encode()], 1e9)
    real = [purchase.callback or "" for purchase in emulator.service.ledger.entries]
    lie = json.dumps(
        {"taskId": "task_of_somebody_else", "state": "success", "resultUrls": ["http://evil/x.png"]}
    )
    made = []
    for _ in range(posts):
        forged = "".join(chance.choices(string.ascii_letters + string.digits, k=43))
        stale = old.issue(chance.randbytes(12), time.time() - 10 * 86_400)
        made.append(
            chance.choice(
                [
                    (f"{address}/{forged}", lie),
                    (f"{address}/{stale}", lie),
                    (chance.choice(real), lie),
                    (chance.choice(real), "{not json"),
                    (f"{address}/nowhere", lie),
                ]
            )
        )
    return made


def _lost(style: Any, _: Round) -> Sample:
    async def main() -> Sample:
        faults = (Fault("reset_after", "create"),)
        async with _connected(Callbacks(style=style), faults=faults) as (ruxa, emulator, _):
            adopted = 0
            async for outcome in ruxa.as_completed(NanoBanana(prompt=f"picture {n}") for n in range(100)):
                adopted += outcome.ok
            return {"adopted": adopted, "sent": emulator.service.counts.creates}

    return anyio.run(main)
