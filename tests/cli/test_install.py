"""`clinvk install CLIENT`, into homes that are made for it."""

import json
import os
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cli_terminal import run
from fakes.world import World

PLACES = {
    "claude-desktop": ".config/Claude/claude_desktop_config.json",
    "claude-code": ".claude.json",
    "codex": ".codex/config.toml",
    "gemini": ".gemini/settings.json",
    "cursor": ".cursor/mcp.json",
    "vscode": ".config/Code/User/mcp.json",
}
WINDOWED = ("claude-desktop", "cursor", "vscode")
EVERY = pytest.mark.parametrize("client", PLACES)

CODEX = """\
# mine
model = "gpt-x"   # the best

[mcp_servers.other]
command = "other"
args = ["[mcp_servers.clinvk]"]

# about the screen
[tui]
notifications = true
"""
JSON_FILES = {
    "plain": '{\n  "theme": "dark",\n  "KEY": {\n    "other": {"command": "x"}\n  }\n}\n',
    "comments": """\
// mine
{
\t"KEY": {
\t\t"other": {"command": "x"}, // the // other
\t},
\t/* end */ "a": "/* no */ // no",
}
""",
    "one line": '{"KEY": {"other": {"command": "x"}}, "b": [1, 2]}',
    "none yet": '{\n    "b": [1, {"c": "\\u00e4 \\" } ]"}]\n}\n',
    "empty object": "{}\n",
    "windows": '{\r\n  "KEY": {\r\n    "other": {"command": "x"}\r\n  }\r\n}\r\n',
}


def place(world: World, client: str) -> Path:
    return Path(world.environ["HOME"]) / PLACES[client]


def key(client: str) -> str:
    return {"vscode": "servers", "codex": "mcp_servers"}.get(client, "mcpServers")


def said(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)


def backups(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.clinvk-*.bak"))


@EVERY
def test_a_client_without_a_file_gets_one_that_starts_this_clinvk(world: World, client: str) -> None:
    done = run(world, "install", client)
    path = place(world, client)
    assert (done.returncode, str(path) in done.stdout, "next: " in done.stderr) == (0, True, True)
    entry = said(path)[key(client)]["clinvk"]
    assert Path(entry["command"]).is_absolute()
    assert os.access(entry["command"], os.X_OK)
    assert entry["args"][-1] == "mcp"
    assert backups(path) == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert entry["env"]["CLINVK_HOME"] == str(world.home)
    assert ("PATH" in entry["env"]) is (client in WINDOWED)


@pytest.mark.parametrize("client", WINDOWED)
def test_an_application_with_a_window_is_told_the_path_of_the_agents(world: World, client: str) -> None:
    run(world, "install", client)
    assert str(world.bin) in said(place(world, client))[key(client)]["clinvk"]["env"]["PATH"].split(":")


def test_limits_of_the_clients_are_minded(world: World) -> None:
    for client in ("codex", "claude-desktop"):
        run(world, "install", client)
    assert said(place(world, "codex"))["mcp_servers"]["clinvk"]["tool_timeout_sec"] > 90
    desktop = said(place(world, "claude-desktop"))["mcpServers"]["clinvk"]
    assert float(desktop["env"]["CLINVK_MCP__WAIT_SECS"]) < 60


@EVERY
def test_print_writes_nothing_and_shows_what_would_be_written(world: World, client: str) -> None:
    done = run(world, "install", client, "--print")
    path = place(world, client)
    assert (done.returncode, done.stderr, path.parent.exists() and path.exists()) == (0, f"# {path}\n", False)
    run(world, "install", client)
    assert done.stdout == path.read_text(encoding="utf-8")


def test_codex_keeps_every_other_byte(world: World) -> None:
    path = place(world, "codex")
    path.parent.mkdir()
    path.write_text(CODEX, encoding="utf-8")
    run(world, "install", "codex")
    text = path.read_text(encoding="utf-8")
    assert text.startswith(CODEX)
    assert said(path)["mcp_servers"]["other"] == {"command": "other", "args": ["[mcp_servers.clinvk]"]}
    (backup,) = backups(path)
    assert backup.read_text(encoding="utf-8") == CODEX
    run(world, "install", "codex", "--uninstall")
    assert path.read_text(encoding="utf-8") == CODEX


def test_codex_has_its_entry_replaced_where_it_stands(world: World) -> None:
    path = place(world, "codex")
    path.parent.mkdir()
    old = '[mcp_servers."clinvk"]\ncommand = "old"\n[mcp_servers.clinvk.env]\nA = "b"\n'
    after = "\n# about the last\n[last]\nx = 1"
    path.write_text(f"{CODEX}\n{old}{after}", encoding="utf-8")
    run(world, "install", "codex")
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"{CODEX}\n[mcp_servers.clinvk]\n")
    assert text.endswith(after)
    assert "old" not in text
    assert said(path)["mcp_servers"]["clinvk"]["env"]["A"] == "b"


