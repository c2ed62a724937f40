"""Variables: short names, long names, and names that mean nothing."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from clinvk.config.cascade import Loaded, load
from clinvk.config.problems import ConfigError, Problem

KNOWN = ("claude", "codex", "two-words")


def loaded(**environ: str) -> Loaded:
    return load({"HOME": "/nonexistent", **environ}, known_backends=KNOWN)


def errors(**environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(**environ)
    return [str(problem) for problem in caught.value.problems]


def test_the_short_names_set_the_backend_and_each_backends_model() -> None:
    config = loaded(CLINVK_BACKEND="codex", CLINVK_CLAUDE_MODEL="opus", CLINVK_TWO_WORDS_MODEL="m").config
    assert config.default_backend == "codex"
    assert config.backends["claude"].model == "opus"
    assert config.backends["two-words"].model == "m"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("CLINVK_DEFAULT_BACKEND", "codex", "codex"),
        ("CLINVK_BACKENDS__CLAUDE__MODEL", "no", "no"),
        ("CLINVK_BACKENDS__CLAUDE__MODEL", "4", "4"),
        ("CLINVK_BACKENDS__CLAUDE__SYSTEM_PROMPT", "fix: issue #3", "fix: issue #3"),
        ("CLINVK_BACKENDS__CLAUDE__ENABLED", "false", False),
        ("CLINVK_BACKENDS__CLAUDE__ENV", "{A: b, C: 'd, e'}", {"A": "b", "C": "d, e"}),
        ("CLINVK_BACKENDS__TWO_WORDS__EXTRA_FLAGS", "--a", ("--a",)),
        ("CLINVK_BACKENDS__CLAUDE__ALLOWED_TOOLS", "[Read, 'Bash(a, b)']", ("Read", "Bash(a, b)")),
        ("CLINVK_LIMITS__KILL_GRACE_SECS", "2", 2.0),
        ("CLINVK_LIMITS__BUDGET_USD_PER_DAY", "2.5", 2.5),
        ("CLINVK_SERVER__ALLOWED_WORKDIR_PREFIXES", "/a, /b", (Path("/a"), Path("/b"))),
        ("CLINVK_SERVER__CORS_ALLOWED_ORIGINS", "*", ("*",)),
    ],
)
def test_a_variable_is_read_as_what_its_key_takes(name: str, text: str, value: object) -> None:
    result = loaded(**{name: text})
    (key,) = [key for key, source in result.sources.items() if source.name == name]
    *section, last = key.split(".")
    model: BaseModel = result.config
    if section:
        model = result.config.backend(section[1]) if len(section) == 2 else getattr(model, section[0])
    assert getattr(model, last) == value


def test_an_empty_variable_is_not_set() -> None:
    assert loaded(CLINVK_BACKEND="", CLINVK_OUTPUT__FORMAT="") == loaded()


def test_variables_of_other_parts_are_left_alone() -> None:
    names = ("CLINVK_API_KEYS", "CLINVK_DEPTH", "CLINVK_CHAIN_ID", "CLINVK_OFFLINE_CLAUDE", "CLINVK_TEST_X__Y")
    assert loaded(**dict.fromkeys(names, "1")).warnings == ()


def test_a_long_name_without_a_key_is_an_error_that_names_the_nearest() -> None:
    assert errors(CLINVK_SERVER__PROT="1") == [
        "environment variable CLINVK_SERVER__PROT: names no configuration key; did you mean CLINVK_SERVER__PORT?"
    ]


def test_a_short_name_that_means_nothing_is_a_warning() -> None:
    assert [str(problem) for problem in loaded(CLINVK_BAKEND="codex").warnings] == [
        "environment variable CLINVK_BAKEND: means nothing to clinvk; did you mean CLINVK_BACKEND?"
    ]


def test_keys_expected_from_a_password_store_are_an_error_and_not_an_open_server() -> None:
    assert errors(CLINVK_API_KEYS_GOPASS_PATH="x") == [
        "environment variable CLINVK_API_KEYS_GOPASS_PATH: is not supported; put the keys into CLINVK_API_KEYS"
    ]


def test_the_short_and_the_long_name_must_not_contradict_each_other() -> None:
    agreeing = loaded(CLINVK_CLAUDE_MODEL="opus", CLINVK_BACKENDS__CLAUDE__MODEL="opus")
    assert agreeing.config.backends["claude"].model == "opus"
    assert errors(CLINVK_CLAUDE_MODEL="opus", CLINVK_BACKENDS__CLAUDE__MODEL="sonnet") == [
        "environment variable CLINVK_BACKENDS__CLAUDE__MODEL: says something else than "
        "environment variable CLINVK_CLAUDE_MODEL; set only one of them"
    ]


def test_a_number_out_of_bounds_is_told_as_such() -> None:
    (message,) = errors(CLINVK_LIMITS__MAX_DEPTH="99")
    assert message.endswith("limits.max_depth is 99; must be at most 16")


def test_a_secret_in_a_variable_is_not_repeated_in_the_message() -> None:
    (message,) = errors(CLINVK_BACKENDS__CLAUDE__ENV="{API_KEY: [s3cret]}")
    assert "s3cret" not in message
    (message,) = errors(CLINVK_BACKENDS__CLAUDE__ENV="s3cret")
    assert "s3cret" not in message


@given(text=st.text())
@settings(max_examples=100, deadline=None)
def test_no_value_of_a_variable_raises_anything_but_a_config_error(text: str) -> None:
    for name in (
        "CLINVK_BACKEND",
        "CLINVK_SERVER__PORT",
        "CLINVK_BACKENDS__CLAUDE__ENV",
        "CLINVK_SESSION__DEFAULT_TAGS",
    ):
        problems: tuple[Problem, ...] = ()
        try:
            problems = loaded(**{name: text}).warnings
        except ConfigError as error:
            problems = error.problems
        assert {problem.source.name for problem in problems} <= {name}
