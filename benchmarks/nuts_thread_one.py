"""Effective draws a second on the first thread's model: NUTS here against the thread's program.

Both sides run NumPyro's NUTS with the same priors on the same rows; here the clusters are summed
out in one pass over the rows that gives value and gradient, and chains move in the coordinates of a
variational fit.
"""

from __future__ import annotations

import clusterwise as cw
from benchmarks.report import Measurement
from benchmarks.sampling import compare

BAR = 30.0
REPEATS = 2


def main() -> list[Measurement]:
    """Time four chains of NUTS against the thread's program."""
    engine = cw.NUTS(num_warmup=300, num_samples=2000, num_chains=4)
    return compare("nuts_thread_one", engine, repeats=REPEATS, bar=BAR)
