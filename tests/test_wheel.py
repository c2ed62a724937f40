"""What an installation puts on the user's machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that CLINVK_TEST_WHEEL names, else one built from a copy of the sources."""
    if "CLINVK_TEST_WHEEL" in os.environ:
        return Path(os.environ["CLINVK_TEST_WHEEL"])
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(source / "dist"),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (source / "dist").glob("*.whl")
    return built


def test_the_wheel_installs_one_name(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"clinvk"}
    assert len(tops) == 2


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    packed = {name for name in ZipFile(wheel).namelist() if name.startswith("clinvk/")}
    files = (
        path for path in (ROOT / "src" / "clinvk").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )
    assert packed == {str(path.relative_to(ROOT / "src")) for path in files}


def test_the_command_is_installed(wheel: Path) -> None:
    archive = ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    assert archive.read(name).decode() == "[console_scripts]\nclinvk = clinvk.__main__:main\n"
