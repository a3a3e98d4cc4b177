"""The clients of other services, as their documentation uses them, with a shim as the service (`_shims`)."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks._gathered import KEY, Contender, Done, Job, gathered

__all__ = ("PEERS",)


async def fal(job: Job, done: Done) -> list[str]:
    """Buy with `subscribe`."""
    import fal_client
    from fal_client import client

    client.QUEUE_URL_FORMAT = f"{job['url']}/"  # the only setting without an argument
    caller = fal_client.AsyncClient(key=KEY)
    return await gathered(job, done, lambda text: caller.subscribe("fal-ai/flux", arguments={"prompt": text}))


async def replicate(job: Job, done: Done) -> list[str]:
    """Buy with `async_run`, which asks the service to reply when the picture is there."""
    import replicate as library

    caller = library.Client(api_token=KEY, base_url=job["url"])
    return await gathered(job, done, lambda text: caller.async_run("an/image", input={"prompt": text}))


async def replicate_polling(job: Job, done: Done) -> list[str]:
    """Buy with `predictions.async_create` and `async_wait`, which polls."""
    import replicate as library

    caller = library.Client(api_token=KEY, base_url=job["url"])

    async def buy(text: str) -> None:
        prediction = await caller.models.predictions.async_create(
            model=("an", "image"), input={"prompt": text}
        )
        await prediction.async_wait()

    return await gathered(job, done, buy)


async def openai(job: Job, done: Done) -> list[str]:
    """Buy with `videos.create_and_poll`."""
    from openai import AsyncOpenAI

    tries = {"max_retries": job["max_retries"]} if "max_retries" in job else {}
    async with AsyncOpenAI(api_key=KEY, base_url=f"{job['url']}/v1", **tries) as caller:
        return await gathered(
            job, done, lambda text: caller.videos.create_and_poll(prompt=text, model="sora-2")
        )


async def runwayml(job: Job, done: Done) -> list[str]:
    """Buy with `text_to_image.create` and `wait_for_task_output`."""
    from runwayml import AsyncRunwayML

    tries = {"max_retries": job["max_retries"]} if "max_retries" in job else {}
    async with AsyncRunwayML(api_key=KEY, base_url=job["url"], **tries) as caller:

        async def buy(text: str) -> None:
            task = await caller.text_to_image.create(model="gen4_image", prompt_text=text, ratio="1920:1080")
            await task.wait_for_task_output()

        return await gathered(job, done, buy)


PEERS: Mapping[str, Contender] = {
    each.__name__: each for each in (fal, replicate, replicate_polling, openai, runwayml)
}
