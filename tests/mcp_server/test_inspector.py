"""The MCP Inspector's command line against `clinvk mcp` as it ships."""

import json
import sys
from typing import Any, cast

import anyio
import pytest

from fakes.world import World
from mcp_fakes.http_server import serving
from mcp_fakes.raw_client import SOURCE
from standin.clis import cli_path

pytestmark = pytest.mark.anyio

DEADLINE = 60
ERAS = ["legacy", "auto", "modern"]
CLINVK_MCP = (sys.executable, "-m", "clinvk", "mcp")
TOOL_ERROR = 5  # the Inspector's exit code


async def inspect(world: World, target: list[str], *words: str, era: str, code: int = 0) -> dict[str, Any]:
    """What the Inspector prints; it writes under HOME, which is the test's own."""
    env = world.environ | {"PYTHONPATH": str(SOURCE)}
    inspector = [str(cli_path("node")), str(cli_path("mcp-inspector")), "--cli", "--protocol-era", era]
    command = [*inspector, *target, *words, "--format", "json"]
    done = await anyio.run_process(command, env=env, cwd=str(world.workdir), check=False)
    told = done.stderr.decode()
    assert (done.returncode, "Warning:" in told) == (code, False), told + done.stdout.decode()[:2000]
    return cast("dict[str, Any]", json.loads(done.stdout)["result"])


@pytest.mark.parametrize("era", ERAS)
async def test_the_inspector_uses_the_server_over_stdio(world: World, era: str) -> None:
    with anyio.fail_after(DEADLINE):
        tools = await inspect(world, [*CLINVK_MCP], "--method", "tools/list", "--strict", era=era)
        given = json.dumps({"prompt": "hello", "backend": "claude", "workdir": str(world.workdir)})
        call = ["--method", "tools/call", "--tool-name", "prompt", "--tool-args-json"]
        answer = await inspect(world, [*CLINVK_MCP], *call, given, era=era)
        refused = await inspect(world, [*CLINVK_MCP], *call, '{"nonsense": 1}', era=era, code=TOOL_ERROR)
    assert [tool["name"] for tool in tools["tools"]][:3] == ["prompt", "parallel", "chain"]
    assert answer["structuredContent"]["output"] == "echo: hello"
    assert refused["structuredContent"]["error"]["code"] == "invalid_request"


@pytest.mark.parametrize("era", ERAS)
async def test_the_inspector_uses_the_server_over_http(world: World, era: str) -> None:
    command = (*CLINVK_MCP, "--transport", "http", "--port", "0")
    with anyio.fail_after(DEADLINE):
        async with serving(command, env=world.environ | {"PYTHONPATH": str(SOURCE)}) as server:
            target = ["--transport", "http", "--server-url", server.url]
            tools = await inspect(world, target, "--method", "tools/list", era=era)
            resources = await inspect(world, target, "--method", "resources/list", era=era)
            call = ["--method", "tools/call", "--tool-name", "runs", "--tool-args-json", '{"action": "list"}']
            runs = await inspect(world, target, *call, era=era)
    assert len(tools["tools"]) == 9
    assert len(resources["resources"]) == 3
    assert runs["structuredContent"]["total"] == 0
