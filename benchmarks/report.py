"""What a benchmark hands back, and how its two sides are timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

HEADER = ("benchmark", "measured", "clusterwise", "other side", "ratio", "bar", "")


@dataclass(frozen=True)
class Measurement:
    """Two figures of one run, their ratio, and the bar that the ratio is held to."""

    benchmark: str
    what: str
    ours: str
    other: str
    ratio: float
    bar: float | None = None
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the ratio is on the right side of the bar; a missing ratio (NaN) is not."""
        if self.bar is None:
            return True
        return self.ratio <= self.bar if self.at_most else self.ratio >= self.bar

    def cells(self) -> tuple[str, ...]:
        """The measurement as a row of the table."""
        bar, verdict = "", ""
        if self.bar is not None:
            bar = f"{'<=' if self.at_most else '>='} {self.bar:g}"
            verdict = "met" if self.met else "MISSED"
        ratio = f"{self.ratio:.3g}"
        return (self.benchmark, self.what, self.ours, self.other, ratio, bar, verdict)


def table(measurements: Sequence[Measurement]) -> str:
    """All measurements as a table of plain text."""
    rows = [HEADER, *(m.cells() for m in measurements)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def seconds(side: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    side()
    return time.perf_counter() - start


def interleaved(sides: Sequence[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Seconds of every repeat of every side, the sides taking turns."""
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(repeats):
        for side, spent in zip(sides, times, strict=True):
            spent.append(seconds(side))
    return times
