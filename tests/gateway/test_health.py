"""What `/health` says of the sessions, and what it leaves alone."""

import pytest

from clinvk.sessions.model import Session
from clinvk.tools.app import at_rest
from clinvk.web import keys
from fakes.world import World
from gateway_fakes.server import gateway

pytestmark = pytest.mark.anyio


async def test_health_counts_sessions_without_building_their_index(world: World) -> None:
    store = at_rest(world.loaded(), world.environ).sessions
    for _ in range(3):
        store.create(Session(backend="claude"))
    async with gateway(world) as server:
        report = (await server.client.get("/health")).json()
    assert (report["status"], report["session_store"]) == ("ok", {"status": "ok", "sessions": 3})
    assert not (world.home / "cache" / "sessions.sqlite").exists()


async def test_health_follows_sessions_that_come_and_go(world: World) -> None:
    async with gateway(world) as server:

        async def counted() -> int:
            report = (await server.client.get("/health")).json()
            count: int = report["session_store"]["sessions"]
            return count

        assert await counted() == 0
        head = server.app.sessions.create(Session(backend="claude"))
        assert await counted() == 1
        server.app.sessions.create(Session(backend="claude"))
        assert await counted() == 2
        server.app.sessions.delete(head.id)
        assert await counted() == 1


async def test_sessions_that_cannot_be_read_are_unhealthy(world: World) -> None:
    async with gateway(world) as server:
        (world.home / "sessions").write_text("this is no folder", encoding="utf-8")
        answer = await server.client.get("/health")
    report = answer.json()
    assert (answer.status_code, report["status"]) == (503, "unhealthy")
    assert report["reason"] == "the session store cannot be read and written: internal"


async def test_keys_that_cannot_be_read_are_unhealthy_until_they_can(world: World) -> None:
    keys.create(world.home, "alice")
    file = world.home / keys.FILE
    kept = file.read_bytes()
    async with gateway(world) as server:
        file.write_text("{", encoding="utf-8")
        broken = await server.client.get("/health")
        file.write_bytes(kept)
        repaired = await server.client.get("/health")
    assert (broken.status_code, broken.json()["status"]) == (503, "unhealthy")
    assert broken.json()["reason"] == "the API keys cannot be read, so that nobody is let in"
    assert (repaired.status_code, repaired.json()["status"]) == (200, "ok")


async def test_a_server_whose_last_key_was_revoked_is_unhealthy_until_there_is_another(world: World) -> None:
    keys.create(world.home, "alice")
    keys.create(world.home, "bob")
    async with gateway(world) as server:
        keys.revoke(world.home, "alice")
        served = await server.client.get("/health")
        keys.revoke(world.home, "bob")
        shut = await server.client.get("/health")
        keys.create(world.home, "carol")
        again = await server.client.get("/health")
    assert (shut.status_code, shut.json()["status"]) == (503, "unhealthy")
    assert shut.json()["reason"] == "no API key is left, so that nobody is let in"
    assert [answer.json()["status"] for answer in (served, again)] == ["ok", "ok"]
