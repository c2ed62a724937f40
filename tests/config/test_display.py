"""What `config show` and `config get` are made of."""

from pathlib import Path

import pytest

from clinvk.config.cascade import Loaded, load
from clinvk.config.display import Row, get, show
from clinvk.config.problems import ConfigError

TEXT = """\
server:
  allowed_workdir_prefixes: [/srv]
backends:
  claude:
    extra_flags: [--api-key=s3cret, --add-dir=/srv]
    env: {ANTHROPIC_API_KEY: s3cret, HARMLESS: s3cret}
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    path = tmp_path / "config.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return load({"CLINVK_BACKEND": "claude"}, known_backends=("claude",), path=path, flags={"mcp.port": 9})


def test_show_gives_every_key_with_value_and_source(loaded: Loaded) -> None:
    rows = show(loaded)
    assert [row.key for row in rows] == list(loaded.sources)
    assert Row("default_backend", "claude", "environment variable CLINVK_BACKEND") in rows
    assert Row("mcp.port", 9, "flag") in rows
    assert Row("mcp.host", "127.0.0.1", "default") in rows
    assert Row("server.allowed_workdir_prefixes", ["/srv"], f"{loaded.path}:2") in rows


def test_show_tells_no_secret(loaded: Loaded) -> None:
    rows = {row.key: row.value for row in show(loaded)}
    assert rows["backends.claude.env"] == {"ANTHROPIC_API_KEY": "***", "HARMLESS": "***"}
    assert rows["backends.claude.extra_flags"] == ["--api-key=***", "--add-dir=/srv"]
    assert "s3cret" not in str(rows)


def test_get_gives_a_value_as_it_is_and_a_section_as_it_may_be_shown(loaded: Loaded) -> None:
    assert get(loaded, "backends.claude.env") == {"ANTHROPIC_API_KEY": "s3cret", "HARMLESS": "s3cret"}
    assert get(loaded, "parallel") == {"max_workers": 8, "fail_fast": False}
    assert "s3cret" not in str(get(loaded, "backends"))
    assert set(loaded.config.model_fields_set) >= {"backends"}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("output.formt", "unknown key 'output.formt'; did you mean 'format'?"),
        ("outptu.format", "unknown key 'outptu.format'; did you mean 'output'?"),
        ("output.format.x", "unknown key 'output.format.x'; 'format' has no keys below it"),
        ("", "unknown key ''; accepted: "),
    ],
)
def test_get_of_an_unknown_key_names_the_nearest(loaded: Loaded, key: str, message: str) -> None:
    with pytest.raises(ConfigError, match="unknown key") as caught:
        get(loaded, key)
    assert caught.value.problems[0].message.startswith(message)
