"""The product's server plus the fixtures that the conformance suites call, on the product's own HTTP runner.

Started as a script with words like `mcp.port=0`. The fixtures' names and answers are those that the suites prescribe.
"""

import base64
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from mcp import MCPError
from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CallToolResult,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    JSONRPCMessage,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel, Field

from clinvk.backends import registry
from clinvk.config.cascade import load
from clinvk.mcp_server import http, signals
from clinvk.mcp_server import server as servers
from clinvk.mcp_server.application import AppOperations
from clinvk.mcp_server.runtasks import RunResuming, RunTasks
from clinvk.mcp_server.tasks import Tasks
from clinvk.tools.app import opened
from clinvk.tools.caller import working_directory
from clinvk.web import listener
from clinvk.web.keys import Keyring
from mcp_fakes import task_tools
from mcp_fakes.input_tools import Ctx, ToolAnswer, add_requiring_input, ask, text
from mcp_fakes.operations import flags_of

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
BETWEEN_SECS = 0.05  # prescribed between two notifications


class Events(EventStore):
    """Every message of every stream, for clients that resume."""

    def __init__(self) -> None:
        self._events: list[tuple[str, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        number = int(last_event_id)
        stream = self._events[number - 1][0]
        for later, (stream_id, message) in enumerate(self._events[number:], number + 1):
            if stream_id == stream and message is not None:
                await send_callback(EventMessage(message, str(later)))
        return stream


def add_contents(server: MCPServer[Any]) -> None:
    """Tools that answer with every kind of content."""
    picture = ImageContent(data=PNG, mime_type="image/png")

    @server.tool()
    async def test_simple_text() -> CallToolResult:
        """Answers with a text."""
        return text("This is a simple text response for testing.")

    @server.tool()
    async def test_image_content() -> CallToolResult:
        """Answers with an image."""
        return CallToolResult(content=[picture])

    @server.tool()
    async def test_audio_content() -> CallToolResult:
        """Answers with a sound."""
        return CallToolResult(content=[AudioContent(data=WAV, mime_type="audio/wav")])

    @server.tool()
    async def test_embedded_resource() -> CallToolResult:
        """Answers with a resource."""
        resource = TextResourceContents(
            uri="test://embedded-resource", mime_type="text/plain", text="An embedded text."
        )
        return CallToolResult(content=[EmbeddedResource(resource=resource)])

    @server.tool()
    async def test_multiple_content_types() -> CallToolResult:
        """Answers with several kinds of content."""
        resource = TextResourceContents(uri="test://mixed", mime_type="application/json", text='{"test": "data"}')
        words = TextContent(text="Multiple content types test:")
        return CallToolResult(content=[words, picture, EmbeddedResource(resource=resource)])

    @server.tool()
    async def test_error_handling() -> CallToolResult:
        """Fails."""
        raise ToolError("This tool intentionally returns an error for testing")

    @server.tool()
    async def custom_header(region: str = Field(json_schema_extra={"x-mcp-header": "Region"})) -> CallToolResult:
        """Takes a parameter that is mirrored into a header."""
        return text(region)

    @server.tool()
    async def json_schema_2020_12_tool() -> CallToolResult:
        """Tool with JSON Schema 2020-12 features"""
        return text("ok")

    schema = server._tool_manager._tools["json_schema_2020_12_tool"].parameters  # pyright: ignore[reportPrivateUsage]
    schema.clear()
    schema.update(SCHEMA_2020_12)
    add_notifying(server)


SCHEMA_2020_12: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def add_notifying(server: MCPServer[Any]) -> None:
    """Tools that send notifications while they run."""

    @server.tool()
    async def test_tool_with_logging(ctx: Ctx) -> CallToolResult:
        """Sends three log messages."""
        for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.info(words)  # pyright: ignore[reportDeprecated]
            await anyio.sleep(BETWEEN_SECS)
        return text("logged")

    @server.tool()
    async def test_logging_tool(ctx: Ctx) -> CallToolResult:
        """Sends one log message."""
        await ctx.info("logging")  # pyright: ignore[reportDeprecated]
        return text("logged")

    @server.tool()
    async def test_tool_with_progress(ctx: Ctx) -> CallToolResult:
        """Reports progress three times."""
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100, f"{done} of 100")
            await anyio.sleep(BETWEEN_SECS)
        return text("done")

    @server.tool()
    async def test_reconnection(ctx: Ctx) -> CallToolResult:
        """Closes its stream, and answers on the one that the client opens instead."""
        await ctx.info("Before disconnect")  # pyright: ignore[reportDeprecated]
        await ctx.close_sse_stream()
        await anyio.sleep(0.2)
        await ctx.info("After reconnect")  # pyright: ignore[reportDeprecated]
        return text("Reconnection test completed")

    @server.tool()
    async def test_trigger_tool_change(ctx: Ctx) -> CallToolResult:
        """Says that the tools changed."""
        await ctx.notify_tools_changed()
        return text("ok")

    @server.tool()
    async def test_trigger_prompt_change(ctx: Ctx) -> CallToolResult:
        """Says that the prompts changed."""
        await ctx.notify_prompts_changed()
        return text("ok")


class UserData(BaseModel):
    username: str = Field(description="User's response")
    email: str = Field(description="User's email address")


class Defaults(BaseModel):
    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: str = Field(default="active", json_schema_extra={"enum": ["active", "inactive", "pending"]})
    verified: bool = True


def titled(**titles: str) -> Any:
    return [{"const": value, "title": title} for value, title in titles.items()]


class Enums(BaseModel):
    untitled_single: str = Field(alias="untitledSingle", json_schema_extra={"enum": ["a", "b", "c"]})
    titled_single: str = Field(alias="titledSingle", json_schema_extra={"oneOf": titled(low="Low", high="High")})
    untitled_multi: list[str] = Field(
        alias="untitledMulti", json_schema_extra={"items": {"type": "string", "enum": ["read", "write"]}}
    )
    titled_multi: list[str] = Field(
        alias="titledMulti", json_schema_extra={"items": {"anyOf": titled(bug="Bug Fix", docs="Documentation")}}
    )
    legacy_enum: str = Field(
        alias="legacyEnum", json_schema_extra={"enum": ["small", "large"], "enumNames": ["Small Size", "Large Size"]}
    )


def add_asking(server: MCPServer[Any]) -> None:
    """Tools that ask the client over a live connection (2025)."""

    @server.tool()
    async def test_sampling(prompt: str, ctx: Ctx) -> CallToolResult:
        """Asks the client's model."""
        message = SamplingMessage(role="user", content=TextContent(text=prompt))
        answer = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)  # pyright: ignore[reportDeprecated]
        return text(f"LLM response: {answer.content}")

    @server.tool()
    async def test_elicitation(message: str, ctx: Ctx) -> CallToolResult:
        """Asks the user."""
        return text(f"User response: {await ctx.elicit(message, UserData)}")

    @server.tool()
    async def test_elicitation_sep1034_defaults(ctx: Ctx) -> CallToolResult:
        """Asks the user, with defaults."""
        return text(f"Elicitation completed: {await ctx.elicit('Please provide', Defaults)}")

    @server.tool()
    async def test_elicitation_sep1330_enums(ctx: Ctx) -> CallToolResult:
        """Asks the user to choose."""
        return text(f"Elicitation completed: {await ctx.elicit('Please choose', Enums)}")

    @server.tool()
    async def test_streaming_elicitation(ctx: Ctx) -> ToolAnswer:
        """Needs an answer, and must not ask for it on the stream."""
        return InputRequiredResult(input_requests={"name": ask("Who?", name="string")})

    @server.tool()
    async def test_missing_capability(ctx: Ctx) -> CallToolResult:
        """Needs a client that can sample."""
        if ctx.client_capabilities is None or ctx.client_capabilities.sampling is None:
            data: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
            raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "sampling is needed", data)
        return text("ok")


