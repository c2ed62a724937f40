"""`clinvk keys` and `clinvk serve`."""

import json
import re
import signal
import subprocess
import urllib.error
import urllib.request

import pytest

from cli_terminal import PATIENCE_SECS, run
from clinvk_command import COMMAND
from fakes.world import World


def test_a_key_is_shown_once_and_revoked(world: World) -> None:
    key = run(world, "keys", "create", "laptop").stdout.strip()
    assert len(key) > 40
    listed = run(world, "keys", "list")
    assert "laptop" in listed.stdout
    assert key not in listed.stdout
    assert key not in (world.home / "keys.json").read_text(encoding="utf-8")
    (told,) = json.loads(run(world, "keys", "list", "-o", "json").stdout)
    assert (told["name"], set(told)) == ("laptop", {"name", "begins", "created_at"})
    assert run(world, "keys", "create", "laptop").returncode == 1
    assert json.loads(run(world, "keys", "revoke", "laptop", "-o", "json").stdout) == {"revoked": "laptop"}
    assert run(world, "keys", "list").stderr == "no keys\n"
    assert run(world, "keys", "revoke", "laptop").returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_answers_with_a_key_and_ends_with_0(world: World, number: signal.Signals) -> None:
    key = run(world, "keys", "create", "laptop").stdout.strip()
    process = subprocess.Popen(
        [*COMMAND, "serve", "-p", "0"], env=world.environ, cwd=world.workdir, stderr=subprocess.PIPE, encoding="utf-8"
    )
    with process:
        try:
            assert process.stderr is not None
            found = next(found for line in process.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            request = urllib.request.Request(f"{found[0]}/api/v1/backends")
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(request, timeout=PATIENCE_SECS)
            request.add_header("X-Api-Key", key)
            with urllib.request.urlopen(request, timeout=PATIENCE_SECS) as answer:
                assert {each["name"] for each in json.load(answer)["backends"]} >= {"claude", "codex"}
            process.send_signal(number)
            assert process.wait(PATIENCE_SECS) == 0
        finally:
            process.kill()


def test_serve_is_refused_where_anybody_could_reach_it(world: World) -> None:
    done = run(world, "serve", "--host", "0.0.0.0", "-p", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "key" in done.stderr
    assert run(world, "serve", "-p", "99999").returncode == 3
