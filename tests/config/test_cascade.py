"""Where values come from, which one wins, and what every wrong one is answered with."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clinvk.config.cascade import Loaded, config_file, lint, load
from clinvk.config.editing import set_value
from clinvk.config.keys import describe
from clinvk.config.problems import ConfigError, Problem, Source
from clinvk.config.settings import Config

KNOWN = ("claude", "codex", "gemini")
Load = Callable[..., Loaded]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "clinvk"
    home.mkdir()
    return home


@pytest.fixture
def loading(home: Path, tmp_path: Path) -> Load:
    """`load` with a file's text, variables and flags."""

    def call(
        text: str | None = None,
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, object] | None = None,
        path: Path | None = None,
    ) -> Loaded:
        if text is not None:
            (home / "config.yaml").write_text(text, encoding="utf-8")
        variables = {"HOME": str(tmp_path), "CLINVK_HOME": str(home), **(environ or {})}
        return load(variables, known_backends=KNOWN, flags=flags or {}, path=path)

    return call


def errors(loading: Load, *args: object, **kwargs: object) -> list[str]:
    """The problems' messages, each with the place in front."""
    with pytest.raises(ConfigError) as caught:
        loading(*args, **kwargs)
    return [str(problem) for problem in caught.value.problems]


def test_without_anything_set_every_key_has_its_default(loading: Load, home: Path) -> None:
    loaded = loading()
    assert loaded.config == Config(backends={name: loaded.config.backend("none") for name in KNOWN})
    assert loaded.path == home / "config.yaml"
    assert loaded.home == home
    assert set(map(str, loaded.sources.values())) == {"default"}
    assert loaded.warnings == ()


def test_the_defaults_are_those_of_the_contract() -> None:
    config = Config()
    assert config.limits.model_dump() == {
        "max_concurrent": 16,
        "max_per_backend": 8,
        "queue_length": 256,
        "timeout_secs": 3600,
        "stall_secs": 600,
        "max_output_bytes": 2**30,
        "kill_grace_secs": 0.6,
        "max_depth": 2,
        "budget_usd_per_day": None,
        "run_retention_days": 30,
        "run_retention_bytes": 5 * 2**30,
    }
    assert config.session.model_dump() == {"auto_resume": False, "retention_days": 0, "default_tags": ()}
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8080)
    assert config.mcp.model_dump() == {
        "transport": "stdio",
        "host": "127.0.0.1",
        "port": 8081,
        "http_path": "/mcp",
        "expose_health": False,
        "wait_secs": 90,
    }
    assert config.output.max_chars == 40_000


def test_a_value_in_the_file_wins_over_the_default_and_knows_its_line(loading: Load, home: Path) -> None:
    loaded = loading("# comment\nserver:\n  port: 9000\n")
    assert loaded.config.server.port == 9000
    assert loaded.sources["server.port"] == Source(kind="file", path=home / "config.yaml", line=3)
    assert str(loaded.sources["server.port"]) == f"{home / 'config.yaml'}:3"


def test_the_environment_wins_over_the_file_and_a_flag_over_both(loading: Load) -> None:
    text = "limits: {max_concurrent: 2, max_per_backend: 2, queue_length: 2}"
    environ = {"CLINVK_LIMITS__MAX_CONCURRENT": "3", "CLINVK_LIMITS__MAX_PER_BACKEND": "3"}
    loaded = loading(text, environ, {"limits.max_concurrent": 4, "limits.max_depth": None})
    limits = loaded.config.limits
    assert (limits.max_concurrent, limits.max_per_backend, limits.queue_length) == (4, 3, 2)
    assert limits.max_depth == 2
    assert [str(loaded.sources[f"limits.{key}"]) for key in ("max_concurrent", "max_per_backend")] == [
        "flag",
        "environment variable CLINVK_LIMITS__MAX_PER_BACKEND",
    ]


