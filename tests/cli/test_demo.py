"""The demo is what a newcomer runs first: real client, real server, real processes."""

from pathlib import Path

import pytest

from clinvk_command import AGENTS, NO_AGENTS, answered, clinvk, environment
from standin.environment import all_clis_environment
from standin.server import serving

STEPS = 7
BROKEN_CLAUDE = """#!/bin/sh
if [ "$1" = --version ]; then echo '2.1.329 (Claude Code)'; else echo 'Error: out of order' >&2; exit 1; fi
"""


def test_without_an_agent_it_shows_everything_on_the_stand_in_and_says_so(tmp_path: Path) -> None:
    done = clinvk("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NO MODEL is asked" in done.stdout
    assert "on the stand-in 'offline' (no model was asked): every step worked." in done.stdout
    assert done.stdout.count("\n   ok: ") == STEPS


def test_it_leaves_nothing_behind_unless_it_is_asked_to_keep(tmp_path: Path) -> None:
    home, temporary = tmp_path / "clinvk", tmp_path / "temporary"
    temporary.mkdir()
    env = environment(**NO_AGENTS, CLINVK_HOME=str(home), TMPDIR=str(temporary))
    clinvk("demo", "--offline", "-q", "-o", "json", env=env)
    assert not home.exists()
    assert list(temporary.iterdir()) == []
    report = answered(clinvk("demo", "--offline", "--keep", "-q", "-o", "json", env=env))
    assert (report["ok"], report["backends"], len(report["steps"])) == (True, ["offline"], STEPS)
    assert list((home / "sessions").glob("*.json"))


def test_a_step_that_fails_is_told_and_ends_with_1(tmp_path: Path) -> None:
    claude = tmp_path / "claude"
    claude.write_text(BROKEN_CLAUDE, encoding="utf-8")
    claude.chmod(0o755)
    others = {name: value for name, value in NO_AGENTS.items() if "CLAUDE" not in name}
    env = environment(**others, CLINVK_BACKENDS__CLAUDE__COMMAND=str(claude), ANTHROPIC_API_KEY="k")
    done = clinvk("demo", env=env)
    assert done.returncode == 1
    assert "FAILED: backend_error: Error: out of order" in done.stdout
    assert "clinvk doctor" in done.stdout


@pytest.mark.parametrize("folder", ["with space", "päth"])
def test_it_works_from_any_folder(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    done = clinvk("demo", "--offline", env=environment(**NO_AGENTS, TMPDIR=str(tmp_path / folder)))
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_works_with_the_real_clis(tmp_path: Path) -> None:
    with serving() as model:
        env = all_clis_environment(tmp_path / "home", model.url)
        done = clinvk("demo", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"on {', '.join(AGENTS)}: every step worked." in done.stdout
    assert len(model.questions) == 11
