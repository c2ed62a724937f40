"""`clinvk parallel`, `chain` and `compare`, and the files they read."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli_terminal import PATIENCE_SECS, Done, gone, reached, run
from clinvk_command import COMMAND, NO_AGENTS
from fakes import agent
from fakes.world import World


def answers(done: Done) -> list[str]:
    """The outputs of the parts in a JSON result."""
    return [part["output"] for part in json.loads(done.stdout)["results"]]


YAML_TASKS = """\
max_parallel: 2
tasks:
  - name: review     # a comment
    backend: codex
    prompt: |
      first line
      second line
  - {id: t-2, prompt: plain, sandbox_mode: read-only}
"""


def test_parallel_reads_yaml_and_answers_in_its_order(world: World) -> None:
    (world.workdir / "tasks.yaml").write_text(YAML_TASKS, encoding="utf-8")
    done = run(world, "parallel", "-f", "tasks.yaml")
    assert done.returncode == 0
    assert done.stdout.index("--- 1 review (codex)") < done.stdout.index("--- 2 t-2 (claude)")
    assert "\necho: first line\nsecond line\n" in done.stdout
    assert done.stderr.startswith("2 of 2 completed, 0 failed, 0 cancelled")
    assert answers(run(world, "parallel", "-f", "tasks.yaml", "-o", "json")) == [
        "echo: first line\nsecond line",
        "echo: plain",
    ]


def test_a_bare_list_of_json_comes_from_standard_input(world: World) -> None:
    tasks = json.dumps([{"prompt": "\ud83d\ude00 one/two"}, {"prompt": "two", "backend": "gemini"}])
    assert answers(run(world, "parallel", "-f", "-", "-o", "json", stdin=tasks)) == ["echo: 😀 one/two", "echo: two"]


def test_flags_are_for_tasks_that_do_not_say_it_themselves(world: World) -> None:
    tasks = json.dumps([{"prompt": "one"}, {"prompt": "two", "backend": "claude", "model": "opus"}])
    done = run(world, "parallel", "-f", "-", "-b", "codex", "-m", "gpt-x", "--timeout", "50", "-o", "json", stdin=tasks)
    assert [part["backend"] for part in json.loads(done.stdout)["results"]] == ["codex", "claude"]
    assert "--model=gpt-x" in world.calls("codex")[0]["argv"]
    assert "--model=opus" in world.calls("claude")[0]["argv"]


def test_the_exit_code_is_that_of_the_first_part_that_failed(world: World) -> None:
    tasks = json.dumps([{"prompt": "fine"}, {"prompt": "offline:fail=rate_limited"}, {"prompt": "offline:exit=9"}])
    done = run(world, "parallel", "-b", "offline", "-f", "-", stdin=tasks)
    assert done.returncode == 5
    assert "2 (offline): " in done.stderr
    assert "1 of 3 completed, 2 failed" in done.stderr


def test_a_full_queue_of_clinvk_itself_is_no_failure_of_a_models_service(world: World) -> None:
    tasks = json.dumps([{"prompt": agent.prompt({"hang": True})}, {"prompt": "no room"}])
    limits = {"CLINVK_LIMITS__MAX_CONCURRENT": "1", "CLINVK_LIMITS__QUEUE_LENGTH": "0"}
    done = run(world, "parallel", "--fail-fast", "-o", "json", "-f", "-", stdin=tasks, env=limits)
    assert done.returncode == 1
    assert "overloaded" in [part["error"]["code"] for part in json.loads(done.stdout)["results"]]


def test_fail_fast_and_its_opposite_win_over_the_file(world: World) -> None:
    tasks = json.dumps(
        {"fail_fast": True, "max_parallel": 1, "tasks": [{"prompt": "offline:fail=timeout"}, {"prompt": "b"}]}
    )
    words = ("parallel", "-b", "offline", "-f", "-", "-o", "json")
    assert json.loads(run(world, *words, stdin=tasks).stdout)["cancelled"] == 1
    assert json.loads(run(world, *words, "--no-fail-fast", stdin=tasks).stdout)["completed"] == 1


def test_output_dir_gets_every_answer_whole_and_the_result(world: World) -> None:
    long = agent.prompt({"chars": 300_000})
    tasks: dict[str, Any] = {"output_dir": "out", "tasks": [{"prompt": long}, {"prompt": "b", "name": "../e vil"}]}
    done = run(world, "parallel", "-f", "-", stdin=json.dumps(tasks))
    out = world.workdir / "out"
    assert sorted(path.name for path in out.iterdir()) == ["1-claude.txt", "2-e-vil.txt", "result.json"]
    assert (out / "1-claude.txt").read_text(encoding="utf-8") == "x" * 300_000
    assert json.loads((out / "result.json").read_text(encoding="utf-8"))["completed"] == 2
    assert str(out) in done.stderr
    run(world, "parallel", "-f", "-", "--output-dir", "other", "--fresh", stdin=json.dumps(tasks))
    assert (world.workdir / "other" / "result.json").exists()


def test_an_output_dir_that_cannot_be_made_is_told_before_anything_runs(world: World) -> None:
    (world.workdir / "file").touch()
    done = run(world, "parallel", "-f", "-", "--output-dir", "file/below", stdin='[{"prompt": "a"}]')
    assert (done.returncode, world.calls()) == (1, [])
    assert "output_dir" in done.stderr


def test_answers_of_a_run_in_the_background_are_not_promised_to_a_folder(world: World) -> None:
    done = run(world, "parallel", "--background", "-f", "-", stdin='{"output_dir": "out", "tasks": [{"prompt": "a"}]}')
    assert (done.returncode, done.stdout, world.calls()) == (1, "", [])
    assert "leave out --background or output_dir" in done.stderr
    assert not (world.workdir / "out").exists()


def test_chain_feeds_answers_on(world: World) -> None:
    steps = [{"name": "plan", "prompt": "one"}, {"backend": "codex", "prompt": "[{{previous}}|{{steps.plan}}]"}]
    done = run(world, "chain", "-f", "-", stdin=json.dumps(steps))
    assert done.returncode == 0
    assert "echo: [echo: one|echo: one]\n" in done.stdout
    assert done.stderr.startswith("2 of 2 steps completed")


def test_chain_stops_at_a_failure_unless_told_to_keep_going(world: World) -> None:
    steps = json.dumps([{"prompt": "offline:fail=timeout"}, {"prompt": "b"}])
    words = ("chain", "-b", "offline", "-f", "-", "-o", "json")
    stopped = run(world, *words, stdin=steps)
    assert (stopped.returncode, len(json.loads(stopped.stdout)["results"])) == (6, 1)
    assert len(json.loads(run(world, *words, "--keep-going", stdin=steps).stdout)["results"]) == 2


def test_an_unknown_placeholder_is_told_before_anything_runs(world: World) -> None:
    done = run(world, "chain", "-f", "-", stdin='[{"prompt": "a {{previus}}"}]')
    assert (done.returncode, world.calls()) == (1, [])
    assert "{{previus}}" in done.stderr


def test_a_dry_run_shows_every_command(world: World) -> None:
    done = run(
        world, "parallel", "--dry-run", "-f", "-", stdin='[{"prompt": "a"}, {"prompt": "b", "backend": "codex"}]'
    )
    assert done.returncode == 0
    assert f"command: {world.bin}/claude" in done.stdout
    assert f"command: {world.bin}/codex" in done.stdout
    assert world.calls() == world.calls("codex") == []
    assert len(json.loads(run(world, "compare", "--dry-run", "-o", "json", "hi").stdout)["results"]) == 3
    one = run(world, "parallel", "--dry-run", "-o", "json", "-f", "-", stdin='[{"prompt": "a"}]')
    assert [each["backend"] for each in json.loads(one.stdout)["results"]] == ["claude"]


def test_compare_shows_every_answer_with_figures_ranking_and_verdict(world: World) -> None:
    verdict = '{"winner": "A", "scores": {"A": 9, "B": 4}, "reasons": "clearer"}'
    agent.decide(world.bin, "gemini", {"answer": verdict})
    done = run(world, "compare", "-b", "claude", "-b", "codex", "-m", "claude=opus", "--judge", "gemini", "hello")
    assert done.returncode == 0
    assert done.stdout.count("\necho: hello\n") == 2
    for word in (
        "PLACE",
        "TIME",
        "TOKENS",
        "COST",
        "SCORE",
        "12 in (2 cached), 3 out",
        "$0.0010",
        "verdict of gemini: ",
        "clearer",
    ):
        assert word in done.stdout
    assert "--model=opus" in world.calls("claude")[0]["argv"]


def test_compare_where_nothing_is_installed_says_so_and_asks_nobody(world: World) -> None:
    done = run(world, "compare", "hello", env=NO_AGENTS)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no agent CLI is installed" in done.stderr


def test_compare_takes_all_that_are_installed_and_its_prompt_from_a_pipe(world: World) -> None:
    result = json.loads(run(world, "compare", "-o", "json", stdin="hello").stdout)
    assert result["backends"] == ["claude", "codex", "gemini"]
    assert [place["place"] for place in result["ranking"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("-b", "claude,claude", "x"), 1, "twice"),
        (("-b", "clude", "x"), 2, "did you mean 'claude'?"),
        (("-b", "claude", "-m", "opus", "x"), 1, "BACKEND=MODEL"),
        (("-b", "claude", "-m", "codex=x", "x"), 1, "not compared"),
        (("--dry-run", "--judge", "nobody", "x"), 2, "no backend named 'nobody'"),
        (("--ephemeral", "x"), 1, "compare takes no --ephemeral"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused(
    world: World, words: tuple[str, ...], code: int, said: str
) -> None:
    done = run(world, "compare", *words)
    assert (done.returncode, world.calls()) == (code, [])
    assert said in done.stderr


def test_events_of_all_parts_are_told_apart_by_their_run(world: World) -> None:
    done = run(world, "parallel", "-o", "stream-json", "-f", "-", stdin='[{"prompt": "a"}, {"prompt": "b"}]')
    events = [json.loads(line) for line in done.stdout.splitlines()]
    said = {event["run_id"]: event["text"] for event in events if event["type"] == "text_delta"}
    assert sorted(said.values()) == ["echo: a", "echo: b"]
    assert (events[-1]["type"], events[-1]["run_id"] in said) == ("run_finished", False)


def test_a_signal_stops_all_parts_and_keeps_what_there_was(world: World) -> None:
    up = [world.fifo("up1"), world.fifo("up2")]
    tasks = [{"prompt": agent.prompt({"answer": "so far"}, {"reach": str(fifo)}, {"hang": True})} for fifo in up]
    (world.workdir / "tasks.json").write_text(json.dumps([*tasks, {"prompt": "never"}]), encoding="utf-8")
    process = subprocess.Popen(
        [*COMMAND, "parallel", "-f", "tasks.json", "--max-parallel", "2", "-o", "json"],
        env=world.environ, cwd=world.workdir, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    with process:
        pidfds = [os.pidfd_open(reached(fifo.path)["pid"]) for fifo in up]
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_SECS)
    assert all(gone(fd) for fd in pidfds)
    result = json.loads(output)
    assert (process.returncode, result["status"], result["cancelled"]) == (7, "cancelled", 3)
    assert [part["output"] for part in result["results"]] == ["so far", "so far", ""]


def test_a_batch_in_the_background_is_one_run_to_wait_for(world: World) -> None:
    run_id = run(world, "parallel", "--background", "-f", "-", stdin='[{"prompt": "a"}]').stdout.strip()
    done = run(world, "runs", "wait", run_id)
    assert (done.returncode, "echo: a\n" in done.stdout) == (0, True)


BAD_FILES = [
    ("tasks:\n  - name: a\n    promt: x\n", "tasks.yaml:2, 3: ", "did you mean prompt?"),
    ("tasks:\n  - prompt: x\n    prompt: y\n", "tasks.yaml:3: ", "key 'prompt' appears twice; first on line 2"),
    ("taks: []\n", "tasks.yaml:1: ", "did you mean tasks?"),
    ("tasks: []\n", "tasks.yaml:1: ", "must not be empty"),
    ("tasks:\n  - prompt: x\n    sandbox_mode: readonly\n", "tasks.yaml:3: ", "'read-only'"),
    ("tasks: [\n", "tasks.yaml:2: ", "not valid YAML"),
    ("", "tasks.yaml: ", "is empty"),
    ("just words", "tasks.yaml:1: ", "a mapping with 'tasks', or a list, is expected"),
    ("- prompt: x\n- promt: y\n", "tasks.yaml:2: ", "did you mean prompt?"),
    ("wait_secs: 5\ntasks: [{prompt: x}]", "tasks.yaml:1: ", "--background"),
    ("? [a]\n: b\n", "tasks.yaml:1: ", "a key must be text"),
    ("a: &a [*a]\n", "tasks.yaml:", "too large"),
    ("tasks: " + "[" * 100_000, "tasks.yaml:1: ", "nested too deeply"),
    ("a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{c}: &{c} [{','.join([f'*{p}'] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
    ), "tasks.yaml:", "too large"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "where", "said"), BAD_FILES)
def test_what_is_wrong_with_a_file_is_told_with_its_place(world: World, text: str, where: str, said: str) -> None:
    (world.workdir / "tasks.yaml").write_text(text, encoding="utf-8")
    done = run(world, "parallel", "-f", "tasks.yaml")
    assert (done.returncode, done.stdout, world.calls()) == (1, "", [])
    assert done.stderr.startswith(f"clinvk: {where}")
    assert said in done.stderr


BAD_JSON = [
    ('{"tasks": [\n {"prompt": "x",\n  "prompt": "y"}]}', "tasks.json:3: ", "key 'prompt' appears twice"),
    ('{"tasks": [\n {"promt": "x"}]}', "tasks.json:2: ", "did you mean prompt?"),
    ('{"tasks": [\n {"prompt": "x"},]}', "tasks.json:2: ", "not valid JSON"),
    ("[" * 200_000, "tasks.json: ", "nested too deeply"),
]


@pytest.mark.parametrize(("text", "where", "said"), BAD_JSON)
def test_the_same_of_a_json_file(world: World, text: str, where: str, said: str) -> None:
    (world.workdir / "tasks.json").write_text(text, encoding="utf-8")
    done = run(world, "parallel", "-f", "tasks.json")
    assert (done.returncode, world.calls()) == (1, [])
    assert done.stderr.startswith(f"clinvk: {where}")
    assert said in done.stderr


def test_a_file_that_cannot_be_read_is_told(world: World, tmp_path: Path) -> None:
    (world.workdir / "bytes.yaml").write_bytes(b"tasks:\n  - prompt: \xff\n")
    for name, said in (
        ("none.yaml", "No such file"),
        (str(tmp_path), "directory"),
        ("bytes.yaml", "bytes.yaml:2: is not valid UTF-8"),
    ):
        done = run(world, "chain", "-f", name)
        assert (done.returncode, said in done.stderr) == (1, True)
