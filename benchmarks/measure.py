"""Timing that holds on a noisy machine: every method once a round, in random order, and only medians are quoted.

A ratio or a difference is taken within each round first, so that a slow moment of the machine hits both sides.
"""

import gc
import random
import statistics
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

IDLE_SECS = 30.0  # that one benchmark spends in all on waiting for idle moments
IDLE_ONCE_SECS = 0.25
STAT = Path("/proc/stat")

Method = Callable[[], float]  # does the work once; the seconds it took


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number beside its aim; `beside` says what it was measured against."""

    name: str
    value: float
    unit: Literal["ms", "x", "MiB", "1/s"]
    aim: float
    more_is_better: bool = False
    beside: Mapping[str, float]
    rounds: int

    @property
    def met(self) -> bool:
        """Whether the aim was reached."""
        return self.value >= self.aim if self.more_is_better else self.value <= self.aim


@dataclass(frozen=True, slots=True)
class Samples:
    """Seconds of each method, one for each round."""

    seconds: Mapping[str, Sequence[float]]

    @property
    def rounds(self) -> int:
        """How many rounds there were."""
        return len(next(iter(self.seconds.values())))

    def median_ms(self, name: str) -> float:
        """The median of a method."""
        return statistics.median(self.seconds[name]) * 1000

    def ratio(self, name: str, floor: str) -> float:
        """The median of the ratios within each round."""
        return statistics.median(a / b for a, b in self._pairs(name, floor))

    def added_ms(self, name: str, floor: str) -> float:
        """The median of the differences within each round."""
        return statistics.median(a - b for a, b in self._pairs(name, floor)) * 1000

    def _pairs(self, name: str, floor: str) -> Iterator[tuple[float, float]]:
        return zip(self.seconds[name], self.seconds[floor], strict=True)

    def figure(self, title: str, name: str, *, aim: float, over: str | None = None, times: str | None = None) -> Figure:
        """What a method takes: in ms, `over` another in ms, or as `times` another."""
        floor = over or times
        value = self.ratio(name, times) if times else self.added_ms(name, over) if over else self.median_ms(name)
        beside = {f"{each} ms": round(self.median_ms(each), 3) for each in (name, floor) if each}
        return Figure(name=title, value=value, unit="x" if times else "ms", aim=aim, beside=beside, rounds=self.rounds)


def interleaved(methods: Mapping[str, Method], rounds: int, *, warmup: int = 2) -> Samples:
    """Run every method once a round, in an order that is new each time."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    order = list(methods)
    idle = Idle()
    with still():
        for number in range(-warmup, rounds):
            random.shuffle(order)
            for name in order:
                idle.wait()
                taken = methods[name]()
                if number >= 0:
                    seconds[name].append(taken)
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{max(number + 1, 0)} of {rounds} rounds ")
    if sys.stderr.isatty():
        sys.stderr.write("\r" + " " * 30 + "\r")
    return Samples(seconds)


class Idle:
    """Waits, never long, for a moment at which the machine does nothing else."""

    def __init__(self, patience_secs: float = IDLE_SECS) -> None:
        self._left = patience_secs

    def wait(self) -> None:
        """Wait for such a moment as long as there is patience left."""
        until = time.perf_counter() + min(IDLE_ONCE_SECS, self._left)
        while _running() > 1 and time.perf_counter() < until:
            time.sleep(0.002)
            self._left -= 0.002


def _running() -> int:
    """Processes that use a processor now, this one included; 1 where the system does not tell."""
    try:
        with STAT.open("rb") as stat:
            return next(int(line.split()[1]) for line in stat if line.startswith(b"procs_running"))
    except OSError:
        return 1


@contextmanager
def still() -> Generator[None]:
    """No garbage collection of ours in the middle of a measurement."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def timed(work: Callable[[], object]) -> Method:
    """`work` as a method."""

    def method() -> float:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun

    return method
