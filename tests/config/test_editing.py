"""`config set` changes one value and nothing else."""

import os
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from clinvk.config import editing
from clinvk.config.cascade import load
from clinvk.config.display import get
from clinvk.config.editing import edited, set_value
from clinvk.config.problems import ConfigError

KNOWN = ("claude", "codex", "gemini")

FILE = """\
# Mine. Ümlaut and 漢字, so that positions in bytes and in characters differ.
default_backend:   claude   # the best

session:
    # never lose anything
    retention_days: 0   # for ever
    default_tags:
      - a   # first
      - "b"

# The server.
server: {host: "127.0.0.1", port: 8080}   # one line
output:
backends:
    claude:
        system_prompt: |
            Be short.

              Indented.
        enabled: yes
# The end.
"""


def changed(key: str, text: str, old: str, new: str, tmp_path: Path) -> None:
    """Setting `key` to `text` in FILE replaces `old`, which stands there once, by `new`."""
    assert FILE.count(old) == 1
    path = tmp_path / "config.yaml"
    path.write_text(FILE, encoding="utf-8")
    set_value(path, key, text, known_backends=KNOWN, environ={})
    assert path.read_text(encoding="utf-8") == FILE.replace(old, new)


@pytest.mark.parametrize(
    ("key", "text", "old", "new"),
    [
        ("default_backend", "codex", "  claude   # the", "  codex   # the"),
        ("session.retention_days", "30", "days: 0", "days: 30"),
        ("session.auto_resume", "true", '      - "b"\n', '      - "b"\n    auto_resume: true\n'),
        ("session.default_tags", "x, y z", '\n      - a   # first\n      - "b"', ' ["x", "y z"]'),
        ("server.port", "9000", "8080", "9000"),
        ("server.metrics_enabled", "true", "8080}", '8080, "metrics_enabled": true}'),
        ("output.format", "json", "output:\n", "output:\n  format: json\n"),
        ("backends.claude.enabled", "true", "enabled: yes", "enabled: true"),
        ("backends.claude.model", "no", "enabled: yes\n", 'enabled: yes\n        model: "no"\n'),
        (
            "backends.claude.system_prompt",
            "One: #1",
            "system_prompt: |\n            Be short.\n\n              Indented.\n",
            'system_prompt: "One: #1"\n',
        ),
        (
            "backends.codex.env",
            "{A: b}",
            "enabled: yes\n",
            'enabled: yes\n    codex:\n      env: {"A": "b"}\n',
        ),
    ],
)
def test_one_value_changes_and_every_other_byte_stays(tmp_path: Path, key: str, text: str, old: str, new: str) -> None:
    changed(key, text, old, new, tmp_path)


def test_a_new_section_goes_to_the_end(tmp_path: Path) -> None:
    changed("mcp.port", "9", "# The end.\n", "# The end.\nmcp:\n  port: 9\n", tmp_path)


