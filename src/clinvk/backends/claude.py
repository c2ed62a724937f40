"""Claude Code (`claude -p`), measured with 2.1.329.

Claude Code has no sandbox of its own for a whole run: what a run may change is bounded by which tools it is
given. So `read-only` and `workspace` leave out every tool that runs commands, and user settings and MCP servers
cannot bring them back.
"""

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path

from clinvk.backends.base import Capabilities, Command, Installation, Login, Turn, require
from clinvk.backends.claude_asking import PROMPT_TOOL, AskingClaudeReader, asks
from clinvk.backends.claude_reader import ADVICE, ClaudeReader
from clinvk.backends.values import bound, check_extra, media_type, present, too_long

NAME = "claude"
TITLE = "Claude Code"
EXECUTABLE = "claude"
INSTALL_HINT = "npm install -g @anthropic-ai/claude-code, or https://claude.com/claude-code"
MODELS = ("opus", "sonnet", "haiku")
# Exact names: the rest of CLAUDE_CODE_* belongs to an agent that may have started us.
ENVIRONMENT = (
    "ANTHROPIC_*",
    "CLAUDE_CONFIG_DIR",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_*",
    "CLAUDE_CODE_SKIP_BEDROCK_AUTH",
    "CLAUDE_CODE_SKIP_VERTEX_AUTH",
    "CLAUDE_CODE_SKIP_FOUNDRY_AUTH",
    "CLAUDE_CODE_API_KEY_HELPER_TTL_MS",
    "CLAUDE_CODE_CLIENT_CERT",
    "CLAUDE_CODE_CLIENT_KEY",
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
    "CLOUD_ML_REGION",
    "VERTEX_REGION_*",
    "AWS_REGION",
    "AWS_PROFILE",
    "AWS_BEARER_TOKEN_BEDROCK",
    "MAX_THINKING_TOKENS",
    "NODE_EXTRA_CA_CERTS",
    "IS_SANDBOX",
)
CAPABILITIES = Capabilities(
    approval_modes=("default", "auto", "none", "always"),
    sandbox_modes=("default", "read-only", "workspace", "full"),
    options=frozenset({"model", "system_prompt", "max_turns", "ephemeral", "images", "output_schema", "allowed_tools"}),
    streams_text=True,
    extra_flags=("--effort", "--fallback-model", "--max-budget-usd", "--disallowedTools", "--betas"),
    notes={
        "sandbox_mode=default": "Claude Code's own rules and settings",
        "sandbox_mode=read-only": "only the tools Read, Grep and Glob; no MCP servers, hooks or project settings",
        "sandbox_mode=workspace": "restricted mode: only file tools, confined to the workdir; no shell, "
        "no MCP servers, settings files are ignored",
        "sandbox_mode=full": "bypassPermissions; Claude Code refuses it for root unless IS_SANDBOX=1",
        "approval_mode=default": "what Claude Code would ask is put to a person where one can be asked, else refused",
        "approval_mode=always": "a person decides each action, whatever settings and hooks allow; a project's settings "
        "are left out; reading files inside the workdir is not asked",
        "approval_mode=auto": "file edits are approved (acceptEdits)",
        "approval_mode=none": "nothing is approved (dontAsk), but what settings and allowed_tools name",
        "system_prompt": "appended to Claude Code's own",
        "allowed_tools": "approved without asking, where the sandbox mode has them at all",
        "extra": "flags with paths are left out, because they reach beyond the workdir",
    },
)

QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "CLAUDE_CODE_MAX_RETRIES": "2",  # the default of 10 is three minutes of silence
    "CLAUDE_CODE_DISABLE_FILE_MENTIONS": "1",  # else `@/etc/passwd` in a prompt is read without asking
}
BASE = ("-p", "--output-format=stream-json", "--verbose", "--include-partial-messages")
READ_TOOLS = ("Read", "Grep", "Glob")
NO_HOOKS = '--settings={"disableAllHooks":true}'  # they are commands, and run whatever tools there are
# All that acts is asked about: rules to ask go before rules and hooks that allow, the user's own included.
ACTING = (
    *("Bash", "PowerShell", "Monitor", "Edit", "Write", "NotebookEdit", "WebFetch", "WebSearch", "Task", "Skill"),
    *("Workflow", "SendMessage", "CronCreate", "ScheduleWakeup", "EnterWorktree", "ExitWorktree", "mcp__*"),
)
ASK = f"--settings={json.dumps({'permissions': {'ask': ACTING}})}"
FILE_TOOLS = (*READ_TOOLS, "Edit", "Write", "NotebookEdit")
MAX_SCHEMA_BYTES = 100_000  # it is an argument, and Linux takes none of 128 KiB
MAX_IMAGE_BYTES = 5_000_000  # the API's limit


def program(path: Path) -> tuple[str, ...]:
    """The executable itself; it is a native binary."""
    return (str(path),)


def settings_folder(environ: Mapping[str, str], home: Path) -> Path:
    """`$CLAUDE_CONFIG_DIR`, else `~/.claude`."""
    return Path(environ.get("CLAUDE_CONFIG_DIR") or home / ".claude")


