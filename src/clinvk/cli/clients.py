"""The MCP clients that clinvk can be installed into: where their configuration is, and what an entry looks like."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from clinvk.config.cascade import config_file, home_directory

NAME = "clinvk"
# Variables that say where things are; a server is started in another folder than the one where this was called.
_PLACES: Mapping[str, Callable[[Mapping[str, str]], Path]] = {
    "CLINVK_HOME": home_directory,
    "CLINVK_CONFIG": config_file,
}
Environ = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """`container` holds the servers; `windowed` says that it starts servers without the shell's PATH.

    `more` stands in the entry beside command and arguments; `env` in its environment.
    """

    title: str
    path: Callable[[Environ, Path], Path]
    container: str
    kind: Literal["json", "toml"] = "json"
    windowed: bool = False
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    then: str = ""


def _settings(environ: Environ, home: Path) -> Path:
    """Where applications with a window keep their settings."""
    if sys.platform == "darwin":
        return home / "Library" / "Application Support"
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config")


def _claude_code(environ: Environ, home: Path) -> Path:
    return Path(environ.get("CLAUDE_CONFIG_DIR") or home) / ".claude.json"


def _codex(environ: Environ, home: Path) -> Path:
    return Path(environ.get("CODEX_HOME") or home / ".codex") / "config.toml"


def _gemini(environ: Environ, home: Path) -> Path:
    return Path(environ.get("GEMINI_CLI_HOME") or home) / ".gemini" / "settings.json"


CLIENTS: Mapping[str, Client] = {
    "claude-desktop": Client(
        title="Claude Desktop",
        path=lambda environ, home: _settings(environ, home) / "Claude" / "claude_desktop_config.json",
        container="mcpServers",
        windowed=True,
        env={"CLINVK_MCP__WAIT_SECS": "50"},  # it gives up after about 60 s
        then="quit Claude Desktop and start it again",
    ),
    "claude-code": Client(
        title="Claude Code",
        path=_claude_code,
        container="mcpServers",
        more={"type": "stdio"},
        then="check with: claude mcp list",
    ),
    "codex": Client(
        title="Codex",
        path=_codex,
        container="mcp_servers",
        kind="toml",
        # `required`: its first question leaves 0.3 s after its start, and `codex exec` 0.169 keeps from the model for
        # the whole turn what was not ready by then. Its default of 60 s for a call is below mcp.wait_secs.
        more={"required": True, "startup_timeout_sec": 20, "tool_timeout_sec": 120},
        then="check with: codex mcp list",
    ),
    "gemini": Client(title="Gemini CLI", path=_gemini, container="mcpServers", then="check with: gemini mcp list"),
    "cursor": Client(
        title="Cursor",
        path=lambda _environ, home: home / ".cursor" / "mcp.json",
        container="mcpServers",
        windowed=True,
        then="switch it on under Settings > MCP",
    ),
    "vscode": Client(
        title="VS Code",
        path=lambda environ, home: _settings(environ, home) / "Code" / "User" / "mcp.json",
        container="servers",
        windowed=True,
        more={"type": "stdio"},
        then='start it with the command "MCP: List Servers"',
    ),
}


def entry(client: Client, environ: Environ, path: str, config: Path | None) -> dict[str, Any]:
    """What the client is to start; `path` is the PATH for those that do not know the shell's."""
    program, *arguments = command()
    env = dict(client.env)
    if client.windowed:
        env["PATH"] = path
    env |= {name: str(found(environ)) for name, found in _PLACES.items() if environ.get(name)}
    arguments += ["mcp", *([] if config is None else ["--config", str(config.absolute())])]
    kind = {name: value for name, value in client.more.items() if name == "type"}
    rest = {name: value for name, value in client.more.items() if name != "type"}
    return {**kind, "command": program, "args": arguments, **rest, **({"env": env} if env else {})}


def merged(own: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry brought up to date; what somebody added stays: a key in `env`, or a longer time limit."""
    more: Mapping[str, Any] = own.get("env") or {}
    env = {name: value for name, value in more.items() if name not in (*_PLACES, "PATH")}
    ours: Mapping[str, Any] = entry.get("env") or {}
    env |= {name: value for name, value in ours.items() if name not in env}
    kept = {name: value for name, value in own.items() if name not in ("type", "command", "args", "env")}
    rest = {name: value for name, value in entry.items() if name not in kept}
    return {**{name: rest[name] for name in rest if name != "env"}, **kept, **({"env": env} if env else {})}


def command() -> list[str]:
    """How this clinvk is started, by absolute paths and as it is found: a link may outlive what it leads to."""
    for path in (Path(sys.argv[0]), Path(sys.executable).with_name(NAME)):
        if path.name == NAME and path.is_file() and os.access(path, os.X_OK):
            return [str(path.absolute())]
    return [sys.executable, "-m", NAME]
