"""The command of each backend: flags for each mode, and no value of a request that could become a flag."""

import base64
import json
import os
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clinvk.backends import codex, gemini, registry
from clinvk.backends.base import Backend, Command, Installation, Option, Turn
from clinvk.errors import ClinvkError
from clinvk.request import APPROVAL_MODES, SANDBOX_MODES

OLD_ID = "a5d0f1c7-1b67-58f2-984d-a1f85b7384c8"
MODELS_ALLOW = {"offline": "offline"}
HOSTILE = ("--version", "-p", "--", "--model=x", "a b", "x\ny", "`id`", "$(id)", "; id", '"quoted"', "ü✓", "=")
SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer"}}}
VALUES: dict[Option, object] = {
    "model": "offline",
    "system_prompt": "Be brief.",
    "max_turns": 3,
    "ephemeral": True,
    "images": (Path("/nowhere/picture.png"),),
    "output_schema": SCHEMA,
    "allowed_tools": ("Read",),
}

Make = Callable[..., Turn]


@pytest.fixture(params=list(registry.BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    return registry.get(request.param)


def command(name: str, turn: Turn, installation: Installation) -> Command:
    return registry.get(name).command(turn, installation)


def words(made: Command) -> str:
    return " ".join(made.argv)


def test_the_prompt_travels_by_stdin_alone(backend: Backend, turn: Make, installation: Installation) -> None:
    made = backend.command(turn(prompt="What is it like?"), installation)
    assert made.stdin.decode() == "What is it like?"
    assert not [word for word in made.argv if "What is it like?" in word]
    assert made.cwd == turn().workdir
    assert made.expect_session is None


@pytest.mark.parametrize("prompt", ["--version", "-p", "resume", "--help\n", "!id", "ünïcode ✓"])
def test_a_hostile_prompt_changes_no_argument(
    backend: Backend, prompt: str, turn: Make, installation: Installation
) -> None:
    made = backend.command(turn(prompt=prompt), installation)
    assert made.argv == backend.command(turn(), installation).argv
    assert made.stdin.decode() == prompt


@pytest.mark.parametrize("name", ["claude", "gemini"])
@pytest.mark.parametrize("prompt", ["/help", "  /compact now", "\n/init"])
def test_a_leading_slash_is_text_and_no_command(name: str, prompt: str, turn: Make, installation: Installation) -> None:
    assert command(name, turn(prompt=prompt), installation).stdin.decode() == "\n" + prompt


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("name", ["claude", "codex", "gemini"])
def test_a_hostile_model_stays_the_value_of_its_flag(
    name: str, value: str, turn: Make, installation: Installation
) -> None:
    made = command(name, turn(model=value), installation)
    assert [word for word in made.argv if value in word and word.startswith("--model=")] == [f"--model={value}"]
    assert len(made.argv) == len(command(name, turn(), installation).argv) + 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_no_text_of_a_request_becomes_an_argument_of_its_own(text: str, turn: Make, installation: Installation) -> None:
    for name in ("claude", "codex", "gemini"):
        plain = command(name, turn(model="m", system_prompt="s"), installation)
        made = command(name, turn(model=text, system_prompt=text, prompt=text), installation)
        assert len(made.argv) == len(plain.argv)
        for word, before in zip(made.argv, plain.argv, strict=True):
            assert word.split("=")[0] == before.split("=")[0]


@pytest.mark.parametrize("name", ["claude", "codex", "gemini"])
def test_a_nul_in_a_value_is_refused(name: str, turn: Make, installation: Installation) -> None:
    with pytest.raises(ClinvkError) as caught:
        command(name, turn(model="a\0b"), installation)
    assert caught.value.failure.code == "invalid_request"


def test_every_declared_mode_makes_a_command_and_every_other_is_refused(
    backend: Backend, turn: Make, installation: Installation
) -> None:
    can = backend.CAPABILITIES
    for approval in APPROVAL_MODES:
        for sandbox in SANDBOX_MODES:
            asked = turn(approval=approval, sandbox=sandbox)
            if approval in can.approval_modes and sandbox in can.sandbox_modes:
                assert backend.command(asked, installation).argv
                continue
            with pytest.raises(ClinvkError) as caught:
                backend.command(asked, installation)
            assert caught.value.failure.code == "unsupported_option"


@pytest.mark.parametrize("name", ["codex", "gemini", "offline"])
def test_that_a_person_approves_each_action_is_refused_where_the_cli_cannot_ask(
    name: str, turn: Make, installation: Installation
) -> None:
    with pytest.raises(ClinvkError) as caught:
        command(name, turn(approval="always", ask=True), installation)
    failure = caught.value.failure
    assert failure.details == {"option": "approval_mode", "value": "always"}
    assert "default" in (failure.hint or "")


@pytest.mark.parametrize("option", get_args(Option))
def test_an_option_is_used_or_refused_never_ignored(
    option: Option, backend: Backend, turn: Make, installation: Installation, tmp_path: Path
) -> None:
    picture = tmp_path / "work" / "picture.png"
    picture.write_bytes(b"\x89PNG")
    value = (picture,) if option == "images" else VALUES[option]
    asked = turn(**{option: value})
    if option in backend.CAPABILITIES.options:
        made, plain = backend.command(asked, installation), backend.command(turn(), installation)
        used = (made.argv, made.stdin, made.files) != (plain.argv, plain.stdin, plain.files)
        assert used or (backend.NAME, option) == ("offline", "output_schema")
        return
    with pytest.raises(ClinvkError) as caught:
        backend.command(asked, installation)
    assert caught.value.failure.code == "unsupported_option"
    assert caught.value.failure.details["option"] == option


def test_a_resumed_turn_keeps_every_option(backend: Backend, turn: Make, installation: Installation) -> None:
    model = MODELS_ALLOW.get(backend.NAME, "some-model")
    fresh = backend.command(turn(sandbox="read-only", model=model, system_prompt="Be brief."), installation)
    asked = turn(sandbox="read-only", model=model, system_prompt="Be brief.", resume_id=OLD_ID)
    resumed = backend.command(asked, installation)
    told = {word for word in fresh.argv if not word.startswith("--session")}
    assert told <= set(resumed.argv)
    assert resumed.files == fresh.files
    assert resumed.expect_session == OLD_ID
    assert OLD_ID in words(resumed)
    assert asked.new_id not in words(resumed)


RESTRICTED = {
    "claude": {
        "default": (),
        "read-only": ("--permission-mode=dontAsk", "--tools=Read,Grep,Glob", "--strict-mcp-config"),
        "workspace": (
            "--permission-mode=acceptEdits",
            "--restricted",
            "--tools=Read,Grep,Glob,Edit,Write,NotebookEdit",
            "--strict-mcp-config",
        ),
        "full": ("--permission-mode=bypassPermissions",),
    },
    "codex": {
        "default": (),
        "read-only": (
            "--sandbox=read-only",
            "--ignore-rules",
            "--config=features.hooks=false",
            "--config=notify=[]",
        ),
        "workspace": (
            "--sandbox=workspace-write",
            "--config=sandbox_workspace_write.writable_roots=[]",
            "--config=sandbox_workspace_write.exclude_slash_tmp=true",
            "--config=sandbox_workspace_write.exclude_tmpdir_env_var=true",
            "--config=sandbox_workspace_write.network_access=false",
        ),
        "full": ("--sandbox=danger-full-access",),
    },
    "gemini": {
        "default": (),
        "read-only": ("--approval-mode=default", "--extensions=none"),
        "workspace": ("--approval-mode=auto_edit", "--extensions=none"),
        "full": ("--approval-mode=yolo",),
    },
}
LOOSENING = ("bypassPermissions", "danger", "yolo", "skip", "acceptEdits", "workspace-write", "auto_edit")


@pytest.mark.parametrize("sandbox", SANDBOX_MODES)
@pytest.mark.parametrize("name", RESTRICTED)
def test_a_sandbox_mode_has_its_flags(name: str, sandbox: Any, turn: Make, installation: Installation) -> None:
    made = command(name, turn(sandbox=sandbox), installation)
    assert set(RESTRICTED[name][sandbox]) <= set(made.argv)


@pytest.mark.parametrize("approval", ["default", "auto", "none"])
@pytest.mark.parametrize("name", RESTRICTED)
def test_read_only_is_never_loosened_by_an_approval_mode(
    name: str, approval: Any, turn: Make, installation: Installation
) -> None:
    made = command(name, turn(sandbox="read-only", approval=approval), installation)
    argv = words(made).replace("--skip-git-repo-check", "")
    assert not [word for word in LOOSENING if word in argv]


@pytest.mark.parametrize("sandbox", ["default", "workspace", "full"])
@pytest.mark.parametrize("name", ["claude", "gemini"])
def test_approving_nothing_wins_over_the_sandbox(
    name: str, sandbox: Any, turn: Make, installation: Installation
) -> None:
    argv = words(command(name, turn(sandbox=sandbox, approval="none"), installation))
    assert not [word for word in LOOSENING if word in argv]


def test_claude_is_not_allowed_tools_that_the_sandbox_leaves_out(turn: Make, installation: Installation) -> None:
    asked = turn(sandbox="read-only", allowed_tools=("Bash", "Read"))
    assert "--allowedTools=Read" in command("claude", asked, installation).argv
    free = command("claude", turn(allowed_tools=("Bash(git log:*)", "Read")), installation)
    assert "--allowedTools=Bash(git log:*),Read" in free.argv


def test_claude_follows_a_new_system_prompt_on_resume(turn: Make, installation: Installation) -> None:
    made = command("claude", turn(system_prompt="New.", resume_id=OLD_ID), installation)
    assert "--system-prompt-snapshot=off" in made.argv
    assert list(made.files.values()) == [b"New."]


def test_claude_does_not_expand_files_named_in_a_prompt(turn: Make, installation: Installation) -> None:
    assert command("claude", turn(), installation).env["CLAUDE_CODE_DISABLE_FILE_MENTIONS"] == "1"


def test_claude_gets_an_image_in_its_message(turn: Make, installation: Installation, tmp_path: Path) -> None:
    picture = tmp_path / "a picture.JPG"
    picture.write_bytes(b"jpeg bytes")
    made = command("claude", turn(prompt="/what?", images=(picture,)), installation)
    assert "--input-format=stream-json" in made.argv
    (line,) = made.stdin.splitlines()
    image, text = json.loads(line)["message"]["content"]
    assert image["source"]["media_type"] == "image/jpeg"
    assert base64.b64decode(image["source"]["data"]) == b"jpeg bytes"
    assert text == {"type": "text", "text": "\n/what?"}


def test_codex_gets_a_copy_of_an_image_under_a_plain_name(
    turn: Make, installation: Installation, tmp_path: Path
) -> None:
    picture = tmp_path / "a,b picture.png"
    picture.write_bytes(b"png bytes")
    asked = turn(images=(picture,), resume_id=OLD_ID)
    made = command("codex", asked, installation)
    copy = asked.scratch / "image-1.png"
    assert made.files[copy] == b"png bytes"
    assert made.argv.index(f"--image={copy}") < made.argv.index("resume")


@pytest.mark.parametrize("name", ["claude", "codex", "gemini"])
@pytest.mark.parametrize("missing", ["gone.png", "notes.txt"])
def test_an_image_that_cannot_be_given_is_refused(
    name: str, missing: str, turn: Make, installation: Installation
) -> None:
    (turn().workdir / "notes.txt").write_text("text", encoding="utf-8")
    with pytest.raises(ClinvkError) as caught:
        command(name, turn(images=(turn().workdir / missing,)), installation)
    assert caught.value.failure.code == "invalid_request"
    assert missing in caught.value.failure.message


def test_gemini_gets_a_copy_of_an_image_in_a_folder_that_it_may_read(
    turn: Make, installation: Installation, tmp_path: Path
) -> None:
    picture = tmp_path / "my pic.PNG"
    picture.write_bytes(b"png")
    asked = turn(images=(picture,))
    made = command("gemini", asked, installation)
    copy = asked.scratch / "image-1.png"
    assert made.files[copy] == b"png"
    assert f"--include-directories={asked.scratch}" in made.argv
    assert made.stdin.decode() == f"@{copy}\n\nWhat is the answer?"


@pytest.mark.parametrize(
    ("prompt", "sent"),
    [
        ("see @notes.txt", r"see \@notes.txt"),
        ("@Override", r"\@Override"),
        ("mail me@example.com", r"mail me\@example.com"),
        ('@"my file"', r'\@"my file"'),
        (r"already \@here", r"already \@here"),
        ("a @ b, @! and @", "a @ b, @! and @"),
    ],
)
def test_gemini_is_given_no_file_for_an_at_sign(prompt: str, sent: str, turn: Make, installation: Installation) -> None:
    assert command("gemini", turn(prompt=prompt), installation).stdin.decode() == sent


def test_gemini_gets_the_system_prompt_before_the_prompt(turn: Make, installation: Installation) -> None:
    made = command("gemini", turn(system_prompt="Be brief."), installation)
    assert made.stdin.decode() == "<instructions>\nBe brief.\n</instructions>\n\nWhat is the answer?"


def test_gemini_is_asked_for_the_schema_in_the_prompt(turn: Make, installation: Installation) -> None:
    made = command("gemini", turn(output_schema=SCHEMA), installation)
    assert json.dumps(SCHEMA) in made.stdin.decode()


def policy(made: Command) -> list[dict[str, Any]]:
    """The rules of the policy file that the command brings."""
    (flag,) = [word for word in made.argv if word.startswith("--admin-policy=")]
    rules: list[dict[str, Any]] = tomllib.loads(made.files[Path(flag.partition("=")[2])].decode())["rule"]
    return rules


def test_geminis_read_only_policy_refuses_all_but_reading(turn: Make, installation: Installation) -> None:
    deny, allow = policy(command("gemini", turn(sandbox="read-only"), installation))
    assert (deny["toolName"], deny["decision"]) == ("*", "deny")
    assert allow["priority"] > deny["priority"]
    assert not {"write_file", "replace", "run_shell_command", "save_memory"} & set(allow["toolName"])


def test_geminis_workspace_policy_allows_edits_by_path_only(turn: Make, installation: Installation) -> None:
    rules = policy(command("gemini", turn(sandbox="workspace"), installation))
    edits = [rule for rule in rules if "write_file" in rule["toolName"]]
    assert [(rule["decision"], "argsPattern" in rule) for rule in edits] == [("allow", True), *[("deny", True)] * 2]
    assert min(edits[1]["priority"], edits[2]["priority"]) > edits[0]["priority"]
    assert not [rule for rule in rules if "run_shell_command" in rule["toolName"]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"hooks": {}}', "hooks"),
        ('{"h\\u006foks": {"SessionStart": []}}', "hooks.SessionStart"),
        ('{"tools": {"core": [], "discoveryCommand": "x"}}', "tools.discoveryCommand"),
        ('{"mcp": {"serverCommand": "x"}}', "mcp.serverCommand"),
        ('{"telemetry": {"outfile": "/x"}}', "telemetry.outfile"),
        ('{"context": {"includeDirectories": ["/x"]}}', "context.includeDirectories"),
        ('{"general": {"disableAutoUpdate": true}}', "general.disableAutoUpdate"),  # would be written anew
        ("{'hooks': 1}", "no JSON object"),
        ("[]", "no JSON object"),
    ],
)
@pytest.mark.parametrize("sandbox", ["read-only", "workspace"])
def test_gemini_refuses_to_confine_a_project_that_sets_more_than_harmless_things(
    sandbox: Any, text: str, told: str, turn: Make, installation: Installation
) -> None:
    folder = turn().workdir / ".gemini"
    folder.mkdir()
    (folder / "settings.json").write_text(text, encoding="utf-8")
    with pytest.raises(ClinvkError) as caught:
        command("gemini", turn(sandbox=sandbox), installation)
    assert caught.value.failure.code == "unsupported_option"
    assert told in str(caught.value.failure.hint)
    assert command("gemini", turn(), installation).argv