def test_every_key_of_a_backend_is_read(loading: Load) -> None:
    loaded = loading(
        """
        backends:
          claude:
            enabled: true
            model: opus
            approval_mode: auto
            sandbox_mode: read-only
            system_prompt: Be short.
            allowed_tools: [Read, "Bash(git log:*)"]
            extra_flags: [--add-dir=/srv]
            command: [node, /opt/claude.js]
            env: {A: text, B: 3}
        """
    )
    claude = loaded.config.backends["claude"]
    assert claude.model_dump() == {
        "enabled": True,
        "model": "opus",
        "approval_mode": "auto",
        "sandbox_mode": "read-only",
        "system_prompt": "Be short.",
        "allowed_tools": ("Read", "Bash(git log:*)"),
        "extra_flags": ("--add-dir=/srv",),
        "command": ("node", "/opt/claude.js"),
        "env": {"A": "text", "B": "3"},
    }
    assert "text" not in repr(claude), "the environment of a backend may hold secrets"


def test_clinvokers_ways_to_say_unset_are_understood(loading: Load) -> None:
    loaded = loading(
        """
        unified_flags: {max_turns: 0}
        backends:
          claude: {approval_mode: "", sandbox_mode: "", system_prompt: "", model: "", allowed_tools: all, command: ""}
          codex: {allowed_tools: "Read, Edit", command: /opt/codex}
          gemini: {allowed_tools: null}
        """
    )
    assert loaded.config.backends["claude"] == loaded.config.backends["gemini"]
    assert loaded.config.backends["codex"].allowed_tools == ("Read", "Edit")
    assert loaded.config.backends["codex"].command == ("/opt/codex",)
    assert loaded.config.unified_flags.max_turns is None


def test_a_path_may_start_with_the_users_home(loading: Load, tmp_path: Path) -> None:
    loaded = loading("server: {allowed_workdir_prefixes: [~/work, '~', /srv]}")
    assert loaded.config.server.allowed_workdir_prefixes == (tmp_path / "work", tmp_path, Path("/srv"))


def test_an_empty_section_changes_nothing(loading: Load) -> None:
    assert loading("server:\nbackends:\n  claude:\n").config == loading("").config


def test_the_home_is_below_the_users_home_unless_clinvk_home_says_otherwise(tmp_path: Path) -> None:
    assert load({"HOME": str(tmp_path)}, known_backends=KNOWN).home == tmp_path / ".clinvk"
    elsewhere = load({"HOME": str(tmp_path), "CLINVK_HOME": "~/else"}, known_backends=KNOWN)
    assert elsewhere.home == tmp_path / "else"


def test_the_file_is_that_of_the_flag_then_of_the_variable_then_of_the_home(loading: Load, tmp_path: Path) -> None:
    for name in ("flag", "variable"):
        (tmp_path / name).write_text(f"default_backend: {'codex' if name == 'flag' else 'gemini'}")
    variable = {"CLINVK_CONFIG": str(tmp_path / "variable")}
    text = "default_backend: claude"
    assert loading(text).config.default_backend == "claude"
    assert loading(text, variable).config.default_backend == "gemini"
    assert loading(text, variable, path=tmp_path / "flag").config.default_backend == "codex"


