"""The commands with their help texts, and the entry point that runs one of them."""

from __future__ import annotations

from collections.abc import Sequence

import cyclopts
from cyclopts import App, CycloptsError

from ._runtime import BAD_INPUT, DONE, exit_code_of, say

__all__ = ("app", "run")

#: The help of each command, most used first, which stands here so that ``--help`` imports no command.
_COMMANDS = {
    "generate": """Generate one picture or video, download it and print its path.

A model without documentation is accepted too: give its fields with --input. 'ruxa-async models' shows the
fields of the documented ones.""",
    "batch": """Generate every row of a file and download the outputs.

Each outcome is written to results.jsonl in the --out folder. Columns or JSON fields with the names of request
fields (aspect_ratio, image_input, model, key, ...) are used. A bad row is reported and skipped.

Run it again with the same folder to continue, after any interruption or with a longer or changed file.
Nothing is bought twice, running tasks are followed to their end, and missing files are downloaded again.""",
    "mcp": """Let an agent buy pictures with a budget, over the Model Context Protocol.

The agent gets the tools generate, wait, status, list and spent. The same call is the same purchase, so an
agent that repeats a call after a time-out is charged once. Files and purchases are in the --out folder.""",
    "status": """Show the state of a task, from one query, and download its outputs if you give --out.

The exit code is 1 if the task failed, or if --out finds no outputs yet.""",
    "journal": """Show what was bought in a folder, and settle creates of unknown outcome.

KEY is the key of a row, or the name that this command shows for a row without a key; a # in front may be left
out. While a batch runs in the folder, its process and its results so far are shown.""",
    "report": """Write the report page of a folder again, and print its path.

It is made from results.jsonl and the files beside it, also while a batch runs or after it was killed.""",
    "export": """Export the outputs of a folder as data, and print the path.

As a folder for Hugging Face datasets (imagefolder, videofolder), as CSV or as parquet (extra arrow), with one
row for each output. Nothing is replaced: if the path exists, give another --out.""",
}
#: The commands of the second panel.
_HELPERS = {
    "models": "Show the documented models: their fields, allowed values and defaults.",
    "doctor": """Check key, address, proxy, clock, folders and callbacks. It spends nothing.

Each line says what to do. The exit code is 1 if a check failed. No task is created, and the key is never
shown.""",
    "emulate": """Serve an emulator of the service on this machine: no account, no cost.

The generated files are real pictures that show their prompt. Ctrl-C ends it and prints what was charged.""",
    "completion": """Print the script that completes commands, options and values in your shell.

For bash: eval "$(ruxa-async completion bash)". With --install it is loaded by every new shell.""",
}


def _version() -> str:
    from ruxa_async import __version__  # noqa: PLC0415 - it costs 20 ms, and few ask

    return f"ruxa-async {__version__}"


app = App(
    name="ruxa-async",
    help="Generate pictures and videos with Ruxa. RUXA_API_KEY holds the API key, RUXA_BASE_URL the address "
    "of the service if it is not the default. With --emulator nothing is bought and no key is needed.",
    help_epilogue="Exit codes: 0 all succeeded, 1 some failed, 2 wrong usage or input, 3 halted by the "
    "account or the budget, 130 interrupted. RUXA_DEBUG=1 shows tracebacks.",
    version=_version,
    group_commands=cyclopts.Group("Commands", sort_key=0),
    default_parameter=cyclopts.Parameter(negative=()),
    result_action="return_value",
    help_format="markdown",  # joins the lines of a paragraph
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
)
_FIRST, _SECOND = app.group_commands, cyclopts.Group("Help and setup", sort_key=1)
for _group, _commands in ((_FIRST, _COMMANDS), (_SECOND, _HELPERS)):
    for _place, (_name, _help) in enumerate(_commands.items()):
        app.command(f"ruxa_async.cli._{_name}:{_name}", name=_name, help=_help, group=_group, sort_key=_place)
for _flag in ("--help", "--version"):
    app[_flag].group = _SECOND


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command that *arguments* name and return the exit code."""
    return exit_code_of(lambda: _run_command(arguments))


def _run_command(arguments: Sequence[str] | None) -> int:
    try:
        code = app(None if arguments is None else list(arguments))
    except CycloptsError as error:
        say(f"{' '.join(str(error).split())} Try 'ruxa-async --help'.")
        return BAD_INPUT
    return code if isinstance(code, int) else DONE
