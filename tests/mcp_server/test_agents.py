"""Agents that drop calls, cancel them, run out of budget and come back: what the service charged."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from subprocess import PIPE
from typing import Any

import aiohttp
import anyio
import pytest

pytest.importorskip("mcp")

from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters
from mcp_server.agents import CAT, MODEL, Agent, agent, command_of, environment_of, http_server, text_of
from PIL import Image

from ruxa_async import SqliteJournal
from ruxa_async.emulator import Durations, Emulator, EmulatorSettings, parse_fault

NESTED = json.loads("[" * 150 + "]" * 150)
TASKS = ("--max-tasks", "9")
#: The reply to the first create comes after three seconds, so that a call can be dropped meanwhile.
SLOW_CREATE = EmulatorSettings(image=Durations(0.3), faults=(parse_fault("slow:create:nth=1:seconds=3"),))
WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("generate", {"model": "google/nano-bananna", "input": {"prompt": "a"}}, "did you mean google/nano-banana"),
    ("generate", {"model": MODEL, "input": {"prompt": "a", "colour": "red"}}, "'colour': google/nano-banana has no"),
    ("generate", {"model": MODEL, "input": {"prompt": "a", "key": "b"}}, "a higher variant buys a further picture"),
    ("generate", {"model": MODEL, "input": {"prompt": ""}}, "prompt='' is not valid"),
    ("generate", {"model": MODEL, "input": {"prompt": "a", "aspect_ratio": "9:9"}}, "aspect_ratio='9:9' is not"),
    ("generate", {"model": MODEL, "input": {"prompt": "a", "extra": {"a": NESTED}}}, "nested too deeply"),
    ("generate", {"model": MODEL}, "the arguments of generate are not valid: input: Field required"),
    ("generate", {**CAT, "variant": 0}, "variant: Input should be greater than or equal to 1"),
    ("wait", {"handle": "x"}, "there is no purchase 'x': list shows the handles"),
    ("status", {"handle": "x"}, "there is no purchase 'x'"),
    ("sell", {}, "Unknown tool: sell"),
]  # fmt: skip
Connect = Callable[..., AbstractAsyncContextManager[Agent]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # sockets and processes: real time


@pytest.fixture
def settings() -> EmulatorSettings:
    return EmulatorSettings(image=Durations(0.3), dialect="detailed")


@pytest.fixture
def emulator(settings: EmulatorSettings) -> Iterator[Emulator]:
    with Emulator(settings) as served:
        yield served


@asynccontextmanager
async def over_http(emulator: Emulator, out: Path, *options: str) -> AsyncIterator[Agent]:
    async with http_server(emulator, out, *options) as url, Client(url) as client:
        yield Agent(client)


@pytest.fixture(params=[agent, over_http], ids=["stdio", "http"])
def connect(request: pytest.FixtureRequest) -> Connect:
    return request.param  # type: ignore[no-any-return]


def charged(emulator: Emulator) -> int:
    return emulator.service.ledger.charged


async def test_an_agent_gets_a_handle_then_files_links_and_a_thumbnail(
    connect: Connect, emulator: Emulator, tmp_path: Path
) -> None:
    async with connect(emulator, tmp_path, *TASKS) as ours:
        names = {tool.name for tool in (await ours.client.list_tools()).tools}
        bought = await ours.buy(**CAT)
        (link,), (thumbnail,) = bought["links"], bought["thumbnails"]
        read = await ours.client.read_resource(link.uri)
        (listed,) = (await ours.client.list_resources()).resources
    (file,) = map(Path, bought["files"])
    assert names == {"generate", "wait", "status", "list", "spent"}
    assert (bought["state"], bought["charged"], bought["credits"]) == ("succeeded", "yes", 3)
    assert file.parent == tmp_path
    assert base64.b64decode(read.contents[0].model_dump()["blob"]) == file.read_bytes()
    assert (link.mime_type, listed.uri, link.size) == ("image/png", link.uri, file.stat().st_size)
    assert max(Image.open(io.BytesIO(base64.b64decode(thumbnail.data))).size) == 256
    assert charged(emulator) == 1


async def test_wait_sends_progress_notices(emulator: Emulator, tmp_path: Path) -> None:
    notices: list[tuple[float, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        notices.append((progress, message))

    async with agent(emulator, tmp_path, *TASKS) as ours:
        handle = (await ours.values("generate", **CAT))["handle"]
        await ours.client.call_tool("wait", {"handle": handle}, progress_callback=on_progress)
    assert [each[0] for each in notices] == sorted(each[0] for each in notices)
    assert notices
    assert handle in (notices[-1][1] or "")


@pytest.mark.parametrize("settings", [SLOW_CREATE])
async def test_a_call_that_is_dropped_and_repeated_is_one_charge(
    connect: Connect, emulator: Emulator, tmp_path: Path
) -> None:
    async with connect(emulator, tmp_path, *TASKS) as ours:
        for _ in range(3):
            with pytest.raises(MCPError, match=r"(?i)timed out"):
                await ours.client.call_tool("generate", CAT, read_timeout_seconds=0.1)
        bought = await ours.buy(**CAT)
    assert bought["state"] == "succeeded"
    assert charged(emulator) == 1


async def test_equal_calls_at_once_are_one_charge(
    connect: Connect, emulator: Emulator, tmp_path: Path
) -> None:
    reordered = {"model": MODEL, "input": {"output_format": "png", "prompt": "a dog"}}
    plain = {"model": MODEL, "input": {"prompt": "a dog", "output_format": "png"}}
    async with connect(emulator, tmp_path, *TASKS) as ours, anyio.create_task_group() as tg:
        for each in (reordered, plain) * 5:
            tg.start_soon(ours.client.call_tool, "generate", each)
    assert charged(emulator) == 1


@pytest.mark.parametrize("settings", [SLOW_CREATE])
async def test_a_cancelled_call_loses_no_purchase(
    connect: Connect, emulator: Emulator, tmp_path: Path
) -> None:
    async with connect(emulator, tmp_path, *TASKS) as ours:
        with anyio.move_on_after(0.2):
            await ours.call("generate", **CAT)
        (listed,) = (await ours.values("list"))["purchases"]
        assert listed["state"] in {"buying", "running"}
        with anyio.move_on_after(0.1):
            await ours.call("wait", handle=listed["handle"])
        found = await ours.values("wait", handle=listed["handle"])
    assert (found["state"], len(found["files"])) == ("succeeded", 1)
    assert charged(emulator) == 1


async def test_an_exhausted_budget_is_an_error_that_charges_nothing(
    connect: Connect, emulator: Emulator, tmp_path: Path
) -> None:
    budget = ("--max-credits", "7", "--price", f"{MODEL}=3")
    async with connect(emulator, tmp_path, *budget) as ours:
        for number in range(2):
            await ours.buy(model=MODEL, input={"prompt": f"cat {number}"})
        third = await ours.call("generate", model=MODEL, input={"prompt": "cat 2"})
        again = await ours.buy(model=MODEL, input={"prompt": "cat 0"})
        spent = await ours.values("spent")
    assert third.is_error
    assert "would pass the budget of max_credits=7" in text_of(third)
    assert "Nothing was charged" in text_of(third)
    assert again["state"] == "succeeded"
    assert (spent["credits"], spent["max_credits"], spent["tasks"]) == (6, 7, 2)
    assert charged(emulator) == 2


async def test_a_restarted_server_finds_what_was_bought_and_what_was_spent(
    connect: Connect, emulator: Emulator, tmp_path: Path
) -> None:
    async with connect(emulator, tmp_path, "--max-tasks", "2") as ours:
        first = await ours.buy(**CAT)
        await ours.call("generate", model=MODEL, input={"prompt": "a dog"})  # and leaves while it runs
    async with connect(emulator, tmp_path, "--max-tasks", "2") as ours:
        assert (await ours.values("spent"))["tasks"] == 2
        assert (await ours.buy(**CAT))["files"] == first["files"]
        dog = (await ours.values("list"))["purchases"][1]
        assert len((await ours.values("wait", handle=dog["handle"]))["files"]) == 1
        third = await ours.call("generate", model=MODEL, input={"prompt": "a fox"})
    assert third.is_error
    assert charged(emulator) == 2


async def test_a_killed_server_loses_and_repeats_nothing(emulator: Emulator, tmp_path: Path) -> None:
    command = [sys.executable, *command_of(tmp_path, *TASKS, "--http", "127.0.0.1:0")]
    async with await anyio.open_process(command, stderr=PIPE, env=environment_of(emulator)) as process:
        assert process.stderr is not None
        url = (await process.stderr.receive()).decode().split()[-1]
        with suppress(ExceptionGroup):  # its client notices that the server is gone
            async with Client(url) as client:
                bought = await Agent(client).values("generate", **CAT)
                process.kill()
                await process.wait()
    async with agent(emulator, tmp_path, *TASKS) as ours:
        found = await ours.values("wait", handle=bought["handle"])
        assert (await ours.buy(**CAT))["files"] == found["files"]
    assert found["state"] == "succeeded"
    assert charged(emulator) == 1


@pytest.mark.long
@pytest.mark.parametrize("settings", [EmulatorSettings(image=Durations(0.5), latency=0.1)])
async def test_a_server_that_is_killed_again_and_again_buys_nothing_twice(
    emulator: Emulator, tmp_path: Path
) -> None:
    calls: list[dict[str, Any]] = [
        {"model": MODEL, "input": {"prompt": f"cat {number}"}} for number in range(12)
    ]

    async def buy_until_it_is_killed(url: str) -> None:
        with suppress(MCPError, ExceptionGroup):
            async with Client(url) as client:
                for call in calls:
                    await client.call_tool("generate", call)

    for seconds in (0.2, 0.35, 0.5, 0.9, 1.4):
        command = [sys.executable, *command_of(tmp_path, "--max-tasks", "12", "--http", "127.0.0.1:0")]
        async with await anyio.open_process(command, stderr=PIPE, env=environment_of(emulator)) as process:
            assert process.stderr is not None
            url = (await process.stderr.receive()).decode().split()[-1]
            with anyio.move_on_after(seconds):
                await buy_until_it_is_killed(url)
            process.kill()
    async with agent(emulator, tmp_path, "--max-tasks", "12") as ours:
        bought = [await ours.buy(**call) for call in calls]
    prompts = [str(entry.input["prompt"]) for entry in emulator.service.ledger.entries]
    unknown = [each["prompt"] for each in bought if each["state"] == "unknown"]
    assert len(prompts) == len({*prompts})
    assert {*prompts, *unknown} == {call["input"]["prompt"] for call in calls}
    assert all(each["state"] == "succeeded" for each in bought if each["prompt"] not in unknown)
    assert len(unknown) <= 5  # one agent has one create on the wire


async def test_the_configuration_in_the_documentation_starts_a_server(
    emulator: Emulator, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs/agents.md").read_text(encoding="utf-8")
    given = json.loads(page.partition("```json")[2].partition("```")[0])["mcpServers"]["ruxa"]
    arguments = [tmp_path.as_posix() if each.startswith("/") else each for each in given["args"]]
    environment = {**environment_of(emulator), **dict.fromkeys(given["env"], emulator.key)}
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "ruxa_async", *arguments], env=environment
    )
    async with Client(server) as client:
        spent = await Agent(client).values("spent")
        (generate,) = (tool for tool in (await client.list_tools()).tools if tool.name == "generate")
    assert given["command"].endswith("/ruxa-async")
    assert (spent["max_credits"], spent["prices"]) == (100, {MODEL: 3, "sora-2": 10})
    assert "google/nano-banana (up to 3 credits): prompt (text) required" in (generate.description or "")
    assert "nano-banana-pro" not in (generate.description or "")  # it has no price


@pytest.mark.parametrize("settings", [EmulatorSettings(faults=(parse_fault("reset_after:create:nth=1"),))])
async def test_a_create_of_unknown_outcome_is_named_and_not_sent_again(
    emulator: Emulator, tmp_path: Path
) -> None:
    for _ in range(2):  # also after a restart
        async with agent(emulator, tmp_path, *TASKS) as ours:
            for _ in range(2):
                result = await ours.call("generate", **CAT)
                assert result.is_error
                assert "It may have been charged. It is not sent again" in text_of(result)
            (listed,) = (await ours.values("list"))["purchases"]
            assert (listed["state"], listed["charged"]) == ("unknown", "maybe")
    assert charged(emulator) == 1
    assert emulator.service.counts.creates == 1


@pytest.mark.parametrize(
    "settings", [EmulatorSettings(image=Durations(0.1), fail_share=1.0, dialect="detailed")]
)
async def test_a_task_that_failed_is_bought_again_only_as_another_variant(
    emulator: Emulator, tmp_path: Path
) -> None:
    async with agent(emulator, tmp_path, *TASKS) as ours:
        failed = await ours.buy(**CAT)
        again = await ours.call("wait", handle=failed["handle"])
        repeated = await ours.buy(**CAT)
        assert charged(emulator) == 1
        await ours.buy(**CAT, variant=2)
    assert (failed["state"], repeated["state"]) == ("failed", "failed")
    assert again.is_error
    assert "generation failed" in text_of(again)
    assert "call generate with a higher variant" in text_of(again)
    assert charged(emulator) == 2


async def test_a_variant_is_a_further_picture(emulator: Emulator, tmp_path: Path) -> None:
    async with agent(emulator, tmp_path, *TASKS) as ours:
        files = {(await ours.buy(**CAT, variant=number))["files"][0] for number in (1, 2, 1, 2)}
    assert len(files) == 2
    assert charged(emulator) == 2


@pytest.mark.parametrize("settings", [EmulatorSettings(image=Durations(0.1), credits=3)])
async def test_a_refused_request_may_be_called_again(emulator: Emulator, tmp_path: Path) -> None:
    async with agent(emulator, tmp_path, *TASKS) as ours:
        await ours.buy(**CAT)
        for _ in range(2):
            result = await ours.call("generate", **CAT, variant=2)
            assert result.is_error
            assert "Nothing was charged" in text_of(result)
    assert charged(emulator) == 1
    assert emulator.service.counts.creates == 3


async def test_a_wrong_call_is_a_sentence_that_says_that_nothing_was_charged(
    emulator: Emulator, tmp_path: Path
) -> None:
    async with agent(emulator, tmp_path, *TASKS) as ours:
        for tool, arguments, said in WRONG:
            result = await ours.call(tool, **arguments)
            assert result.is_error
            assert said in text_of(result)
            assert "This call charged nothing." in text_of(result)
    assert emulator.service.counts.creates == 0


async def test_a_model_with_a_price_is_allowed_without_documentation(
    emulator: Emulator, tmp_path: Path
) -> None:
    async with agent(emulator, tmp_path, "--max-credits", "9", "--price", "lab/inks=5") as ours:
        bought = await ours.buy(model="lab/inks", input={"prompt": "a cat", "strokes": 7})
    assert (bought["state"], bought["model"]) == ("succeeded", "lab/inks")


async def test_only_outputs_can_be_read(emulator: Emulator, tmp_path: Path) -> None:
    async with agent(emulator, tmp_path, *TASKS) as ours:
        for name in ("journal.sqlite", "..%2Fsecret", "%2Fetc%2Fpasswd"):
            with pytest.raises(MCPError, match="there is no output"):
                await ours.client.read_resource(f"ruxa://outputs/{name}")


async def test_a_deleted_file_stays_deleted_until_an_agent_waits_for_it(
    emulator: Emulator, tmp_path: Path
) -> None:
    async with agent(emulator, tmp_path, *TASKS) as ours:
        bought = await ours.buy(**CAT)
    (file,) = map(Path, bought["files"])
    file.unlink()
    async with agent(emulator, tmp_path, *TASKS) as ours:
        await ours.values("list")
        assert not file.exists()
        await ours.call("wait", handle=bought["handle"])
    assert file.exists()
    assert charged(emulator) == 1


@pytest.mark.parametrize(
    "settings", [EmulatorSettings(image=Durations(0.1), faults=(parse_fault("expired:file:nth=1,2"),))]
)
async def test_a_file_that_cannot_be_saved_is_paid_for_and_waited_for_again(
    emulator: Emulator, tmp_path: Path
) -> None:
    async with agent(emulator, tmp_path, *TASKS) as ours:
        handle = (await ours.values("generate", **CAT))["handle"]
        failed = await ours.call("wait", handle=handle)
        found = await ours.values("wait", handle=handle)
    assert failed.is_error
    assert "It was charged. Its files are not saved yet: call wait with this handle" in text_of(failed)
    assert (found["state"], len(found["files"])) == ("succeeded", 1)
    assert charged(emulator) == 1


@pytest.mark.parametrize(
    "settings", [EmulatorSettings(faults=(parse_fault("reset_after:create:nth=1"),), speed=50)]
)
async def test_an_adopted_purchase_is_followed(emulator: Emulator, tmp_path: Path) -> None:
    async with agent(emulator, tmp_path, *TASKS) as ours:
        handle = (await ours.values("generate", **CAT))["handle"]
    (bought,) = emulator.service.ledger.entries
    async with SqliteJournal(tmp_path / "journal.sqlite") as journal:
        await journal.adopt(handle, bought.task_id)
    async with agent(emulator, tmp_path, *TASKS) as ours:
        found = await ours.values("wait", handle=handle)
    assert (found["state"], found["task_id"]) == ("succeeded", bought.task_id)
    assert charged(emulator) == 1


@pytest.mark.parametrize(
    "settings", [EmulatorSettings(faults=(parse_fault("reset_before:create:nth=1"),), speed=50)]
)
async def test_a_forgotten_purchase_is_bought_by_generate_only(emulator: Emulator, tmp_path: Path) -> None:
    async with agent(emulator, tmp_path, *TASKS) as ours:
        handle = (await ours.values("generate", **CAT))["handle"]
    async with SqliteJournal(tmp_path / "journal.sqlite") as journal:
        await journal.forget(handle)
    async with agent(emulator, tmp_path, *TASKS) as ours:
        assert (await ours.values("wait", handle=handle))["state"] == "not_bought"
        assert charged(emulator) == 0
        assert (await ours.buy(**CAT))["state"] == "succeeded"
    assert charged(emulator) == 1


async def test_a_page_from_elsewhere_is_refused(emulator: Emulator, tmp_path: Path) -> None:
    async with http_server(emulator, tmp_path, *TASKS) as url, aiohttp.ClientSession() as session:
        for header in ({"Host": "evil.test"}, {"Origin": "https://evil.test"}):
            async with session.post(
                url, json={"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers=header
            ) as reply:
                assert reply.status in {403, 421}


async def test_several_agents_share_the_purchases_of_one_http_server(
    emulator: Emulator, tmp_path: Path
) -> None:
    async with http_server(emulator, tmp_path, *TASKS) as url:
        async with Client(url) as first:
            handle = (await Agent(first).values("generate", **CAT))["handle"]
        async with Client(url) as second:
            assert (await Agent(second).values("wait", handle=handle))["state"] == "succeeded"
            assert (await Agent(second).values("generate", **CAT))["handle"] == handle
    assert charged(emulator) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
async def test_a_signal_ends_a_server_whose_standard_input_is_open(
    emulator: Emulator, tmp_path: Path
) -> None:
    command = [sys.executable, *command_of(tmp_path, *TASKS)]
    hello = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n'
    async with await anyio.open_process(command, env=environment_of(emulator)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send(hello)
        assert b'"id":1' in await process.stdout.receive()
        process.send_signal(signal.SIGTERM)
        with anyio.fail_after(10):
            assert await process.wait() == 130


async def test_a_server_waits_for_an_earlier_one_that_still_has_the_folder(
    emulator: Emulator, tmp_path: Path
) -> None:
    async def release_later(journal: SqliteJournal) -> None:
        await anyio.sleep(3)
        await journal.aclose()

    journal = SqliteJournal(tmp_path / "journal.sqlite")
    async with journal, anyio.create_task_group() as tg:
        tg.start_soon(release_later, journal)
        async with agent(emulator, tmp_path, *TASKS) as ours:
            assert (await ours.values("list"))["purchases"] == []
            assert not journal.is_open
