"""Finding CLIs in made-up homes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from clinvk.backends import claude, codex, gemini, offline, registry
from clinvk.backends.locate import locate, search_path
from clinvk.errors import ClinvkError

Install = Callable[[str], Path]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "someone"
    folder.mkdir()
    return folder


@pytest.fixture
def install(home: Path) -> Install:
    """Puts an executable at a path below the home."""

    def put(where: str) -> Path:
        path = home / where
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    return put


@pytest.fixture(autouse=True)
def no_system_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clinvk.backends.locate._SYSTEM_ROOTS", ())


def test_what_is_not_installed_is_not_found(home: Path) -> None:
    assert locate(claude, {}, home) is None


def test_path_goes_before_the_install_roots(home: Path, install: Install) -> None:
    on_path = install("tools/claude")
    install(".local/bin/claude")
    found = locate(claude, {"PATH": str(on_path.parent)}, home)
    assert found is not None
    assert (found.path, found.found_by, found.program) == (on_path, "PATH", (str(on_path),))


@pytest.mark.parametrize(
    ("where", "found_by"),
    [
        (".local/bin/claude", "~/.local/bin"),
        (".claude/local/claude", "claude local"),
        (".npm-global/bin/claude", "npm global"),
        (".volta/bin/claude", "volta"),
        (".asdf/shims/claude", "asdf"),
        (".bun/bin/claude", "bun"),
        (".cargo/bin/claude", "cargo"),
        (".local/share/pnpm/claude", "pnpm"),
        (".nvm/versions/node/v22.1.0/bin/claude", "nvm"),
        (".local/share/fnm/node-versions/v22.1.0/installation/bin/claude", "fnm"),
    ],
)
def test_a_program_without_the_shells_path_finds_it_in_the_install_root(
    where: str, found_by: str, home: Path, install: Install
) -> None:
    path = install(where)
    found = locate(claude, {}, home)
    assert found is not None
    assert (found.path, found.found_by) == (path, found_by)


def test_the_newest_node_version_is_taken(home: Path, install: Install) -> None:
    for version in ("v9.11.2", "v22.3.0", "v22.11.0", "v18.20.4"):
        install(f".nvm/versions/node/{version}/bin/claude")
    found = locate(claude, {}, home)
    assert found is not None
    assert "v22.11.0" in str(found.path)


def test_npms_own_prefix_is_looked_at(home: Path, install: Install) -> None:
    path = install("my npm/bin/claude")
    (home / ".npmrc").write_text("registry=https://x\nprefix = ${HOME}/my npm\n", encoding="utf-8")
    found = locate(claude, {}, home)
    assert found is not None
    assert found.path == path


def test_relative_path_entries_are_ignored(home: Path, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    path = install("repository/claude")
    monkeypatch.chdir(path.parent)
    assert locate(claude, {"PATH": ".::bin"}, home) is None
    monkeypatch.chdir(home)
    assert locate(claude, {"PATH": "repository"}, home) is None


def test_only_executable_files_count(home: Path, install: Install) -> None:
    install("a/claude").chmod(0o644)
    (home / "b" / "claude").mkdir(parents=True)
    (home / "c").mkdir()
    (home / "c" / "claude").symlink_to(home / "gone")
    assert locate(claude, {"PATH": os.pathsep.join(str(home / each) for each in "abc")}, home) is None


def test_the_configured_command_goes_first(home: Path, install: Install) -> None:
    install("tools/claude")
    path = install("own/claude-wrapper")
    for command in (str(path), "~/own/claude-wrapper", [str(path)]):
        found = locate(claude, {"PATH": str(home / "tools")}, home, command)
        assert found is not None
        assert (found.path, found.program, found.found_by) == (path, (str(path),), "config")


def test_a_configured_wrapper_keeps_its_arguments(home: Path, install: Install) -> None:
    path = install("own/with space")
    found = locate(codex, {}, home, f"'{path}' --profile 'my one'")
    assert found is not None
    assert found.program == (str(path), "--profile", "my one")


def test_a_configured_name_is_searched_for(home: Path, install: Install) -> None:
    path = install(".local/bin/claude-beta")
    found = locate(claude, {}, home, "claude-beta")
    assert found is not None
    assert found.path == path


@pytest.mark.parametrize("command", ["/nowhere/claude", "no-such-claude", "./claude", "'unclosed", "   "])
def test_a_configured_command_that_is_not_there_is_an_error_and_no_other_is_taken(
    command: str, home: Path, install: Install
) -> None:
    install(".local/bin/claude")
    with pytest.raises(ClinvkError) as caught:
        locate(claude, {}, home, command)
    assert caught.value.failure.code == "backend_unavailable"
    assert "backends.claude.command" in caught.value.failure.message


def test_the_offline_backend_is_always_there(home: Path) -> None:
    found = locate(offline, {}, home)
    assert found is not None
    assert found.found_by == "built in"
    assert found.program[1] == "-I"


def test_the_folder_of_the_users_settings_is_told(home: Path, install: Install) -> None:
    for name in ("claude", "codex", "gemini"):
        install(f".local/bin/{name}")
    for name in ("claude", "codex", "gemini"):
        found = locate(registry.get(name), {}, home)
        assert found is not None
        assert found.settings == home / f".{name}"
    moved = locate(codex, {"CODEX_HOME": "/elsewhere"}, home)
    assert moved is not None
    assert moved.settings == Path("/elsewhere")


def test_children_get_the_callers_path_and_then_the_roots_that_exist(home: Path, install: Install) -> None:
    node = install(".nvm/versions/node/v22.11.0/bin/node").parent
    mine = install("mine/x").parent
    path = search_path({"PATH": f"{mine}:relative::{home / 'gone'}:{mine}"}, home)
    assert path.split(os.pathsep) == [str(mine), str(node)]


def test_codex_is_started_without_its_node_shim(home: Path, install: Install) -> None:
    shim = install("lib/node_modules/@openai/codex/bin/codex.js")
    native = install("lib/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex")
    link = home / "bin" / "codex"
    link.parent.mkdir()
    link.symlink_to(shim)
    assert codex.program(link) == (str(native),)
    native.unlink()
    nested = install("lib/node_modules/@openai/codex/node_modules/@openai/codex-darwin-arm64/vendor/aarch64/bin/codex")
    assert codex.program(link) == (str(nested),)
    nested.unlink()
    assert codex.program(link) == (str(link),)


def test_gemini_is_started_with_the_node_beside_it(home: Path, install: Install) -> None:
    script = install("lib/gemini.js")
    link = home / "bin" / "gemini"
    link.parent.mkdir()
    link.symlink_to(script)
    assert gemini.program(link) == (str(link),)
    node = install("bin/node")
    assert gemini.program(link) == (str(node), str(link))


def test_an_unknown_backend_is_answered_with_the_nearest_and_all() -> None:
    with pytest.raises(ClinvkError) as caught:
        registry.get("claud")
    failure = caught.value.failure
    assert failure.code == "backend_unknown"
    assert "'claud'" in failure.message
    assert failure.hint == "did you mean 'claude'? backends: claude, codex, gemini, offline"


@pytest.mark.parametrize(
    ("name", "text", "version"),
    [
        ("claude", "2.1.329 (Claude Code)\n", "2.1.329"),
        ("codex", "WARNING: something\ncodex-cli 0.169.0\n", "0.169.0"),
        ("gemini", "0.61.0\n", "0.61.0"),
        ("gemini", "a warning\n0.62.0-preview.1\n", "0.62.0-preview.1"),
        ("offline", "clinvk-offline 1\n", "1"),
        ("claude", "claude 1.0 by someone else", None),
        ("codex", "0.169.0", None),
        ("gemini", "gemini protocol client 3", None),
    ],
)
def test_the_version_is_read_and_another_program_is_told_apart(name: str, text: str, version: str | None) -> None:
    assert registry.get(name).parse_version(text) == version