def test_gemini_confines_a_project_with_harmless_settings(turn: Make, installation: Installation) -> None:
    folder = turn().workdir / ".gemini"
    folder.mkdir()
    (folder / "settings.json").write_text(
        """{ // the team's
            "$schema": "https://example.org/a.json", /* "hooks": {} */
            "context": {"fileName": ["AGENTS.md"], "fileFiltering": {"respectGitIgnore": true}},
            "mcpServers": {"x": {"command": "touch"}}, "model": {"name": "flash"}, "ui": {"theme": "VS"}
        }""",
        encoding="utf-8",
    )
    for sandbox in ("read-only", "workspace"):
        assert command("gemini", turn(sandbox=sandbox), installation).argv


def test_geminis_own_settings_are_no_projects(turn: Make, installation: Installation, tmp_path: Path) -> None:
    folder = turn().workdir / ".gemini"
    folder.mkdir()
    (folder / "settings.json").write_text('{"hooks": {"SessionStart": []}}', encoding="utf-8")
    at_home = replace(installation, settings=folder)
    assert command("gemini", turn(sandbox="read-only"), at_home).argv


def test_gemini_refuses_a_workspace_that_the_user_made_wider(turn: Make, installation: Installation) -> None:
    assert installation.settings is not None
    wider = '{"context": {"includeDirectories": ["/x"]}}'
    (installation.settings / "settings.json").write_text(wider, encoding="utf-8")
    with pytest.raises(ClinvkError) as caught:
        command("gemini", turn(sandbox="workspace"), installation)
    assert "context.includeDirectories" in (caught.value.failure.hint or "")
    assert command("gemini", turn(sandbox="read-only"), installation).argv


