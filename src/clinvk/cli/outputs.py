"""Writes the answers of a batch into a folder: a file for each, and result.json with everything about them."""

import re
from pathlib import Path

from clinvk.cli import parts
from clinvk.cli.sources import confused
from clinvk.cli.views import whole
from clinvk.errors import ClinvkError
from clinvk.response import PromptResult
from clinvk.tools.app import App

_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
NAME_CHARS = 60


def made(folder: Path) -> Path:
    """The folder, before anything runs. Raises ClinvkError when it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise confused(f"output_dir {folder}: {error.strerror}", "name a folder that can be written") from error
    return folder


def write(folder: Path, app: App, result: parts.Parts) -> None:
    """Write all answers; files of the same names are replaced."""
    digits = len(str(len(result.results)))
    try:
        for number, part in enumerate(result.results, 1):
            path = folder / f"{number:0{digits}d}-{_fit(part)}.txt"
            with path.open("w", encoding="utf-8") as file:
                file.writelines(whole(app, part))
        (folder / "result.json").write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ClinvkError(
            "internal",
            f"cannot write to {folder}: {error.strerror}",
            hint=f"the answers are kept: clinvk runs show {result.run_id}",
            details={"run_id": result.run_id},
        ) from error


def _fit(part: PromptResult) -> str:
    own = getattr(part, "name", None) or getattr(part, "id", None) or part.backend
    return _UNFIT.sub("-", str(own)).strip("-.")[:NAME_CHARS] or "answer"
