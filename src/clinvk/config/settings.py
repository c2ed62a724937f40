"""Every key of the configuration, its type, default and meaning; `description` is the reference that users read.

A key stands here only if some part of clinvk honours it. Unknown keys and values of the wrong type are errors.
"""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from clinvk.request import ApprovalMode, SandboxMode, Text, usable_tag

MIB = 1024 * 1024
GIB = 1024 * MIB

_ENV_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_OWN_NAMES = ("CLINVK_DEPTH", "CLINVK_CHAIN_ID")  # the recursion guard; a child must not be given another
_TOOL_LIST = re.compile(r"^[\w*:.-]+(\s*,\s*[\w*:.-]+)*$")
_ORIGIN = re.compile(r"^[a-z][a-z0-9+.-]*://[^/\s]+$")
_HEADER = re.compile(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")


def _unset_if(*nothings: object) -> BeforeValidator:
    """Values by which clinvoker's files say "not set"."""

    def convert(value: object) -> object:
        return None if not isinstance(value, bool) and value in nothings else value

    return BeforeValidator(convert)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _flag(text: str) -> str:
    if not text.startswith("-"):
        raise ValueError("must start with '-'; a value follows as --flag=value")
    return text


def _tools(value: object) -> object:
    if value == "all":
        return None
    if isinstance(value, str) and _TOOL_LIST.match(value):
        return [name.strip() for name in value.split(",")]
    if isinstance(value, list | tuple) and value:
        return cast("object", value)
    if value is None:
        return None
    raise ValueError("must be 'all' or a list of tool names")


def _program(value: object) -> object:
    if isinstance(value, str) and not value.startswith("["):
        return (value,) if value else None
    return value


def _env_name(name: str) -> str:
    if not _ENV_NAME.match(name):
        raise ValueError("must be the name of an environment variable")
    if name in _OWN_NAMES:
        raise ValueError("is set by clinvk itself")
    return name


def _env_value(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError("must be text; put it in quotes")
    return value


def _directory(value: object, info: ValidationInfo) -> object:
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("must be the path of a directory")
    context: dict[str, object] = info.context or {}
    if value == "~" or value.startswith("~/"):
        value = str(context.get("user_home") or Path.home()) + value[1:]
    if not Path(value).is_absolute():
        raise ValueError("must be an absolute path")
    return Path(value)


def _network(text: str) -> str:
    try:
        ip_network(text, strict=False)
    except ValueError:
        raise ValueError("must be an IP address or a network such as 10.0.0.0/8") from None
    return text


def _origin(text: str) -> str:
    if text != "*" and not _ORIGIN.match(text):
        raise ValueError("must be an origin such as https://example.org, or '*'")
    return text


def _header(text: str) -> str:
    if not _HEADER.match(text):
        raise ValueError("must be the name of an HTTP header")
    return text


Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Bytes = Annotated[int, Field(strict=True, ge=1, le=2**50)]
Days = Annotated[int, Field(strict=True, ge=0, le=36_500)]
Port = Annotated[int, Field(strict=True, ge=0, le=65_535)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=7 * 86_400, allow_inf_nan=False)]
Name = Annotated[Text, AfterValidator(_not_blank)]
OptionalText = Annotated[Text | None, _unset_if("")]
Directory = Annotated[Path, BeforeValidator(_directory)]
EnvName = Annotated[str, AfterValidator(_env_name)]
EnvValue = Annotated[Text, BeforeValidator(_env_value)]


class _Section(BaseModel):
    # as in clinvk.request; in most sections nothing is set
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)


class UnifiedFlags(_Section):
    """What every backend is asked for when neither the call nor the backend's own section says otherwise."""

    approval_mode: ApprovalMode = Field(default="default", description="Approval when a call names none.")
    sandbox_mode: SandboxMode = Field(default="default", description="Sandbox when a call names none.")
    max_turns: Annotated[Annotated[int, Field(strict=True, ge=1, le=10_000)] | None, _unset_if(0)] = Field(
        default=None, description="Most turns of an agent in one run; 0 leaves it to the backend."
    )
    ephemeral: Flag = Field(default=False, description="Keep no session unless a call continues one.")


