"""The tools and the resources of the server."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from urllib.parse import unquote

import anyio
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError, UnexpectedToolError
from mcp_types import CallToolResult, InputRequiredResult, Resource, ToolAnnotations
from pydantic import AnyUrl, Field, ValidationError

from ruxa_async._version import __version__
from ruxa_async.errors import RuxaError
from ruxa_async.requests import GenerationRequest
from ruxa_async.settings import Budget

from ._answers import OUTPUTS, answer, error_result, link_of, result_of, sentences_of, values_of
from ._charges import Charged
from ._purchase import Purchase
from ._purchases import Purchases

__all__ = ("AgentServer", "MakeRequest", "make_server")

#: Returns the request for a model and its input. Raises `RuxaError` if it is not valid.
MakeRequest: TypeAlias = Callable[[str, dict[str, Any]], GenerationRequest]

#: Seconds that `generate` waits for the acceptance, so that most refusals are its result.
_ACCEPTED_WITHIN = 2.0
#: Seconds between two progress notices.
_NOTICE_EVERY = 1.0
#: Seconds; below the 60 after which many agents give a call up.
_WAIT = 50.0
_LONGEST_WAIT = 600.0

_INSTRUCTIONS = """Buy pictures and videos from Ruxa. Each one costs the user credits.

