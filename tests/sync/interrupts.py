"""Run as a process: buys again and again, has itself interrupted at many moments, and says what is listed.

Each line of the output is a round as JSON: what the service charged, and what the caller got or finds listed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from harness import service_of, sync_client_of

from ruxa_async import NanoBanana, Outcome
from ruxa_async.emulator import Durations
from ruxa_async.sync import RuxaClient

#: Seconds that a task takes, and that each reply takes.
TASK = Durations(0.02, 0.0)
LATENCY = 0.005


class Round:
    """One client, one interrupt, and everything that the caller learned of its purchases."""

    def __init__(self) -> None:
        self.service = service_of(image=TASK, latency=LATENCY)
        self.known: list[str | None] = []
        self.received: list[str | None] = []
        self.interrupts = 0

    def run(
        self, use: Callable[[Round, RuxaClient], None], on_event: Callable[[object], None] | None
    ) -> None:
        ruxa = sync_client_of(self.service, on_event=on_event)
        try:
            try:
                with ruxa:
                    use(self, ruxa)
            finally:
                ruxa.close()
        except KeyboardInterrupt:
            self.interrupts += 1
        self.known += [record.task_id for record in ruxa.orphans]

    def as_dict(self) -> dict[str, Any]:
        return {
            "interrupts": self.interrupts,
            "charged": [entry.task_id for entry in self.service.ledger.entries],
            "prompts": [entry.input["prompt"] for entry in self.service.ledger.entries],
            "known": [*self.received, *self.known],
        }


def requests() -> Iterator[NanoBanana]:
    return (NanoBanana(prompt=f"prompt {n}") for n in range(8))


def generate(this: Round, ruxa: RuxaClient) -> None:
    for request in requests():
        this.received.append(ruxa.generate(request).task_id)


def submit(this: Round, ruxa: RuxaClient) -> None:
    for request in requests():
        task = ruxa.submit(request)
        this.received.append(task.task_id)
        task.result()


def plain_loop(this: Round, ruxa: RuxaClient) -> None:
    for outcome in ruxa.as_completed(requests(), window=4):
        this.received.append(outcome.task_id)


def batch(this: Round, ruxa: RuxaClient) -> None:
    outcomes = ruxa.as_completed(requests(), window=4)
    try:
        with outcomes:
            for outcome in outcomes:
                this.received.append(outcome.task_id)
    finally:
        this.known += [record.task_id for record in (*outcomes.unfinished, *outcomes.unknown)]


def resumed_loop(this: Round, ruxa: RuxaClient) -> None:
    """Go on with the same outcomes after an interrupt."""
    with ruxa.as_completed(requests(), window=4) as outcomes:
        try:
            receive(this, outcomes)
        except KeyboardInterrupt:
            this.interrupts += 1
            receive(this, outcomes)


def receive(this: Round, outcomes: Iterator[Outcome]) -> None:
    for outcome in outcomes:
        this.received.append(outcome.task_id)


USES = (generate, submit, plain_loop, batch, resumed_loop)
EVENTS = ("JobQueued", "CreateSent", "TaskAccepted", "TaskStateChanged", "TaskEnded")
interrupt = partial(os.kill, os.getpid(), signal.SIGINT)


def at_event(this: Round, use: Callable[[Round, RuxaClient], None], kind: str, number: int) -> None:
    """Interrupt when the event of *kind* happens for the *number*-th time."""
    seen = 0

    def on_event(event: object) -> None:
        nonlocal seen
        if type(event).__name__ == kind:
            seen += 1
            if seen == number:
                interrupt()

    this.run(use, on_event)


def after(this: Round, use: Callable[[Round, RuxaClient], None], seconds: float) -> None:
    """Interrupt after *seconds*, also while the client opens or closes, or after that."""
    timer = threading.Timer(seconds, interrupt)
    try:
        timer.start()
        this.run(use, None)
        timer.join()
    except KeyboardInterrupt:
        this.interrupts += 1
        timer.join()


def main() -> None:
    seed, rounds = map(int, sys.argv[1:])
    chance = random.Random(seed)
    for use in USES:
        for kind in EVENTS:
            for number in (1, 3):
                this = Round()
                at_event(this, use, kind, number)
                say({"round": f"{use.__name__}, {kind} {number}", **this.as_dict()})
        for _ in range(rounds):
            this = Round()
            seconds = chance.uniform(0, 0.1)
            after(this, use, seconds)
            say({"round": f"{use.__name__}, {seconds:.4f} s", **this.as_dict()})


def say(line: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(line)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
