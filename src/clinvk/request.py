"""What a caller may ask for: one model per operation, from which MCP schemas, OpenAPI and task files derive.

Unknown fields are errors. Durations are seconds. Paths may start with `~`.
"""

import json
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

ApprovalMode = Literal["default", "auto", "none", "always"]
SandboxMode = Literal["default", "read-only", "workspace", "full"]
APPROVAL_MODES: tuple[ApprovalMode, ...] = get_args(ApprovalMode)
SANDBOX_MODES: tuple[SandboxMode, ...] = get_args(SandboxMode)

TAG_CHARS = 100
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


def usable_tag(text: str) -> str:
    """The tag without white space around it. Raises ValueError for what could not be shown, or typed again."""
    tag = text.strip()
    if not tag or len(tag) > TAG_CHARS or not tag.isprintable():
        raise ValueError(f"must be 1 to {TAG_CHARS} printable characters")
    return tag


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


def _no_flag(value: object) -> object:
    """Reject true and false, which Python takes for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(f"is {str(value).lower()}; it must be a number")
    return value


def _no_number(value: object) -> object:
    """Reject 1 and 0, which pydantic takes for true and false."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"is {value}; it must be true or false")
    return value


NUMBER = BeforeValidator(_no_flag)  # stands last: bounds that follow it would not be seen in a JSON Schema
Flag = Annotated[bool, BeforeValidator(_no_number)]
Text = Annotated[str, AfterValidator(_deliverable)]
Word = Annotated[Text, Field(min_length=1)]  # an id, a name, a path, a filter: an empty one would count as left out
Tag = Annotated[Word, AfterValidator(usable_tag)]
Prompt = Annotated[Text, AfterValidator(_not_blank), Field(min_length=1, max_length=MAX_PROMPT_CHARS)]

Object = Annotated[dict[str, Any], AfterValidator(_writable)]
Offset = Annotated[int, Field(ge=0, le=10**12), NUMBER]


class _Request(BaseModel):
    # built when it is first used: a command that needs one of them must not pay for all
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False, defer_build=True)


class PromptOptions(_Request):
    """The fields that a prompt, a parallel task and a chain step share."""

    prompt: Prompt = Field(description="What the agent is asked.")
    backend: Word | None = Field(
        default=None, description="The agent CLI; without it the configured one, or the first that is installed."
    )
    model: Annotated[Text, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="A model of the backend; without it the configured one, or the backend's own."
    )
    workdir: Word | None = Field(
        default=None,
        description="Directory that the agent works in; without it the one that the server was started in.",
    )
    session_id: Word | None = Field(
        default=None, description="Continues this conversation; on another backend its transcript is handed over."
    )
    approval_mode: ApprovalMode | None = Field(
        default=None,
        description="`auto` approves what the sandbox permits, `none` refuses what would ask, `always` asks a person.",
    )
    sandbox_mode: SandboxMode | None = Field(
        default=None, description="`read-only` changes nothing, `workspace` only in `workdir`, `full` has no limits."
    )
    system_prompt: Text | None = Field(default=None, description="Instructions beside the prompt.")
    max_turns: Annotated[int, Field(ge=1, le=10_000), NUMBER] | None = Field(
        default=None, description="Most turns of the agent."
    )
    timeout_secs: Annotated[float, Field(gt=0, le=86_400), NUMBER] | None = Field(
        default=None, description="Deadline of the run."
    )
    ephemeral: Flag = Field(default=False, description="Keeps no session.")
    files: list[Word] = Field(default_factory=list, description="Paths of files to show the agent.")
    output_schema: Object | None = Field(
        default=None, description="JSON Schema that the answer must fit; it is then in `structured_output`."
    )
    extra: list[Word] = Field(default_factory=list, description="Flags of the CLI, of those that its backend allows.")
    tags: list[Tag] = Field(default_factory=list, description="Tags of the session.")
    metadata: Object = Field(default_factory=dict, description="Kept with the session.")
    dry_run: Flag = Field(default=False, description="Shows the command, and runs nothing.")


_WAIT = "Longest wait; then the answer says `running`, and the run goes on."
_FRESH = "Starts a run even if the same request began one before that still goes on."
WaitSecs = Annotated[float, Field(ge=0, le=86_400), NUMBER]


class PromptRequest(PromptOptions):
    """One prompt on one backend."""

    wait_secs: WaitSecs | None = Field(default=None, description=_WAIT)
    fresh: Flag = Field(default=False, description=_FRESH)


class ParallelTask(PromptOptions):
    """One task of a parallel run."""

    id: Text | None = Field(default=None, description="Stands in the result again.")
    name: Text | None = Field(default=None, description="Stands in the result again.")


