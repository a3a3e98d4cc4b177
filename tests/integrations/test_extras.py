"""Each integration names its extra where the engine is missing, and a bare import loads no engine."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

ENGINES = {"dask": "distributed", "otel": "opentelemetry", "ray": "ray"}


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


@pytest.mark.parametrize("name", ENGINES)
def test_a_missing_engine_is_an_error_with_the_pip_line(name: str) -> None:
    code = f"""
import sys
sys.modules[{ENGINES[name]!r}] = None
try:
    import ruxa_async.integrations.{name}
except ImportError as error:
    print(type(error).__name__, error)
"""
    assert run(code).strip() == (
        f"MissingExtraError ruxa_async.integrations.{name} needs the extra {name!r}: "
        f"pip install 'ruxa-async[{name}]'"
    )


def test_a_bare_import_loads_no_engine() -> None:
    code = "import ruxa_async, ruxa_async.integrations, json, sys; print(json.dumps(sorted(sys.modules)))"
    assert not {"dask", "distributed", "obstore", "opentelemetry", "ray"} & {*json.loads(run(code))}


def test_a_client_loads_no_object_store_until_one_is_used() -> None:
    code = (
        "import sys; from ruxa_async import ObjectStoreUploader, RuxaClient; print('obstore' in sys.modules)"
    )
    assert run(code).strip() == "False"
