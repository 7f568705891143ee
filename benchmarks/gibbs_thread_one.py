"""Effective draws a second on the first thread's model: Gibbs against the thread's own program."""

from __future__ import annotations

import clusterwise as cw
from benchmarks.report import Measurement
from benchmarks.sampling import compare

BAR = 500.0
REPEATS = 3


def main() -> list[Measurement]:
    """Time four chains of Gibbs sampling against the thread's program."""
    engine = cw.Gibbs(num_warmup=200, num_samples=20_000, num_chains=4)
    return compare("gibbs_thread_one", engine, repeats=REPEATS, bar=BAR)