def test_gemini_takes_no_variables_from_a_projects_env_files(
    turn: Make, installation: Installation, tmp_path: Path
) -> None:
    work = turn().workdir
    (work / ".gemini").mkdir()
    (work / ".gemini" / ".env").write_text("# A=1\r\n  export B = 'x'\r\nC: y\n\ufeffD=z=E=1", encoding="utf-8")
    (work / ".env").write_text("GOOGLE_GEMINI_BASE_URL=http://x\nGEMINI_API_KEY=project\n", encoding="utf-8")
    (tmp_path / ".env").write_text("ABOVE=1\n", encoding="utf-8")
    made = command("gemini", turn(sandbox="read-only"), replace(installation, settings=None))
    assert set(made.blanked) == {"B", "C", "D", "GOOGLE_GEMINI_BASE_URL", "ABOVE"}
    users = replace(installation, settings=tmp_path / ".gemini")
    assert "ABOVE" not in command("gemini", turn(sandbox="workspace"), users).blanked
    assert command("gemini", turn(), installation).blanked == ()


@pytest.mark.parametrize("name", [".env", ".gemini/.env", ".gemini/settings.json"])
def test_gemini_confines_no_project_with_files_too_long_to_look_through(
    name: str, turn: Make, installation: Installation
) -> None:
    path = turn().workdir / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(ClinvkError) as caught:
        command("gemini", turn(sandbox="read-only"), installation)
    assert str(path) in (caught.value.failure.hint or "")