Call generate once for each picture; it returns a handle at once. Then call wait with the handle until the
files are there. If a call times out or is cancelled, call it again with the same arguments: it is the same
purchase and is not charged twice. Errors say whether something was charged. Only the user can raise the
budget, which spent shows."""

_Handle = Annotated[str, Field(description="The handle that generate returned.")]
#: For agents that ask the user before a tool changes something: only `generate` spends.
_BUYS = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True
)
_READS = ToolAnnotations(read_only_hint=True)


class AgentServer(MCPServer[Any]):
    """An MCP server whose errors are plain English, and whose resources are the saved outputs."""

    def __init__(self, purchases: Purchases) -> None:
        super().__init__("ruxa-async", version=__version__, instructions=_INSTRUCTIONS, log_level="WARNING")
        self._purchases = purchases

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool. Wrong arguments and bugs are error results that say what was charged."""
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError as error:
            bug = f"{name} failed with a bug of this server ({error.__cause__!r})"
            return error_result(f"{bug}. Call list to see what was bought", Charged.MAYBE)
        except ToolError as error:
            cause = error.__cause__
            return error_result(_invalid(name, cause) if isinstance(cause, ValidationError) else str(error))

    async def list_resources(self) -> list[Resource]:
        """List the saved outputs."""
        return [Resource(**link_of(path).model_dump(exclude={"type"})) for path in self._outputs().values()]

    async def read_resource(
        self,
        uri: AnyUrl | str,
        context: Context[Any, Any] | None = None,  # noqa: ARG002 - as in the base class
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Return the bytes of a saved output. Nothing else in the folder can be read."""
        name = unquote(str(uri).removeprefix(OUTPUTS))
        path = self._outputs().get(name)
        if path is None or not path.exists():
            raise ResourceNotFoundError(f"there is no output {name!r}: list names the outputs")
        content = await anyio.Path(path).read_bytes()
        return [ReadResourceContents(content=content, mime_type=link_of(path).mime_type)]

    def _outputs(self) -> dict[str, Path]:
        known = self._purchases.known.values()
        return {path.name: path for purchase in known for path in purchase.files}


def _invalid(name: str, error: ValidationError) -> str:
    problems = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
    return f"the arguments of {name} are not valid: {'; '.join(problems)}"


def make_server(
    purchases: Purchases, make_request: MakeRequest, *, models: str, budget: Budget
) -> AgentServer:
    """Return a server with the tools. *models* describes the models and their fields to the agent."""
    server = AgentServer(purchases)
    tools = _Tools(purchases, make_request, budget)
    description = f"{inspect.getdoc(tools.generate)}\n\n{models}"
    server.add_tool(tools.generate, description=description, annotations=_BUYS)
    for reading in (tools.wait, tools.status, tools.list, tools.spent):
        server.add_tool(reading, annotations=_READS)
    return server


class _Tools:
    """The tools. Their docstrings are what the agent reads."""

    def __init__(self, purchases: Purchases, make_request: MakeRequest, budget: Budget) -> None:
        self._purchases = purchases
        self._make_request = make_request
        self._budget = budget

    async def generate(
        self,
        model: Annotated[str, Field(description="The id of the model.")],
        input: Annotated[  # noqa: A002 - the service's word
            dict[str, Any], Field(description="The fields of the model, such as prompt.")
        ],
        variant: Annotated[
            int, Field(ge=1, le=1000, description="2 or more buys a further picture of the same input.")
        ] = 1,
    ) -> CallToolResult:
        """Buy one picture or video, and return a handle at once.

        The same model, input and variant are the same purchase: calling it again never charges again.
        """
        try:
            request = self._make_request(model, input)
            purchase = self._purchases.buy(request, variant)
        except RuxaError as error:
            return error_result(str(error))
        with anyio.move_on_after(_ACCEPTED_WITHIN):
            await purchase.settled.wait()
        return await result_of(purchase)

    async def wait(
        self,
        context: Context[Any, Any],
        handle: _Handle,
        timeout: Annotated[float, Field(ge=0, le=_LONGEST_WAIT, description="Seconds.")] = _WAIT,
    ) -> CallToolResult:
        """Wait until a purchase has ended and its files are saved, at most timeout seconds. It never buys."""
        purchase = self._purchases.known.get(handle)
        if purchase is None:
            return _no_purchase(handle)
        self._purchases.follow_paid(purchase)
        with anyio.move_on_after(timeout):
            await _wait_with_notices(purchase, context)
        return await result_of(purchase)

    async def status(self, handle: _Handle) -> CallToolResult:
        """Tell the state of a purchase without waiting."""
        purchase = self._purchases.known.get(handle)
        if purchase is None:
            return _no_purchase(handle)
        return answer(sentences_of(purchase), values_of(purchase))

    async def list(self) -> CallToolResult:
        """List what was bought in this folder, also by earlier processes, with the state of each."""
        known = self._purchases.known.values()
        lines = [f"{sentences_of(each)} ({each.request.input().get('prompt')!s:.80})" for each in known]
        return answer(
            "\n".join(lines) or "Nothing was bought yet.",
            {"purchases": [values_of(each) for each in known]},
        )

    async def spent(self) -> CallToolResult:
        """Tell what counts against the budget: tasks and credits that were or may have been bought."""
        stats, budget = self._purchases.stats(), self._budget
        parts = []
        if budget.max_tasks is not None:
            parts.append(f"{stats.spent_tasks} of {budget.max_tasks} tasks")
        if budget.max_credits is not None:
            used = "?" if stats.spent_credits is None else f"{stats.spent_credits:g}"
            parts.append(f"{used} of {budget.max_credits:g} credits")
        values = {
            "tasks": stats.spent_tasks,
            "max_tasks": budget.max_tasks,
            "credits": stats.spent_credits,
            "max_credits": budget.max_credits,
            "prices": dict(budget.prices),
        }
        return answer(f"Spent: {' and '.join(parts)}. Only the user can raise this budget.", values)


def _no_purchase(handle: str) -> CallToolResult:
    return error_result(f"there is no purchase {handle!r}: list shows the handles")


async def _wait_with_notices(purchase: Purchase, context: Context[Any, Any]) -> None:
    """Wait until *purchase* is over; send a notice each second, whose progress is in seconds."""
    began = anyio.current_time()
    while not purchase.over.is_set():
        with anyio.move_on_after(_NOTICE_EVERY):
            await purchase.over.wait()
        await context.report_progress(anyio.current_time() - began, message=sentences_of(purchase))
