"""One stand-in and one server with a client for the tests of a module; nothing of a test's runs outlives it."""

from collections.abc import AsyncGenerator, Generator

import pytest

from real.clients import Clinvk, Json, Mode, Place, Transport, connected, place
from standin.server import Standin, serving


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def transport() -> tuple[Transport, Mode]:
    """How the module's client reaches its server, and the era of the protocol that it speaks."""
    return "stdio", "auto"


@pytest.fixture(scope="module")
def config() -> Json:
    """Sections of the module's config.yaml."""
    return {}


@pytest.fixture(scope="module")
def standin() -> Generator[Standin]:
    with serving() as model:
        yield model


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory, standin: Standin, config: Json) -> Place:
    return place(tmp_path_factory.mktemp("real"), standin, **config)


@pytest.fixture(scope="module")
async def server(where: Place, transport: tuple[Transport, Mode]) -> AsyncGenerator[Clinvk]:
    async with connected(where, *transport) as clinvk:
        yield clinvk


@pytest.fixture
async def clinvk(server: Clinvk) -> AsyncGenerator[Clinvk]:
    """The module's server."""
    yield server
    await server.quiet()
    assert server.standin.faults == []