def test_a_pipe_where_gemini_looks_for_files_is_not_waited_on(turn: Make, installation: Installation) -> None:
    (turn().workdir / ".gemini").mkdir()
    for name in (".env", ".gemini/settings.json"):
        os.mkfifo(turn().workdir / name)
    assert command("gemini", turn(sandbox="read-only"), installation).blanked == ()


def test_gemini_has_a_temporary_folder_of_its_own(turn: Make, installation: Installation) -> None:
    assert command("gemini", turn(), installation).env["TMPDIR"] == str(turn().scratch)


def test_codex_options_stand_before_resume(turn: Make, installation: Installation) -> None:
    made = command("codex", turn(sandbox="workspace", model="m", resume_id=OLD_ID), installation)
    assert made.argv[-3:] == ("resume", OLD_ID, "-")
    assert made.argv.index("--sandbox=workspace-write") < made.argv.index("resume")


def test_codex_refuses_an_id_that_would_start_a_new_thread(turn: Make, installation: Installation) -> None:
    with pytest.raises(ClinvkError) as caught:
        command("codex", turn(resume_id="not-a-uuid"), installation)
    assert caught.value.failure.code == "session_lost"


def test_codex_takes_as_many_characters_as_it_accepts_and_says_how_many(turn: Make, installation: Installation) -> None:
    longest = "ä" * codex.MAX_PROMPT_CHARS
    assert command("codex", turn(prompt=longest), installation).stdin == longest.encode()
    with pytest.raises(ClinvkError, match="prompt is too long for codex: at most 1,048,576 characters"):
        command("codex", turn(prompt=f"{longest}."), installation)


