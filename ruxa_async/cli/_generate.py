"""``ruxa-async generate``: generate one prompt."""

# ruff: noqa: RUF009 - option() returns a field of attrs

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from attrs import asdict, field, frozen
from cyclopts import Parameter

from ruxa_async.batch._input_rows import DEFAULT_MODEL
from ruxa_async.batch._request_parser import from_json, model_warning
from ruxa_async.downloads import FIELDS
from ruxa_async.requests import GenerationRequest

from ._options import Model, Name, Out, Repeated, ServiceOptions, check_name, option, panel
from ._runtime import DONE, console, open_client, require_folder, require_key, run, say
from ._stdout import print_line

if TYPE_CHECKING:
    from ruxa_async._client.client import RuxaClient

__all__ = ("generate",)

_EDIT_MODEL = "google/nano-banana-edit"


@frozen(kw_only=True)
class _RequestOptions:
    """The fields of the request, besides the prompt."""

    model: Model = DEFAULT_MODEL
    aspect_ratio: str | None = option(None, "The aspect ratio, such as 16:9 (nano-banana, nano-banana-pro).")
    image_size: str | None = option(None, "Another name for --aspect-ratio (nano-banana, nano-banana-edit).")
    resolution: str | None = option(None, "1k, 2k or 4k (nano-banana-pro).")
    output_format: str | None = option(None, "png or jpg.")
    seconds: str | None = option(None, "The length of a video (sora-2, sora-2-hd).")
    size: str | None = option(None, "The size of a video, such as 1280x720 (sora-2, sora-2-hd).")
    key: str | None = option(None, "Your name for the request. The files are named by it.")
    image: Repeated = option((), "The URL of a source picture. Can be repeated.")

    def fields(self, prompt: str) -> dict[str, Any]:
        """Return the fields of the request."""
        fields = {"prompt": prompt, **asdict(self)}
        images = list(fields.pop("image"))
        if images:
            fields["image_urls" if self.model == _EDIT_MODEL else "image_input"] = images
        return fields


@frozen(kw_only=True)
class _GenerateOptions:
    out: Out = Path()
    name: Name = None
    request: Annotated[_RequestOptions, panel("Request")] = field(factory=_RequestOptions)
    service: Annotated[ServiceOptions, panel("Service")] = field(factory=ServiceOptions)


_DEFAULTS = _GenerateOptions()


def generate(
    prompt: Annotated[str, Parameter(help="The description of the picture or video.")],
    /,
    *,
    options: Annotated[_GenerateOptions, Parameter(name="*")] = _DEFAULTS,
) -> int:
    """Generate one picture or video, download it and print its path."""
    check_name(options.name, FIELDS)
    service = options.service

    async def command() -> int:
        request = from_json(options.request.fields(prompt), options.request.model)
        if (warning := model_warning(request)) is not None:
            say(warning)
        if not service.emulator:
            require_key()
        require_folder(options.out)
        async with open_client(emulator=service.emulator, speed=service.speed, proxy=service.proxy) as client:
            for path in await _generated(client, request, options):
                print_line(path)
        return DONE

    return run(command)


async def _generated(client: RuxaClient, request: GenerationRequest, options: _GenerateOptions) -> list[Path]:
    """Return the paths of the outputs. If that fails after the create, name the task that is paid for."""
    with console.status(f"submitting to {request.model}") as status:
        task = await client.submit(request)
        try:
            status.update(f"task {task.task_id} is being generated")
            generation = await task.result()
            status.update(f"downloading {len(generation.urls)} file(s)")
            return await generation.save(options.out, name=options.name)
        except BaseException:
            say(f"task {task.task_id} is paid for: 'ruxa-async status {task.task_id}' shows its state")
            raise
