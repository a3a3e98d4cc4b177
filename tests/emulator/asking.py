"""Requests to an emulated service at made-up times, for tests."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlsplit

from ruxa_async.emulator import Durations, EmulatorSettings, Service, ServiceReply, ServiceRequest

KEY = {"authorization": "Bearer sk-emulated"}


def service_of(**settings: Any) -> Service:
    """Return a service on which images take 10 s and videos 120 s, unless *settings* say otherwise."""
    return Service(EmulatorSettings(**{"image": Durations(10.0), "video": Durations(120.0), **settings}))


def create(
    service: Service, now: float, prompt: str = "a fox", model: str = "google/nano-banana", **given: Any
) -> ServiceReply:
    body = json.dumps({"model": model, "input": {"prompt": prompt, **given}}).encode()
    return service.handle(ServiceRequest("POST", "/api/v1/tasks/create", KEY, body), now)


def created(service: Service, now: float, *args: Any, **given: Any) -> str:
    """Create a task, which must be accepted, and return its id from the ledger."""
    reply = create(service, now, *args, **given)
    assert reply.status == 200
    return service.ledger.entries[-1].task_id


def query(service: Service, now: float, task_id: str) -> ServiceReply:
    path = f"/api/v1/tasks/query/{quote(task_id, safe='')}"
    return service.handle(ServiceRequest("GET", path, KEY), now)


def fetch(service: Service, now: float, url: str) -> ServiceReply:
    return service.handle(ServiceRequest("GET", urlsplit(url).path), now)


def said(reply: ServiceReply) -> Any:
    return json.loads(reply.body)
