"""``ruxa-async mcp``: tools for agents over the Model Context Protocol."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import anyio
from attrs import field, frozen
from cyclopts import Parameter

from ruxa_async._price_list import parse_price_key
from ruxa_async.batch import InputError, RowError, folder_journal
from ruxa_async.batch._layout import EMULATOR
from ruxa_async.batch._request_parser import build_request, json_row, model_hint
from ruxa_async.errors import JournalInUseError, MissingExtraError
from ruxa_async.requests import MODELS, GenerationRequest, request_class
from ruxa_async.settings import Budget

from ._batch_options import BudgetOptions
from ._models import fields_of
from ._options import Out, ServiceOptions, option, panel
from ._runtime import DONE, open_client, require_folder, require_key, run, say

if TYPE_CHECKING:
    from ruxa_async.journal import SqliteJournal
    from ruxa_async.mcp_server._server import AgentServer, MakeRequest

__all__ = ("mcp",)

#: Seconds to wait for the journal: a desktop starts a new server while the old one ends.
_JOURNAL_WITHIN = 10.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@frozen(kw_only=True)
class _McpOptions:
    out: Out
    http: Annotated[str | None, Parameter(metavar="HOST:PORT")] = option(
        None,
        "Serve streamable HTTP on this loopback address, such as 127.0.0.1:8765, instead of standard input "
        "and output. Port 0 takes a free one.",
    )
    spending: Annotated[BudgetOptions, panel("Spending")] = field(factory=BudgetOptions)
    service: Annotated[ServiceOptions, panel("Service")] = field(factory=ServiceOptions)

    @property
    def budget(self) -> Budget:
        """The budget. Raises `InputError` without one."""
        budget = self.spending.budget
        if budget is None:
            raise InputError("agents need a budget: give --max-credits (with --price) or --max-tasks")
        return budget

    def listen(self) -> socket.socket | None:
        """Return a socket that is bound to ``--http``, None without it. Raises `InputError`."""
        if self.http is None:
            return None
        host, _, port = self.http.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not port.isdecimal() or int(port) > 65_535:
            raise InputError(f"--http {self.http} is not an address: give HOST:PORT, as 127.0.0.1:8765")
        if host not in _LOOPBACK:
            places = ", ".join(_LOOPBACK)
            raise InputError(f"--http {self.http}: all who reach it can buy, so give one of {places}")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            return socket.create_server((host, int(port)), family=family)
        except OSError as error:
            raise InputError(f"--http {self.http}: {error.strerror or error}") from error


def mcp(*, options: Annotated[_McpOptions, Parameter(name="*")]) -> int:
    """Serve tools for agents until the agent leaves, and return the exit code."""
    budget, service = options.budget, options.service
    _require_extra()
    if not service.emulator:
        require_key()
    require_folder(options.out)
    journal = folder_journal(options.out, service="the emulator (--emulator)" if service.emulator else None)
    listener = options.listen()

    async def command() -> int:
        from ruxa_async.mcp_server._purchases import open_purchases  # noqa: PLC0415 - an extra
        from ruxa_async.mcp_server._server import make_server  # noqa: PLC0415

        client = open_client(
            emulator=service.emulator,
            speed=service.speed,
            ledger=options.out / EMULATOR,
            proxy=service.proxy,
            budget=budget,
            journal=journal,
        )
        async with (
            _opened(journal),
            client as ruxa,
            open_purchases(ruxa, journal, options.out.absolute()) as purchases,
        ):
            models = "\n".join(_described(budget))
            server = make_server(purchases, _request_maker(budget), models=models, budget=budget)
            await _serve(server, listener)
        return DONE

    return run(command)


def _require_extra() -> None:
    if find_spec("mcp") is None:
        raise MissingExtraError("ruxa-async mcp", "mcp")


async def _serve(server: AgentServer, listener: socket.socket | None) -> None:
    from ruxa_async.mcp_server._http import PATH, serve_http  # noqa: PLC0415 - an extra
    from ruxa_async.mcp_server._stdio import serve_stdio  # noqa: PLC0415

    if listener is None:
        await serve_stdio(server)
        return
    host, port = listener.getsockname()[:2]
    place = f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH}"
    await serve_http(server, listener, on_ready=lambda: say(f"agents find the tools at {place}"))


@asynccontextmanager
async def _opened(journal: SqliteJournal) -> AsyncIterator[None]:
    """Open *journal*; while another process holds it, try again for ten seconds."""
    deadline = anyio.current_time() + _JOURNAL_WITHIN
    while True:
        try:
            await journal.__aenter__()
            break
        except JournalInUseError:
            if anyio.current_time() > deadline:
                raise
            await anyio.sleep(0.2)
    try:
        yield
    finally:
        await journal.aclose()


def _request_maker(budget: Budget) -> MakeRequest:
    """Return the function that makes requests of documented models and of those with a price."""
    priced = _prices(budget)

    def make(model: str, given: dict[str, Any]) -> GenerationRequest:
        if request_class(model) is None and model not in priced:
            raise RowError(
                f"{model_hint(model)} The user can allow another model with --price {model[:100]}=CREDITS"
            )
        checked = json_row(json.dumps(given))  # its depth, and texts that no service can read
        values = {name: value for name, value in checked.items() if value is not None}
        if "key" in values:
            raise RowError("input has no field 'key' here: a higher variant buys a further picture")
        return build_request(model, values, None)

    return make


def _described(budget: Budget) -> Iterator[str]:
    """Yield a line for each model that agents may use, with its fields."""
    priced = _prices(budget)
    for model, cls in MODELS.items():
        if budget.max_credits is not None and model not in priced:
            continue  # it would not be bought
        rows = (each.row() for each in fields_of(cls))
        fields = "; ".join(" ".join(filter(None, (name, f"({kind})", values))) for name, kind, values in rows)
        yield f"{model}{priced.get(model, '')}: {fields}"
    for model in priced.keys() - MODELS.keys():
        yield f"{model}{priced[model]}: its fields are not documented here"


def _prices(budget: Budget) -> dict[str, str]:
    """Return the prices of each model that has one, as " (up to 12 credits, 24 credits with size=4k)"."""
    said: dict[str, list[str]] = {}
    for key, price in budget.prices.items():
        model, parameters = parse_price_key(key)
        given = " and ".join(f"{name}={value}" for name, value in parameters.items())
        said.setdefault(model, []).append(f"{price:g} credits{given and f' with {given}'}")
    return {model: f" (up to {', '.join(prices)})" for model, prices in said.items()}