def test_a_file_that_was_asked_for_must_be_there(loading: Load, tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    assert errors(loading, path=missing) == [f"{missing}: there is no such file"]
    assert errors(loading, environ={"CLINVK_CONFIG": str(missing)}) == [f"{missing}: there is no such file"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("backends:\n  claude:\n    modle: x", ":3: unknown key 'backends.claude.modle'; did you mean 'model'?"),
        ("backends: {cluade: {}}", ":1: unknown backend 'backends.cluade'; did you mean 'claude'?"),
        ("default_backend: Claude", ":1: default_backend is 'Claude'; did you mean 'claude'?"),
        ("wait_secs: 3", ":1: unknown key 'wait_secs'; did you mean 'mcp.wait_secs'?"),
        ("parallel: {zzz: 3}", ":1: unknown key 'parallel.zzz'; accepted: fail_fast, max_workers"),
        (
            "output:\n  format: jsn",
            ":2: output.format is 'jsn'; did you mean 'json'? accepted: text, json, stream-json",
        ),
        (
            "unified_flags: {sandbox_mode: readonly}",
            ":1: unified_flags.sandbox_mode is 'readonly'; did you mean 'read-only'? "
            "accepted: default, read-only, workspace, full",
        ),
        ("server: {port: 65536}", ":1: server.port is 65536; must be at most 65535"),
        ("server: {port: '80'}", ":1: server.port is '80'; must be a whole number"),
        ("server: {port: true}", ":1: server.port is true; must be a whole number"),
        ("limits: {timeout_secs: 0}", ":1: limits.timeout_secs is 0; must be more than 0"),
        ("limits: {timeout_secs: .inf}", ":1: limits.timeout_secs is '.inf'; must be a number"),
        ("limits: {stall_secs: -1}", ":1: limits.stall_secs is -1; must be at least 0"),
        ("session: {auto_resume: 'maybe'}", ":1: session.auto_resume is 'maybe'; must be true or false"),
        ("session: {default_tags: a}", ":1: session.default_tags is 'a'; must be a list"),
        ("session: {default_tags: [' ']}", ":1: session.default_tags is ' '; must not be blank"),
        (
            'session: {default_tags: ["a\\nb"]}',
            ":1: session.default_tags is 'a\\nb'; must be 1 to 100 printable characters",
        ),
        (
            "backends: {claude: {model: no}}",
            ":1: backends.claude.model is false; must be text; put it in quotes if it is",
        ),
        (
            "backends: {claude: {allowed_tools: []}}",
            ":1: backends.claude.allowed_tools is []; must be 'all' or a list of tool names",
        ),
        ("backends: {claude: {command: []}}", ":1: backends.claude.command is []; must not be empty"),
        (
            "backends: {claude: {extra_flags: [prompt]}}",
            ":1: backends.claude.extra_flags is 'prompt'; must start with '-'; a value follows as --flag=value",
        ),
        (
            "backends: {claude: {env: {CLINVK_DEPTH: '0'}}}",
            ":1: the name backends.claude.env.CLINVK_DEPTH is set by clinvk itself",
        ),
        ("backends: {claude: {env: {A: true}}}", ":1: backends.claude.env.A is '***'; must be text; put it in quotes"),
        (
            "server: {trusted_proxies: [proxy]}",
            ":1: server.trusted_proxies is 'proxy'; must be an IP address or a network such as 10.0.0.0/8",
        ),
        (
            "server: {cors_allowed_origins: [x.org]}",
            ":1: server.cors_allowed_origins is 'x.org'; must be an origin such as https://example.org, or '*'",
        ),
        (
            "server: {cors_allowed_headers: ['a b']}",
            ":1: server.cors_allowed_headers is 'a b'; must be the name of an HTTP header",
        ),
        (
            "server: {blocked_workdir_prefixes: [etc]}",
            ":1: server.blocked_workdir_prefixes is 'etc'; must be an absolute path",
        ),
        ("mcp: {http_path: mcp}", ":1: mcp.http_path is 'mcp'; must match ^/[A-Za-z0-9._~/-]*$"),
        ("server: {port: [8080, [1]]}", ":1: 'server.port' takes no list inside its value"),
        ("server: {port: !secret 8080}", ":1: 'server.port' has the tag !secret, which means nothing here"),
        (
            "server: {allowed_workdir_prefixes: [1]}",
            ":1: server.allowed_workdir_prefixes is 1; must be the path of a directory",
        ),
        (
            "backends: {claude: {env: {A-B: c}}}",
            ":1: the name backends.claude.env.A-B must be the name of an environment variable",
        ),
        ("server: 8080", ":1: 'server' must be a mapping of keys to values"),
        ("- server", ":1: the file must be a mapping of keys to values"),
        ("? [a]\n: b", ":1: a key must be text"),
        ("server: {port: 1}\nserver: {port: 2}", ":2: key 'server' appears twice; first on line 1"),
        (
            "backends:\n  codex: {enabled: false}\ndefault_backend: codex",
            ":3: default_backend is 'codex', which backends.codex.enabled switches off",
        ),
        (
            "server: {cors_allowed_origins: ['*'], cors_allow_credentials: true}",
            ":1: server.cors_allowed_origins is '*' while server.cors_allow_credentials is true; name the origins",
        ),
    ],
)
def test_a_wrong_file_is_answered_with_line_key_value_and_what_is_accepted(
    loading: Load, home: Path, text: str, message: str
) -> None:
    assert errors(loading, text) == [f"{home / 'config.yaml'}{message}"]


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: ]", 1), ("server:\n\tport: 1", 2), ("a: b\nc: 'open", 2), ("a: *nowhere", 1), ("--- a\n--- b", 2)],
)
def test_text_that_is_not_yaml_is_answered_with_its_line(loading: Load, home: Path, text: str, line: int) -> None:
    (message,) = errors(loading, text)
    assert message.startswith(f"{home / 'config.yaml'}:{line}: is not valid YAML: ")


