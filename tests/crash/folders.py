"""What must be true after a kill of a batch's folder, its journal and the service's ledger."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

from attrs import define, field
from crash.forks import CREATES, NO_LINKS
from crash.lanes import KILLED, ROWS, Ended, Lane

from ruxa_async import NanoBanana, SqliteJournal
from ruxa_async.emulator import Emulator, Purchase
from ruxa_async.emulator._ledger import KeptTask
from ruxa_async.emulator._pictures import draw
from ruxa_async.journal import JournalEntry, view_journal


@define
class Findings:
    """What many kills came to."""

    kills: int = 0
    lost: int = 0
    twice: int = 0
    corrupt: int = 0
    partial: int = 0
    leftovers: int = 0
    largest_unknown: int = 0
    largest_in_hand: int = 0
    problems: list[str] = field(factory=list)
    firsts: list[float] = field(factory=list)

    def add(self, other: Findings) -> None:
        for name in ("kills", "lost", "twice", "corrupt", "partial", "leftovers"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest_unknown = max(self.largest_unknown, other.largest_unknown)
        self.largest_in_hand = max(self.largest_in_hand, other.largest_in_hand)
        self.problems += other.problems
        self.firsts += other.firsts

    def __str__(self) -> str:
        firsts = sorted(self.firsts)
        to_first = (
            f"; from restart to the first request {firsts[len(firsts) // 2] * 1e3:.0f} ms, "
            f"at most {firsts[-1] * 1e3:.0f} ms"
            if firsts
            else ""
        )
        return (
            f"{self.kills} kills: {self.lost} lost, {self.twice} bought twice, {self.corrupt} corrupt "
            f"journals, {self.partial} partial files, {self.leftovers} leftovers; at most "
            f"{self.largest_unknown} unknown with {self.largest_in_hand} creates in hand{to_first}"
        )


class Folder:
    """The folder of one batch, before one service, and what was found wrong with it so far."""

    def __init__(
        self,
        path: Path,
        emulator: Emulator,
        lane: Lane,
        *,
        rows: int = ROWS,
        worse: str | None = None,
        backend: str = "asyncio",
    ) -> None:
        self.path = path
        self.emulator = emulator
        self.lane = lane
        self.rows = rows
        self.worse = worse
        self.backend = backend
        self.found = Findings()
        self._unknown = 0

    def run(self, *, kill_at_charge: int | None = None, **how: Any) -> Ended:
        """Run the batch, which the service may kill as it charges; look at what a kill leaves."""
        if kill_at_charge is not None:
            how["born"] = self._killer(kill_at_charge)
        ended = self.lane.run(
            self.path, self.emulator, rows=self.rows, worse=self.worse, backend=self.backend, **how
        )
        if ended.status == KILLED:
            self.found.kills += 1
            self._check_killed(ended)
        else:
            self._expect(ended.status in (0, 1), f"exit {ended.status}: {self._log()}")
        return ended

    def finish(self) -> Findings:
        """Go on to the end with the rows in another order, settle what is unknown as a person would, check everything."""
        for part in self.path.glob(".ruxa-*.part"):
            os.utime(part, (1.0, 1.0))  # as if the next run came much later: none of them is still written to
        ended = self.run(reverse=True)
        self.found.firsts += [ended.first] if ended.first else []
        self._check_finished()
        if unknowns := self._unknowns():
            asyncio.run(self._settle(unknowns))
            self.run()
            self._check_finished()
            self._expect(not self._unknowns(), "still unknown after they were settled")
        self._expect(len(self._purchases) == self.rows, f"{len(self._purchases)} bought in the end")
        return self.found

    def _killer(self, nth: int) -> Callable[[int], None]:
        """Have the service kill its client at the *nth* charge: the reply is never written."""
        born: Future[int] = Future()

        def charged(_: KeptTask) -> None:
            if len(self._purchases) == nth - 1:
                os.kill(born.result(10), signal.SIGKILL)

        self.emulator.service._keep = charged
        return born.set_result

    # ---- looking

    @property
    def _purchases(self) -> list[Purchase]:
        return self.emulator.service.ledger.entries

    def _expect(self, true: bool, problem: str) -> bool:
        if not true:
            self.found.problems.append(f"{self.path.name}: {problem}")
        return true

    def _log(self) -> str:
        return self.path.with_name(f"{self.path.name}.log").read_text()[-1500:]

    def _check_killed(self, ended: Ended) -> None:
        """Look at the journal and the files as they lie there."""
        self._check_pictures(killed=True)
        if not (self.path / "journal.sqlite").exists():
            return
        states = self._states()
        self.found.corrupt += not self._expect(states is not None, "the journal is corrupt")
        if states is None:
            return
        # What an earlier kill left is intended still if this run was killed before it had opened the journal.
        before, self._unknown = self._unknown, states.get("intended", 0) + states.get("unknown", 0)
        unknown = self._unknown - before
        in_hand = min(ended.in_hand, self.rows, CREATES)  # what was refused was taken more than once
        self._expect(0 <= unknown <= in_hand, f"{unknown} became unknown, {in_hand} in hand: {states}")
        self.found.largest_unknown = max(self.found.largest_unknown, unknown)
        self.found.largest_in_hand = max(self.found.largest_in_hand, in_hand)

    def _states(self) -> dict[str, int] | None:
        """Return how many jobs are in each state, None if the journal is not sound; only the next run may repair it."""
        copy = self.path.with_name(f"{self.path.name}.copy")
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for file in self.path.glob("journal.sqlite*"):
            shutil.copy(file, copy)
        try:
            with closing(sqlite3.connect(copy / "journal.sqlite")) as connection:
                if connection.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
                    return None
                if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    return {}  # killed before it had tables
                return dict(connection.execute("SELECT state, count(*) FROM jobs GROUP BY state"))
        except sqlite3.DatabaseError:
            return None

    def _check_finished(self) -> None:
        jobs = asyncio.run(self._jobs())
        bought = Counter(entry.task_id for entry in jobs if entry.task_id)
        unknowns = [entry for entry in jobs if entry.state.value == "unknown"]
        asked = [entry.request.input() for entry in unknowns]
        ended = {entry.task_id for entry in jobs if entry.state.value in ("succeeded", "failed")}
        lost = [p for p in self._purchases if p.task_id not in ended and p.input not in asked]
        self.found.lost += len(lost)
        self._expect(not lost, f"lost: {lost}")
        twice = self.emulator.service.ledger.duplicates()
        self.found.twice += len(twice)
        self._expect(not twice, f"bought twice: {twice}")
        self._expect(max(bought.values(), default=1) == 1, "two rows hold one task")
        self._check_results(jobs)
        self._check_pictures()
        hidden = [file.name for file in self.path.iterdir() if file.name.startswith(".")]
        self.found.leftovers += len(hidden)
        self._expect(not hidden, f"left behind: {hidden}")

    def _check_results(self, jobs: list[JournalEntry]) -> None:
        lines = [json.loads(line) for line in (self.path / "results.jsonl").read_text().splitlines()]
        states = {line["id"]: (line["state"], line["task_id"], line["files"]) for line in lines}
        self._expect(len(lines) == len(states) == self.rows, f"{len(lines)} lines for {len(states)} ids")
        told = {
            entry.name: (
                entry.state.value,
                entry.task_id,
                [file.name for file in sorted(entry.files, key=lambda file: file.number)],
            )
            for entry in jobs
        }
        self._expect(states == told, f"results {states} and journal {told}")
        files = {name for _, _, names in states.values() for name in names}
        on_disk = {file.name for file in self.path.glob("[!.]*.png")}
        self._expect(files == on_disk, f"listed {sorted(files)}, there {sorted(on_disk)}")

    def _check_pictures(self, *, killed: bool = False) -> None:
        """Insist that every file with a final name is what the service drew for its row.

        Where there are no links, a kill may leave a name that was taken and not filled: an empty file.
        """
        empty = {b""} if killed and self.worse == NO_LINKS else set()
        service = self.emulator.service
        outputs = service.settings.outputs
        drawn: dict[str, set[bytes]] = defaultdict(set)
        for purchase in self._purchases:
            task = service.task(purchase.task_id)
            assert task is not None
            for number in range(outputs):
                mark = f"-{number + 1}" if outputs > 1 else ""
                name = f"k{task.input['prompt'].removeprefix('prompt ')}{mark}.png"
                drawn[name].add(draw(task.output(number)))
        for file in self.path.glob("[!.]*.png"):
            whole = file.read_bytes() in drawn[file.name] | empty
            self.found.partial += not self._expect(whole, f"{file.name} is not what was bought")

    # ---- the journal

    async def _jobs(self) -> list[JournalEntry]:
        """Every job in the journal, by asking for each row as a run does."""
        async with SqliteJournal(self.path / "journal.sqlite") as journal:
            run = await journal.open_run("batch")
            rows = [NanoBanana(prompt=f"prompt {n}", key=f"k{n}") for n in range(self.rows)]
            known = [(await run.match(row)).known for row in rows]
            run.close()
            return [entry for entry in known if entry is not None]

    def _unknowns(self) -> tuple[JournalEntry, ...]:
        return asyncio.run(view_journal(self.path / "journal.sqlite")).unknowns

    async def _settle(self, unknowns: tuple[JournalEntry, ...]) -> None:
        """Say of each what the account shows."""
        bought = {purchase.input["prompt"]: purchase.task_id for purchase in self._purchases}
        async with SqliteJournal(self.path / "journal.sqlite") as journal:
            for entry in unknowns:
                task_id = bought.get(str(entry.request.input()["prompt"]))
                if task_id is None:
                    await journal.forget(entry.name)
                else:
                    await journal.adopt(entry.name, task_id)
        self._unknown = 0
