from __future__ import annotations

from typing import Any

import pytest

from ruxa_async.emulator.hints import RETRY_AFTER_FORMS, retry_hint

_RESET = {"x-ratelimit-limit": "5", "x-ratelimit-remaining": "0"}
_FORMS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "none": ({}, {}),
    "seconds": ({"retry-after": "2"}, {}),
    "float": ({"retry-after": "1.251"}, {}),
    "ms": ({"retry-after-ms": "1251"}, {}),
    "x-ms": ({"x-ms-retry-after-ms": "1251"}, {}),
    # The clock reads 0.9 s after the full second: in 1.2501 s it is past the second one.
    "date": ({"retry-after": "Tue, 14 Nov 2023 22:13:23 GMT", "date": "Tue, 14 Nov 2023 22:13:20 GMT"}, {}),
    "ratelimit": ({"ratelimit": '"default";r=0;t=2'}, {}),
    "x-ratelimit": ({**_RESET, "x-ratelimit-reset": "2"}, {}),
    "x-ratelimit-epoch": ({**_RESET, "x-ratelimit-reset": "1700000003"}, {}),
    "body": ({}, {"retry_after": 1.251}),
}


@pytest.mark.parametrize("form", RETRY_AFTER_FORMS)
def test_a_wait_of_1_2501_seconds_is_said_in_every_form_and_never_too_short(form: Any) -> None:
    assert retry_hint(form, 1.2501, 1_700_000_000.9, allowance=5) == _FORMS[form]
