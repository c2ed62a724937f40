"""The examples of docs/cli.md and of the help texts do what they say."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from cli_terminal import PATIENCE_SECS, run
from clinvk.cli import chain, parallel, prompt
from clinvk_command import COMMAND
from fakes.world import World

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
BLOCKS = SHELL.findall(PAGE) + [block for block in SHELL.findall(README) if block.startswith('clinvk "')]
FILES = dict(re.findall(r"```yaml\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture
def place(world: World) -> dict[str, str]:
    """A folder with what the examples are about; the environment to run them in."""
    launcher = world.bin / "clinvk"
    launcher.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n', encoding="utf-8")
    launcher.chmod(0o755)
    (world.workdir / "notes.txt").write_text("a line\nand another line\n", encoding="utf-8")
    for name, text in FILES.items():
        (world.workdir / name).write_text(text, encoding="utf-8")
    begun = json.loads(run(world, "-o", "json", "review the notes line by line").stdout)
    return {**world.environ, "SESSION": begun["session_id"], "RUN": begun["run_id"]}


@pytest.mark.parametrize("block", BLOCKS, ids=[block.splitlines()[0][:40] for block in BLOCKS])
def test_every_example_of_the_pages_works(block: str, place: dict[str, str], world: World) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.replace("git diff", "cat notes.txt")],
        env=place,
        cwd=world.workdir,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=5 * PATIENCE_SECS,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_verb_that_starts_a_prompt_is_on_the_page() -> None:
    for verb in ("parallel", "chain", "compare", "resume", "sessions", "runs", "install", "keys", "completion"):
        assert f"clinvk {verb} " in PAGE


@pytest.mark.parametrize(("verb", "text"), [("parallel", parallel.EPILOG), ("chain", chain.EPILOG)])
def test_the_file_in_the_help_of_a_verb_is_one(world: World, verb: str, text: str) -> None:
    _, _, file = text.partition("\n")
    assert text in run(world, verb, "--help").stdout
    done = run(world, verb, "-f", "-", "-o", "json", stdin=file)
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "completed")


def test_the_examples_in_the_help_of_a_prompt_work(place: dict[str, str], world: World) -> None:
    lines = [re.split(r"  {2,}", line.strip())[0] for line in prompt.EPILOG.splitlines()[1:]]
    assert len(lines) == 5
    script = "\n".join(lines).replace("git diff", "cat notes.txt")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=place,
        cwd=world.workdir,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=5 * PATIENCE_SECS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
