"""Fuzz one of the readers of what comes from outside: ``python tests/fuzz/fuzz.py replies 60``; see `nox -s
fuzz`.

Seeds are the cases of tests/corpus. Any exception that is no `RuxaError` ends it and is shown with its input.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import atheris

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

with atheris.instrument_imports(include=["ruxa_async"]):
    from ruxa_async import RuxaError
    from ruxa_async._api.endpoint import Endpoint, api_error
    from ruxa_async._api.rate_limit_headers import read_quota
    from ruxa_async._api.retry_after import retry_after
    from ruxa_async._api.task_status import instants, task_status
    from ruxa_async._engine.classify import classify_create, classify_query
    from ruxa_async.callbacks._messages import read_body
    from ruxa_async.journal._rows import entry_of
    from ruxa_async.journal._schema import SchemaError
    from ruxa_async.transports import Response

from corpus.loading import body_of, cases  # noqa: E402 - the path first

WIRE = Endpoint("https://h", "sk-canary-0123456789", create_timeout=1, query_timeout=1, connect_timeout=1)
WAITS = (
    "retry-after",
    "retry-after-ms",
    "date",
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit-limit",
    "x-ratelimit-reset",
)
EMPTY = sqlite3.connect(":memory:")
EMPTY.execute("CREATE TABLE files (job, number, name, size, sha256)")


def replies(data: bytes) -> None:
    status, body = 200 + (data[0] if data else 0) * 2, data[1:]
    bought = WIRE.read_create(Response(status, {}, body), wall_now=0.0)
    asked = WIRE.read_query(Response(status, {}, body), task_id="t", wall_now=0.0)
    classify_create(bought)
    classify_query(asked)
    task_status("t", asked)
    instants(asked.data)
    api_error(bought)
    read_body(body)
    if bought.task_id is not None:
        assert WIRE.query(bought.task_id).url.isascii()


def waits(data: bytes) -> None:
    texts = data.decode("latin-1").split("\n")
    headers = dict(zip(WAITS, texts, strict=False))
    told = retry_after(headers, wall_now=1.8e9)
    assert told is None or 0 <= told <= 1e9
    read_quota(headers, wall_now=1.8e9)


def rows(data: bytes) -> None:
    """Read a row of a damaged journal: each field is a text, some bytes, a number or nothing."""
    source = atheris.FuzzedDataProvider(data)

    def value(*plain: Any) -> Any:
        kinds = (
            lambda: None,
            lambda: source.ConsumeInt(8),
            lambda: source.ConsumeUnicode(80),
            lambda: source.ConsumeBytes(20),
        )
        return plain[0] if plain and source.ConsumeBool() else kinds[source.ConsumeIntInRange(0, 3)]()

    row = (1, value("batch"), value(b"\x01k"), value(1), value(b"d"), value('{"model":"m","input":{"prompt":"x"}}'),
           value("accepted"), value(1), value(1.0), value("t"), value(1.0), value(None), value(None), value(None),
           value(None), value(""), value(b"c"))  # fmt: skip
    with suppress(SchemaError):
        entry_of(EMPTY, row)


def seeds(target: str) -> Iterable[bytes]:
    if target == "waits":
        return [
            "\n".join(case["headers"].get(name, "") for name in WAITS).encode("latin-1", "replace")
            for case in cases("waits") + cases("quotas")
        ]
    if target == "replies":
        return [
            b"\0" + body_of(case["body"])[:4096]
            for case in cases("creates") + cases("queries") + cases("callbacks")
        ]
    return [bytes(200)]


def main() -> None:
    target, seconds = sys.argv[1:3]
    targets: dict[str, Callable[[bytes], None]] = {"replies": replies, "waits": waits, "rows": rows}

    def one(data: bytes) -> None:
        with suppress(RuxaError):
            targets[target](data)

    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds(target)):
            (Path(folder) / str(number)).write_bytes(seed)
        atheris.Setup(
            [sys.argv[0], folder, f"-max_total_time={seconds}", "-max_len=4096", "-print_final_stats=1"], one
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
