"""What a caller may ask for: one model per operation, from which MCP schemas, OpenAPI and task files derive.

Unknown fields are errors. Durations are seconds. Paths may start with `~`.
"""

import json
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

ApprovalMode = Literal["default", "auto", "none", "always"]
SandboxMode = Literal["default", "read-only", "workspace", "full"]
APPROVAL_MODES: tuple[ApprovalMode, ...] = get_args(ApprovalMode)
SANDBOX_MODES: tuple[SandboxMode, ...] = get_args(SandboxMode)

MAX_PROMPT_CHARS = 16 * 1024 * 1024  # a sanity bound; each CLI has a lower one of its own and says so


def _deliverable(text: str) -> str:
    """Reject what no CLI can be given as text: NUL and lone surrogates (invalid UTF-8)."""
    if "\0" in text:
        raise ValueError("must not contain NUL characters")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"is not valid Unicode text at character {error.start}") from None
    return text


def _not_blank(text: str) -> str:
    if not text.strip().strip("\ufeff"):  # a byte order mark alone is white space to the CLIs
        raise ValueError("must not be blank")
    return text


def _writable(value: dict[str, Any]) -> dict[str, Any]:
    """Reject what Python reads but no JSON file can hold: NaN, infinity, lone surrogates, bottomless nesting."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode text throughout") from None
    except ValueError:
        raise ValueError("must hold finite numbers only") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    return value


Text = Annotated[str, AfterValidator(_deliverable)]
Word = Annotated[Text, Field(min_length=1)]  # an id, a name, a path, a filter: an empty one would count as left out
Prompt = Annotated[Text, AfterValidator(_not_blank), Field(min_length=1, max_length=MAX_PROMPT_CHARS)]

Object = Annotated[dict[str, Any], AfterValidator(_writable)]
Offset = Annotated[int, Field(ge=0, le=10**12)]


class _Request(BaseModel):
    # built when it is first used: a command that needs one of them must not pay for all
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False, defer_build=True)


class PromptOptions(_Request):
    """The fields that a prompt, a parallel task and a chain step share."""

    prompt: Prompt
    backend: Word | None = None
    model: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    workdir: Word | None = None
    session_id: Word | None = None
    approval_mode: ApprovalMode | None = None
    sandbox_mode: SandboxMode | None = None
    system_prompt: Text | None = None
    max_turns: Annotated[int, Field(ge=1, le=10_000)] | None = None
    timeout_secs: Annotated[float, Field(gt=0, le=86_400)] | None = None
    ephemeral: bool = False
    files: list[Word] = Field(default_factory=list)
    output_schema: Object | None = None
    extra: list[Word] = Field(default_factory=list)
    tags: list[Word] = Field(default_factory=list)
    metadata: Object = Field(default_factory=dict)
    dry_run: bool = False


WaitSecs = Annotated[float, Field(ge=0, le=86_400)]


class PromptRequest(PromptOptions):
    """One prompt on one backend."""

    wait_secs: WaitSecs | None = None
    fresh: bool = False


class ParallelTask(PromptOptions):
    """One task of a parallel run."""

    id: Text | None = None
    name: Text | None = None


class ParallelRequest(_Request):
    """Several prompts at once; results come in task order."""

    tasks: Annotated[list[ParallelTask], Field(min_length=1, max_length=500)]
    max_parallel: Annotated[int, Field(ge=1, le=500)] | None = None
    fail_fast: bool | None = None
    wait_secs: WaitSecs | None = None
    fresh: bool = False


class ChainStep(PromptOptions):
    """One step of a chain; its prompt may use `{{previous}}` and `{{steps.NAME}}`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None


class ChainRequest(_Request):
    """Prompts one after another, each fed from the ones before."""

    steps: Annotated[list[ChainStep], Field(min_length=1, max_length=100)]
    stop_on_failure: bool = True
    pass_working_dir: bool = False
    wait_secs: WaitSecs | None = None
    fresh: bool = False


class CompareRequest(_Request):
    """The same prompt on several backends, ranked, and judged if asked."""

    prompt: Prompt
    backends: list[Word] | None = None
    models: dict[str, Word] = Field(default_factory=dict)
    sequential: bool = False
    judge: Word | None = None
    workdir: Word | None = None
    timeout_secs: Annotated[float, Field(gt=0, le=86_400)] | None = None
    dry_run: bool = False
    wait_secs: WaitSecs | None = None
    fresh: bool = False


class SessionsRequest(_Request):
    """Read sessions: a page of the list, a search, or one with a page of its turns."""

    action: Literal["list", "search", "show"]
    session_id: Word | None = None
    query: Word | None = None
    backend: Word | None = None
    workdir: Word | None = None
    tag: Word | None = None
    status: Word | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 20
    offset: Offset = 0


class SessionEditRequest(_Request):
    """Change one session's head, or make or remove one."""

    action: Literal["fork", "tag", "untag", "rename", "delete"]
    session_id: Word
    tags: list[Word] = Field(default_factory=list)
    title: Annotated[Text, Field(max_length=500)] | None = None


class RunsRequest(_Request):
    """Read runs: list, one's result, wait for it, or a page of its full output."""

    action: Literal["list", "status", "wait", "output"]
    run_id: Word | None = None
    wait_secs: WaitSecs | None = None
    query: Word | None = None
    backend: Word | None = None
    workdir: Word | None = None
    status: Word | None = None
    limit: Annotated[int, Field(ge=1, le=200_000)] | None = None
    offset: Offset = 0


class CancelRequest(_Request):
    """Stop a run and everything it started."""

    run_id: Word
