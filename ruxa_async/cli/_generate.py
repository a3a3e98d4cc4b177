"""``ruxa-async generate``: generate one request."""

# ruff: noqa: RUF009 - option() returns a field of attrs

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
from attrs import asdict, define, field, fields, frozen
from cyclopts import Parameter

from ruxa_async.batch import InputError
from ruxa_async.batch._input_rows import DEFAULT_MODEL
from ruxa_async.batch._request_parser import build_request, model_warning
from ruxa_async.downloads import FIELDS
from ruxa_async.errors import RuxaError, SubmissionUnknownError, TaskFailedError
from ruxa_async.requests import GenerationRequest, request_class

from ._models import fields_of, input_field
from ._options import Flag, Model, Name, Out, Repeated, ServiceOptions, check_name, option, panel
from ._runtime import DONE, SOME_FAILED, console, open_client, require_folder, require_key, run, say
from ._stdout import print_text
from ._viewer import open_files

if TYPE_CHECKING:
    from ruxa_async._client.client import RuxaClient

__all__ = ("generate",)

_EDIT_MODEL = "google/nano-banana-edit"
#: Options that are not fields of the input.
_NOT_INPUT = ("model", "key", "image", "input")


def _complete_input(context: Any) -> list[str]:
    """Return the fields of the model that is typed so far, for shell completion."""
    typed = context.get("--model")
    cls = request_class((typed and typed.raw) or DEFAULT_MODEL)
    return [] if cls is None else [f"{each.name}=" for each in fields_of(cls)]


@frozen(kw_only=True)
class _RequestOptions:
    """The fields of the request, besides the prompt."""

    model: Model = DEFAULT_MODEL
    aspect_ratio: str | None = option(None, "The aspect ratio, such as 16:9 (nano-banana, nano-banana-pro).")
    image: Annotated[Repeated, Parameter(metavar="URL")] = option(
        (), "The URL of a source picture. Can be repeated."
    )
    input: Annotated[
        tuple[str, ...],
        Parameter(show_default=False, metavar="FIELD=VALUE", completer=_complete_input),
    ] = option(
        (),
        "A field of the model's input, as FIELD=VALUE. VALUE is read as JSON, otherwise as text. Can be "
        "repeated. 'ruxa-async models' lists the fields.",
    )
    resolution: str | None = option(None, "1k, 2k or 4k (nano-banana-pro).")
    output_format: str | None = option(None, "png or jpg.")
    size: str | None = option(None, "The size of a video, such as 1280x720 (sora-2, sora-2-hd).")
    seconds: str | None = option(None, "The length of a video (sora-2, sora-2-hd).")
    image_size: str | None = option(None, "Another name for --aspect-ratio (nano-banana, nano-banana-edit).")
    key: str | None = option(None, "Your name for the request. The files are named by it.")

    def request(self, prompt: str | None) -> GenerationRequest:
        """Return the request. Raises `InputError`, `RowError`, `RequestValidationError`."""
        given = {"prompt": prompt, **asdict(self)}
        for name in _NOT_INPUT:
            del given[name]
        if self.image:
            given["image_urls" if self.model == _EDIT_MODEL else "image_input"] = list(self.image)
        values = {name: value for name, value in given.items() if value is not None}
        for text in self.input:
            name, value = input_field(self.model, text)
            if name in values:
                raise InputError(f"--input {name}: the field {name} is given twice")
            values[name] = value
        if not self.model.strip():
            raise InputError("--model is empty: give the id of a model")
        return build_request(self.model, values, (self.key or "").strip() or None)


@frozen(kw_only=True)
class _OutputOptions:
    out: Out = Path()
    open: Flag = option(False, "Open the files with the viewer of this machine.")
    json: Flag = option(
        False,
        "Print one JSON object instead of paths: task_id, model, key, state, files, urls, credits, seconds, "
        "error. Nothing is printed if nothing was bought.",
    )
    name: Name = None


@frozen(kw_only=True)
class _GenerateOptions:
    request: Annotated[_RequestOptions, panel("Request")] = field(factory=_RequestOptions)
    output: Annotated[_OutputOptions, panel("Output")] = field(factory=_OutputOptions)
    service: Annotated[ServiceOptions, panel("Service")] = field(factory=ServiceOptions)


_DEFAULTS = _GenerateOptions()