class BackendConfig(_Section):
    """One backend's own settings; they win over `unified_flags`."""

    enabled: Flag = Field(default=True, description="false hides the backend; a call that names it is refused.")
    model: OptionalText = Field(default=None, description="Model when a call names none.")
    approval_mode: Annotated[ApprovalMode | None, _unset_if("")] = Field(
        default=None, description="Approval of this backend when a call names none."
    )
    sandbox_mode: Annotated[SandboxMode | None, _unset_if("")] = Field(
        default=None, description="Sandbox of this backend when a call names none."
    )
    system_prompt: OptionalText = Field(default=None, description="System prompt when a call gives none.")
    allowed_tools: Annotated[tuple[Name, ...] | None, BeforeValidator(_tools)] = Field(
        default=None, description="Tools that are approved without asking; 'all' leaves it to the backend's own rules."
    )
    extra_flags: tuple[Annotated[Name, AfterValidator(_flag)], ...] = Field(
        default=(), description="Flags added to every run, of those that the backend allows; values as --flag=value."
    )
    command: Annotated[Annotated[tuple[Name, ...], Field(min_length=1)] | None, BeforeValidator(_program)] = Field(
        default=None, description="Program (or list: program and leading arguments) instead of the one found."
    )
    env: dict[EnvName, EnvValue] = Field(
        default_factory=dict[str, str],
        repr=False,
        description="Environment variables added for this backend's processes.",
    )


class SessionConfig(_Section):
    """How sessions are kept."""

    auto_resume: Flag = Field(
        default=False, description="On the command line, continue the newest session of this directory and backend."
    )
    retention_days: Days = Field(
        default=0, description="Sessions not used for this many days are removed; 0 keeps them for ever."
    )
    default_tags: tuple[Annotated[Name, AfterValidator(usable_tag)], ...] = Field(
        default=(), description="Tags that every new session gets."
    )


class OutputConfig(_Section):
    """How answers are given."""

    format: Literal["text", "json", "stream-json"] = Field(
        default="text", description="Output format of the command line."
    )
    max_chars: Annotated[int, Field(strict=True, ge=1_000, le=10_000_000)] = Field(
        default=40_000, description="Answers to callers are cut at this many characters; the full text is kept."
    )
    color: Flag = Field(default=True, description="Colour on a terminal; NO_COLOR switches it off as well.")
    show_tokens: Flag = Field(default=False, description="Text output ends with the tokens used.")
    show_timing: Flag = Field(default=False, description="Text output ends with the time taken.")


class ServerConfig(_Section):
    """The HTTP gateway, and where runs may work."""

    host: Name = Field(default="127.0.0.1", description="Address to listen on; others than loopback need API keys.")
    port: Port = Field(default=8080, description="Port to listen on; 0 takes a free one.")
    request_timeout_secs: Seconds = Field(
        default=600.0, description="Longest time that an HTTP call waits for its run; then 504 with what there is."
    )
    max_request_body_bytes: Bytes = Field(default=10 * MIB, description="Larger request bodies are refused.")
    rate_limit_enabled: Flag = Field(default=False, description="Limit requests per client.")
    rate_limit_rps: Annotated[float, Field(strict=True, gt=0, le=1e6, allow_inf_nan=False)] = Field(
        default=10.0, description="Requests per second that a client may make over time."
    )
    rate_limit_burst: Count = Field(default=20, description="Requests that a client may make at once.")
    rate_limit_cleanup_secs: Seconds = Field(
        default=180.0, description="A client not seen for this long, or burst / rps seconds, is forgotten."
    )
    trusted_proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
        default=(), description="Proxies whose X-Forwarded-For is believed: addresses or networks."
    )
    cors_allowed_origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = Field(
        default=(), description="Origins that browsers may call from; none by default."
    )
    cors_allowed_headers: tuple[Annotated[str, AfterValidator(_header)], ...] = Field(
        default=(), description="Request headers allowed to browsers beyond those of the API itself."
    )
    cors_allow_credentials: Flag = Field(default=False, description="Browsers may send credentials.")
    cors_max_age: Annotated[int, Field(strict=True, ge=0, le=86_400)] = Field(
        default=300, description="Seconds for which a browser may remember a preflight answer."
    )
    allowed_workdir_prefixes: tuple[Directory, ...] = Field(
        default=(), description="If not empty, runs work only in these directories and below."
    )
    blocked_workdir_prefixes: tuple[Directory, ...] = Field(
        default=(), description="Runs never work in these directories or below; wins over allowed ones."
    )
    metrics_enabled: Flag = Field(default=False, description="Serve /metrics.")
    audit_prompts: Flag = Field(default=False, description="The audit log holds prompts as well.")
    model_aliases: dict[Name, Name] = Field(
        default_factory=dict[str, str],
        description="Model names of the OpenAI- and Anthropic-compatible APIs, each for a backend or backend/model.",
    )


