"""The documents say what the code does."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import documents
from clinvk import __version__
from clinvk.backends import registry
from clinvk.config import cascade

ROOT = documents.ROOT
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


@pytest.mark.parametrize("name", documents.PARTS)
def test_a_derived_part_is_up_to_date(name: str) -> None:
    path, derive = documents.PARTS[name]
    assert documents.written(name) == derive(), f"run: python tests/documents.py (rewrites {path.name})"


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for target, _ in LINK.findall(page.read_text(encoding="utf-8")):
            if "://" not in target:
                yield page, target


def test_links_between_the_pages_lead_somewhere() -> None:
    assert [f"{page.name}: {target}" for page, target in links() if not (page.parent / target).exists()] == []


def test_the_example_configuration_is_valid(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert yaml.safe_load(example)
    found = cascade.lint_text(
        example, tmp_path / "config.yaml", known_backends=registry.BACKENDS, environ={"HOME": str(tmp_path)}
    )
    assert found == []


def test_the_changelog_ends_at_the_packages_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"[{__version__}]" in text
    assert "[Unreleased]" in text


@pytest.mark.parametrize("script", ["scripts/demo", "scripts/check"])
def test_the_readme_names_the_scripts_and_they_can_be_run(script: str) -> None:
    assert script in (ROOT / "README.md").read_text(encoding="utf-8")
    assert (ROOT / script).stat().st_mode & 0o111
