"""What the conformance suites call that answers with what it needs to know (2026), and is then called again with it."""

from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import (
    CallToolResult,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequests,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)

Ctx = Context[Any, Any]
ToolAnswer = CallToolResult | InputRequiredResult


def text(words: str) -> CallToolResult:
    """An answer of one text."""
    return CallToolResult(content=[TextContent(text=words)])


def ask(message: str, **properties: str) -> ElicitRequest:
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": [*properties],
    }
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(prompt: str, max_tokens: int) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(text=prompt))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=max_tokens))


def answered(ctx: Ctx, name: str, field: str) -> str | None:
    """A field of the user's answer to the question `name`; None when it was not given."""
    response = (ctx.input_responses or {}).get(name)
    if isinstance(response, ElicitResult) and response.content is not None and field in response.content:
        return str(response.content[field])
    return None


async def test_input_required_result_elicitation(ctx: Ctx) -> ToolAnswer:
    """Asks for a name."""
    name = answered(ctx, "user_name", "name")
    if name is None:
        return InputRequiredResult(input_requests={"user_name": ask("What is your name?", name="string")})
    return text(f"Hello, {name}!")


async def test_input_required_result_sampling(ctx: Ctx) -> ToolAnswer:
    """Asks the client's model."""
    response = (ctx.input_responses or {}).get("capital_question")
    if not isinstance(response, CreateMessageResult):
        return InputRequiredResult(input_requests={"capital_question": sample("What is the capital of France?", 100)})
    return text(str(response.content))


async def test_input_required_result_list_roots(ctx: Ctx) -> ToolAnswer:
    """Asks for the client's roots."""
    response = (ctx.input_responses or {}).get("client_roots")
    if not isinstance(response, ListRootsResult):
        return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})
    return text(", ".join(str(root.uri) for root in response.roots))


async def test_input_required_result_request_state(ctx: Ctx) -> ToolAnswer:
    """Gives the client a state to bring back."""
    if ctx.request_state != "state" or answered(ctx, "confirm", "ok") is None:
        return InputRequiredResult(
            input_requests={"confirm": ask("Please confirm", ok="boolean")}, request_state="state"
        )
    return text("state-ok")


async def test_input_required_result_tampered_state(ctx: Ctx) -> ToolAnswer:
    """Gives the client a state that it must not change."""
    if ctx.request_state is None:
        return InputRequiredResult(
            input_requests={"confirm": ask("Please confirm", ok="boolean")}, request_state="state"
        )
    return text("state-ok")


async def test_input_required_result_multiple_inputs(ctx: Ctx) -> ToolAnswer:
    """Asks for three things at once."""
    requests: InputRequests = {
        "user_name": ask("What is your name?", name="string"),
        "greeting": sample("Generate a greeting", 50),
        "client_roots": ListRootsRequest(),
    }
    if set(requests) - set(ctx.input_responses or {}):
        return InputRequiredResult(input_requests=requests, request_state="state")
    return text("all there")


async def test_input_required_result_multi_round(ctx: Ctx) -> ToolAnswer:
    """Asks twice."""
    if ctx.request_state == "second" and (color := answered(ctx, "step2", "color")):
        return text(color)
    if ctx.request_state == "first" and answered(ctx, "step1", "name"):
        question = ask("Step 2: What is your favorite color?", color="string")
        return InputRequiredResult(input_requests={"step2": question}, request_state="second")
    question = ask("Step 1: What is your name?", name="string")
    return InputRequiredResult(input_requests={"step1": question}, request_state="first")


async def test_input_required_result_capabilities(ctx: Ctx) -> ToolAnswer:
    """Asks only for what the client can give."""
    can = ctx.client_capabilities
    if ctx.input_responses:
        return text("ok")
    if can is not None and can.elicitation is not None:
        return InputRequiredResult(input_requests={"name": ask("Who?", name="string")})
    if can is not None and can.sampling is not None:
        return InputRequiredResult(input_requests={"greeting": sample("Generate a greeting", 50)})
    return text("nothing to ask")


async def test_input_required_result_prompt(ctx: Ctx) -> str | InputRequiredResult:
    """Asks for its context."""
    context = answered(ctx, "user_context", "context")
    if context is None:
        question = ask("What context should the prompt use?", context="string")
        return InputRequiredResult(input_requests={"user_context": question})
    return f"Use this context: {context}"


def add_requiring_input(server: MCPServer[Any]) -> None:
    """Tools that answer with what they need to know, and are called again with it (2026)."""
    for tool in (
        test_input_required_result_elicitation,
        test_input_required_result_sampling,
        test_input_required_result_list_roots,
        test_input_required_result_request_state,
        test_input_required_result_tampered_state,
        test_input_required_result_multiple_inputs,
        test_input_required_result_multi_round,
        test_input_required_result_capabilities,
    ):
        server.tool()(tool)
    server.prompt()(test_input_required_result_prompt)