def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_the_file(loading: Load, home: Path) -> None:
    said = errors(
        loading,
        "default_backend: zzz\nsever: 1\nmcp: {port: a}\n",
        {"CLINVK_MCP__PROT": "1", "CLINVK_LIMITS__MAX_DEPTH": "deep"},
        {"output.formt": "json"},
    )
    file = home / "config.yaml"
    assert said == [
        f"{file}:1: default_backend is 'zzz'; accepted: claude, codex, gemini",
        f"{file}:2: unknown key 'sever'; did you mean 'server'?",
        f"{file}:3: mcp.port is 'a'; must be a whole number",
        "environment variable CLINVK_MCP__PROT: names no configuration key; did you mean CLINVK_MCP__PORT?",
        "environment variable CLINVK_LIMITS__MAX_DEPTH: limits.max_depth is 'deep'; must be a whole number",
        "flag: unknown key 'output.formt'; did you mean 'format'?",
    ]


def test_the_error_carries_code_and_fields_for_the_doors(loading: Load) -> None:
    with pytest.raises(ConfigError) as caught:
        loading("a: 1\nb: 2")
    failure = caught.value.failure
    assert failure.code == "invalid_request"
    assert failure.message.startswith("2 problems:\n")
    assert [entry["key"] for entry in failure.details["problems"]] == ["a", "b"]


def test_a_wrong_value_is_an_error_even_where_a_flag_wins_over_it(loading: Load) -> None:
    assert len(errors(loading, "output: {format: x}", flags={"output.format": "json"})) == 1


def test_a_file_that_cannot_be_read_as_text_is_an_error(loading: Load, home: Path) -> None:
    (home / "config.yaml").write_bytes(b"a: 1\nb: \xff\n")
    assert errors(loading) == [f"{home / 'config.yaml'}:2: is not valid UTF-8"]
    (home / "config.yaml").write_bytes(b" " * (1024 * 1024 + 1))
    assert errors(loading) == [f"{home / 'config.yaml'}: is larger than 1048576 bytes"]
    (home / "config.yaml").unlink()
    (home / "config.yaml").mkdir()
    assert errors(loading) == [f"{home / 'config.yaml'}: cannot be read: Is a directory"]


@pytest.mark.parametrize("below", [".", "deep/er"])
def test_a_home_that_is_no_folder_is_named_with_what_helps(tmp_path: Path, below: str) -> None:
    there = tmp_path / "file"
    there.touch()
    environ = {"HOME": str(tmp_path), "CLINVK_HOME": str(there / below)}
    known = ("claude",)
    with pytest.raises(ConfigError) as unread:
        load(environ, known_backends=known)
    with pytest.raises(ConfigError) as unchanged:
        set_value(config_file(environ), "limits.max_depth", "1", known_backends=known, environ=environ)
    for caught in (unread, unchanged):
        assert caught.value.failure.message.endswith(f": {there} is not a folder")
        assert caught.value.failure.hint == "move it away, or set CLINVK_HOME to a folder that can be written to"