def reader(content: str | bytes) -> Callable[[], Awaitable[str | bytes]]:
    async def read() -> str | bytes:
        return content

    return read


def add_prompts_and_resources(server: MCPServer[Any]) -> None:
    """Resources and prompts of every kind."""
    for uri, mime_type, content in (
        ("test://static-text", "text/plain", "This is the content of the static text resource."),
        ("test://static-binary", "image/png", base64.b64decode(PNG)),
        ("test://watched-resource", "text/plain", "watched"),
    ):
        server.resource(uri, name=uri, mime_type=mime_type)(reader(content))

    @server.resource("test://template/{id}/data", mime_type="application/json")
    async def template(id: str) -> dict[str, Any]:  # noqa: A002 - prescribed
        return {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}

    @server.prompt()
    async def test_simple_prompt() -> str:
        """Takes nothing."""
        return "This is a simple prompt for testing."

    @server.prompt()
    async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """Takes two arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt()
    async def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 - prescribed
        """Embeds a resource."""
        resource = TextResourceContents(uri=resourceUri, mime_type="text/plain", text="Embedded resource content.")
        return [UserMessage(EmbeddedResource(resource=resource)), UserMessage("Please process the resource above.")]

    @server.prompt()
    async def test_prompt_with_image() -> list[UserMessage]:
        """Shows an image."""
        return [UserMessage(ImageContent(data=PNG, mime_type="image/png")), UserMessage("Please analyze the image.")]


def add_2025_methods(lowlevel: Server[Any]) -> None:
    """Methods that the product does not serve."""

    async def set_level(ctx: Any, params: SetLevelRequestParams) -> EmptyResult:
        return EmptyResult()

    async def subscribe(ctx: Any, params: SubscribeRequestParams) -> EmptyResult:
        return EmptyResult()

    async def unsubscribe(ctx: Any, params: UnsubscribeRequestParams) -> EmptyResult:
        return EmptyResult()

    lowlevel.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)
    lowlevel.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)
    lowlevel.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)


async def main() -> None:
    loaded = load(os.environ, known_backends=registry.BACKENDS, flags=flags_of(sys.argv[1:]))
    with listener.bound(loaded, "mcp") as listening:
        async with opened(loaded, os.environ) as app, anyio.create_task_group() as group:
            server = servers.build(
                AppOperations(app),
                cwd=working_directory(app.home),
                wait_secs=loaded.config.mcp.wait_secs,
                resuming=RunResuming(app),
                extensions=[Tasks(task_tools.FixtureTasks(RunTasks(app), group))],
            )
            add_contents(server)
            add_asking(server)
            add_requiring_input(server)
            add_prompts_and_resources(server)
            add_2025_methods(servers.lowlevel(server))
            task_tools.add(server)
            resumption = http.Resumption(Events(), retry_ms=100)
            await http.serve(server, loaded, listening, Keyring(loaded.home, os.environ), resumption=resumption)
            group.cancel_scope.cancel()


if __name__ == "__main__":
    signals.exit_quietly_while_starting()
    anyio.run(main)
