"""The benchmarks work; how fast anything is, is not a test's business."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_benchmark_runs_and_reports_its_figures(tmp_path: Path) -> None:
    report = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--json", str(report)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        timeout=400,  # only against a hang: its machine may be busy
        check=True,
        text=True,
    )
    figures = json.loads(report.read_text(encoding="utf-8"))["figures"]
    assert list(figures) == ["prompt", "parallel", "output", "listing", "start", "durability", "gateway"]
    for each in (figure for group in figures.values() for figure in group):
        assert each["rounds"] >= 1
        assert each["name"] in done.stdout


def test_a_benchmark_of_another_name_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "sprint"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
        text=True,
    )
    assert done.returncode == 2
    assert "sprint" in done.stderr
    assert "durability" in done.stderr
