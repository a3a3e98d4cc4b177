"""A batch that is run again continues: nothing is bought twice, and its folder is complete in the end."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from ruxa_async import (
    JournalError,
    JournalInUseError,
    JournalMismatchError,
    KeyConflictError,
    Limits,
    NanoBanana,
    RuxaClient,
    SqliteJournal,
    Timeouts,
)
from ruxa_async.batch import InputError, ResultsFile, Resumed, Row, Summary, folder_journal, run_batch
from ruxa_async.batch._result_line import Result, describe_files
from ruxa_async.emulator import Durations, EmulatorSettings, Service, parse_fault
from ruxa_async.emulator._ledger import KeptTask
from ruxa_async.journal import SavedFile
from ruxa_async.transports import MemoryTransport


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def service_of(**settings: Any) -> Service:
    settings.setdefault("image", Durations(0.05))
    return Service(EmulatorSettings(epoch=0.0, public_url="http://emulator", **settings))


@asynccontextmanager
async def opened(out: Path, service: Service, **options: Any) -> AsyncIterator[RuxaClient]:
    async with RuxaClient(
        api_key=service.settings.key,
        base_url="https://emulator",
        transport=MemoryTransport(service),
        timeouts=Timeouts(create_drain=0.2),
        journal=folder_journal(out),
        **options,
    ) as client:
        yield client


def rows(numbers: Iterable[int], keyed: bool = True) -> list[Row]:
    return [
        Row(place + 1, NanoBanana(prompt=f"prompt {n}", key=f"k{n}" if keyed else None))
        for place, n in enumerate(numbers)
    ]


async def run(out: Path, service: Service, source: Iterable[Row], **options: Any) -> Summary:
    async with opened(out, service) as client:
        return await run_batch(client, source, out, resume=True, **options)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def check(out: Path, service: Service, count: int) -> None:
    """Insist that there is one line a row, a file for each success, and nothing was bought twice or lost."""
    written = lines(out)
    assert len({line["id"] for line in written}) == len(written) == count
    for line in written:
        if line["state"] == "succeeded":
            assert line["files"]
        assert all((out / name).stat().st_size > 0 for name in line["files"])
    assert service.ledger.duplicates() == []
    assert service.ledger.missing(line["task_id"] or "" for line in written) == []


@pytest.mark.parametrize("turns", [0.0, 0.005, 0.02, 0.05, 0.08, 0.12, 0.2])
async def test_a_run_that_was_stopped_anywhere_is_continued(tmp_path: Path, turns: float) -> None:
    service = service_of(latency=0.01)
    with anyio.move_on_after(turns):
        await run(tmp_path, service, rows(range(30)))
    stopped = service.ledger.charged
    summary = await run(tmp_path, service, rows(range(30)))
    assert summary.states == {"succeeded": 30}
    assert summary.resumed.finished + summary.resumed.picked_up <= stopped
    assert service.ledger.charged == 30
    check(tmp_path, service, 30)
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".jsonl", ".sqlite"}


async def test_third_run_changes_nothing(tmp_path: Path) -> None:
    service = service_of()
    await run(tmp_path, service, rows(range(10)))
    before = (tmp_path / "results.jsonl").read_bytes()
    asked, fetched = service.counts.queries, service.counts.files
    summary = await run(tmp_path, service, rows(range(10)))
    assert summary.resumed == Resumed(finished=10)
    assert (summary.states, summary.files, summary.queries) == ({"succeeded": 10}, 10, 0)
    assert (service.counts.queries, service.counts.files) == (asked, fetched)
    assert (tmp_path / "results.jsonl").read_bytes() == before


async def test_files_keep_their_names_when_rows_move(tmp_path: Path) -> None:
    service = service_of()
    await run(tmp_path, service, rows(range(4), keyed=False))
    before = {line["prompt"]: line["files"] for line in lines(tmp_path)}
    (tmp_path / "0001-prompt-1.png").unlink()
    summary = await run(tmp_path, service, rows([9, 3, 2, 1, 0], keyed=False))
    assert summary.resumed == Resumed(finished=4, fetched=1)
    after = {line["prompt"]: line["files"] for line in lines(tmp_path)}
    assert {prompt: files for prompt, files in after.items() if prompt in before} == {
        **before,
        "prompt 1": ["0003-prompt-1.png"],  # it was gone, so it takes the name of its place now
    }
    check(tmp_path, service, 5)


async def test_rows_that_change_places_never_take_each_other_s_file(tmp_path: Path) -> None:
    service = service_of()
    await run(tmp_path, service, rows(range(2), keyed=False), name="{index}")
    await run(tmp_path, service, rows([5, 6, 0, 1], keyed=False), name="{index}")
    check(tmp_path, service, 4)
    assert len({name for line in lines(tmp_path) for name in line["files"]}) == 4


async def test_lines_of_a_version_without_input_and_outputs_are_accepted_and_completed(
    tmp_path: Path,
) -> None:
    service = service_of()
    await run(tmp_path, service, rows(range(3)))
    new = lines(tmp_path)
    old = [{name: line[name] for name in line if name not in ("input", "outputs")} for line in new]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in old))
    summary = await run(tmp_path, service, rows(range(3)))
    assert summary.resumed == Resumed(finished=3)
    assert service.ledger.charged == 3
    for line in lines(tmp_path):
        (before,) = (each for each in new if each["id"] == line["id"])
        assert (line["input"], line["outputs"]) == (before["input"], before["outputs"])


async def test_a_file_of_the_journal_is_not_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    known = SavedFile(number=0, name="a.png", size=108, sha256="ab" * 32)
    assert describe_files([path], [known])[0]["sha256"] == "ab" * 32
    changed = attrs.evolve(known, size=5)
    assert describe_files([path], [changed])[0]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("keyed", [True, False])
async def test_rows_are_recognised_at_another_position(tmp_path: Path, keyed: bool) -> None:
    service = service_of()
    await run(tmp_path, service, rows([1, 2, 3], keyed))
    summary = await run(tmp_path, service, rows([4, 3, 1], keyed))
    assert summary.resumed == Resumed(finished=2)
    assert service.ledger.charged == 4
    check(tmp_path, service, 4)
    places = {line["prompt"]: (line["index"], line["line"]) for line in lines(tmp_path)}
    assert places == {"prompt 4": (0, 1), "prompt 3": (1, 2), "prompt 1": (2, 3), "prompt 2": (1, 2)}
    assert {line["id"] == line["key"] for line in lines(tmp_path)} == {keyed}


async def test_missing_and_damaged_files_are_fetched_again(tmp_path: Path) -> None:
    service = service_of(outputs=2)
    await run(tmp_path, service, rows(range(4)))
    (tmp_path / "k0-1.png").unlink()
    (tmp_path / "k1-2.png").write_bytes(b"short")
    fetched = service.counts.files
    summary = await run(tmp_path, service, rows(range(4)))
    assert summary.resumed == Resumed(finished=4, fetched=2)
    assert service.counts.files == fetched + 2
    assert (tmp_path / "k1-2.png").read_bytes() == b"short"  # somebody's own, as far as we know
    files = {line["key"]: line["files"] for line in lines(tmp_path)}
    assert files["k0"] == ["k0-1.png", "k0-2.png"]
    assert files["k1"][1].startswith("k1-2~")
    check(tmp_path, service, 4)
    assert (await run(tmp_path, service, rows(range(4)))).resumed == Resumed(finished=4)


async def test_an_empty_file_that_reserved_a_name_is_replaced(tmp_path: Path) -> None:
    service = service_of()
    await run(tmp_path, service, rows(range(2)))
    (tmp_path / "k0.png").write_bytes(b"")
    summary = await run(tmp_path, service, rows(range(2)))
    assert summary.resumed == Resumed(finished=2, fetched=1)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["k0.png", "k1.png"]
    check(tmp_path, service, 2)


async def test_one_query_asks_for_new_urls_if_the_old_ones_expired(tmp_path: Path) -> None:
    service = service_of()
    await run(tmp_path, service, rows([0]))
    (tmp_path / "k0.png").unlink()
    (bought,) = service.ledger.entries
    task = service.task(bought.task_id)
    assert task is not None
    faulty = Service(
        attrs.evolve(service.settings, faults=[parse_fault("expired:file:nth=1,3,4")]),
        past=[KeptTask(task)],
    )
    summary = await run(tmp_path, faulty, rows([0]))
    assert summary.resumed == Resumed(finished=1, fetched=1)
    assert faulty.counts.queries == 1
    check(tmp_path, faulty, 1)
    # Where the fresh one does not work either, the picture stays missing, and the next run tries again.
    (tmp_path / "k0.png").unlink()
    summary = await run(tmp_path, faulty, rows([0]))
    assert summary.states == {"download_failed": 1}
    assert lines(tmp_path)[0]["error"]["type"] == "LinkExpiredError"
    assert (await run(tmp_path, faulty, rows([0]))).resumed == Resumed(finished=1, fetched=1)
    check(tmp_path, faulty, 1)


async def test_interrupted_download_is_fetched_by_the_next_run(tmp_path: Path) -> None:
    service = service_of(faults=[parse_fault("stall:file:nth=1")])
    with anyio.move_on_after(0.6):
        await run(tmp_path, service, rows(range(3)))
    assert Counter(line["state"] for line in lines(tmp_path)) == {"succeeded": 2, "download_failed": 1}
    summary = await run(tmp_path, service, rows(range(3)))
    assert summary.resumed == Resumed(finished=3, fetched=1)
    check(tmp_path, service, 3)


async def test_unknown_creates_are_sent_again_only_on_request(tmp_path: Path) -> None:
    service = service_of(faults=[parse_fault("reset_after:create:nth=2")])
    await run(tmp_path, service, rows(range(3)))
    summary = await run(tmp_path, service, rows(range(3)))
    assert summary.resumed == Resumed(finished=2, unknown=1)
    assert summary.states == {"succeeded": 2, "unknown": 1}
    assert [result.id for result in summary.unknown] == [
        line["key"] for line in lines(tmp_path) if line["state"] == "unknown"
    ]
    assert service.ledger.charged == 3
    summary = await run(tmp_path, service, rows(range(3)), resend_unknown=True)
    assert summary.states == {"succeeded": 3}
    assert service.ledger.charged == 4


async def test_failed_is_bought_again_only_on_request(tmp_path: Path) -> None:
    service = service_of(fail_share=1.0)
    await run(tmp_path, service, rows(range(2)))
    before = (tmp_path / "results.jsonl").read_bytes()
    summary = await run(tmp_path, service, rows(range(2)))
    assert (summary.resumed, summary.states) == (Resumed(finished=2), {"failed": 2})
    assert (tmp_path / "results.jsonl").read_bytes() == before
    summary = await run(tmp_path, service, rows(range(2)), retry_failed=True)
    assert (summary.resumed, service.ledger.charged) == (Resumed(), 4)


async def test_key_of_another_request_is_a_bad_row(tmp_path: Path) -> None:
    service = service_of()
    await run(tmp_path, service, rows([1, 2]))
    changed = [Row(1, NanoBanana(prompt="another", key="k1")), *rows([2, 2])]
    summary = await run(tmp_path, service, changed)
    assert summary.states == {"invalid": 2, "succeeded": 1}
    assert service.ledger.charged == 2
    bad = {line["index"]: line for line in lines(tmp_path) if line["state"] == "invalid"}
    assert {*bad} == {0, 2}
    assert all((line["id"], line["error"]["type"]) == (None, "KeyConflictError") for line in bad.values())
    # What the key stands for keeps its line, and bad rows of earlier runs are forgotten.
    await run(tmp_path, service, rows([1, 2]))
    assert Counter(line["state"] for line in lines(tmp_path)) == {"succeeded": 2}
    summary = await run(tmp_path, service, changed, strict=True)
    assert summary.refused is not None
    assert isinstance(summary.refused.error, KeyConflictError)


async def test_torn_last_line_is_repaired(tmp_path: Path) -> None:
    service = service_of()
    await run(tmp_path, service, rows(range(3)))
    whole = (tmp_path / "results.jsonl").read_bytes()
    (tmp_path / "results.jsonl").write_bytes(whole[:-20])
    await run(tmp_path, service, rows(range(3)))
    check(tmp_path, service, 3)
    assert {line["key"] for line in lines(tmp_path)} == {"k0", "k1", "k2"}


async def test_results_that_were_removed_come_back(tmp_path: Path) -> None:
    service = service_of()
    await run(tmp_path, service, rows(range(3)))
    (tmp_path / "results.jsonl").unlink()
    await run(tmp_path, service, rows(range(3)))
    check(tmp_path, service, 3)


async def test_results_without_a_journal_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text("")
    with pytest.raises(InputError, match="is there already, but not the journal"):
        folder_journal(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        folder_journal(tmp_path / "results.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["results.jsonl"]


async def test_results_beside_an_emptied_journal_are_refused_and_nothing_is_bought_again(
    tmp_path: Path,
) -> None:
    service = service_of()
    await run(tmp_path, service, rows(range(3)))
    (tmp_path / "journal.sqlite").write_bytes(b"")
    with pytest.raises(InputError, match="is there already, but not the journal"):
        await run(tmp_path, service, rows(range(3)))
    assert service.ledger.charged == 3


async def test_results_that_name_a_task_which_the_journal_does_not_know_end_the_run(tmp_path: Path) -> None:
    service = service_of()
    await run(tmp_path, service, rows(range(2)))
    old = (tmp_path / "journal.sqlite").read_bytes()
    await run(tmp_path, service, rows(range(4)))
    assert service.ledger.charged == 4
    (tmp_path / "journal.sqlite").write_bytes(old)
    with pytest.raises(JournalError, match=r"results\.jsonl: it says that k[23] was bought.*-wal"):
        await run(tmp_path, service, rows(range(4)))
    assert service.ledger.charged == 4
    written = (tmp_path / "results.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "results.jsonl").write_text("".join(line for line in written if '"id": "k3"' not in line))
    await run(tmp_path, service, rows([0, 1, 3]))  # a person's word for buying it again
    assert service.ledger.charged == 5


async def test_folder_of_another_account_or_in_use_is_refused(tmp_path: Path) -> None:
    service = service_of()
    async with opened(tmp_path, service):
        with pytest.raises(JournalInUseError, match=f"process {os.getpid()}"):
            await run(tmp_path, service, rows([1]))
    await run(tmp_path, service, rows([1]))
    other = service_of(key="sk-other")
    with pytest.raises(JournalMismatchError, match=r"https://emulator.*fingerprint.*fingerprint"):
        await run(tmp_path, other, rows([1, 2]))
    assert (service.ledger.charged, other.ledger.charged) == (1, 0)


async def test_after_a_wrong_key_the_right_one_can_use_the_folder(tmp_path: Path) -> None:
    service = service_of()
    async with RuxaClient(
        api_key="sk-mistyped",
        base_url="https://emulator",
        transport=MemoryTransport(service),
        journal=folder_journal(tmp_path),
    ) as client:
        refused = await run_batch(client, rows(range(3)), tmp_path, resume=True)
    assert refused.halted is not None
    summary = await run(tmp_path, service, rows(range(3)))
    assert summary.states == {"succeeded": 3}
    check(tmp_path, service, 3)


async def test_journal_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    service = service_of()

    class Full(SqliteJournal):
        async def intend(self, job: Any) -> object:
            if service.ledger.charged >= 3:
                raise JournalError(self.path, "the disk is full")
            return await super().intend(job)

    async with RuxaClient(
        api_key=service.settings.key,
        base_url="https://emulator",
        transport=MemoryTransport(service),
        journal=Full(tmp_path / "journal.sqlite"),
    ) as client:
        with pytest.raises(JournalError, match="the disk is full"):
            await run_batch(client, rows(range(50)), tmp_path, resume=True)
    charged = service.ledger.charged
    assert charged < 25
    await run(tmp_path, service, rows(range(50)))
    check(tmp_path, service, 50)


async def test_file_is_in_the_journal_before_it_has_its_name(tmp_path: Path) -> None:
    service = service_of()
    seen: list[bool] = []

    class Watching(SqliteJournal):
        async def saved(self, task_id: str, file: SavedFile) -> None:
            await super().saved(task_id, file)
            seen.append((tmp_path / file.name).exists())

    async with RuxaClient(
        api_key=service.settings.key,
        base_url="https://emulator",
        transport=MemoryTransport(service),
        journal=Watching(tmp_path / "journal.sqlite"),
    ) as client:
        await run_batch(client, rows(range(3)), tmp_path, resume=True)
    assert seen == [False] * 3


# ---- the file of lines


async def test_overridden_lines_are_removed_when_the_file_is_closed(tmp_path: Path) -> None:
    def result(id_: str | None, index: int, state: Any = "succeeded") -> Result:
        return Result(index=index, line=index + 1, id=id_, state=state)

    async with ResultsFile(tmp_path, resumable=True) as file:
        file.add(result("a", 0, "unfinished"))
        file.add(result("b", 1))
        file.add(result(None, 2, "invalid"))
        file.add(result("a", 0))
        await file.flush()
        assert len(lines(tmp_path)) == 4
    assert [(line["id"], line["state"]) for line in lines(tmp_path)] == [
        ("b", "succeeded"),
        (None, "invalid"),
        ("a", "succeeded"),
    ]
    async with ResultsFile(tmp_path, resumable=True) as file:
        file.add(result("a", 0))  # says nothing new
        file.add(result("b", 5))
        file.add(result(None, 7, "invalid"))
    assert [(line["id"], line["index"]) for line in lines(tmp_path)] == [("a", 0), ("b", 5), (None, 7)]


async def test_damaged_lines_are_skipped_and_removed(tmp_path: Path) -> None:
    damaged = b'nonsense\n[1]\n{"id": "c", "prompt": "caf\xe9"}\n'
    (tmp_path / "results.jsonl").write_bytes(damaged + b'{"id": "a", "index": 3}\n{"id": "b"')
    async with ResultsFile(tmp_path, resumable=True):
        pass
    assert lines(tmp_path) == [{"id": "a", "index": 3}]


async def test_a_file_that_cannot_be_rewritten_is_kept(tmp_path: Path) -> None:
    (tmp_path / ".results.jsonl.part").mkdir()
    async with ResultsFile(tmp_path, resumable=True) as file:
        file.add(Result(index=0, line=1, id="a", state="unfinished"))
        file.add(Result(index=0, line=1, id="a", state="succeeded"))
    assert [line["state"] for line in lines(tmp_path)] == ["unfinished", "succeeded"]


async def test_row_that_was_refused_may_be_corrected_under_its_key(tmp_path: Path) -> None:
    service = service_of(faults=[parse_fault("error:create:nth=1:status=422")])
    await run(tmp_path, service, rows([1]))
    corrected = [Row(1, NanoBanana(prompt="corrected", key="k1"))]
    summary = await run(tmp_path, service, corrected)
    assert summary.states == {"succeeded": 1}
    check(tmp_path, service, 1)
    assert (await run(tmp_path, service, corrected)).resumed == Resumed(finished=1)
    assert (await run(tmp_path, service, rows([1]))).states == {"invalid": 1}


async def test_old_part_files_are_removed(tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in (".ruxa-1.part", ".ruxa-2.part", "mine.part"))
    for path in (old, new, other):
        path.write_bytes(b"half")
    os.utime(old, (1.0, 1.0))
    os.utime(other, (1.0, 1.0))
    await run(tmp_path, service_of(), [])
    assert (old.exists(), new.exists(), other.exists()) == (False, True, True)


# ---- a folder that moves while the batch runs


@pytest.mark.parametrize("name", ["", "journal.sqlite", "journal.sqlite-wal", "results.jsonl"])
async def test_a_folder_that_moves_stops_the_run_and_nothing_is_bought_twice(
    tmp_path: Path, name: str
) -> None:
    service, out, kept, summary = service_of(), tmp_path / "out", tmp_path / "kept", Summary(folder=tmp_path)
    moved: list[int] = []

    def move(_: Result) -> None:
        if not moved:
            (out / name).rename(kept)
            moved.append(service.ledger.charged)

    with pytest.raises(JournalError, match="moved, replaced or removed") as caught:
        async with opened(out, service, limits=Limits(max_in_flight=4)) as client:
            await run_batch(client, rows(range(40)), out, resume=True, summary=summary, on_result=move)
    assert "again" in str(caught.value)
    assert summary.moved == (name in ("", "results.jsonl"))
    bought = service.ledger.charged
    assert bought <= moved[0] + 4  # those on the wire, and in front of the disk
    if not name:
        assert not out.exists()
        assert len(lines(kept)) == bought
    if name == "journal.sqlite-wal":
        kept.unlink()  # closing has brought all of it into the journal
    else:
        kept.rename(out / name)
    await run(out, service, rows(range(40)))
    check(out, service, 40)


async def test_a_folder_in_the_place_of_the_moved_one_is_left_alone(tmp_path: Path) -> None:
    service, out, kept = service_of(), tmp_path / "out", tmp_path / "kept"

    def move(_: Result) -> None:
        if not kept.exists():
            out.rename(kept)
            out.mkdir()
            (out / "results.jsonl").write_text('{"id": "other"}\n{"id": "other"}\n')

    with pytest.raises(JournalError, match="moved, replaced or removed"):
        async with opened(out, service, limits=Limits(max_in_flight=4)) as client:
            await run_batch(client, rows(range(40)), out, resume=True, on_result=move)
    assert [file.name for file in out.iterdir()] == ["results.jsonl"]
    assert len(lines(out)) == 2
    await run(kept, service, rows(range(40)))
    check(kept, service, 40)
