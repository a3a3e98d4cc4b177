"""``ruxa-async completion``: the completion script of a shell."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter
from cyclopts.completion.detect import ShellDetectionError, detect_shell

from ruxa_async.batch import InputError

from ._options import Flag
from ._runtime import DONE, say
from ._stdout import print_text

__all__ = ("completion",)

Shell: TypeAlias = Literal["bash", "zsh", "fish", "powershell"]


def completion(
    shell: Annotated[Shell | None, Parameter(help="The shell. Default: the one that runs this.")] = None,
    /,
    *,
    install: Annotated[
        Flag,
        Parameter(
            help="Write the script to the folder of the shell, load it in the startup file of the shell, and "
            "print its path."
        ),
    ] = False,
) -> int:
    """Print or install the script and return the exit code."""
    from ._app import app  # noqa: PLC0415 - it imports this module

    try:
        chosen = shell or detect_shell()
    except ShellDetectionError as error:
        raise InputError("the shell is not known: give bash, zsh, fish or powershell") from error
    if install:
        print_text(f"{app.install_completion(shell=chosen)}\n")
        say("open a new shell to use it")
    else:
        print_text(app.generate_completion(shell=chosen))
    return DONE