def parse_version(text: str) -> str | None:
    """`2.1.329 (Claude Code)`."""
    found = re.search(r"^(\d+\.\d+\.\d+\S*)\s+\(Claude Code\)", text, re.MULTILINE)
    return found[1] if found else None


def login(environ: Mapping[str, str], home: Path) -> Login:
    """By variable, then by the file that `claude` writes at login (macOS keeps it in the keychain)."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"):
        if environ.get(name):
            return Login(state="logged_in", how=name)
    for name in ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY"):
        if environ.get(name):
            return Login(state="unknown", how=f"{name}: the cloud provider's own credentials")
    folder = settings_folder(environ, home)
    if present(folder / ".credentials.json"):
        return Login(state="logged_in", how=str(folder / ".credentials.json"), refreshable=True)
    if present(folder / "settings.json") or (home / "Library" / "Keychains").is_dir():
        return Login(
            state="unknown",
            how="settings or keychain were not looked into",
            fix=ADVICE.log_in,
            refreshable=True,
        )
    return Login(state="logged_out", how="no key and no credentials file", fix=ADVICE.log_in)


def command(turn: Turn, installation: Installation) -> Command:
    """`claude -p` with the prompt on stdin."""
    require(turn, NAME, CAPABILITIES)
    check_extra(NAME, turn.extra)
    files: dict[Path, bytes] = {}
    argv = [*installation.program, *BASE, *_session(turn), *_limits(turn)]
    if turn.model is not None:
        argv.append(bound("--model", turn.model))
    if turn.max_turns is not None:
        argv.append(f"--max-turns={turn.max_turns}")
    if turn.system_prompt is not None:
        path = turn.scratch / "system-prompt.txt"
        files[path] = turn.system_prompt.encode()
        argv.append(bound("--append-system-prompt-file", str(path)))
    if turn.output_schema is not None:
        argv.append(bound("--json-schema", _schema(turn)))
    asking = asks(turn)
    if turn.images or asking:
        argv.append("--input-format=stream-json")
    if asking:
        argv.append(PROMPT_TOOL)
    argv.extend(turn.extra)
    return Command(
        argv=tuple(argv),
        cwd=turn.workdir,
        stdin=_message(turn) if turn.images or asking else _literal(turn.prompt).encode(),
        env=QUIET,
        files=files,
        expect_session=turn.resume_id,
        interactive=asking,
    )


def _session(turn: Turn) -> list[str]:
    flags = ["--no-session-persistence"] if turn.ephemeral else []
    if turn.resume_id is None:
        return [*flags, bound("--session-id", turn.new_id)]
    # Without the snapshot off, a resumed session keeps the system prompt of its first turn.
    return [*flags, bound("--resume", turn.resume_id), "--system-prompt-snapshot=off"]


def _limits(turn: Turn) -> list[str]:
    mode = {"none": "dontAsk", "always": "default"}.get(turn.approval)
    allowed = () if turn.approval == "always" else turn.allowed_tools
    match turn.sandbox:
        case "read-only":
            flags = [
                "--permission-mode=dontAsk",
                f"--tools={','.join(READ_TOOLS)}",
                "--strict-mcp-config",
                "--setting-sources=user",
                NO_HOOKS,
            ]
            allowed = tuple(tool for tool in allowed if tool in READ_TOOLS)
        case "workspace":
            flags = [
                f"--permission-mode={mode or 'acceptEdits'}",
                "--restricted",
                f"--tools={','.join(FILE_TOOLS)}",
                "--strict-mcp-config",
            ]
            allowed = tuple(tool for tool in allowed if tool in READ_TOOLS)
        case "full":
            flags = [f"--permission-mode={mode or 'bypassPermissions'}"]
        case "default":
            mode = "acceptEdits" if turn.approval == "auto" else mode
            flags = [f"--permission-mode={mode}"] if mode else []
    if turn.approval == "always" and turn.sandbox != "read-only":
        flags += ["--setting-sources=user", ASK]
    return [*flags, bound("--allowedTools", ",".join(allowed))] if allowed else flags


def _schema(turn: Turn) -> str:
    schema = json.dumps(turn.output_schema, ensure_ascii=False)
    if len(schema.encode()) > MAX_SCHEMA_BYTES:
        raise too_long(NAME, "output_schema", MAX_SCHEMA_BYTES)
    return schema


def _literal(prompt: str) -> str:
    """The prompt so that a leading `/` is text, not one of Claude Code's commands."""
    return f"\n{prompt}" if prompt.lstrip().startswith("/") else prompt


def _message(turn: Turn) -> bytes:
    content: list[dict[str, object]] = []
    for path in turn.images:
        kind = media_type(NAME, path, MAX_IMAGE_BYTES)
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        content.append({"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}})
    content.append({"type": "text", "text": _literal(turn.prompt)})
    message = {"type": "user", "message": {"role": "user", "content": content}}
    return json.dumps(message, ensure_ascii=False).encode() + b"\n"


def reader(turn: Turn) -> ClaudeReader:
    """Reads `--output-format stream-json`."""
    return AskingClaudeReader(turn) if asks(turn) else ClaudeReader(turn)
