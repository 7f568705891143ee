"""Fit the joint model to a Parquet file and print what it took, as JSON; run by out_of_core."""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

import clusterwise as cw

SHORT, LONG = 2, 12


def fit_seconds(path: str, engine: cw.EM) -> float:
    """Wall seconds of one fit."""
    model = cw.Model("y ~ x1 + x2", n_components=4, covariates="x1 + x2")
    start = time.perf_counter()
    model.fit(path, engine=engine, random_state=0)
    return time.perf_counter() - start


def peak_bytes() -> int:
    """Peak resident memory of this process alone: `ru_maxrss` would include its parent's."""
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in s)
    return int(line.split()[1]) * 1024


def main(path: str, mode: str) -> None:
    """Fit with the defaults ("full"), or a short and a long run of one start ("fixed")."""
    warnings.simplefilter("ignore")
    if mode == "full":
        spent = fit_seconds(path, cw.EM())
    else:
        _, short, long = (
            fit_seconds(path, cw.EM(max_iter=m, tol=0, n_init=1)) for m in (SHORT, SHORT, LONG)
        )
        spent = (long - short) / (LONG - SHORT)
    print(json.dumps({"seconds": spent, "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
