"""Codex (`codex exec --json`), measured with 0.169.0.

Codex has a sandbox of its own (Seatbelt, or bubblewrap and Landlock) that also holds its shell commands. `exec`
never asks: what the sandbox refuses is refused.
"""

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from clinvk.backends.base import Capabilities, Command, Installation, Login, Turn, require, unsupported
from clinvk.backends.codex_reader import ADVICE, VIOLATION_LOG, CodexReader
from clinvk.backends.lines import object_of
from clinvk.backends.values import bound, check_extra, comma, media_type, present, too_long
from clinvk.errors import ClinvkError

NAME = "codex"
TITLE = "Codex"
EXECUTABLE = "codex"
INSTALL_HINT = "npm install -g @openai/codex, or brew install codex"
MODELS: tuple[str, ...] = ()
ENVIRONMENT = (
    "CODEX_HOME",
    "CODEX_API_KEY",
    "CODEX_CA_CERTIFICATE",
    "OPENAI_ORGANIZATION",
    "OPENAI_PROJECT",
    "SSL_CERT_FILE",
)
CAPABILITIES = Capabilities(
    approval_modes=("default", "auto", "none"),
    sandbox_modes=("default", "read-only", "workspace", "full"),
    options=frozenset({"model", "system_prompt", "ephemeral", "images", "output_schema"}),
    streams_text=False,
    extra_flags=("--config",),
    notes={
        "sandbox_mode=default": "Codex's own default or config.toml",
        "sandbox_mode=read-only": "Codex's sandbox: no writes, no network; no MCP servers, plugins or rules",
        "sandbox_mode=workspace": "Codex's sandbox: writes in the workdir only, not in temporary folders; no "
        "network; no MCP servers, plugins or rules",
        "sandbox_mode=full": "danger-full-access",
        "approval_mode": "codex exec asks for nothing: what the sandbox refuses is refused; the warning for a command "
        "that was refused at once does not name it, because Codex does not",
        "system_prompt": "added to Codex's own as developer instructions; a resumed thread keeps its first one",
        "output_schema": "asked of the model by Codex, checked by clinvk",
        "extra": "--config=KEY=VALUE for the keys model_reasoning_effort, model_reasoning_summary and "
        "model_verbosity; flags with paths are left out, because they reach beyond the workdir",
        "prompt": "$name of an installed skill pulls in that skill's text",
    },
)

# Without the second, a refused connection is waited on for ever.
BASE = (
    "--config=check_for_update_on_startup=false",
    "--config=features.unbounded_connection_retries=false",
    "--config=analytics.enabled=false",
    "exec",
    "--json",
    "--skip-git-repo-check",
)
# What could act outside the sandbox: rules that exempt commands; servers, plugins and programs that run beside it.
CONFINED = (
    "--ignore-rules",
    "--config=features.plugins=false",
    "--config=approval_policy=never",
    "--config=features.apps=false",
    "--config=features.hooks=false",
    "--config=notify=[]",
)
WORKSPACE = (
    "--config=sandbox_workspace_write.writable_roots=[]",
    "--config=sandbox_workspace_write.network_access=false",
    "--config=sandbox_workspace_write.exclude_slash_tmp=true",
    "--config=sandbox_workspace_write.exclude_tmpdir_env_var=true",
)
# Codex shows no event for a command that its sandbox refuses within 150 ms; its log tells that there was one. What the
# agent runs shall not log by it.
LOGGING = {"RUST_LOG": f"error,{VIOLATION_LOG}=warn"}
LOGGING_ALONE = '--config=shell_environment_policy.set.RUST_LOG=""'
EXTRA_KEYS = ("model_reasoning_effort", "model_reasoning_summary", "model_verbosity")
MAX_PROMPT_CHARS = 1_048_576
MAX_ARGUMENT_BYTES = 100_000  # Linux takes no argument of 128 KiB
MAX_IMAGE_BYTES = 20_000_000


def program(path: Path) -> tuple[str, ...]:
    """The native binary beside the Node shim: the shim stays as a parent that does not take it down."""
    shim = path.resolve()
    if shim.suffix != ".js":
        return (str(path),)
    package = shim.parent.parent
    for folder in (package.parent, package / "node_modules" / "@openai"):
        natives = sorted(folder.glob("codex-*/vendor/*/bin/codex"))
        if natives:
            return (str(natives[0]),)
    natives = sorted(package.glob("vendor/*/bin/codex"))
    return (str(natives[0]) if natives else str(path),)


def settings_folder(environ: Mapping[str, str], home: Path) -> Path:
    """`$CODEX_HOME`, else `~/.codex`."""
    return Path(environ.get("CODEX_HOME") or home / ".codex")


def parse_version(text: str) -> str | None:
    """`codex-cli 0.169.0`."""
    found = re.search(r"^codex(?:-cli)?(?:-exec)? (\d+\.\d+\.\d+\S*)", text, re.MULTILINE)
    return found[1] if found else None


