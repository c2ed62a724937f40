"""How much a run of the benchmarks does."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Rounds of each kind of measurement, and the sizes of what is measured."""

    calls: int  # rounds of what takes milliseconds
    listings: int  # rounds of what takes tens of milliseconds
    starts: int  # rounds of what takes most of a second
    floods: int  # rounds of what takes seconds
    sessions: int
    runs: int
    tasks: int
    mib: int
    streams: int


FULL = Scale(calls=200, listings=50, starts=15, floods=7, sessions=10_000, runs=1_000, tasks=50, mib=64, streams=200)
QUICK = Scale(calls=3, listings=2, starts=1, floods=1, sessions=60, runs=20, tasks=4, mib=1, streams=10)
