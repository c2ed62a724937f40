import os
import subprocess
import sys
from pathlib import Path

import pytest

from clinvk_command import NO_AGENTS, answered, clinvk, environment

FAKE_CLAUDE = """#!/bin/sh
case "$*" in
  --version) echo '2.1.329 (Claude Code)';;
  *{rejected}*) echo "error: unknown option '{rejected}'" >&2; exit 1;;
  *) echo 'Error: Input must be provided either through stdin or as a prompt argument' >&2; exit 1;;
esac
"""


def with_claude(folder: Path, text: str, **more: str) -> dict[str, str]:
    """An environment in which a fake claude is the only agent."""
    path = folder / "claude"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    others = {name: value for name, value in NO_AGENTS.items() if "CLAUDE" not in name}
    return environment(**others, CLINVK_BACKENDS__CLAUDE__COMMAND=str(path), **more)


def test_an_agent_that_is_installed_and_logged_in_makes_it_ready(tmp_path: Path) -> None:
    env = with_claude(tmp_path, FAKE_CLAUDE.format(rejected="--no-such-flag"), ANTHROPIC_API_KEY="k")
    done = clinvk("doctor", "-o", "json", env=env)
    report = answered(done)
    assert (done.returncode, report["status"], report["usable"]) == (0, "ready", ["claude"])
    (check,) = [check for check in report["checks"] if check["name"] == "claude"]
    assert check["state"] == "ok"
    assert "Claude Code 2.1.329" in check["detail"]
    assert "logged in: ANTHROPIC_API_KEY" in check["detail"]
    assert "ready: claude" in clinvk("doctor", env=env).stdout


def test_an_agent_that_is_logged_out_does_not(tmp_path: Path) -> None:
    done = clinvk("doctor", "-o", "json", env=with_claude(tmp_path, FAKE_CLAUDE.format(rejected="--no-such-flag")))
    report = answered(done)
    assert (done.returncode, report["status"]) == (2, "no_backend")
    (check,) = [check for check in report["checks"] if check["name"] == "claude"]
    assert (check["state"], "log in" in check["fix"]) == ("warning", True)


def test_a_flag_that_the_installed_version_does_not_know_is_named(tmp_path: Path) -> None:
    env = with_claude(tmp_path, FAKE_CLAUDE.format(rejected="--strict-mcp-config"), ANTHROPIC_API_KEY="k")
    checks = answered(clinvk("doctor", "-o", "json", env=env))["checks"]
    (warning,) = [check for check in checks if check["name"] == "claude" and check["state"] == "warning"]
    assert "--strict-mcp-config" in warning["detail"]
    assert warning["fix"]


def test_the_probe_of_the_flags_gets_no_login(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    text = f"#!/bin/sh\n[ $1 = --version ] && echo '2.1.329 (Claude Code)' || (env; cat) >>{seen}\n"
    clinvk("doctor", env=with_claude(tmp_path, text, ANTHROPIC_API_KEY="the-key"))
    told = seen.read_text(encoding="utf-8")
    assert "the-key" not in told
    assert f"HOME={os.environ['HOME']}\n" not in told


def test_a_script_of_another_name_is_not_taken_for_the_agent(tmp_path: Path) -> None:
    done = clinvk("doctor", "-o", "json", env=with_claude(tmp_path, "#!/bin/sh\necho hello\n", ANTHROPIC_API_KEY="k"))
    report = answered(done)
    assert (done.returncode, report["usable"]) == (2, [])
    (check,) = [check for check in report["checks"] if check["name"] == "claude"]
    assert (check["state"], "is it Claude Code?" in check["detail"]) == ("error", True)


def test_an_old_node_is_named_where_it_keeps_an_agent_from_starting(tmp_path: Path) -> None:
    node = tmp_path / "node"
    node.write_text('#!/bin/sh\n[ "$1" = --version ] && echo v18.1.0 || exit 1\n', encoding="utf-8")
    node.chmod(0o755)
    script = tmp_path / "gemini"
    script.write_text("#!/usr/bin/env node\n", encoding="utf-8")
    script.chmod(0o755)
    others = {name: value for name, value in NO_AGENTS.items() if "GEMINI" not in name}
    env = environment(**others, CLINVK_BACKENDS__GEMINI__COMMAND=str(script))
    checks = answered(clinvk("doctor", "-o", "json", env=env | {"PATH": f"{tmp_path}:{env['PATH']}"}))["checks"]
    (check,) = [check for check in checks if check["name"] == "gemini"]
    assert check["state"] == "error"
    assert "needs Node 20 or newer; here it is v18.1.0" in check["detail"]


def test_a_wrong_configuration_is_told_beside_all_the_rest() -> None:
    done = clinvk("doctor", "-o", "json", env=environment(CLINVK_LIMITS__TIMEOUT_SECS="soon"))
    report = answered(done)
    assert (done.returncode, report["status"]) == (3, "config")
    assert {"clinvk", "config", "storage", "claude", "codex", "gemini", "offline", "runs"} == {
        check["name"] for check in report["checks"]
    }


def test_a_folder_that_cannot_be_used_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = environment(**NO_AGENTS, CLINVK_HOME=str(tmp_path / "file" / "home"), CLINVK_CONFIG=str(tmp_path / "file"))
    done = clinvk("doctor", "-o", "json", env=env)
    assert (done.returncode, answered(done)["status"]) == (1, "storage")


def test_a_home_that_others_may_read_is_a_warning(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    checks = answered(clinvk("doctor", "-o", "json", env=environment(**NO_AGENTS, CLINVK_HOME=str(tmp_path))))["checks"]
    (check,) = [check for check in checks if check["name"] == "storage"]
    assert (check["state"], check["fix"]) == ("warning", f"chmod 700 {tmp_path}")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="only Linux shows the environment of processes")
def test_a_process_that_outlived_its_run_is_named(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "0123456789abcdef"
    run.mkdir(parents=True)
    env = environment(**NO_AGENTS, CLINVK_HOME=str(tmp_path))
    stray = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        env={**env, "CLINVK_RUN_ID": run.name},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with stray:
        assert stray.stdout is not None
        stray.stdout.readline()
        checks = answered(clinvk("doctor", "-o", "json", env=env))["checks"]
        stray.communicate(b"\n")
    assert f"kill {stray.pid}" in [check["fix"].rpartition(": ")[2] for check in checks]
