"""`python -m benchmarks`: see README.md beside this file."""

import argparse
import dataclasses
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import place
from benchmarks.durability import durability
from benchmarks.fanout import fanout
from benchmarks.floods import floods
from benchmarks.gateway import gateway
from benchmarks.listing import listing
from benchmarks.measure import Figure
from benchmarks.prompting import prompting
from benchmarks.scale import FULL, QUICK, Scale
from benchmarks.starting import starting

Benchmark = Callable[[Path, Scale], list[Figure]]

BENCHMARKS: Mapping[str, Benchmark] = {
    "prompt": prompting,
    "parallel": fanout,
    "output": floods,
    "listing": listing,
    "start": starting,
    "durability": durability,
    "gateway": gateway,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run benchmarks, print a table, write JSON where asked; always 0: a missed aim is a finding, no fault."""
    args = _parser().parse_args(argv)
    scale = QUICK if args.quick else FULL
    if args.rounds:
        rounds = dict.fromkeys(("calls", "listings", "starts", "floods"), args.rounds)
        scale = dataclasses.replace(scale, **rounds)
    figures: dict[str, list[Figure]] = {}
    with tempfile.TemporaryDirectory(prefix="clinvk-bench-", dir=args.folder) as folder:
        made = place.creation_us(Path(folder))
        print(f"Python {platform.python_version()}, {os.cpu_count()} processors; making a file takes {made:.0f} us")
        for name in args.names or BENCHMARKS:
            figures[name] = BENCHMARKS[name](Path(folder) / name, scale)
            _print(name, figures[name])
    if args.json is not None:
        args.json.write_text(json.dumps(_document(figures, scale, made), indent=2) + "\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure clinvk against floors.")
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: shows that it works, no more")
    parser.add_argument("--rounds", type=int, help="rounds of each measurement")
    parser.add_argument("--folder", type=Path, help="where to work (default: the system's folder for temporary files)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    return parser


def _print(name: str, figures: Sequence[Figure]) -> None:
    print(name)
    for figure in figures:
        sign = ">=" if figure.more_is_better else "<="
        beside = ", ".join(f"{what} {value:g}" for what, value in figure.beside.items())
        verdict = "" if figure.met else "  MISSED"
        measured = f"{figure.value:8.2f} {figure.unit:3}"
        print(f"  {figure.name:52} {measured} (aim {sign} {figure.aim:g})  [{beside}; {figure.rounds} rounds]{verdict}")
    sys.stdout.flush()


def _document(figures: Mapping[str, Sequence[Figure]], scale: Scale, creation_us: float) -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "processors": os.cpu_count(),
        "file_creation_us": round(creation_us, 1),
        "scale": dataclasses.asdict(scale),
        "figures": {
            name: [dataclasses.asdict(figure) | {"met": figure.met} for figure in each]
            for name, each in figures.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
