"""When the service posts callbacks, and which."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from callbacks.test_receiver import Ear
from callbacks.wired import charge, receiver_of

from ruxa_async.callbacks._messages import Answer
from ruxa_async.emulator import CallbackPost, Callbacks, Durations, EmulatorSettings, Service, post_callbacks

URL = "https://hooks.example/ruxa/token"


def service_of(**how: Any) -> Service:
    return Service(
        EmulatorSettings(key="sk-canary-0123456789", image=Durations(10.0), callbacks=Callbacks(**how))
    )


def times(service: Service) -> list[float]:
    due = []
    while (at := service.callbacks.next_time()) < float("inf"):
        due += [at] * len(service.callbacks.take(at))
    return due


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
def test_callbacks_are_due_as_the_settings_say(how: dict[str, Any], when: list[float]) -> None:
    service = service_of(**how)
    charge(service, URL, 100.0)
    assert times(service) == when
    assert service.counts.callbacks == len(when)


def test_a_task_without_an_address_is_not_posted() -> None:
    service = service_of()
    charge(service, "", 100.0)
    assert times(service) == []


def test_a_refused_post_is_sent_again_after_growing_pauses() -> None:
    service = service_of(attempts=3, pause=1.0)
    charge(service, URL, 100.0)
    now, attempts = 110.0, []
    while posts := service.callbacks.take(now):
        attempts.append((now, posts[0].attempt))
        service.callbacks.failed(posts[0], now)
        now = service.callbacks.next_time()
    assert attempts == [(110.0, 1), (111.0, 2), (113.0, 3)]
    assert service.counts.callbacks_refused == 3


def test_forged_posts_go_to_a_wrong_token_and_claim_success() -> None:
    service = service_of(forged=1.0, lost=1.0)
    charge(service, URL, 100.0)
    (post,) = service.callbacks.take(105.0)
    assert (post.genuine, post.url) == (False, "https://hooks.example/ruxa/nekot")
    assert json.loads(post.body)["data"]["state"] == "success"
    assert "token" not in repr(post)


async def test_a_receiver_with_the_key_accepts_a_signed_post() -> None:
    service = service_of(signing_key="a key", style="flat_id")
    receiver, ear = receiver_of(signing_key="a key", wall=lambda: service.epoch + 110.0), Ear()
    receiver.attach(ear)
    charge(service, receiver.url(bytes(12)), 100.0)
    (post,) = service.callbacks.take(110.0)
    token = receiver.admit("POST", post.url)
    assert not isinstance(token, Answer)
    headers = {name.lower(): value for name, value in post.headers.items()}
    assert (await receiver.take(token, headers, post.body)).status == 200
    assert len(ear.heard) == 1


async def test_an_unreachable_receiver_is_tried_again() -> None:
    service = service_of(attempts=3, pause=1.0)
    seen: list[float] = []

    async def send(post: CallbackPost) -> int:
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
