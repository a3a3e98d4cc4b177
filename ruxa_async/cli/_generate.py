"""``ruxa-async generate``: one prompt, now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ruxa_async.batch._input_rows import DEFAULT_MODEL
from ruxa_async.batch._request_parser import from_json, model_warning
from ruxa_async.downloads import FIELDS
from ruxa_async.requests import GenerationRequest

from ._options import EMULATOR_SPEED, EmulatorFlag, Model, Name, Out, Proxy, Speed, check_template_option
from ._runtime import DONE, console, need_folder, need_key, open_client, run, say
from ._stdout import print_line

if TYPE_CHECKING:
    from ruxa_async._client.client import RuxaClient

__all__ = ("generate",)

_EDIT = "google/nano-banana-edit"


def generate(
    prompt: Annotated[str, Parameter(help="What to make.")],
    /,
    *,
    out: Out = Path(),
    model: Model = DEFAULT_MODEL,
    aspect_ratio: Annotated[
        str | None, Parameter(help="Such as 16:9 (nano-banana, nano-banana-pro).")
    ] = None,
    image_size: Annotated[
        str | None, Parameter(help="The same under its other name (nano-banana, -edit).")
    ] = None,
    resolution: Annotated[str | None, Parameter(help="1k, 2k or 4k (nano-banana-pro).")] = None,
    output_format: Annotated[str | None, Parameter(help="png or jpg.")] = None,
    image: Annotated[
        tuple[str, ...],
        Parameter(show_default=False, help="The URL of a picture to start from; may be given several times."),
    ] = (),
    seconds: Annotated[str | None, Parameter(help="The length of a video (sora-2, sora-2-hd).")] = None,
    size: Annotated[
        str | None, Parameter(help="The size of a video, such as 1280x720 (sora-2, sora-2-hd).")
    ] = None,
    key: Annotated[str | None, Parameter(help="What to name the files (default: the task's id).")] = None,
    name: Name = None,
    proxy: Proxy = None,
    emulator: EmulatorFlag = False,
    speed: Speed = EMULATOR_SPEED,
) -> int:
    """Generate one picture or video, download it and print where it is."""
    fields: dict[str, Any] = {
        "prompt": prompt,
        "model": model,
        "key": key,
        "aspect_ratio": aspect_ratio,
        "image_size": image_size,
        "resolution": resolution,
        "output_format": output_format,
        "seconds": seconds,
        "size": size,
    }
    if image:
        fields["image_urls" if model == _EDIT else "image_input"] = list(image)

    if name is not None:
        check_template_option(name, FIELDS)

    async def command() -> int:
        request = from_json(fields, model)
        if (warning := model_warning(request)) is not None:
            say(warning)
        if not emulator:
            need_key()
        need_folder(out)
        async with open_client(emulator=emulator, speed=speed, proxy=proxy) as client:
            for path in await _generated(client, request, out, name):
                print_line(path)
        return DONE

    return run(command)


async def _generated(
    client: RuxaClient, request: GenerationRequest, out: Path, name: str | None
) -> list[Path]:
    with console.status(f"asking for {request.model}") as status:
        task = await client.submit(request)
        done = False
        try:
            status.update(f"task {task.task_id} is being generated")
            generation = await task.result()
            status.update(f"downloading {len(generation.urls)} file(s)")
            paths = await generation.save(out, name=name)
            done = True
        finally:
            if not done:
                say(f"task {task.task_id} is paid for; look at it with 'ruxa-async status {task.task_id}'")
    return paths