def test_a_refused_option_is_named_with_the_value_that_was_asked_for(turn: Make, installation: Installation) -> None:
    with pytest.raises(ClinvkError) as caught:
        command("codex", turn(max_turns=3), installation)
    assert caught.value.failure.message == "codex cannot enforce max_turns=3"
    assert caught.value.failure.details == {"option": "max_turns", "value": 3}


@pytest.mark.parametrize("sandbox", ["read-only", "workspace"])
def test_codex_starts_no_mcp_server_in_a_confined_run(sandbox: Any, turn: Make, installation: Installation) -> None:
    assert installation.settings is not None
    config = '[mcp_servers.writer]\ncommand = "x"\n[mcp_servers.other-one]\nurl = "http://x"\n'
    (installation.settings / "config.toml").write_text(config, encoding="utf-8")
    made = command("codex", turn(sandbox=sandbox), installation)
    assert "--config=mcp_servers.writer.enabled=false" in made.argv
    assert "--config=mcp_servers.other-one.enabled=false" in made.argv
    (projects,) = [word for word in made.argv if word.startswith("--config=projects=")]
    told = tomllib.loads(projects.removeprefix("--config="))["projects"]
    assert told[str(turn().workdir)] == {"trust_level": "untrusted"}
    assert told[str(turn().workdir.parent)] == {"trust_level": "untrusted"}


