import re
from pathlib import Path

import pytest
from starlette.routing import Route

from clinvk.gateway import docs, openapi
from clinvk.gateway.app import routes
from clinvk.gateway.calls import OPERATIONS
from clinvk.gateway.drain import Drain
from clinvk.gateway.service import Service
from clinvk.web.keys import Keyring
from fakes.world import World
from gateway_fakes.server import gateway

pytestmark = pytest.mark.anyio

UNDESCRIBED = {"/openapi.json", *docs.FILES, "/openai/v1/models/{model:path}"}


async def test_every_route_is_described_and_nothing_else(world: World) -> None:
    async with world.app() as app:
        service = Service(app, world.workdir, Drain(app))
        served = {
            (route.path, method.lower())
            for route in routes(service, Keyring(world.home, {}))
            if isinstance(route, Route) and route.path not in UNDESCRIBED
            for method in (route.methods or set()) - {"HEAD"}
        }
    assert {(one.path, one.method) for one in openapi.described()} == served


def test_every_reference_leads_somewhere() -> None:
    document = openapi.document()
    names = set(re.findall(r"#/components/schemas/([A-Za-z0-9_.-]+)", repr(document)))
    assert names <= set(document["components"]["schemas"])
    assert {"PromptCall", "PromptResult", "Failure", "ChatCompletionRequest"} <= names


def test_parameters_are_those_that_are_accepted() -> None:
    paths = openapi.document()["paths"]
    listed = [one["name"] for one in paths["/api/v1/runs"]["get"]["parameters"]]
    shown = [one["name"] for one in paths["/api/v1/runs/{id}"]["get"]["parameters"]]
    assert listed == ["query", "backend", "workdir", "status", "limit", "offset"]
    assert shown == ["id", "wait_secs"]


def test_every_field_and_parameter_of_an_operation_is_explained() -> None:
    document = openapi.document()
    models = {op.call.__name__ for op in OPERATIONS} | {"ParallelTask", "ChainStep"}
    bare = [
        f"{model}.{name}"
        for model in sorted(models)
        for name, field in document["components"]["schemas"][model]["properties"].items()
        if not field.get("description")
    ]
    bare += [
        f"{path} {one['name']}"
        for path, methods in document["paths"].items()
        for operation in methods.values()
        for one in operation.get("parameters", ())
        if not one.get("description") and not one["schema"].get("description")
    ]
    assert bare == []


async def test_the_document_is_served(world: World) -> None:
    async with gateway(world) as server:
        served = (await server.client.get("/openapi.json")).json()
    assert served == openapi.document()


async def test_the_page_and_the_document_need_no_key_and_no_internet(world: World) -> None:
    async with gateway(world, environ={"CLINVK_API_KEYS": "k"}) as server:
        files = {path: await server.client.get(path) for path in (*docs.FILES, openapi.PATH)}
    assert {answer.status_code for answer in files.values()} == {200}
    for answer in files.values():
        assert not re.findall(r"(?:src|href|url|import|fetch)\W{1,3}(?:https?:)?//", answer.text)
    assert "script-src 'self'" in files["/docs"].headers["content-security-policy"]
    assert files["/docs/page.js"].headers["content-type"].startswith("text/javascript")


def test_the_page_sets_nothing_as_html() -> None:
    text = Path(docs.__file__).with_name("page").joinpath("page.js").read_text(encoding="utf-8")
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