def test_a_file_that_was_named_and_cannot_be_read_is_replaced_by_naming_another(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, fix in (
        ("none.yaml", "make it"),
        ("file/c.yaml", "move it away"),
        (".", f"move the folder {tmp_path} away"),
    ):
        with pytest.raises(ConfigError) as caught:
            load({"HOME": str(tmp_path)}, known_backends=("claude",), path=tmp_path / name)
        assert caught.value.failure.hint == f"{fix}, or name another file with CLINVK_CONFIG or --config"


def test_a_device_without_an_end_is_not_read_for_ever(tmp_path: Path) -> None:
    found = lint(Path("/dev/zero"), known_backends=("claude",), environ={"HOME": str(tmp_path)})
    assert [str(problem) for problem in found] == ["/dev/zero: is larger than 1048576 bytes"]


def test_a_byte_order_mark_is_no_part_of_the_first_key(loading: Load, home: Path) -> None:
    (home / "config.yaml").write_bytes(b"\xef\xbb\xbfdefault_backend: codex\n")
    assert loading().config.default_backend == "codex"


@pytest.mark.parametrize("text", ["[" * 100_000, "a: " + "{a: " * 50_000, "- " * 50_000, "&a [*a]"])
def test_deep_nesting_is_an_error_and_does_not_end_the_process(loading: Load, text: str) -> None:
    assert len(errors(loading, text)) == 1


def test_lint_names_what_has_no_effect_besides_what_is_wrong(home: Path) -> None:
    path = home / "other.yaml"
    path.write_text("server:\n  prot: 1\nsession:\n  store_token_usage: true\ndefault_backend: codex\n")
    found = lint(path, known_backends=KNOWN, environ={})
    assert [(problem.severity, str(problem)) for problem in found] == [
        ("error", f"{path}:2: unknown key 'server.prot'; did you mean 'port'?"),
        ("warning", f"{path}:4: 'session.store_token_usage' has no effect; token usage is always stored"),
    ]
    assert [str(problem) for problem in lint(home / "no", known_backends=KNOWN, environ={})] == [
        f"{home / 'no'}: there is no such file"
    ]


def test_every_key_has_a_meaning_for_the_reference() -> None:
    rows = describe(KNOWN)
    assert all(meaning.endswith(".") for _, _, meaning in rows)
    assert len(rows) == len({key for key, _, _ in rows}) > 60


def test_without_a_file_yaml_is_not_imported(home: Path) -> None:
    script = (
        "import sys\nfrom clinvk.config.cascade import load\n"
        f"load({{'CLINVK_HOME': {str(home)!r}}}, known_backends=('claude',))\nassert 'yaml' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


_words = st.sampled_from(
    [*Config.model_fields, "claude", "port", "env", "model", "format", "json", "true", "&a", "*a", "<<", "!!int", "0x"]
)
_marks = st.sampled_from([*"\n:{}[],-?|>'\"#&*!%@ \t", ": ", "\n  ", "\n    ", "- ", "---\n", "...\n"])


@given(text=st.one_of(st.text(), st.lists(st.one_of(_words, _marks, st.text(max_size=3))).map("".join)))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_raises_anything_but_a_config_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    problems: tuple[Problem, ...] = ()
    try:
        problems = load({"HOME": str(tmp_path)}, known_backends=KNOWN, path=path).warnings
    except ConfigError as error:
        problems = error.problems
    assert {problem.source.path for problem in problems} <= {path}


@given(data=st.binary(max_size=200))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_make_lint_raise(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.yaml"
    path.write_bytes(data)
    lint(path, known_backends=KNOWN, environ={"HOME": str(tmp_path)})
