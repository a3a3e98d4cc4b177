"""What the service posts, and when."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from callbacks.test_receiver import Ear
from callbacks.wired import charge, receiver_of

from ruxa_async.callbacks._answers import Answer
from ruxa_async.emulator import CallbackPost, Callbacks, Durations, EmulatorSettings, Service, post_callbacks

URL = "https://hooks.example/ruxa/token"


def service_of(**how: Any) -> Service:
    return Service(
        EmulatorSettings(key="sk-canary-0123456789", image=Durations(10.0), callbacks=Callbacks(**how))
    )


def times(service: Service) -> list[float]:
    seen = []
    while (at := service.callbacks.next_time()) < float("inf"):
        seen += [at] * len(service.callbacks.take(at))
    return seen


@pytest.mark.parametrize(
    ("how", "when"),
    [
        ({}, [110.0]),
        ({"delay": 2.0}, [112.0]),
        ({"lost": 1.0}, []),
        ({"duplicated": 1.0}, [110.0, 110.0]),
        ({"progress": True}, [105.0, 110.0]),
        ({"forged": 1.0, "malformed": 1.0}, [105.0, 105.0, 110.0]),
    ],
)
def test_posts_come_when_they_should(how: dict[str, Any], when: list[float]) -> None:
    service = service_of(**how)
    charge(service, URL, 100.0)
    assert times(service) == when
    assert service.counts.callbacks == len(when)


def test_a_task_without_an_address_is_not_posted() -> None:
    service = service_of()
    charge(service, "", 100.0)
    assert times(service) == []


def test_a_post_that_is_refused_is_tried_again_with_growing_pauses() -> None:
    service = service_of(attempts=3, pause=1.0)
    charge(service, URL, 100.0)
    now, attempts = 110.0, []
    while letters := service.callbacks.take(now):
        attempts.append((now, letters[0].attempt))
        service.callbacks.refused(letters[0], now)
        now = service.callbacks.next_time()
    assert attempts == [(110.0, 1), (111.0, 2), (113.0, 3)]
    assert service.counts.callbacks_refused == 3


def test_forged_posts_go_to_a_wrong_token_and_claim_success() -> None:
    service = service_of(forged=1.0, lost=1.0)
    charge(service, URL, 100.0)
    (letter,) = service.callbacks.take(105.0)
    assert (letter.genuine, letter.url) == (False, "https://hooks.example/ruxa/nekot")
    assert json.loads(letter.body)["data"]["state"] == "success"
    assert "token" not in repr(letter)


async def test_a_signed_post_is_believed_by_a_receiver_that_asks_for_it() -> None:
    service = service_of(signing_key="a key", style="flat_id")
    receiver, ear = receiver_of(signing_key="a key", wall=lambda: service.epoch + 110.0), Ear()
    receiver.attach(ear)
    charge(service, receiver.url(bytes(12)), 100.0)
    (letter,) = service.callbacks.take(110.0)
    token = receiver.admit("POST", letter.url)
    assert not isinstance(token, Answer)
    headers = {name.lower(): value for name, value in letter.headers.items()}
    assert (await receiver.take(token, headers, letter.body)).status == 200
    assert len(ear.heard) == 1


async def test_a_receiver_that_cannot_be_reached_is_tried_again() -> None:
    service = service_of(attempts=3, pause=1.0)
    seen: list[float] = []

    async def send(letter: CallbackPost) -> int:
        seen.append(anyio.current_time())
        if len(seen) == 1:
            raise ConnectionRefusedError
        return 503 if len(seen) == 2 else 200

    async with anyio.create_task_group() as tg:
        tg.start_soon(post_callbacks, service, send)
        await anyio.sleep(1)
        began = anyio.current_time()
        charge(service, URL, began)
        await anyio.sleep(30)
        tg.cancel_scope.cancel()
    assert [at - began for at in seen] == pytest.approx([10.0, 11.0, 13.0])
