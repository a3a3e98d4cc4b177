"""Which commands there are, and how wrong usage is said."""

from __future__ import annotations

from collections.abc import Sequence

import cyclopts
from cyclopts import App, CycloptsError

from ._runtime import BAD_INPUT, DONE, explained, say

__all__ = ("app", "run")


def _version() -> str:
    from ruxa_async import __version__  # noqa: PLC0415 - it costs 20 ms, and few ask

    return f"ruxa-async {__version__}"


app = App(
    name="ruxa-async",
    help="Generate pictures and videos with Ruxa. The key comes from RUXA_API_KEY, another address from "
    "RUXA_BASE_URL; with --emulator nothing is bought and no key is needed.",
    help_epilogue="Exit codes: 0 all done, 1 some failed, 2 bad usage or input, 3 halted by the account or "
    "the budget, 130 interrupted. RUXA_DEBUG=1 shows tracebacks.",
    version=_version,
    default_parameter=cyclopts.Parameter(negative=()),
    result_action="return_value",
    help_format="plaintext",
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
)
# Named by text, so that only the command that runs is imported; so what they are for is said here again.
for _name, _purpose in (
    ("generate", "Generate one picture or video, download it and print where it is."),
    ("batch", "Generate every row of a file and download what it makes."),
    ("report", "Make the report page again, from the results in a folder."),
    ("journal", "Show what was bought in a folder, and settle what is in doubt."),
    ("status", "Ask once what has become of a task."),
    ("emulate", "Serve an emulator of the service on this machine."),
):
    app.command(f"ruxa_async.cli._{_name}:{_name}", name=_name, help=_purpose)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command that *arguments* name and return the exit code."""
    return explained(lambda: _called(arguments))


def _called(arguments: Sequence[str] | None) -> int:
    try:
        code = app(None if arguments is None else list(arguments))
    except CycloptsError as error:
        say(f"{' '.join(str(error).split())} Try 'ruxa-async --help'.")
        return BAD_INPUT
    return code if isinstance(code, int) else DONE