@EVERY
def test_what_somebody_added_to_the_entry_stays(world: World, client: str) -> None:
    path = place(world, client)
    run(world, "install", client)
    first = said(path)[key(client)]["clinvk"]
    text = path.read_text(encoding="utf-8").replace(first["command"], "/old/clinvk")
    if client == "codex":
        text = text.replace("= 120", "= 900").replace("env = {", 'env = { KEY = "mine", ')
        wanted = {**first, "tool_timeout_sec": 900, "env": {**first["env"], "KEY": "mine"}}
    else:
        added = {"KEY": "mine", "CLINVK_MCP__WAIT_SECS": "30"}
        entry = {**first, "command": "/old", "trust": True, "env": {**first["env"], **added, "PATH": "/old"}}
        text = json.dumps({key(client): {"clinvk": entry}})
        path_there = {name: value for name, value in first["env"].items() if name == "PATH"}
        wanted = {**first, "trust": True, "env": {**first["env"], **added, **path_there}}
    path.write_text(text, encoding="utf-8")
    assert run(world, "install", client).returncode == 0
    assert said(path)[key(client)]["clinvk"] == wanted
    assert "nothing to change" in run(world, "install", client).stdout


def test_places_are_written_as_absolute_paths(world: World) -> None:
    assert run(world, "install", "cursor", env={"CLINVK_HOME": "own"}).returncode == 0
    entry = said(place(world, "cursor"))["mcpServers"]["clinvk"]
    assert entry["env"]["CLINVK_HOME"] == str(world.workdir / "own")


@pytest.mark.parametrize("client", ["gemini", "vscode", "cursor"])
@pytest.mark.parametrize("form", JSON_FILES)
def test_json_keeps_everything_else_and_comes_back_as_it_was(world: World, client: str, form: str) -> None:
    path = place(world, client)
    path.parent.mkdir(parents=True)
    before = JSON_FILES[form].replace("KEY", key(client))
    path.write_bytes(before.encode())
    done = run(world, "install", client)
    assert done.returncode == 0, done.stderr
    after = path.read_bytes().decode()
    assert '"clinvk": {' in after
    if "other" in before:
        assert '"other": {"command": "x"}' in after
    for comment in ("// mine", "/* end */", "// the // other", "/* no */ // no"):
        assert (comment in after) is (comment in before)
    if form == "windows":
        assert after.count("\n") == after.count("\r\n")
    assert backups(path)[0].read_bytes().decode() == before
    assert run(world, "install", client, "--uninstall").returncode == 0
    again = path.read_bytes().decode()
    assert "clinvk" not in again
    if form in ("plain", "comments", "windows"):
        assert again == before


