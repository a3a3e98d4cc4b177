"""Outputs go into an object store whole or not at all, and never over a different object."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import obstore
import pytest
from harness import client_of, service_of
from obstore.store import MemoryStore

from ruxa_async import ConfigurationError, DownloadError, MissingExtraError, NanoBanana
from ruxa_async.downloads import ObjectStore, StoredPath, destination
from ruxa_async.journal import SavedFile

URL = "s3://bucket/prefix"


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def store(memory: MemoryStore) -> ObjectStore:
    return ObjectStore(URL, store=memory)


def objects(store: Any) -> dict[str, bytes]:
    return {
        meta["path"]: bytes(obstore.get(store, meta["path"]).bytes())
        for page in obstore.list(store)
        for meta in page
    }


async def test_a_client_saves_outputs_as_objects_and_returns_their_urls(
    memory: MemoryStore, store: ObjectStore
) -> None:
    async with client_of(service_of(outputs=2)) as ruxa:
        made = await ruxa.generate(NanoBanana(prompt="a cat", key="cat"))
        paths = await made.save(store)
        contents = await made.read()
    assert [str(path) for path in paths] == [f"{URL}/cat-1.png", f"{URL}/cat-2.png"]
    assert objects(memory) == dict(zip(["cat-1.png", "cat-2.png"], contents, strict=True))
    assert obstore.get(memory, "cat-1.png").attributes["Content-Type"] == "image/png"


async def test_an_equal_object_is_kept_and_a_different_one_gets_company(
    memory: MemoryStore, store: ObjectStore
) -> None:
    assert await store.put(b"one", "a.png") == store.path / "a.png"
    tag = obstore.head(memory, "a.png")["e_tag"]
    assert await store.put(b"one", "a.png") == store.path / "a.png"
    assert obstore.head(memory, "a.png")["e_tag"] == tag
    other = await store.put(b"two", "a.png")
    assert other.name == "a~3fc4ccfe7458.png"
    assert await store.put(b"two", "a.png") == other
    assert objects(memory) == {"a.png": b"one", other.name: b"two"}
    obstore.put(memory, other.name, b"!")
    with pytest.raises(FileExistsError, match="a~3fc4ccfe7458"):
        await store.put(b"two", "a.png")


async def test_a_store_that_replaces_objects_is_refused(
    memory: MemoryStore, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = obstore.put

    def overwriting(*args: Any, mode: str, **options: Any) -> Any:
        return put(*args, **options)

    monkeypatch.setattr(obstore, "put", overwriting)
    for _ in range(2):  # it is not checked only once
        with pytest.raises(OSError, match="ignores If-None-Match"):
            await store.put(b"one", "a.png")
    assert objects(memory) == {}


async def test_only_complete_objects_of_this_prefix_count_as_kept(store: ObjectStore) -> None:
    await store.put(b"one", "a.png")
    names = [f"{URL}/a.png", f"{URL}/a.png", f"{URL}/gone.png", "s3://bucket/other/a.png", "a.png"]
    files = [
        SavedFile(number=number, name=name, size=4 if number == 1 else 3, sha256="")
        for number, name in enumerate(names)
    ]
    assert await store.kept(files) == {0: store.path / "a.png"}


async def test_what_may_pass_is_tried_again_and_what_stays_is_not(
    memory: MemoryStore, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, replies = obstore.put, [*["lost"] * 2, *["refused"] * 20]
    await store.check()

    def faulty(*args: Any, **options: Any) -> Any:
        reply = replies.pop(0)
        if reply == "refused":
            raise obstore.exceptions.GenericError("503 for https://host/key?sig=secret\nDebug source")
        put(*args, **options)
        raise obstore.exceptions.GenericError("connection reset")

    monkeypatch.setattr(obstore, "put", faulty)
    assert await store.put(b"one", "a.png") == store.path / "a.png"  # the second attempt finds the first
    assert objects(memory) == {"a.png": b"one"}
    replies[:] = ["refused"] * 20
    with pytest.raises(OSError, match=r"^503 for https://host/key$"):
        await store.put(b"one", "b.png")
    assert len(replies) == 11
    denied = obstore.exceptions.PermissionDeniedError("403")
    monkeypatch.setattr(obstore, "put", lambda *_args, **_options: (_ for _ in ()).throw(denied))
    with pytest.raises(OSError, match="403"):
        await store.put(b"one", "b.png")


async def test_a_failed_put_is_a_download_error(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_args: Any, **_options: Any) -> Any:
        raise obstore.exceptions.PermissionDeniedError("403 Forbidden")

    async with client_of(service_of()) as ruxa:
        made = await ruxa.generate(NanoBanana(prompt="a cat", key="cat"))
        monkeypatch.setattr(obstore, "put", denied)
        with pytest.raises(DownloadError, match=f"cannot be written to '{URL}': 403 Forbidden"):
            await made.save(store)


def test_a_stored_path_is_a_url_and_otherwise_a_path() -> None:
    path = StoredPath("s3://bucket/a b/cat.png")
    assert isinstance(path, Path)
    assert str(path) == path.__fspath__() == "s3://bucket/a b/cat.png"
    assert (path.name, path.suffix, str(path.parent)) == ("cat.png", ".png", "s3://bucket/a b")
    assert str(path.parent / "dog.png") == "s3://bucket/a b/dog.png"
    for again in (copy.copy(path), pickle.loads(pickle.dumps(path)), StoredPath(str(path))):
        assert (again, str(again), hash(again)) == (path, str(path), hash(path))
    with pytest.raises(FileNotFoundError, match="s3://bucket"):
        path.read_bytes()


def test_a_folder_may_be_a_path_a_file_url_or_a_store(tmp_path: Path, store: ObjectStore) -> None:
    assert destination("out/") == Path("out")
    assert destination(tmp_path) == tmp_path
    assert destination(tmp_path.as_uri()) == tmp_path
    assert destination(store) is store
    found = destination("gs://bucket/prefix")
    assert isinstance(found, ObjectStore)
    assert str(found.path / "a.png") == "gs://bucket/prefix/a.png"


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "https://host/x", "s3://", "s3:///x", "s3://key:secret@bucket/x", "s3://b/x?y=z"]
)
def test_other_urls_are_refused_before_anything_is_made(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        destination(url)
    assert "z" not in str(caught.value).partition("is not")[0]


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtraError, match=r"ruxa-async\[cloud\]"):
        destination(URL)


def test_a_folder_needs_no_extra() -> None:
    code = "import sys, ruxa_async.downloads as d; d.destination('out'); print('obstore' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
