"""Where the pinned real CLIs are (see tests/npm/package.json).

They live in `.cache/npm` of the checkout, or in the folder that CLINVK_TEST_NPM names. A missing one is
a failure, never a skip: without them the tests would prove nothing about the CLIs.
"""

import json
import os
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_PINS = _ROOT / "tests" / "npm" / "package.json"
_PACKAGES = {
    "claude": "@anthropic-ai/claude-code",
    "codex": "@openai/codex",
    "gemini": "@google/gemini-cli",
    "node": "node",
    "pyright": "pyright",
    "mcp-inspector": "@modelcontextprotocol/inspector",
    "conformance": "@modelcontextprotocol/conformance",
    "conformance-v0": "conformance-v0",
}


class MissingToolError(RuntimeError):
    """A pinned tool is absent or has another version than the pin."""


def npm_folder() -> Path:
    """The folder that contains the pinned tools' `node_modules`."""
    return Path(os.environ.get("CLINVK_TEST_NPM") or _ROOT / ".cache" / "npm")


def bin_folder() -> Path:
    """The folder to put first on PATH: the three CLIs and the Node they need."""
    for name in ("claude", "codex", "gemini", "node"):
        cli_path(name)
    return npm_folder() / "node_modules" / ".bin"


def cli_path(name: str) -> Path:
    """The executable of one of the pinned tools; `conformance` and `conformance-v0` are scripts for `node`.

    Raises: MissingToolError if it is absent or not the pinned version.
    """
    modules = npm_folder() / "node_modules"
    package = modules / _PACKAGES[name]
    # Both conformance versions claim the same name in .bin.
    path = package / "dist" / "index.js" if name.startswith("conformance") else modules / ".bin" / name
    if not path.exists():
        raise MissingToolError(f"{name} is not in {modules}; {_REMEDY}")
    found = _read(package / "package.json")["version"]
    if found != pinned_version(name):
        raise MissingToolError(f"{name} in {modules} is {found}, the pin is {pinned_version(name)}; {_REMEDY}")
    return path


def pinned_version(name: str) -> str:
    """The exact version in tests/npm/package.json."""
    pin: str = _read(_PINS)["dependencies"][_PACKAGES[name]]
    return pin.rpartition("@")[2]


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


_REMEDY = (
    "install with: mkdir -p .cache/npm && cp tests/npm/package.json .cache/npm/ && "
    "npm install --no-package-lock --prefix .cache/npm (or name a folder in CLINVK_TEST_NPM)"
)
