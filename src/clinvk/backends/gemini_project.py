"""What a project's own files would make Gemini CLI do, measured with 0.61.0.

clinvk has to declare the workdir trusted, else a headless Gemini CLI ends at once. Its settings and `.env` files then
count, and no policy on tools holds them: they can start programs, write files anywhere and widen the workspace.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clinvk.backends.lines import list_of, object_of
from clinvk.backends.values import present

# All that a project may set in a confined run. Nothing here starts a program, writes a file (Gemini CLI writes settings
# with old names anew) or widens the workspace. MCP servers are named and never started, see `gemini.CONFINED`.
HARMLESS = frozenset(
    {
        "$schema",
        "context.discoveryMaxDirs",
        "context.fileFiltering.customIgnoreFilePaths",
        "context.fileFiltering.enableFuzzySearch",
        "context.fileFiltering.enableRecursiveFileSearch",
        "context.fileFiltering.respectGeminiIgnore",
        "context.fileFiltering.respectGitIgnore",
        "context.fileName",
        "context.importFormat",
        "context.includeDirectoryTree",
        "context.memoryBoundaryMarkers",
        "general.defaultApprovalMode",
        "general.enableAutoUpdate",
        "general.enableAutoUpdateNotification",
        "general.enableNotifications",
        "general.maxAttempts",
        "general.preferredEditor",
        "general.retryFetchErrors",
        "general.sessionRetention",
        "general.vimMode",
        "mcp.allowed",
        "mcp.excluded",
        "mcpServers",
        "model",
        "output",
        "privacy",
        "security.disableAlwaysAllow",
        "security.disableYoloMode",
        "security.folderTrust",
        "skills",
        "tools.allowed",
        "tools.confirmationRequired",
        "tools.core",
        "tools.exclude",
        "tools.truncateToolOutputThreshold",
        "tools.useRipgrep",
        "ui.customThemes",
        "ui.footer",
        "ui.hideBanner",
        "ui.hideFooter",
        "ui.hideTips",
        "ui.hideWindowTitle",
        "ui.showCitations",
        "ui.showLineNumbers",
        "ui.showMemoryUsage",
        "ui.theme",
    }
)
# What Gemini CLI itself takes from the .env file of a folder that it does not trust; and the kind of telemetry, for
# which it refuses an empty word. Whether there is any, and into which file, is not among them.
FROM_PROJECT = frozenset(
    {
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
        "GOOGLE_CLOUD_PROJECT",
        "GOOGLE_CLOUD_LOCATION",
        "GEMINI_TELEMETRY_TARGET",
        "GEMINI_TELEMETRY_OTLP_PROTOCOL",
    }
)

MAX_BYTES = 1 << 20  # of a file that is looked through

_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\r\n]*|/\*.*?\*/', re.DOTALL)
_ASSIGNED = re.compile(r"(?:^|(?<=[\n\r\u2028\u2029]))[\s\ufeff]*(?:export[\s\ufeff]+)?([\w.-]+)[\s\ufeff]*[=:]")


def objection(workdir: Path, user_settings: Path | None) -> str:
    """Why a run in `workdir` cannot be confined because of the files there, "" when it can."""
    settings = workdir / ".gemini" / "settings.json"
    own = user_settings is not None and settings.parent.resolve() == user_settings.resolve()
    looked = [*_env_files(workdir, user_settings), *([settings] if present(settings) and not own else [])]
    for path in looked:
        if path.stat().st_size > MAX_BYTES:
            return f"{path} is too long to be looked through"
    return _beyond_harmless(settings) if settings in looked else ""


def _beyond_harmless(path: Path) -> str:
    try:
        settings = _parsed(path.read_bytes())
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    if settings is None:
        return f"{path} is no JSON object; correct it"
    more = next((key for key in _leaves(settings) if not _is_harmless(key)), None)
    return f"{path} holds {more}, which no policy bounds; remove it, or use another backend" if more else ""


def widened(user_settings: Path | None) -> str:
    """Why the workspace is wider than the workdir by the user's own settings, "" when it is not."""
    if user_settings is None:
        return ""
    path = user_settings / "settings.json"
    try:
        settings = _parsed(path.read_bytes()) or {}
    except OSError:
        return ""
    if not list_of(object_of(settings, "context"), "includeDirectories"):
        return ""
    return f"{path} holds context.includeDirectories, through which a link in the workdir leads out; remove it"


def variables(workdir: Path, user_settings: Path | None) -> tuple[str, ...]:
    """The variables that `.env` files of the workdir and of the folders above it would set, the user's own excepted."""
    names: dict[str, None] = {}
    for path in _env_files(workdir, user_settings):
        try:
            text = path.read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        names.update(dict.fromkeys(_ASSIGNED.findall(text)))
    return tuple(name for name in names if name not in FROM_PROJECT)


def _env_files(workdir: Path, user_settings: Path | None) -> Iterator[Path]:
    """Where Gemini CLI looks for variables, up to the user's home; what is no file could be read for ever."""
    home = user_settings.parent.resolve() if user_settings is not None else None
    real = workdir.resolve()
    for folder in (real, *real.parents):
        if folder == home:
            return
        yield from filter(present, (folder / ".gemini" / ".env", folder / ".env"))


def _parsed(raw: bytes) -> dict[str, Any] | None:
    """Settings as Gemini CLI reads them: JSON with comments."""
    text = _COMMENT.sub(lambda found: found[1] or " ", raw.decode("utf-8", "replace"))
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return settings if isinstance(settings, dict) else None  # pyright: ignore[reportUnknownVariableType]


def _leaves(settings: dict[str, Any], above: str = "") -> Iterator[str]:
    """The dotted names of all values, and of all objects that are as such harmless or empty."""
    for key, value in settings.items():
        name = f"{above}{key}"
        if isinstance(value, dict) and value and not _is_harmless(name):
            yield from _leaves(value, f"{name}.")  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield name


def _is_harmless(name: str) -> bool:
    return name in HARMLESS or any(name.startswith(f"{known}.") for known in HARMLESS)
