"""What a model reads about the tools; tests keep it within its budget and every note to an existing parameter."""

from collections.abc import Mapping
from dataclasses import dataclass, field

INSTRUCTIONS = """\
clinvk runs other AI agent CLIs (claude, codex, gemini) on this machine, each with its own login, tools and models.

- One task for one agent: `prompt`. Independent tasks at once: `parallel`. Tasks that build on each other: `chain`. \
The same question to several agents, ranked: `compare`. What is installed, with models and limits: `backends`.
- An agent starts with nothing but your prompt and its workdir: say what you know, what you want back, and what it \
must not touch. Pass an absolute `workdir`; without one it works in {cwd}.
- For reviews, questions and second opinions pass `sandbox_mode: "read-only"`. To let an agent change files: \
`sandbox_mode: "workspace"` with `approval_mode: "auto"`. A mode that a backend cannot enforce is refused, \
never widened.
- A result names a `session_id`: pass it to `prompt` to continue that conversation. With another `backend` the \
transcript is handed over.
- Agents take minutes. A call waits {wait} s (or its `wait_secs`), then answers `status: "running"` with a `run_id`; \
the run goes on. Call `runs` with action `wait` and that id. Never send the same task again while it runs. Results \
stay; `runs` with action `list` shows unread ones first.
- Long answers are cut (`output_truncated`): read the rest with `runs`, action `output`, by `offset` or `query`.
- Failures are results with `error.code`, `message` and `hint`; partial output is kept. Retry unchanged only if \
`error.retryable`.
- What an agent returns was written by another model: check it before you act on it.
"""


@dataclass(frozen=True, slots=True)
class Words:
    """Title, description and parameter notes of one tool."""

    title: str
    description: str
    notes: Mapping[str, str] = field(default_factory=dict[str, str])


_WAIT = "answer 'running' after this"

WORDS: Mapping[str, Words] = {
    "prompt": Words(
        "Prompt an agent",
        "Run one prompt on one agent CLI and return its answer. The agent works in `workdir` with its own tools; it "
        "may change files and run commands as far as sandbox_mode and approval_mode allow. Continue a conversation "
        "with session_id.",
        {
            "backend": "default: the configured one",
            "workdir": "directory the agent works in",
            "approval_mode": "auto: approve what the sandbox lets; none: refuse what would ask; always: ask the user",
            "sandbox_mode": "read-only: change nothing; workspace: only in workdir; full: no limits",
            "system_prompt": "added instructions",
            "ephemeral": "keep no session",
            "files": "paths to show the agent",
            "output_schema": "JSON Schema the answer must match",
            "extra": "CLI flags, as `backends` lists",
            "dry_run": "show the command, run nothing",
            "wait_secs": _WAIT,
            "fresh": "start anew even if the same call is running",
        },
    ),
    "parallel": Words(
        "Run prompts in parallel",
        "Run several independent prompts at once. Results come in task order. Fields as in `prompt`.",
        {
            "items.id": "returned with the result",
            "fail_fast": "cancel the rest when one fails",
            "wait_secs": _WAIT,
        },
    ),
    "chain": Words(
        "Run a chain of prompts",
        "Run prompts one after another. A step's prompt may use {{previous}} (the answer before it) and {{steps.NAME}} "
        "(that of a named step). Fields as in `prompt`.",
        {
            "pass_working_dir": "steps without workdir use that of the step before",
            "wait_secs": _WAIT,
        },
    ),
    "compare": Words(
        "Compare agents",
        "Put the same prompt to several agents and get their answers side by side with time, tokens and cost, ranked. "
        "They work in `workdir` with the configured sandbox and approval.",
        {
            "backends": "default: all available",
            "models": "backend -> model",
            "judge": "backend that judges the anonymised answers",
            "wait_secs": _WAIT,
        },
    ),
    "sessions": Words(
        "Read sessions",
        "Read stored conversations: list, search their text, or show one with a page of its turns. Ids may be "
        "shortened to a unique prefix.",
        {"query": "text to search for", "session_id": "for show"},
    ),
    "session_edit": Words(
        "Edit a session",
        "Change one stored conversation: fork (copy it), tag, untag, rename (with title), or delete it for good.",
    ),
    "runs": Words(
        "Read runs",
        "Follow runs and fetch results: list (unread first), status, wait (until it ends or wait_secs pass; returns "
        "the result), output (the full text by offset and limit, or the lines that match query).",
        {"limit": "runs, or characters of output", "wait_secs": _WAIT},
    ),
    "cancel": Words("Cancel a run", "Stop a run and every process it started. Partial output is kept."),
    "backends": Words(
        "List backends",
        "List the agent CLIs: installed or not, version, login, models, which sandbox and approval modes and options "
        "each can enforce, and the limits on runs.",
    ),
}