@define(kw_only=True)
class _Purchase:
    """The purchase so far, as ``--json`` prints it. *seconds* are from the create to the end of the task."""

    task_id: str | None = None
    model: str
    key: str | None
    state: str = "not_bought"
    files: list[Path] = field(factory=list)
    urls: list[str] = field(factory=list)
    credits: float | None = None
    seconds: float | None = None
    error: str | None = None

    def as_json(self) -> str:
        """Return one line of JSON."""
        values = {**asdict(self), "files": [str(path) for path in self.files]}
        return json.dumps({each.name: values[each.name] for each in fields(_Purchase)}) + "\n"


def generate(
    prompt: Annotated[
        str | None,
        Parameter(
            help="The description of the picture or video. Models without documentation may need none."
        ),
    ] = None,
    /,
    *,
    options: Annotated[_GenerateOptions, Parameter(name="*")] = _DEFAULTS,
) -> int:
    """Generate one picture or video, download it and print its path."""
    output = options.output
    check_name(output.name, FIELDS)
    request = options.request.request(prompt)
    purchase = _Purchase(model=request.model, key=request.key)

    async def command() -> int:
        if (warning := model_warning(request)) is not None:
            say(warning)
        service = options.service
        if not service.emulator:
            require_key()
        require_folder(output.out)
        opened: RuxaClient | None = None
        try:
            async with open_client(
                emulator=service.emulator, speed=service.speed, proxy=service.proxy
            ) as opened:
                return await _buy(opened, request, purchase, output)
        finally:
            if opened is not None and purchase.state == "not_bought":
                _note_orphan(opened, purchase)

    try:
        code = run(command)
    except BaseException:
        _print_result(purchase, output)
        raise
    return code if _print_result(purchase, output) else code or SOME_FAILED


def _note_orphan(client: RuxaClient, purchase: _Purchase) -> None:
    """Note a create that was on the wire when the command was interrupted. *client* is closed."""
    for orphan in client.orphans:
        purchase.task_id = orphan.task_id
        purchase.state = "unfinished" if orphan.task_id else "unknown"
        if orphan.task_id:
            _say_how_to_fetch(purchase)


def _print_result(purchase: _Purchase, output: _OutputOptions) -> bool:
    """Print what was bought and open it; return whether it could be printed."""
    if purchase.state == "not_bought":
        return True
    printed = True
    try:
        print_text(purchase.as_json() if output.json else "".join(f"{path}\n" for path in purchase.files))
    except (OSError, InputError) as error:
        printed = False
        files = ", ".join(map(str, purchase.files)) or "no file"
        say(f"{error}. Task {purchase.task_id} is paid for, and saved is: {files}")
    if output.open:
        open_files(purchase.files)
    return printed


async def _buy(
    client: RuxaClient, request: GenerationRequest, purchase: _Purchase, output: _OutputOptions
) -> int:
    """Buy *request* and save its outputs; keep *purchase* true at each step. Return the exit code."""
    with console.status(f"submitting to {request.model}") as status:
        began = anyio.current_time()
        try:
            task = await client.submit(request)
        except SubmissionUnknownError as error:
            purchase.state, purchase.error = "unknown", str(error)
            raise
        purchase.task_id, purchase.state = task.task_id, "unfinished"
        try:
            status.update(f"task {task.task_id} is being generated")
            generation = await task.result()
            purchase.state, purchase.urls = "success", list(generation.urls)
            purchase.credits = generation.credits
            purchase.seconds = round(anyio.current_time() - began, 3)
            status.update(f"downloading {len(generation.urls)} file(s)")
            purchase.files = await generation.save(output.out, name=output.name)
        except TaskFailedError as error:
            purchase.state, purchase.error, purchase.credits = "fail", str(error), error.credits
            purchase.seconds = round(anyio.current_time() - began, 3)
            raise
        except (RuxaError, OSError) as error:
            # Not the general sentences, which may advise to run it again: that would buy it twice.
            purchase.error = str(error) or type(error).__name__
            say(purchase.error)
            _say_how_to_fetch(purchase)
            return SOME_FAILED
        except BaseException:
            _say_how_to_fetch(purchase)
            raise
    return DONE


def _say_how_to_fetch(purchase: _Purchase) -> None:
    """Say how to get what is paid for without buying it again."""
    command = f"'ruxa-async status {purchase.task_id} --out DIR'"
    when = "" if purchase.state == "success" else ", once it has ended"
    say(f"task {purchase.task_id} is paid for: {command} downloads it{when}")
    for url in purchase.urls:
        say(f"  {url}")
