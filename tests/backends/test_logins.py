"""What is told of a login from variables and files alone."""

from pathlib import Path

import pytest

from clinvk.backends import registry

ENVIRONMENTS = {
    "claude": {"ANTHROPIC_API_KEY": "k"},
    "codex": {"CODEX_API_KEY": "k"},
    "gemini": {"GEMINI_API_KEY": "k"},
}
FILES = {
    "claude": ".claude/.credentials.json",
    "codex": ".codex/auth.json",
    "gemini": ".gemini/oauth_creds.json",
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_key_is_a_login_and_its_value_is_not_shown(name: str, tmp_path: Path) -> None:
    variable = next(iter(ENVIRONMENTS[name]))
    login = registry.get(name).login({variable: "sk-very-secret"}, tmp_path)
    assert (login.state, login.how, login.refreshable) == ("logged_in", variable, False)


@pytest.mark.parametrize("name", FILES)
def test_a_login_file_holds_a_token_that_is_refreshed(name: str, tmp_path: Path) -> None:
    path = tmp_path / FILES[name]
    path.parent.mkdir()
    path.write_text("{}", encoding="utf-8")
    login = registry.get(name).login({}, tmp_path)
    assert (login.state, login.how, login.refreshable) == ("logged_in", str(path), True)


@pytest.mark.parametrize("name", FILES)
def test_without_key_and_file_there_is_no_login_and_the_remedy_is_told(name: str, tmp_path: Path) -> None:
    login = registry.get(name).login({"OPENAI_API_KEY": "not used"}, tmp_path)
    assert login.state == "logged_out"
    assert login.fix


@pytest.mark.parametrize(
    ("name", "variable", "file"),
    [
        ("claude", "CLAUDE_CONFIG_DIR", ".credentials.json"),
        ("codex", "CODEX_HOME", "auth.json"),
        ("gemini", "GEMINI_CLI_HOME", ".gemini/oauth_creds.json"),
    ],
)
def test_a_moved_settings_folder_is_followed(name: str, variable: str, file: str, tmp_path: Path) -> None:
    path = tmp_path / "moved" / file
    path.parent.mkdir(parents=True)
    path.write_text("{}", encoding="utf-8")
    login = registry.get(name).login({variable: str(tmp_path / "moved")}, tmp_path / "home")
    assert login.how == str(path)


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("codex", ".codex/config.toml", 'model_provider = "mine"\n'),
        ("gemini", ".gemini/settings.json", '{"security": {"auth": {"selectedType": "vertex-ai"}}}'),
        ("claude", ".claude/settings.json", '{"apiKeyHelper": "x"}'),
    ],
)
def test_what_cannot_be_known_is_unknown(name: str, file: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    assert registry.get(name).login({}, tmp_path).state == "unknown"


@pytest.mark.parametrize("name", ["claude", "codex", "gemini"])
def test_no_backend_asks_for_anothers_keys_or_a_host_agents_variables(name: str) -> None:
    others = {"ANTHROPIC_API_KEY", "OPENAI_API_KEY", "CODEX_API_KEY", "GEMINI_API_KEY"} - set(ENVIRONMENTS[name])
    host = {"CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SSE_PORT", "CODEX_SANDBOX", "GEMINI_CLI"}
    for pattern in registry.get(name).ENVIRONMENT:
        for variable in others | host:
            matches = variable.startswith(pattern[:-1]) if pattern.endswith("*") else variable == pattern
            assert not matches, f"{name} would get {variable} by {pattern}"