class ParallelConfig(_Section):
    """Defaults of parallel runs."""

    max_workers: Annotated[int, Field(strict=True, ge=1, le=500)] = Field(
        default=8, description="Tasks of one parallel call that run at once, unless the call says max_parallel."
    )
    fail_fast: Flag = Field(
        default=False, description="Cancel the other tasks when one fails, unless the call says otherwise."
    )


class McpConfig(_Section):
    """The MCP server."""

    transport: Literal["stdio", "http"] = Field(default="stdio", description="How MCP clients reach it.")
    host: Name = Field(default="127.0.0.1", description="Address of the http transport; others need API keys.")
    port: Port = Field(default=8081, description="Port of the http transport; 0 takes a free one.")
    http_path: Annotated[str, Field(pattern=r"^/[A-Za-z0-9._~/-]*$")] = Field(
        default="/mcp", description="Path of the http transport."
    )
    expose_health: Flag = Field(default=False, description="Serve /health beside the http transport.")
    wait_secs: Annotated[float, Field(strict=True, ge=0, le=86_400, allow_inf_nan=False)] = Field(
        default=90.0, description="Longest wait of a call; then it answers 'running' with the run's id."
    )


class LimitsConfig(_Section):
    """Bounds on every run, whichever door it came through."""

    max_concurrent: Annotated[int, Field(strict=True, ge=1, le=1_000)] = Field(default=16, description="Runs at once.")
    max_per_backend: Annotated[int, Field(strict=True, ge=1, le=1_000)] = Field(
        default=8, description="Runs of one backend at once."
    )
    queue_length: Annotated[int, Field(strict=True, ge=0, le=100_000)] = Field(
        default=256, description="Runs that may wait for their turn; more are refused as overloaded."
    )
    timeout_secs: Annotated[Seconds, Field(le=86_400)] = Field(
        default=3600.0, description="Deadline of a run when a call names none."
    )
    stall_secs: Annotated[float, Field(strict=True, ge=0, le=86_400, allow_inf_nan=False)] = Field(
        default=600.0, description="A run that prints nothing for this long is stopped as stalled; 0 never."
    )
    max_output_bytes: Bytes = Field(default=GIB, description="A run that prints more is stopped.")
    kill_grace_secs: Annotated[float, Field(strict=True, ge=0, le=30, allow_inf_nan=False)] = Field(
        default=0.6, description="Time between asking a process to end and killing it."
    )
    max_depth: Annotated[int, Field(strict=True, ge=0, le=16)] = Field(
        default=2, description="Agents that call clinvk that call agents: how deep; 0 refuses every nested call."
    )
    budget_usd_per_day: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="Reported cost per day (UTC) after which runs are refused; null for no budget."
    )
    run_retention_days: Days = Field(
        default=30, description="Records of finished, read runs older than this are removed; 0 keeps them for ever."
    )
    run_retention_bytes: Annotated[int, Field(strict=True, ge=0, le=2**50)] = Field(
        default=5 * GIB, description="When run records weigh more, the oldest read ones are removed; 0 for no bound."
    )


class TopLevel(_Section):
    """The keys that stand in no section."""

    default_backend: OptionalText = Field(
        default=None, description="Backend when a call names none; else the first that is installed and enabled."
    )


class Config(TopLevel):
    """The whole configuration; every field has a default."""

    unified_flags: UnifiedFlags = Field(default_factory=UnifiedFlags)
    backends: dict[str, BackendConfig] = Field(default_factory=dict[str, BackendConfig])
    session: SessionConfig = Field(default_factory=SessionConfig)
    output: OutputConfig = Field(default_factory=OutputConfig)
    server: ServerConfig = Field(default_factory=ServerConfig)
    parallel: ParallelConfig = Field(default_factory=ParallelConfig)
    mcp: McpConfig = Field(default_factory=McpConfig)
    limits: LimitsConfig = Field(default_factory=LimitsConfig)

    def backend(self, name: str) -> BackendConfig:
        """The section of a backend, its defaults where there is none."""
        return self.backends.get(name) or BackendConfig()