@pytest.mark.parametrize("config", ["mcp_servers = [", '[mcp_servers."a.b"]\ncommand = "x"\n'])
def test_codex_refuses_to_confine_what_it_cannot_hold_back(config: str, turn: Make, installation: Installation) -> None:
    assert installation.settings is not None
    (installation.settings / "config.toml").write_text(config, encoding="utf-8")
    with pytest.raises(ClinvkError) as caught:
        command("codex", turn(sandbox="read-only"), installation)
    assert caught.value.failure.code == "unsupported_option"
    assert command("codex", turn(), installation).argv


def test_codex_is_not_confined_without_knowing_its_settings(turn: Make, installation: Installation) -> None:
    with pytest.raises(ClinvkError):
        command("codex", turn(sandbox="read-only"), replace(installation, settings=None))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_codex_reads_the_system_prompt_as_it_was_written(text: str, turn: Make, installation: Installation) -> None:
    made = command("codex", turn(system_prompt=text), installation)
    (word,) = [word for word in made.argv if word.startswith("--config=developer_instructions=")]
    assert tomllib.loads(word.removeprefix("--config="))["developer_instructions"] == text


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("claude", "--effort=high"),
        ("claude", "--disallowedTools=Bash"),
        ("codex", "--config=model_reasoning_effort=high"),
    ],
)
def test_a_harmless_extra_flag_is_passed_on(name: str, flag: str, turn: Make, installation: Installation) -> None:
    assert flag in command(name, turn(extra=(flag,)), installation).argv


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("claude", "--dangerously-skip-permissions"),
        ("claude", "--add-dir=/etc"),
        ("claude", "--effort"),
        ("claude", "--effort="),
        ("claude", "--settings={}"),
        ("codex", "--config=sandbox_mode=danger-full-access"),
        ("codex", "--config=model_reasoning_effort=high\nsandbox_mode"),
        ("codex", '--config=model_reasoning_effort="x"'),
        ("codex", "-c=x"),
        ("codex", "--add-dir=/etc"),
        ("gemini", "--yolo"),
        ("gemini", "--include-directories=/etc"),
        ("offline", "--home=/etc"),
    ],
)
def test_any_other_extra_flag_is_refused(name: str, flag: str, turn: Make, installation: Installation) -> None:
    with pytest.raises(ClinvkError) as caught:
        command(name, turn(extra=(flag,)), installation)
    assert caught.value.failure.code in ("unsupported_option", "invalid_request")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("codex", {"prompt": "x" * (codex.MAX_PROMPT_CHARS + 1)}),
        ("codex", {"system_prompt": "x" * 200_000}),
        ("claude", {"output_schema": {"description": "x" * 200_000}}),
        ("gemini", {"prompt": "x" * 9_000_000}),
    ],
)
def test_what_a_cli_would_cut_off_or_choke_on_is_refused(
    name: str, change: dict[str, Any], turn: Make, installation: Installation
) -> None:
    with pytest.raises(ClinvkError) as caught:
        command(name, turn(**change), installation)
    assert caught.value.failure.code == "invalid_request"
    assert next(iter(change)) in caught.value.failure.message


@pytest.mark.parametrize("name", ["claude", "codex", "gemini"])
def test_no_argument_comes_near_the_systems_limit(name: str, turn: Make, installation: Installation) -> None:
    long = turn(system_prompt="x" * 90_000, prompt="y" * 1_000_000)
    assert max(len(word) for word in command(name, long, installation).argv) < 128 * 1024


def test_gemini_is_not_confined_where_the_machines_own_policies_outrank_ours(
    turn: Make, installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policies = tmp_path / "policies"
    policies.mkdir()
    monkeypatch.setattr(gemini, "SYSTEM_POLICIES", policies)
    assert command("gemini", turn(sandbox="read-only"), installation).argv
    (policies / "company.toml").write_text("", encoding="utf-8")
    with pytest.raises(ClinvkError) as caught:
        command("gemini", turn(sandbox="read-only"), installation)
    assert str(policies) in (caught.value.failure.hint or "")


@pytest.mark.parametrize("name", ["codex", "gemini"])
def test_a_comma_in_the_scratch_folder_is_refused_where_it_would_split_a_path(
    name: str, turn: Make, installation: Installation, tmp_path: Path
) -> None:
    picture = turn().workdir / "p.png"
    picture.write_bytes(b"png")
    asked = turn(scratch=tmp_path / "a,b", sandbox="read-only", images=(picture,))
    with pytest.raises(ClinvkError, match=r"comma|sandbox_mode"):
        command(name, asked, installation)
