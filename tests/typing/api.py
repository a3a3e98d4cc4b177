"""What type checkers see of the public API: checked by mypy, pyright, ty and pyrefly, never run.

``type: ignore`` is what mypy, pyright and pyrefly read, ``ty: ignore`` what ty reads; one that is not needed
is an error.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, assert_never, assert_type

from ruxa_async import (
    APIError,
    Budget,
    BudgetExceededError,
    CallbackURL,
    Completions,
    CustomRequest,
    Failed,
    Generation,
    GenerationRequest,
    GenerationTask,
    JobRecord,
    Limits,
    NanoBanana,
    NanoBananaEdit,
    NanoBananaPro,
    ObjectStoreUploader,
    Outcome,
    RateLimit,
    RateLimitedError,
    Resume,
    RuxaClient,
    Sora2,
    Sora2HD,
    Stats,
    SubmissionHalted,
    Succeeded,
    TaskError,
    TaskState,
    TaskStatus,
    Timeouts,
    progress,
    sync,
)
from ruxa_async.downloads import ObjectStore
from ruxa_async.events import ClientEvent, CreateThrottled, Event, EventHook, Scope, ScopePaused, TaskEnded
from ruxa_async.transports import MemoryTransport, Request, Response, Transport


class WebFolder:
    async def upload(self, content: bytes, name: str) -> str:
        return f"https://files.example/{name}/{len(content)}"

    async def delete(self, url: str) -> None: ...


# ---- outcomes


def narrowed_by_match(outcome: Outcome) -> Generation | None:
    match outcome:
        case Succeeded():
            assert_type(outcome, Succeeded)
            assert_type(outcome.task_id, str | None)
            assert_type(outcome.submitted_at, float)
            return outcome.generation
        case Failed(error=error):
            assert_type(outcome, Failed)
            assert_type(outcome.task_id, str | None)
            assert_type(outcome.submitted_at, float | None)
            assert_type(error, Exception)
            return None
        case _:
            assert_never(outcome)


def narrowed_by_ok(outcome: Outcome) -> Exception | None:
    assert_type(outcome.ok, bool)
    if outcome.ok is True:
        assert_type(outcome, Succeeded)
        assert_type(outcome.ok, Literal[True])
        assert_type(outcome.generation, Generation)
        return None
    assert_type(outcome, Failed)
    assert_type(outcome.ok, Literal[False])
    return outcome.error


def narrowed_by_ok_alone(outcome: Outcome) -> None:
    # pyright and pyrefly narrow by a comparison of a member, not by its truth.
    if outcome.ok:
        assert_type(outcome, Succeeded)  # pyright: ignore[reportAssertTypeFailure]  # pyrefly: ignore[assert-type]
    else:
        assert_type(outcome, Failed)  # pyright: ignore[reportAssertTypeFailure]  # pyrefly: ignore[assert-type]


def narrowed_by_class(outcome: Outcome) -> None:
    if isinstance(outcome, Failed):
        assert_type(outcome.error, Exception)
    else:
        assert_type(outcome, Succeeded)
    assert_type(outcome.unwrap(), Generation)
    assert_type(outcome.request, GenerationRequest)
    assert_type(outcome.key, str | None)
    assert_type(outcome.index, int)


# ---- the client


async def buying(ruxa: RuxaClient) -> None:
    assert_type(await ruxa.generate(NanoBanana(prompt="a cat")), Generation)
    assert_type(await ruxa.generate(NanoBanana(prompt="a cat"), run="cats"), Generation)
    assert_type(await ruxa.submit(NanoBanana(prompt="a cat"), run="cats"), GenerationTask)
    task = await ruxa.submit(Sora2HD(prompt="a cat runs", seconds="25"))
    assert_type(task, GenerationTask)
    assert_type(task.task_id, str)
    assert_type(task.model, str | None)
    assert_type(task.request, GenerationRequest | None)
    assert_type(task.status, TaskStatus | None)
    assert_type(task.done, bool)
    assert_type(await task.result(), Generation)
    assert_type(await task.result(timeout=60), Generation)
    assert_type(await task.result(timeout=None), Generation)
    assert_type(task.updates(), AsyncIterator[TaskStatus])
    async for status in task.updates():
        assert_type(status.state, TaskState)
        assert_type(status.state.terminal, bool)
        assert_type(status.progress, float | None)


async def asking(ruxa: RuxaClient) -> None:
    assert_type(ruxa.attach("task_1"), GenerationTask)
    assert_type(ruxa.attach("task_1", model="sora-2"), GenerationTask)
    assert_type(await ruxa.status("task_1"), TaskStatus)
    assert_type(ruxa.stats(), Stats)
    assert_type(ruxa.stats().throttled, Mapping[str, int])
    assert_type(ruxa.orphans, tuple[JobRecord, ...])


async def stage() -> AsyncIterator[GenerationRequest]:
    yield NanoBanana(prompt="a cat")
    yield CustomRequest(model="veo3.1", input={"prompt": "a cat"})


async def batches(ruxa: RuxaClient) -> None:
    cats = [NanoBanana(prompt="a cat"), NanoBanana(prompt="another")]
    mixed = (NanoBananaPro(prompt="a cat", resolution="4k"), Sora2(prompt="a cat runs"))
    assert_type(ruxa.as_completed(cats), Completions)
    ruxa.as_completed(mixed, window=10, task_timeout=600)
    ruxa.as_completed(cats, resume="cats")
    ruxa.as_completed(cats, resume=Resume("cats", retry_failed=True))
    ruxa.as_completed(NanoBanana(prompt=f"cat {n}") for n in range(10))
    async for outcome in ruxa.as_completed(stage()):
        assert_type(outcome, Succeeded | Failed)
    async with ruxa.as_completed(cats) as outcomes:
        assert_type(outcomes, Completions)
        async for outcome in outcomes:
            narrowed_by_match(outcome)
        assert_type(progress(outcomes, total=2), AsyncIterator[Outcome])
        async for outcome in progress(outcomes):
            narrowed_by_match(outcome)
        for _ in progress(outcomes):  # type: ignore[attr-defined]  # ty: ignore[not-iterable]
            pass
    assert_type(outcomes.unfinished, tuple[JobRecord, ...])
    assert_type(outcomes.unknown, tuple[JobRecord, ...])
    assert_type(outcomes.unsubmitted, tuple[JobRecord, ...])


def paint(sketch: Succeeded) -> NanoBananaPro | None:
    return NanoBananaPro(prompt="in oils", image_input=sketch.generation.urls) if sketch.index else None


async def film(painting: Succeeded) -> list[Sora2]:
    return [Sora2(prompt="a breeze", input_reference=url) for url in painting.generation.urls]


def scenes(painting: Succeeded) -> Iterator[GenerationRequest]:
    yield Sora2(prompt="a breeze")
    yield NanoBanana(prompt="a still")


async def chained(ruxa: RuxaClient) -> None:
    films = ruxa.as_completed([NanoBanana(prompt="a cat")], resume="cats").then(paint).then(film, name="film")
    assert_type(films, Completions)
    assert_type(films.stages, tuple[Completions, ...])
    films.then(scenes, window=5, task_timeout=600)
    films.then(lambda made: NanoBananaPro(prompt="again", image_input=made.generation.urls))
    async with films as outcomes:
        async for outcome in outcomes:
            match outcome:
                case Succeeded(stage=stage, generation=generation):
                    assert_type(stage, int)
                    assert_type(generation, Generation)
                case Failed(stage=stage, error=error):
                    assert_type(stage, int)
                    assert_type(error, Exception)
                case _:
                    assert_never(outcome)
    films.then("paint")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    films.then(len)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]


def asking_for_it(urls: list[str]) -> None:
    NanoBanana(prompt="a cat", image_input=urls, extra={"seed": 1})
    NanoBananaEdit(prompt="a hat", image_urls=[*urls])
    NanoBananaEdit(prompt="a hat", image_urls=["a.png", Path("b.png"), b"content"])
    Sora2(prompt="a cat", input_reference=Path("a.png"))
    NanoBananaPro(prompt="a cat", image_input=(url for url in urls))
    Sora2(prompt="a cat runs", seconds=10)
    Sora2HD(prompt="a cat runs", seconds="25")
    assert_type(NanoBananaPro(prompt="a cat", image_input=urls).image_input, tuple[str, ...])
    assert_type(CustomRequest(model="m", input={"a": [1]}).input(), dict[str, Any])


async def fetching(made: Generation, folder: Path) -> None:
    assert_type(await made.save(), list[Path])
    assert_type(await made.save(folder), list[Path])
    assert_type(await made.save("out"), list[Path])
    assert_type(await made.save(ObjectStore("s3://bucket/prefix")), list[Path])
    RuxaClient(uploader=ObjectStoreUploader("s3://bucket/prefix", valid_for=3600))
    sync.RuxaClient(uploader=WebFolder())
    assert_type(await made.read(), list[bytes])
    assert_type(made.urls, tuple[str, ...])
    assert_type(made.credits, float | None)


async def entering() -> None:
    async with RuxaClient() as ruxa:
        assert_type(ruxa, RuxaClient)
    assert_type(await RuxaClient().open(), RuxaClient)
    await ruxa.aclose()
    with RuxaClient():  # type: ignore[attr-defined]  # ty: ignore[invalid-context-manager]
        pass


# ---- without async


def buying_without_async(folder: Path) -> None:
    with sync.RuxaClient(limits=Limits(max_in_flight=10), budget=Budget(max_tasks=3)) as ruxa:
        assert_type(ruxa, sync.RuxaClient)
        made = ruxa.generate(NanoBanana(prompt="a cat"), run="cats")
        assert_type(made, Generation)
        assert_type(ruxa.save(made, folder, name="{key}"), list[Path])
        assert_type(ruxa.read(made), list[bytes])
        task = ruxa.submit(Sora2(prompt="a cat runs"))
        assert_type(task, sync.GenerationTask)
        assert_type(task.result(timeout=60), Generation)
        assert_type(task.updates(), Iterator[TaskStatus])
        assert_type(ruxa.attach("task_1", model="sora-2"), sync.GenerationTask)
        assert_type(ruxa.status("task_1"), TaskStatus)
        assert_type(ruxa.stats(), Stats)
        assert_type(ruxa.orphans, tuple[JobRecord, ...])
        with ruxa.as_completed([NanoBanana(prompt="a cat")], resume="cats") as outcomes:
            assert_type(outcomes, sync.Completions)
            for outcome in outcomes:
                assert_type(outcome, Succeeded | Failed)
            assert_type(progress(outcomes, total=1), Iterator[Outcome])
        assert_type(outcomes.unfinished, tuple[JobRecord, ...])
        paintings = ruxa.as_completed([NanoBanana(prompt="a cat")]).then(paint, window=5)
        assert_type(paintings, sync.Completions)
        assert_type(paintings.stages, tuple[sync.Completions, ...])
        paintings.then(scenes)
        paintings.then(film)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    ruxa.as_completed(stage())  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    assert_type(sync.RuxaClient().open(), sync.RuxaClient)


# ---- setting up


def watch(event: Event | ClientEvent) -> None:
    if isinstance(event, ScopePaused):
        assert_type(event.scope, Literal["create", "query"])
        assert_type(event.seconds, float)
        return
    if isinstance(event, ClientEvent):
        assert_type(event.at, float)
        return
    assert_type(event.job, JobRecord)
    match event:
        case CreateThrottled(retry_after=told):
            assert_type(told, float | None)
        case TaskEnded(status=status, error=error):
            assert_type(status, TaskStatus | None)
            assert_type(error, BaseException | None)
        case _:
            assert_type(event.at, float)


async def answer(request: Request) -> Response:
    return Response(200, {}, request.url.encode())


def constructing() -> None:
    hook: EventHook = watch
    events: list[Event | ClientEvent] = []
    scope: Scope = "create"
    transport: Transport = MemoryTransport(answer)
    RuxaClient(
        api_key="sk-x",
        base_url="https://relay.example",
        transport=transport,
        limits=Limits(max_in_flight=10, create_rate=RateLimit(20, per=10)),
        timeouts=Timeouts(task=600),
        callbacks=CallbackURL("https://me.example/hook", field="callBackUrl"),
        budget=Budget(max_tasks=10, max_credits=30.5, prices={"sora-2": 10, "sora-2[seconds=15]": 15}),
        on_event=hook,
    )
    Budget(10)  # type: ignore[call-arg]  # ty: ignore[too-many-positional-arguments]
    Budget(prices={"sora-2": "10"})  # type: ignore[dict-item]  # ty: ignore[invalid-argument-type]
    RuxaClient(proxy="http://proxy:3128", ssl_context=ssl.create_default_context())
    RuxaClient(proxy=3128)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    RuxaClient(on_event=events.append)
    RuxaClient(on_event=lambda event: (event.at, scope))


def refused_by_the_checker() -> None:
    NanoBanana()  # type: ignore[call-arg]  # ty: ignore[missing-argument]
    NanoBanana("a cat")  # type: ignore[call-arg]  # ty: ignore[missing-argument, too-many-positional-arguments]
    NanoBanana(prompt="a cat", resolution="4k")  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
    NanoBananaEdit(prompt="a hat")  # type: ignore[call-arg]  # ty: ignore[missing-argument]
    NanoBanana(prompt=7)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    NanoBanana(prompt="a cat", extra=["seed"])  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    NanoBananaPro(prompt="a cat", image_input=[7])  # type: ignore[list-item]  # ty: ignore[invalid-argument-type]
    Sora2(prompt="a cat", seconds=10.5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    CallbackURL("https://me.example", field="callbackUrl")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    RuxaClient("sk-x")  # type: ignore[call-arg]  # ty: ignore[too-many-positional-arguments]
    NanoBanana(prompt="a cat").prompt = "a dog"  # type: ignore[misc]  # ty: ignore[invalid-assignment]


# ---- errors


def handling(error: Exception) -> str:
    match error:
        case RateLimitedError(retry_after=told):
            assert_type(told, float | None)
        case APIError(status=status, code=code):
            assert_type(status, int)
            assert_type(code, int | None)
        case BudgetExceededError(price=price, price_key=price_key, tasks=tasks):
            assert_type(price, float | None)
            assert_type(price_key, str)
            assert_type(tasks, int)
        case TaskError(task_id=task_id):
            assert_type(task_id, str)
        case SubmissionHalted(unfinished=left):
            assert_type(left, tuple[JobRecord, ...])
        case _:
            pass
    return str(error)