def login(environ: Mapping[str, str], home: Path) -> Login:
    """By variable, by auth.json, or by a model provider of the user's own in config.toml."""
    if environ.get("CODEX_API_KEY"):
        return Login(state="logged_in", how="CODEX_API_KEY")
    folder = settings_folder(environ, home)
    if present(folder / "auth.json"):
        return Login(state="logged_in", how=str(folder / "auth.json"), refreshable=True)
    try:
        config = (folder / "config.toml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        config = ""
    if re.search(r"^\s*model_provider\s*=", config, re.MULTILINE):
        return Login(state="unknown", how="config.toml names a model provider of its own")
    return Login(
        state="logged_out", how="no CODEX_API_KEY (OPENAI_API_KEY is not used) and no auth.json", fix=ADVICE.log_in
    )


def command(turn: Turn, installation: Installation) -> Command:
    """`codex exec` with the prompt on stdin; every option stands before `resume`, which has fewer."""
    require(turn, NAME, CAPABILITIES)
    _check_extra(turn.extra)
    if len(turn.prompt) > MAX_PROMPT_CHARS:
        raise too_long(NAME, "prompt", MAX_PROMPT_CHARS, "characters")
    files: dict[Path, bytes] = {}
    argv = [*installation.program, *BASE, *_sandbox(turn, installation), *turn.extra]
    if turn.sandbox != "full":
        argv.append(LOGGING_ALONE)
    if turn.strict:
        argv.append("--strict-config")
    if turn.model is not None:
        argv.append(bound("--model", turn.model))
    if turn.system_prompt is not None:
        argv.append(bound("--config", f"developer_instructions={_toml(turn.system_prompt)}"))
    if turn.ephemeral:
        argv.append("--ephemeral")
    if turn.output_schema is not None:
        path = turn.scratch / "output-schema.json"
        files[path] = json.dumps(turn.output_schema, ensure_ascii=False).encode()
        argv.append(bound("--output-schema", str(path)))
    argv += [bound("--image", str(path)) for path in _copied_images(turn, files)]
    argv += ["resume", _thread(turn.resume_id), "-"] if turn.resume_id is not None else ["-"]
    return Command(
        argv=tuple(argv),
        cwd=turn.workdir,
        stdin=turn.prompt.encode(),
        env={} if turn.sandbox == "full" else LOGGING,
        files=files,
        expect_session=turn.resume_id,
    )


def _sandbox(turn: Turn, installation: Installation) -> tuple[str, ...]:
    match turn.sandbox:
        case "read-only":
            return ("--sandbox=read-only", *CONFINED, *_silenced(turn, installation))
        case "workspace":
            return ("--sandbox=workspace-write", *WORKSPACE, *CONFINED, *_silenced(turn, installation))
        case "full":
            return ("--sandbox=danger-full-access",)
        case "default":
            return () if turn.approval == "default" else ("--config=approval_policy=never",)


def _silenced(turn: Turn, installation: Installation) -> Iterator[str]:
    """Flags that keep configured MCP servers from starting: they run outside the sandbox."""
    places = (turn.workdir, *turn.workdir.parents)
    real = turn.workdir.resolve()
    keys = dict.fromkeys(json.dumps(str(path), ensure_ascii=False) for path in (*places, real, *real.parents))
    untrusted = ",".join(f'{key}={{trust_level="untrusted"}}' for key in keys)
    yield f"--config=projects={{{untrusted}}}"
    for name in _servers(turn, installation):
        yield f"--config=mcp_servers.{name}.enabled=false"


def _servers(turn: Turn, installation: Installation) -> list[str]:
    """The names of the MCP servers in the user's config.toml; what cannot be read cannot be held back."""
    import tomllib  # its patterns take longer to compile than all others here

    can = "correct config.toml, or use sandbox_mode default or full"
    if installation.settings is None:
        raise unsupported(NAME, "sandbox_mode", turn.sandbox, "the folder of Codex's settings is not known")
    path = installation.settings / "config.toml"
    try:
        config = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise unsupported(NAME, "sandbox_mode", turn.sandbox, f"{path} cannot be read ({error}); {can}") from None
    names = list(object_of(config, "mcp_servers"))
    odd = [name for name in names if not re.fullmatch(r"[A-Za-z0-9_-]+", name)]
    if odd:
        raise unsupported(NAME, "sandbox_mode", turn.sandbox, f"rename the MCP server {odd[0]!r} in {path}")
    return names


def _check_extra(extra: tuple[str, ...]) -> None:
    check_extra(NAME, extra)
    for flag in extra:
        key, _, value = flag.removeprefix("--config=").partition("=")
        if key not in EXTRA_KEYS or not re.fullmatch(r"[A-Za-z0-9_-]+", value):
            raise ClinvkError(
                "unsupported_option",
                f"codex: extra flag {flag!r} is not accepted",
                hint=f"write --config=KEY=WORD with one of: {', '.join(EXTRA_KEYS)}",
                backend=NAME,
                details={"option": "extra", "value": flag},
            )


def _toml(text: str) -> str:
    """`text` as a TOML string, which is JSON's but for DEL."""
    quoted = json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    if len(quoted.encode()) > MAX_ARGUMENT_BYTES:
        raise too_long(NAME, "system_prompt", MAX_ARGUMENT_BYTES)
    return quoted


def _thread(identity: str) -> str:
    """The id as a UUID: with anything else Codex starts a new thread, without an error."""
    try:
        return str(uuid.UUID(identity))
    except ValueError:
        raise ClinvkError(
            "session_lost",
            f"{identity!r} is no Codex thread id",
            hint="start a new session; clinvk keeps the turns of the old one",
            backend=NAME,
            details={"asked": identity},
        ) from None


def _copied_images(turn: Turn, files: dict[Path, bytes]) -> list[Path]:
    """Copies under plain names: Codex splits at commas, and silently drops what is not there."""
    copies: list[Path] = []
    for number, path in enumerate(turn.images, start=1):
        media_type(NAME, path, MAX_IMAGE_BYTES)
        copy = turn.scratch / f"image-{number}{path.suffix.lower()}"
        if "," in str(copy):
            raise comma(NAME, turn.scratch)
        files[copy] = path.read_bytes()
        copies.append(copy)
    return copies


def reader(turn: Turn) -> CodexReader:
    """Reads `codex exec --json`."""
    return CodexReader(turn)
