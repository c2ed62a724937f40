"""A config.yaml that was written for clinvoker."""

from pathlib import Path

import pytest

from clinvk.config.cascade import load
from clinvk.config.problems import ConfigError
from clinvk.config.relics import RELICS

KNOWN = ("claude", "codex", "gemini")

WHOLE = """
default_backend: codex
unified_flags: {approval_mode: auto, sandbox_mode: workspace, verbose: false, dry_run: false, max_turns: 0,
  max_tokens: 0, command_timeout_secs: 0, output_format: default}
backends:
  claude: {model: opus, allowed_tools: all, approval_mode: "", sandbox_mode: "", enabled: true, system_prompt: "",
    extra_flags: []}
  gemini: {model: pro, enabled: true, extra_flags: []}
session: {auto_resume: true, retention_days: 30, store_token_usage: true, default_tags: []}
output: {format: json, show_tokens: false, show_timing: false, color: true}
parallel: {max_workers: 3, fail_fast: false, aggregate_output: true}
server: {host: "127.0.0.1", port: 8080, request_timeout_secs: 300, read_timeout_secs: 30, write_timeout_secs: 300,
  idle_timeout_secs: 120, api_keys_gopass_path: "", rate_limit_enabled: false, rate_limit_rps: 10, rate_limit_burst: 20,
  rate_limit_cleanup_secs: 180, trusted_proxies: [], max_request_body_bytes: 10485760, cors_allowed_origins: [],
  cors_allow_credentials: false, cors_max_age: 300, allowed_workdir_prefixes: [], blocked_workdir_prefixes: [],
  metrics_enabled: false}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_with_all_of_clinvokers_keys_loads_and_says_which_have_no_effect(tmp_path: Path) -> None:
    loaded = load({}, known_backends=KNOWN, path=write(tmp_path, WHOLE))
    assert loaded.config.default_backend == "codex"
    assert loaded.config.session.retention_days == 30
    assert loaded.config.limits.timeout_secs == 3600
    assert {problem.key for problem in loaded.warnings} == set(RELICS)


def test_a_renamed_key_still_works_and_says_its_new_name(tmp_path: Path) -> None:
    path = write(tmp_path, "unified_flags: {command_timeout_secs: 60, output_format: json}")
    loaded = load({}, known_backends=KNOWN, path=path)
    assert loaded.config.limits.timeout_secs == 60
    assert loaded.config.output.format == "json"
    assert [problem.message for problem in loaded.warnings] == [
        "'unified_flags.command_timeout_secs' is now called 'limits.timeout_secs'",
        "'unified_flags.output_format' is now called 'output.format'",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "server: {api_keys_gopass_path: a/b}",
            "'server.api_keys_gopass_path' is not supported; "
            "put the keys into the environment variable CLINVK_API_KEYS",
        ),
        (
            "unified_flags: {max_tokens: 5}",
            "'unified_flags.max_tokens' is not supported; no agent CLI can be held to a number of tokens",
        ),
        (
            "unified_flags: {verbose: 0}",
            "'unified_flags.verbose' is not supported; there is no verbose mode; progress goes to stderr",
        ),
        (
            "unified_flags: {output_format: jsn}",
            "output.format is 'jsn'; did you mean 'json'? accepted: text, json, stream-json",
        ),
    ],
)
def test_a_value_that_would_be_ignored_is_an_error_with_the_remedy(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({}, known_backends=KNOWN, path=write(tmp_path, text))
    assert [problem.message for problem in caught.value.problems] == [message]
