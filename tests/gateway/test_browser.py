"""A real browser: EventSource across origins, and the page of the documentation."""

import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

import needed
from clinvk.gateway import openapi
from clinvk.web import listener
from fakes import agent
from fakes.world import World
from gateway_fakes.server import DEADLINE, Json, gateway

pytestmark = pytest.mark.anyio

# Reports the first text at once, and everything when the server has said that there will be no more.
PAGE = """<!doctype html><meta charset="utf-8"><script>
const report = (value) => fetch("/report", {method: "POST", body: JSON.stringify(value)});
const seen = [];
const source = new EventSource("URL");
for (const kind of ["run_started", "text_delta", "run_finished"])
  source.addEventListener(kind, (event) => {
    seen.push([kind, event.lastEventId, JSON.parse(event.data).text || null]);
    if (kind === "text_delta" && seen.filter((one) => one[0] === kind).length === 1) report({first: seen});
  });
source.onerror = () => { if (source.readyState === EventSource.CLOSED) report({all: seen}); };
</script>"""


def chromium() -> str:
    return needed.program("chromium", "chromium-browser", "google-chrome", package="chromium")


@asynccontextmanager
async def browsing(url: str, profile: Path, *words: str) -> AsyncGenerator[Any]:
    """Chromium on a page, killed at the end; nothing of it is fetched from elsewhere."""
    flags = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
    )
    command = (chromium(), *flags, "--no-first-run", f"--user-data-dir={profile}", *words, url)
    environ = {"HOME": str(profile), "PATH": os.environ["PATH"]}
    async with await anyio.open_process(command, env=environ, stderr=None) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


@asynccontextmanager
async def other_origin(world: World) -> AsyncGenerator[tuple[str, dict[str, str], Any]]:
    """A site of somebody else: its origin, its pages, and the reports that they send home."""
    pages: dict[str, str] = {}
    send, receive = anyio.create_memory_object_stream[Json](10)

    async def page(_request: Request) -> Response:
        return HTMLResponse(pages["/"])

    async def report(request: Request) -> Response:
        await send.send(json.loads(await request.body()))
        return Response()

    site = Starlette(routes=[Route("/", page), Route("/report", report, methods=["POST"])])
    with listener.bound(world.loaded(server__port=0), "server") as listening, send, receive:
        server = uvicorn.Server(listener.configured(site, "h11"))
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        async with anyio.create_task_group() as tasks:
            await server.startup(sockets=[listening])
            tasks.start_soon(server.main_loop)
            yield listener.url_of("127.0.0.1", listening, ""), pages, receive
            server.should_exit = True
            await server.shutdown(sockets=[listening])


async def test_an_event_source_reads_a_run_to_its_end_and_stops(world: World, tmp_path: Path) -> None:
    gate = world.fifo("gate")
    asked = agent.prompt({"say": "first"}, {"wait": str(gate)}, {"say": "second"})
    with anyio.fail_after(DEADLINE):
        async with (
            other_origin(world) as (origin, pages, reports),
            gateway(world, server__cors_allowed_origins=[origin]) as server,
        ):
            answer = await server.post("/api/v1/prompt", {"prompt": asked, "backend": "claude", "background": True})
            pages["/"] = PAGE.replace("URL", f"{server.url}{answer.headers['location']}/events")
            async with browsing(f"{origin}/", tmp_path / "profile"):
                first = await reports.receive()
                await gate.release()
                everything = await reports.receive()
    assert [kind for kind, _, _ in first["first"]] == ["run_started", "text_delta"]
    assert [text for _, _, text in everything["all"] if text] == ["first", "second"]
    assert [number for _, number, _ in everything["all"]] == ["1", "3", "4", "6"]


async def test_a_page_that_is_not_allowed_reads_nothing(world: World, tmp_path: Path) -> None:
    with anyio.fail_after(DEADLINE):
        async with other_origin(world) as (origin, pages, reports), gateway(world) as server:
            answer = await server.post("/api/v1/prompt", {"prompt": "hi", "backend": "claude"})
            pages["/"] = PAGE.replace("URL", f"{server.url}/api/v1/runs/{answer.json()['run_id']}/events")
            async with browsing(f"{origin}/", tmp_path / "profile"):
                everything = await reports.receive()
    assert everything == {"all": []}


async def test_the_page_of_the_documentation_shows_every_operation(world: World, tmp_path: Path) -> None:
    with anyio.fail_after(DEADLINE):
        async with (
            gateway(world) as server,
            browsing(
                f"{server.url}/docs", tmp_path / "profile", "--dump-dom", "--virtual-time-budget=20000"
            ) as browser,
        ):
            text = b"".join([chunk async for chunk in browser.stdout]).decode()
    for one in openapi.described():
        assert f'id="{one.name}"' in text
