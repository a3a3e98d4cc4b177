"""The processes of `test_failover`: one sends and others stand by, and submitters ask the one that sends."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from ruxa_async import Budget, Limits, NanoBanana, RuxaClient
from ruxa_async.errors import ClientClosedError, JournalError, RuxaError
from ruxa_async.journal import PostgresJournal

__all__ = ("RUN", "Deployment", "send", "submit")

RUN = "catalogue"
#: Keys that a submitter asks for at once.
_CALLERS = 5


@frozen
class Deployment:
    """What all processes know. The sending process writes its port into a file in *folder*."""

    folder: Path
    dsn: str
    schema: str
    url: str
    api_key: str
    limits: Limits
    budget: Budget | None

    @property
    def port_file(self) -> Path:
        return self.folder / "port"


def send(deployment: Deployment) -> None:
    """Stand by, then buy what is asked for, until this process is killed."""
    asyncio.run(_send(deployment))


async def _send(deployment: Deployment) -> None:
    journal = PostgresJournal(deployment.dsn, schema=deployment.schema, lease=1.0, wait=math.inf)
    async with RuxaClient(
        api_key=deployment.api_key,
        base_url=deployment.url,
        journal=journal,
        limits=deployment.limits,
        budget=deployment.budget,
    ) as ruxa:

        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            key = (await reader.readline()).decode().strip()
            with suppress(ClientClosedError, JournalError):  # the submitter asks again
                writer.write((await _buy(ruxa, key)).encode() + b"\n")
            writer.close()

        server = await asyncio.start_server(reply, "127.0.0.1", 0)
        draft = deployment.folder / f"port {os.getpid()}"
        draft.write_text(str(server.sockets[0].getsockname()[1]))
        draft.replace(deployment.port_file)
        await server.serve_forever()


async def _buy(ruxa: RuxaClient, key: str) -> str:
    """Return the task id of the request with *key*, or the name of its error."""
    try:
        generation = await ruxa.generate(NanoBanana(prompt=f"prompt {key}", key=key), run=RUN)
    except (ClientClosedError, JournalError):
        raise
    except RuxaError as error:
        return type(error).__name__
    assert generation.task_id is not None
    return generation.task_id


def submit(deployment: Deployment, keys: list[str], answers: Path) -> None:
    """Ask for *keys* until each has an answer, and write all answers into the file *answers*."""
    answers.write_text(json.dumps(asyncio.run(_submit(deployment, iter(keys)))))


async def _submit(deployment: Deployment, keys: Iterator[str]) -> dict[str, str]:
    answers: dict[str, str] = {}

    async def ask_each() -> None:
        for key in keys:
            while not (answer := await _ask(deployment, key)):
                await asyncio.sleep(0.05)
            answers[key] = answer

    await asyncio.gather(*(ask_each() for _ in range(_CALLERS)))
    return answers


async def _ask(deployment: Deployment, key: str) -> str:
    """Return the answer to *key*, nothing if no process sends now."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(deployment.port_file.read_text()))
        writer.write(key.encode() + b"\n")
        answer = (await reader.readline()).decode().strip()
        writer.close()
    except OSError:
        return ""
    return answer