def test_a_file_is_made_private_and_its_folder_too(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.yaml"
    set_value(path, "limits.max_depth", "1", known_backends=KNOWN, environ={})
    assert path.read_text(encoding="utf-8") == "limits:\n  max_depth: 1\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_mode_of_a_file_and_the_link_to_it_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles.yaml", tmp_path / "config.yaml"
    real.write_text("default_backend: claude\n")
    real.chmod(0o640)
    link.symlink_to(real)
    set_value(link, "default_backend", "codex", known_backends=KNOWN, environ={})
    assert link.is_symlink()
    assert real.read_text() == "default_backend: codex\n"
    assert real.stat().st_mode & 0o777 == 0o640


def test_line_ends_of_windows_stay(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"default_backend: claude\r\nmcp: {port: 1}\r\n")
    set_value(path, "mcp.port", "2", known_backends=KNOWN, environ={})
    assert path.read_bytes() == b"default_backend: claude\r\nmcp: {port: 2}\r\n"


@pytest.mark.parametrize(
    ("text", "key", "value", "message"),
    [
        ("", "mcp.prot", "1", "unknown key 'mcp.prot'; did you mean 'port'?"),
        ("", "mcp", "1", "'mcp' is a section; name one of its keys: expose_health, "),
        ("", "mcp.port", "x", "mcp.port is 'x'; must be a whole number"),
        ("a: [\n", "mcp.port", "1", "is not valid YAML"),
        ("sever: {}\n", "mcp.port", "1", "unknown key 'sever'; did you mean 'server'?"),
        ("mcp: 3\n", "mcp.port", "1", "was not changed"),
        ("backends:\n  claude:\n    system_prompt: |+\n      a\n\n", "backends.claude.model", "m", "was not changed"),
        ("mcp: &m {port: 1}\nserver: *m\n", "server.port", "2", "was not changed"),
        ("backends: {codex: {enabled: false}}\n", "default_backend", "codex", "default_backend is 'codex', which"),
    ],
)
def test_what_would_not_be_valid_is_refused_and_nothing_is_written(
    tmp_path: Path, text: str, key: str, value: str, message: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        set_value(path, key, value, known_backends=KNOWN, environ={})
    assert caught.value.problems[0].message.startswith(message)
    assert path.read_text() == text
    assert list(tmp_path.glob(".*")) == []


def test_a_file_that_another_process_is_changing_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(editing, "LOCK_SECS", 0.0)
    path = tmp_path / "config.yaml"
    with FileLock(f"{path}.lock"), pytest.raises(ConfigError, match="another process is changing it"):
        set_value(path, "mcp.port", "1", known_backends=KNOWN, environ={})
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "config.yaml"
    with pytest.raises(ConfigError, match="was not changed"):
        set_value(path, "mcp.port", "1", known_backends=KNOWN, environ={})


def test_when_replacing_fails_the_file_stays_and_nothing_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "config.yaml"
    path.write_text("mcp: {port: 1}\n")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        set_value(path, "mcp.port", "2", known_backends=KNOWN, environ={})
    assert path.read_text() == "mcp: {port: 1}\n"
    assert list(tmp_path.glob(".config.*")) == []


@pytest.mark.parametrize(
    ("before", "key", "value", "after"),
    [
        ("mcp:\n  port: 1", "mcp.transport", "http", "mcp:\n  port: 1\n  transport: http\n"),
        (
            "backends:\n  claude:\n    model:\n# end\n",
            "backends.claude.enabled",
            "true",
            "backends:\n  claude:\n    model:\n    enabled: true\n# end\n",
        ),
        ("default_backend:\nmcp: {}\n", "default_backend", "codex", "default_backend: codex\nmcp: {}\n"),
        ("default_backend:", "default_backend", "codex", "default_backend: codex"),
        ("{}", "mcp.port", "1", '{"mcp": {"port": 1}}'),
        ("mcp: {port: 1,}\n", "mcp.transport", "http", 'mcp: {port: 1,"transport": http}\n'),
        ("mcp: ~  # none\n", "mcp.port", "1", "mcp:  # none\n  port: 1\n"),
        ("# only this", "mcp.port", "1", "# only this\nmcp:\n  port: 1\n"),
        ("---\nmcp:\n  port: 1\n...\n", "mcp.port", "2", "---\nmcp:\n  port: 2\n...\n"),
        (
            "backends:\n  claude:\n    system_prompt: >-\n      a\n      b",
            "backends.claude.system_prompt",
            "c",
            "backends:\n  claude:\n    system_prompt: c",
        ),
    ],
)
def test_the_odd_shapes_of_yaml_are_edited_too(tmp_path: Path, before: str, key: str, value: str, after: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(before)
    set_value(path, key, value, known_backends=KNOWN, environ={})
    assert path.read_text() == after


def test_a_wrong_value_can_be_set_right(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("mcp: {port: x}\n")
    set_value(path, "mcp.port", "1", known_backends=KNOWN, environ={})
    assert path.read_text() == "mcp: {port: 1}\n"


def test_what_the_environment_says_is_not_written_down(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    set_value(path, "mcp.port", "1", known_backends=KNOWN, environ={"CLINVK_CLAUDE_MODEL": "opus"})
    assert "opus" not in path.read_text()


_KEYS = st.sampled_from(["backends.claude.model", "backends.claude.system_prompt", "backends.gemini.model"])


@given(key=_KEYS, text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
@settings(max_examples=150, deadline=None)
def test_any_text_reads_back_as_it_was_set(tmp_path_factory: pytest.TempPathFactory, key: str, text: str) -> None:
    path = tmp_path_factory.mktemp("set") / "config.yaml"
    path.write_text(edited(FILE, tuple(key.split(".")), text), encoding="utf-8", newline="")
    loaded = load({}, known_backends=KNOWN, path=path)
    assert get(loaded, key) == text
    assert loaded.config.session.default_tags == ("a", "b")
