"""Whatever comes from outside has a written outcome: a value or a typed error, the task id kept, files in their folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from corpus.loading import body_of, cases

from ruxa_async import ConfigurationError, CustomRequest, DownloadError, Generation, RuxaError, errors
from ruxa_async._api.endpoint import Endpoint, api_error
from ruxa_async._api.rate_limit_headers import read_quota
from ruxa_async._api.retry_after import retry_after
from ruxa_async._api.task_status import find_urls, instants, task_status
from ruxa_async._client.config import resolve_base_url
from ruxa_async._engine.classify import classify_create, classify_query
from ruxa_async._internal.files import PartFile
from ruxa_async.batch import InputError, open_rows
from ruxa_async.callbacks._messages import read_body
from ruxa_async.downloads import Downloader
from ruxa_async.downloads._names import names_of
from ruxa_async.requests import GenerationRequest
from ruxa_async.transports import AiohttpTransport, Response

NOW = 1_800_000_000.0
FILES = ("base_urls", "callbacks", "creates", "keys", "links", "queries", "quotas", "rows", "waits")
WIRE = Endpoint("https://h", "sk-canary-0123456789", create_timeout=1, query_timeout=1, connect_timeout=1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def each(name: str) -> Callable[[Any], Any]:
    found = cases(name)
    return pytest.mark.parametrize("case", found, ids=[f"{n}" for n, _ in enumerate(found, 1)])


def test_there_are_many_and_each_is_there_once() -> None:
    names = [(file, case["name"]) for file in FILES for case in cases(file)]
    assert len({*names}) == len(names) >= 300


@each("creates")
def test_replies_to_creates(case: Any) -> None:
    reply = WIRE.read_create(Response(case["status"], case["headers"], body_of(case["body"])), wall_now=NOW)
    assert (classify_create(reply).name, reply.task_id) == (case["verdict"], case["task_id"])
    assert reply.retry_after == case["wait"]
    if reply.task_id is None:
        assert type(api_error(reply)) is getattr(errors, case["error"])
    else:
        assert WIRE.query(reply.task_id).url.isascii()


@each("queries")
def test_replies_to_queries(case: Any) -> None:
    reply = WIRE.read_query(Response(case["status"], {}, body_of(case["body"])), task_id="t-1", wall_now=NOW)
    assert classify_query(reply).name == case["verdict"]
    assert (reply.state and reply.state.value) == case["state"]
    status = task_status("t-1", reply)
    assert (list(status.urls), status.fail_message) == (case["urls"], case["fail_message"])
    instants(reply.data)  # as results.jsonl asks for them


@each("waits")
def test_waits(case: Any) -> None:
    assert retry_after(case["headers"], wall_now=NOW) == case["seconds"]


@each("quotas")
def test_quotas(case: Any) -> None:
    quota = read_quota(case["headers"], wall_now=NOW)
    said = None if quota is None else [quota.limit, quota.per, quota.remaining, quota.reset]
    assert said == case["quota"]


@each("links")
async def test_links_that_are_never_followed(case: Any, tmp_path: Path) -> None:
    transport = AiohttpTransport()
    downloader = Downloader(transport=transport, home="https://api.ruxa.ai", pauses=())
    generation = Generation(task_id="t-1", model="m", urls=(case["url"],))
    try:
        with pytest.raises(DownloadError):
            await downloader.save(generation, tmp_path / "out")
    finally:
        await transport.aclose()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@each("base_urls")
def test_base_urls(case: Any) -> None:
    if case["base"] is not None:
        assert resolve_base_url(case["url"]) == case["base"]
        return
    with pytest.raises(ConfigurationError):
        resolve_base_url(case["url"])


@each("keys")
@pytest.mark.parametrize("template", [None, "{key}", "{n}{key}"])
def test_files_stay_in_their_folder(case: Any, template: str | None, tmp_path: Path) -> None:
    request = CustomRequest(model="m", input={}, key=case["key"])
    generation = Generation(task_id="t-1", model="m", urls=("http://h/x",), request=request)
    (name,) = names_of(generation, template)
    folder = tmp_path / "deep" / "out"
    folder.mkdir(parents=True)
    placed = PartFile(folder).place(b"x", f"{name}.png")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [placed]
    assert placed.parent == folder
    assert placed.read_bytes() == b"x"


@each("rows")
def test_rows_of_input(case: Any, tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(case["bytes"].encode("latin-1"))
    found: list[str] = []
    try:
        with open_rows(path, format=case["format"]) as rows:
            for row in rows:
                assert isinstance(row.error, RuxaError) == (row.request is None)
                found.append("error" if row.request is None else prompt_of(row.request))
    except InputError:
        found.append("InputError")
    assert found == case["rows"]


def prompt_of(request: GenerationRequest) -> str:
    return str(request.input()["prompt"])


@each("callbacks")
def test_bodies_of_callbacks(case: Any) -> None:
    task_id, status = read_body(body_of(case["body"]))
    assert task_id == case["task_id"]
    assert (status and status.state.value) == case["state"]
    if status is not None:
        assert all(isinstance(url, str) for url in find_urls(status.raw))
