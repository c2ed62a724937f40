"""What makes a real CLI talk to the stand-in and to nothing else: files in a fresh HOME and a few variables.

All variables pass clinvk's allow-list, so the same home works for a CLI that clinvk starts. Keys are fake.
"""

import json
import os
from pathlib import Path

from standin.clis import bin_folder

MODELS = {"claude": "claude-sonnet-5", "codex": "gpt-6.1-sol", "gemini": "gemini-3.8-flash"}
KEY = "sk-standin-not-a-real-key"


def cli_environment(name: str, home: Path, base_url: str, *, retries: int = 0) -> dict[str, str]:
    """The whole environment of one CLI, or of clinvk for it; writes its settings under `home`."""
    return base_environment(home) | _SETUPS[name](home, base_url, retries)


def all_clis_environment(home: Path, base_url: str) -> dict[str, str]:
    """The environment of a clinvk that may use all three."""
    environment = base_environment(home)
    for setup in _SETUPS.values():
        environment |= setup(home, base_url, 0)
    return environment


def base_environment(home: Path) -> dict[str, str]:
    """HOME and a PATH on which the pinned CLIs come first."""
    home.mkdir(parents=True, exist_ok=True)
    return {
        "HOME": str(home),
        "PATH": f"{bin_folder()}{os.pathsep}/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
    }


def _claude(home: Path, base_url: str, retries: int) -> dict[str, str]:
    settings = {
        "env": {
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": str(retries),
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_TELEMETRY": "1",
        }
    }
    _write(home / ".claude" / "settings.json", json.dumps(settings))
    return {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": base_url}


def _codex(home: Path, base_url: str, retries: int) -> dict[str, str]:
    # The key stands in the file: a variable named by `env_key` would not pass clinvk's allow-list.
    config = f"""\
model = "{MODELS["codex"]}"
model_provider = "standin"
check_for_update_on_startup = false

[features]
plugins = false

[analytics]
enabled = false

[model_providers.standin]
name = "standin"
base_url = "{base_url}/v1"
wire_api = "responses"
experimental_bearer_token = "{KEY}"
request_max_retries = {retries}
stream_max_retries = {retries}
"""
    _write(home / ".codex" / "config.toml", config)
    return {}


def _gemini(home: Path, base_url: str, retries: int) -> dict[str, str]:
    settings = {
        "general": {"enableAutoUpdate": False, "maxAttempts": retries + 1, "sessionRetention": {"enabled": False}},
        "privacy": {"usageStatisticsEnabled": False},
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "telemetry": {"enabled": False},
    }
    _write(home / ".gemini" / "settings.json", json.dumps(settings))
    return {
        "GEMINI_API_KEY": KEY,
        "GOOGLE_GEMINI_BASE_URL": base_url,
        "GEMINI_CLI_NO_RELAUNCH": "true",
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
    }


_SETUPS = {"claude": _claude, "codex": _codex, "gemini": _gemini}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
