"""``ruxa-async doctor``: check this machine, the key and the way to the service."""

# ruff: noqa: RUF009 - option() returns a field of attrs

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

from attrs import asdict, field, frozen
from cyclopts import Parameter

from ruxa_async._client.config import resolve_base_url
from ruxa_async.errors import ConfigurationError, JournalError, MissingExtraError
from ruxa_async.journal import view_journal

from ._batch_options import CallbackAddress, CallbackOptions
from ._findings import Finding, check_folder, check_key, check_versions
from ._options import Flag, JournalAddress, Proxy, journal_address, option, panel
from ._runtime import DONE, SOME_FAILED, console, run
from ._service_checks import Service, check_callbacks
from ._stdout import print_text

__all__ = ("doctor",)


@frozen(kw_only=True)
class _JournalOptions:
    journal: JournalAddress = None


@frozen(kw_only=True)
class _ServiceOptions:
    emulator: Flag = option(False, "Check an emulator that runs during this command instead of the service.")
    proxy: Proxy = None


@frozen(kw_only=True)
class _DoctorOptions:
    out: Annotated[Path, Parameter(help="The folder for outputs, and for the journal of a batch.")] = Path()
    journal_folder: Path | None = option(None, "The folder of a journal that lies elsewhere.")
    json: Flag = option(False, "Print one JSON object.")
    service: Annotated[_ServiceOptions, panel("Service")] = field(factory=_ServiceOptions)
    callbacks: Annotated[CallbackOptions, panel("Callbacks")] = field(factory=CallbackOptions)
    shared: Annotated[_JournalOptions, panel("Journal on a server")] = field(factory=_JournalOptions)


_DEFAULTS = _DoctorOptions()


def doctor(*, options: Annotated[_DoctorOptions, Parameter(name="*")] = _DEFAULTS) -> int:
    """Print what each check found, and return the exit code: 1 if one failed."""
    found: list[Finding] = []
    # Read before the first line is printed, because they may be wrong usage.
    journal, callbacks = journal_address(options.shared.journal), options.callbacks.address

    async def command() -> int:
        with console.status("checking"):
            async for finding in _checks(options, journal, callbacks):
                found.append(finding)
                if not options.json:
                    print_text(f"{finding.line()}\n")
        is_well = all(each.state != "failed" for each in found)
        if options.json:
            values = {"ok": is_well, "checks": [asdict(each) for each in found]}
            print_text(json.dumps(values, indent=2) + "\n")
        return DONE if is_well else SOME_FAILED

    return run(command)


async def _checks(
    options: _DoctorOptions, journal: str | None, callbacks: CallbackAddress | None
) -> AsyncIterator[Finding]:
    yield check_versions()
    for finding in check_folder("output", options.out):
        yield finding
    if options.journal_folder is not None:
        for finding in check_folder("journal", options.journal_folder):
            yield finding
    if journal is not None:
        yield await _server(journal)
    async for finding in _network(options, callbacks):
        yield finding


async def _network(options: _DoctorOptions, callbacks: CallbackAddress | None) -> AsyncIterator[Finding]:
    from ruxa_async.transports import AiohttpTransport  # noqa: PLC0415 - aiohttp takes long to import

    proxy = options.service.proxy
    async with AsyncExitStack() as stack:
        try:
            if options.service.emulator:
                from ruxa_async.emulator import Emulator  # noqa: PLC0415 - Pillow is an extra

                emulator = await stack.enter_async_context(Emulator())
                service = Service(emulator.url, emulator.key, proxy)
            else:
                key, finding = check_key()
                yield finding
                service = Service(resolve_base_url(None), key, proxy)
            transport = AiohttpTransport(proxy=proxy)
            stack.push_async_callback(transport.aclose)
            yield await service.address()
        except ConfigurationError as error:
            yield Finding("address", "failed", str(error))
            return
        for finding in await service.reply(transport):
            yield finding
        if callbacks is not None:
            yield await check_callbacks(callbacks, transport)


async def _server(address: str) -> Finding:
    """Return whether the journal at *address*, which is not shown, can be read."""
    try:
        view = await view_journal(address)
    except MissingExtraError:
        raise
    except JournalError as error:
        return Finding("journal", "failed", str(error))
    holder = "" if view.in_use is None else f"; {view.in_use.holder or 'another process'} holds it"
    return Finding("journal", "ok", f"the journal at {view.path} can be read{holder}")