@EVERY
def test_installing_again_changes_nothing(world: World, client: str) -> None:
    run(world, "install", client)
    path = place(world, client)
    before = path.read_bytes()
    done = run(world, "install", client)
    assert "there already" in done.stdout
    assert (path.read_bytes(), backups(path)) == (before, [])
    run(world, "install", client, "--uninstall")
    assert "not in it" in run(world, "install", client, "--uninstall").stdout


@EVERY
@pytest.mark.parametrize("damage", ["{ not json [", '{"a": 1} trailing', '["a list", 1]', '{"KEY": "text"}', "\ufffe"])
def test_a_file_that_is_not_understood_is_left_alone(world: World, client: str, damage: str) -> None:
    path = place(world, client)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = damage.replace("KEY", key(client))
    path.write_text(text, encoding="utf-8")
    done = run(world, "install", client)
    assert (done.returncode, done.stdout) == (1, "")
    assert str(path) in done.stderr
    assert "--print" in done.stderr
    assert (path.read_text(encoding="utf-8"), backups(path)) == (text, [])


def test_codex_entries_in_other_forms_are_left_alone(world: World) -> None:
    path = place(world, "codex")
    path.parent.mkdir()
    text = '[mcp_servers]\nclinvk = { command = "mine" }\n'
    path.write_text(text, encoding="utf-8")
    for words in ((), ("--uninstall",)):
        assert run(world, "install", "codex", *words).returncode == 1
    assert path.read_text(encoding="utf-8") == text


def test_a_link_stays_a_link_and_modes_stay(world: World) -> None:
    path = place(world, "cursor")
    path.parent.mkdir()
    real = world.root / "dotfiles.json"
    real.write_text("{}", encoding="utf-8")
    real.chmod(0o644)
    path.symlink_to(real)
    assert run(world, "install", "cursor").returncode == 0
    assert path.is_symlink()
    assert "clinvk" in said(real)["mcpServers"]
    assert stat.S_IMODE(real.stat().st_mode) == 0o644


def test_the_places_that_clients_can_be_told_are_used(world: World) -> None:
    where = {
        "CODEX_HOME": "codex",
        "CLAUDE_CONFIG_DIR": "claude",
        "GEMINI_CLI_HOME": "gemini",
        "XDG_CONFIG_HOME": "xdg",
    }
    env = {name: str(world.root / folder) for name, folder in where.items()}
    for client in PLACES:
        run(world, "install", client, env=env)
    for path in (
        "codex/config.toml", "claude/.claude.json", "gemini/.gemini/settings.json",
        "xdg/Claude/claude_desktop_config.json", "xdg/Code/User/mcp.json",
    ):  # fmt: skip
        assert (world.root / path).exists()


def test_the_configuration_that_was_named_is_named_to_the_client(world: World) -> None:
    (world.workdir / "my.yaml").write_text("{}\n", encoding="utf-8")
    run(world, "--config", "my.yaml", "install", "gemini")
    args = said(place(world, "gemini"))["mcpServers"]["clinvk"]["args"]
    assert args[-3:] == ["mcp", "--config", str(world.workdir / "my.yaml")]


def test_the_outcome_is_told_as_json(world: World) -> None:
    told = json.loads(run(world, "install", "gemini", "-o", "json").stdout)
    assert (told["changed"], told["backup"], told["path"]) == (True, None, str(place(world, "gemini")))


def test_an_unknown_client_is_refused(world: World) -> None:
    done = run(world, "install", "emacs")
    assert (done.returncode, "claude-desktop" in done.stderr) == (1, True)


def test_what_was_installed_starts(world: World) -> None:
    run(world, "install", "claude-desktop")
    entry = said(place(world, "claude-desktop"))["mcpServers"]["clinvk"]
    asked = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    hello = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": asked}) + "\n"
    done = subprocess.run(
        [entry["command"], *entry["args"]],
        env={"HOME": world.environ["HOME"], **entry["env"]},
        cwd="/",
        input=hello,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[0])["result"]["serverInfo"]["name"] == "clinvk"
