"""Gemini CLI (`gemini -o stream-json`), measured with 0.61.0.

Gemini CLI bounds what a run may change by a policy on its tools. `read-only` and `workspace` bring a policy of ours at
the highest level, so that neither settings nor extensions nor a project's files can widen it.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from clinvk.backends import gemini_project, structured
from clinvk.backends.base import Capabilities, Command, Installation, Login, Turn, require, unsupported
from clinvk.backends.gemini_reader import ADVICE, GeminiReader
from clinvk.backends.lines import object_of, parse, text_of
from clinvk.backends.values import bound, comma, media_type, present, too_long

NAME = "gemini"
TITLE = "Gemini CLI"
EXECUTABLE = "gemini"
INSTALL_HINT = "npm install -g @google/gemini-cli, or brew install gemini-cli"
MODELS = ("auto", "pro", "flash", "flash-lite")
ENVIRONMENT = (
    "GEMINI_API_KEY",
    "GEMINI_CLI_HOME",
    "GEMINI_MODEL",
    "GOOGLE_API_KEY",
    "GOOGLE_GENAI_USE_VERTEXAI",
    "GOOGLE_GENAI_USE_GCA",
    "GOOGLE_GEMINI_BASE_URL",
    "GOOGLE_VERTEX_BASE_URL",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_CLOUD_PROJECT_ID",
    "GOOGLE_CLOUD_LOCATION",
    "GOOGLE_CLOUD_QUOTA_PROJECT",
    "GOOGLE_CLOUD_UNIVERSE_DOMAIN",
    "NODE_EXTRA_CA_CERTS",
)
CAPABILITIES = Capabilities(
    approval_modes=("default", "auto", "none"),
    sandbox_modes=("default", "read-only", "workspace", "full"),
    options=frozenset({"model", "system_prompt", "images", "output_schema"}),
    streams_text=True,
    notes={
        "sandbox_mode=default": "Gemini CLI's own policy and settings, the workdir's included; what would "
        "ask is refused",
        "sandbox_mode=read-only": "a policy that leaves only reading and searching; no MCP servers or "
        "extensions; a project's .env file sets nothing but a key and a Google Cloud project, a settings.json "
        "with more than harmless settings is refused; your own hooks still run",
        "sandbox_mode=workspace": "as read-only, with file edits in the workdir, but not in .git, .gemini, .claude and "
        ".codex",
        "sandbox_mode=full": "yolo",
        "approval_mode=auto": "file edits are approved (auto_edit)",
        "approval_mode=none": "nothing is approved; settings still allow what they name",
        "system_prompt": "put before the prompt of every turn: Gemini CLI can only replace its own as a whole",
        "output_schema": "asked for in the prompt, checked by clinvk",
        "prompt": r"an @ before a name is written \@, else Gemini CLI puts in a file that matches the name",
        "output": "Gemini CLI does not tell that an answer was cut off at the token limit or by a safety filter",
        "ephemeral": "not supported: Gemini CLI always keeps its session file",
        "resume": "Gemini CLI may delete a resumed session, unless its setting general.sessionRetention.enabled is "
        "false; a session that is gone is reported as session_lost",
    },
)

ENV = {
    "GEMINI_CLI_NO_RELAUNCH": "true",  # the relauncher ignores SIGTERM, and costs a second
    "GEMINI_CLI_TRUST_WORKSPACE": "true",  # else exit 55 before anything is done
    "TERM": "xterm-256color",
    "COLORTERM": "truecolor",
}
READ_TOOLS = (
    "read_file",
    "read_many_files",
    "glob",
    "grep_search",
    "search_file_content",
    "list_directory",
    "google_web_search",
    "get_internal_docs",
    "update_topic",
    "complete_task",
)
EDIT_TOOLS = ("write_file", "replace")
# What stands there is run or obeyed later, outside of any limit. Gemini CLI leaves out rules with a quantifier behind a
# group that holds another.
GUARDED = r'"file_path":"(?:|[^"]*/)\.(?:git|gemini|claude|codex)[/"]'
BOUNDED = ("read-only", "workspace")
CONFINED = ("--extensions=none", "--allowed-mcp-server-names=clinvk-allows-none")
SYSTEM_POLICIES = Path(
    "/Library/Application Support/GeminiCli/policies" if sys.platform == "darwin" else "/etc/gemini-cli/policies"
)
MAX_STDIN_BYTES = 8 * 1024 * 1024 - 1024  # beyond 8 MiB it cuts the prompt off, and answers nothing
MAX_IMAGE_BYTES = 20_000_000
# The CLI's own pattern for what it expands, up to the first character of the name.
_MENTION = re.compile(r'(?<!\\)@(?=["\\]|[^ \t\n\r,;!?()\[\]{}.]|\.(?!$|[ \t\n\r]))')


def program(path: Path) -> tuple[str, ...]:
    """The script; with the Node that stands beside it, where one does."""
    node = path.parent / "node"
    return (str(node), str(path)) if node.is_file() and path.resolve().suffix == ".js" else (str(path),)


def settings_folder(environ: Mapping[str, str], home: Path) -> Path:
    """`$GEMINI_CLI_HOME/.gemini`, else `~/.gemini`."""
    return Path(environ.get("GEMINI_CLI_HOME") or home) / ".gemini"


def parse_version(text: str) -> str | None:
    """`0.61.0`, alone on a line."""
    found = re.search(r"^(\d+\.\d+\.\d+\S*)$", text, re.MULTILINE)
    return found[1] if found else None


def login(environ: Mapping[str, str], home: Path) -> Login:
    """By variable, then by what the settings select."""
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        if environ.get(name):
            return Login(state="logged_in", how=name)
    folder = settings_folder(environ, home)
    for name in ("GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_GCA"):
        if environ.get(name):
            return Login(state="unknown", how=f"{name}: Google Cloud's own credentials")
    try:
        settings = parse((folder / "settings.json").read_bytes()) or {}
    except OSError:
        settings = {}
    selected = text_of(object_of(object_of(settings, "security"), "auth"), "selectedType")
    if present(folder / "oauth_creds.json"):
        return Login(state="logged_in", how=str(folder / "oauth_creds.json"), refreshable=True)
    if selected or present(folder / ".env") or present(home / ".env"):
        how = f"settings.json selects {selected}" if selected else "a .env file may hold a key"
        return Login(state="unknown", how=how, fix=ADVICE.log_in, refreshable=selected.startswith("oauth"))
    return Login(state="logged_out", how="no GEMINI_API_KEY and no login", fix=ADVICE.log_in)


def command(turn: Turn, installation: Installation) -> Command:
    """`gemini -o stream-json` with the prompt on stdin."""
    require(turn, NAME, CAPABILITIES)
    files: dict[Path, bytes] = {}
    images = _copied_images(turn, files)
    stdin = f"{_mentions(images)}{_text(turn)}".encode()
    if len(stdin) > MAX_STDIN_BYTES:
        raise too_long(NAME, "prompt", MAX_STDIN_BYTES)
    argv = [*installation.program, "--output-format=stream-json", *_limits(turn, installation, files)]
    if images:
        argv.append(bound("--include-directories", str(turn.scratch)))
    if turn.model is not None:
        argv.append(bound("--model", turn.model))
    if turn.resume_id is None:
        argv.append(bound("--session-id", turn.new_id))
    else:
        argv.append(bound("--resume", turn.resume_id))
    return Command(
        argv=tuple(argv),
        cwd=turn.workdir,
        stdin=stdin,
        # At an API error it leaves a file with the conversation in the temporary folder.
        env={**ENV, "TMPDIR": str(turn.scratch)},
        blanked=gemini_project.variables(turn.workdir, installation.settings) if turn.sandbox in BOUNDED else (),
        files=files,
        expect_session=turn.resume_id,
    )


def _limits(turn: Turn, installation: Installation, files: dict[Path, bytes]) -> list[str]:
    edits = turn.approval != "none"
    if turn.sandbox in BOUNDED:
        _check_settings(turn, installation)
    match turn.sandbox:
        case "read-only":
            return ["--approval-mode=default", *CONFINED, _policy(turn, files, ())]
        case "workspace":
            mode = "auto_edit" if edits else "default"
            return [f"--approval-mode={mode}", *CONFINED, _policy(turn, files, EDIT_TOOLS if edits else ())]
        case "full":
            return [f"--approval-mode={'yolo' if edits else 'default'}"]
        case "default":
            modes = {"auto": ["--approval-mode=auto_edit"], "none": ["--approval-mode=default"]}
            return modes.get(turn.approval, [])


def _check_settings(turn: Turn, installation: Installation) -> None:
    """Refuse where settings do what no policy holds."""
    why = gemini_project.objection(turn.workdir, installation.settings)
    if turn.sandbox == "workspace":
        why = why or gemini_project.widened(installation.settings)
    if why:
        raise unsupported(NAME, "sandbox_mode", turn.sandbox, why)


def _policy(turn: Turn, files: dict[Path, bytes], edits: tuple[str, ...]) -> str:
    """A policy file that refuses every tool but those that read, and `edits` on paths in the workdir."""
    path = turn.scratch / "policy.toml"
    if "," in str(path):
        raise unsupported(NAME, "sandbox_mode", turn.sandbox, "set CLINVK_HOME to a path without commas")
    if any(SYSTEM_POLICIES.glob("*.toml")):
        can = f"{SYSTEM_POLICIES} holds policies of this machine, and Gemini CLI then takes no others of that rank"
        raise unsupported(NAME, "sandbox_mode", turn.sandbox, can)
    rules = [
        _rule(["*"], "deny", 500, f"clinvk: sandbox_mode {turn.sandbox} does not allow this"),
        _rule(list(READ_TOOLS), "allow", 600),
    ]
    if edits:
        inside = re.sub(r"([^\w/ -])", r"\\\1", json.dumps(str(turn.workdir), ensure_ascii=False)[1:-1])
        rules += [
            _rule(list(edits), "allow", 700, pattern=rf'"file_path":"(?:{inside}/|[^/~\\])'),
            _rule(list(edits), "deny", 800, "clinvk: no .. in paths", pattern=r'"file_path":"[^"]*\.\.'),
            _rule(list(edits), "deny", 800, "clinvk: no hooks or settings", pattern=GUARDED),
        ]
    files[path] = "\n".join(rules).encode()
    return bound("--admin-policy", str(path))


def _rule(tools: list[str], decision: str, priority: int, message: str = "", pattern: str = "") -> str:
    lines = [
        "[[rule]]",
        f"toolName = {json.dumps(tools if len(tools) > 1 else tools[0])}",
        f'decision = "{decision}"',
        f"priority = {priority}",
    ]
    if message:
        lines.append(f"denyMessage = {json.dumps(message)}")
    if pattern:
        lines.append(f"argsPattern = {json.dumps(pattern, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _text(turn: Turn) -> str:
    system = f"<instructions>\n{turn.system_prompt}\n</instructions>\n\n" if turn.system_prompt else ""
    asked = structured.request(turn.output_schema) if turn.output_schema is not None else ""
    return _literal(f"{system}{turn.prompt}{asked}")


def _literal(text: str) -> str:
    """The text so that `@name` pulls in no file, and a leading `/` is none of Gemini CLI's commands."""
    text = _MENTION.sub(r"\\@", text)
    return f"\n{text}" if text.lstrip().startswith("/") else text


def _copied_images(turn: Turn, files: dict[Path, bytes]) -> list[Path]:
    """Copies in a folder of their own: Gemini CLI silently drops an image that .gitignore or .geminiignore names."""
    copies: list[Path] = []
    for number, path in enumerate(turn.images, start=1):
        media_type(NAME, path, MAX_IMAGE_BYTES)
        copy = turn.scratch / f"image-{number}{path.suffix.lower()}"
        files[copy] = path.read_bytes()
        copies.append(copy)
    if copies and "," in str(turn.scratch):
        raise comma(NAME, turn.scratch)
    return copies


def _mentions(images: list[Path]) -> str:
    """Images as `@path`."""
    mentions = ["@" + re.sub(r"([^\w./-])", r"\\\1", str(path)) for path in images]
    return "\n".join(mentions) + "\n\n" if mentions else ""


def reader(turn: Turn) -> GeminiReader:
    """Reads `-o stream-json`."""
    return GeminiReader(turn)
