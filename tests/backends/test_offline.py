"""The built-in agent, run as the process that it is."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clinvk.backends import offline
from clinvk.backends.base import Turn
from clinvk.backends.locate import locate
from clinvk.errors import ERROR_CODES, ClinvkError
from clinvk.events import Ending, Outcome, TextDelta

Make = Callable[..., Turn]
OTHER_ID = "11111111-2222-4333-8444-555555555555"


def run(turn: Turn, home: Path) -> tuple[str, Outcome]:
    environ = {"CLINVK_OFFLINE_HOME": str(home), "PATH": os.defpath}
    installation = locate(offline, environ, home)
    assert installation is not None
    command = offline.command(turn, installation)
    done = subprocess.run(
        command.argv,
        cwd=command.cwd,
        input=command.stdin,
        env={**environ, **command.env},
        capture_output=True,
        timeout=30,
        check=False,
    )
    reader = offline.reader(turn)
    events = [event for line in done.stdout.splitlines() for event in reader.feed(line)]
    ending = Ending(reason="exited", exit_code=done.returncode, stderr_tail=done.stderr.decode())
    return "".join(event.text for event in events if isinstance(event, TextDelta)), reader.outcome(ending)


def test_it_answers_with_the_prompt_and_says_that_it_is_no_model(turn: Make, tmp_path: Path) -> None:
    text, outcome = run(turn(prompt="Grüße ✓"), tmp_path)
    assert text == "[offline backend, no model was asked] You said: Grüße ✓"
    assert outcome.failure is None
    assert (outcome.model, outcome.backend_session_id) == ("offline", turn().new_id)


def test_a_resumed_turn_remembers_the_one_before(turn: Make, tmp_path: Path) -> None:
    _, first = run(turn(prompt="remember blue"), tmp_path)
    text, second = run(turn(prompt="which colour?", resume_id=first.backend_session_id), tmp_path)
    assert "Turn 2. Earlier you said: remember blue" in text
    assert second.failure is None
    text, _ = run(turn(prompt="and now?", resume_id=first.backend_session_id), tmp_path)
    assert "Turn 3. Earlier you said: which colour?" in text


def test_an_unknown_session_is_lost(turn: Make, tmp_path: Path) -> None:
    _, outcome = run(turn(resume_id=OTHER_ID), tmp_path)
    assert outcome.failure is not None
    assert outcome.failure.code == "session_lost"


def test_an_ephemeral_turn_leaves_nothing(turn: Make, tmp_path: Path) -> None:
    home = tmp_path / "kept"
    _, outcome = run(turn(ephemeral=True), home)
    assert outcome.failure is None
    assert outcome.backend_session_id is None
    assert not home.exists()


def test_its_conversations_are_private(turn: Make, tmp_path: Path) -> None:
    run(turn(), tmp_path / "kept")
    (path,) = (tmp_path / "kept").iterdir()
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("sandbox", ["read-only", "workspace", "full"])
def test_it_touches_no_file_of_the_workdir(sandbox: Any, turn: Make, tmp_path: Path) -> None:
    _, outcome = run(turn(prompt="write a file", sandbox=sandbox), tmp_path)
    assert outcome.failure is None
    assert list(turn().workdir.iterdir()) == []


@pytest.mark.parametrize("code", ["rate_limited", "auth_required", "model_unknown"])
def test_it_fails_on_demand(code: str, turn: Make, tmp_path: Path) -> None:
    assert code in ERROR_CODES
    _, outcome = run(turn(prompt=f"please offline:fail={code}"), tmp_path)
    assert outcome.failure is not None
    assert outcome.failure.code == code


def test_it_exits_on_demand_without_a_result(turn: Make, tmp_path: Path) -> None:
    _, outcome = run(turn(prompt="offline:exit=3"), tmp_path)
    assert outcome.failure is not None
    assert outcome.failure.code == "backend_error"
    assert outcome.failure.details["exit_code"] == 3
    _, outcome = run(turn(prompt="offline:exit=0"), tmp_path)
    assert outcome.failure is not None
    assert outcome.failure.code == "output_unreadable"


def test_it_answers_at_the_length_that_is_asked_for(turn: Make, tmp_path: Path) -> None:
    text, outcome = run(turn(prompt="offline:chars=100001"), tmp_path)
    assert len(text) == 100_001
    assert outcome.failure is None


def test_it_answers_with_the_json_that_is_asked_for(turn: Make, tmp_path: Path) -> None:
    schema = {"type": "object", "required": ["a"]}
    _, outcome = run(turn(prompt='offline:json={"a": 1}\nthanks', output_schema=schema), tmp_path)
    assert outcome.structured_output == {"a": 1}
    _, outcome = run(turn(prompt="no json at all", output_schema=schema), tmp_path)
    assert outcome.failure is not None
    assert outcome.failure.code == "output_unreadable"


def test_a_model_that_it_is_not_is_refused(turn: Make, tmp_path: Path) -> None:
    with pytest.raises(ClinvkError) as caught:
        run(turn(model="gpt-9"), tmp_path)
    assert caught.value.failure.code == "model_unknown"
    assert run(turn(model="offline"), tmp_path)[1].failure is None


def test_pythons_variables_do_not_reach_it(turn: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (turn().workdir / "argparse.py").write_text("raise SystemExit('hijacked')", encoding="utf-8")
    assert run(turn(), tmp_path)[1].failure is None