class ParallelRequest(_Request):
    """Several prompts at once; results come in task order."""

    tasks: Annotated[list[ParallelTask], Field(min_length=1, max_length=500)] = Field(description="The prompts.")
    max_parallel: Annotated[int, Field(ge=1, le=500), NUMBER] | None = Field(
        default=None, description="Most tasks at once; without it `parallel.max_workers`."
    )
    fail_fast: Flag | None = Field(default=None, description="Cancels the rest when one fails.")
    wait_secs: WaitSecs | None = Field(default=None, description=_WAIT)
    fresh: Flag = Field(default=False, description=_FRESH)


class ChainStep(PromptOptions):
    """One step of a chain; its prompt may use `{{previous}}` and `{{steps.NAME}}`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = Field(
        default=None, description="By which later steps use its answer, as `{{steps.NAME}}`."
    )


class ChainRequest(_Request):
    """Prompts one after another, each fed from the ones before."""

    steps: Annotated[list[ChainStep], Field(min_length=1, max_length=100)] = Field(
        description="The prompts, in their order."
    )
    stop_on_failure: Flag = Field(default=True, description="Ends the chain with the first step that fails.")
    pass_working_dir: Flag = Field(default=False, description="Steps without `workdir` use that of the step before.")
    wait_secs: WaitSecs | None = Field(default=None, description=_WAIT)
    fresh: Flag = Field(default=False, description=_FRESH)


class CompareRequest(_Request):
    """The same prompt on several backends, ranked, and judged if asked."""

    prompt: Prompt = Field(description="What every agent is asked.")
    backends: list[Word] | None = Field(default=None, description="The agent CLIs; without it all that are available.")
    models: dict[str, Word] = Field(default_factory=dict, description="The model of a backend, by its name.")
    sequential: Flag = Field(default=False, description="One after another instead of all at once.")
    judge: Word | None = Field(
        default=None, description="Backend that judges the answers, which are anonymised and shuffled."
    )
    workdir: Word | None = Field(default=None, description="Directory that the agents work in.")
    timeout_secs: Annotated[float, Field(gt=0, le=86_400), NUMBER] | None = Field(
        default=None, description="Deadline of each run."
    )
    dry_run: Flag = Field(default=False, description="Shows the commands, and runs nothing.")
    wait_secs: WaitSecs | None = Field(default=None, description=_WAIT)
    fresh: Flag = Field(default=False, description=_FRESH)


class SessionsRequest(_Request):
    """Read sessions: a page of the list, a search, or one with a page of its turns."""

    action: Literal["list", "search", "show"]
    session_id: Word | None = Field(default=None, description="The id, or the beginning of it that no other has.")
    query: Word | None = Field(default=None, description="Text that a session holds.")
    backend: Word | None = Field(default=None, description="Only those of this backend.")
    workdir: Word | None = Field(default=None, description="Only those of this directory.")
    tag: Word | None = Field(default=None, description="Only those with this tag.")
    status: Word | None = Field(default=None, description="Only those in this state.")
    limit: Annotated[int, Field(ge=1, le=500), NUMBER] = Field(
        default=20, description="Most sessions, or turns of one."
    )
    offset: Offset = Field(default=0, description="So many are left out.")


class SessionEditRequest(_Request):
    """Change one session's head, or make or remove one."""

    action: Literal["fork", "tag", "untag", "rename", "delete"]
    session_id: Word
    tags: list[Word] = Field(default_factory=list)
    title: Annotated[Text, Field(max_length=500)] | None = None


class RunsRequest(_Request):
    """Read runs: list, one's result, wait for it, or a page of its full output."""

    action: Literal["list", "status", "wait", "output"]
    run_id: Word | None = Field(default=None, description="The id, or the beginning of it that no other has.")
    wait_secs: WaitSecs | None = Field(default=None, description="Longest wait for its end.")
    query: Word | None = Field(default=None, description="Text of its prompt, or of the lines of its output.")
    backend: Word | None = Field(default=None, description="Only those of this backend.")
    workdir: Word | None = Field(default=None, description="Only those of this directory.")
    status: Word | None = Field(
        default=None, description="Only those in this state; `unread` are those whose result nobody fetched."
    )
    limit: Annotated[int, Field(ge=1, le=200_000), NUMBER] | None = Field(
        default=None, description="Most runs, or characters of output."
    )
    offset: Offset = Field(default=0, description="So many are left out.")


class CancelRequest(_Request):
    """Stop a run and everything it started."""

    run_id: Word
