"""Seconds to choose among 1 to 8 clusters, against scikit-learn's mixture by the same criterion.

Each side runs in a process of its own, with nothing compiled before: what a first call takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings

import numpy as np
import pandas as pd

from benchmarks.report import Measurement

REPEATS = 2
ROWS, COLUMNS, CLUSTERS, MOST = 10_000, 5, 4, 8


def draw_rows() -> pd.DataFrame:
    """Draw rows of four clusters that overlap."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, COLUMNS))
    cluster = rng.choice(CLUSTERS, ROWS, p=[0.4, 0.3, 0.2, 0.1])
    slopes = 2 * rng.normal(size=(CLUSTERS, COLUMNS + 1))
    y = slopes[cluster, 0] + (x * slopes[cluster, 1:]).sum(axis=1)
    data = pd.DataFrame(x, columns=[f"x{j + 1}" for j in range(COLUMNS)])
    return data.assign(y=y + 0.7 * rng.normal(size=ROWS))


def ours(data: pd.DataFrame) -> int:
    """Number of clusters that BIC takes."""
    import clusterwise as cw

    model = cw.Model("y ~ " + " + ".join(data.columns[:-1]))
    found = cw.select(model, data, range(1, MOST + 1), random_state=0)
    return found.best.n_components


def theirs(data: pd.DataFrame) -> int:
    """The same of Gaussian clusters of all columns, ten starts for each number."""
    from sklearn.mixture import GaussianMixture

    fits = [
        GaussianMixture(k, n_init=10, random_state=0).fit(data.to_numpy())
        for k in range(1, MOST + 1)
    ]
    return 1 + int(np.argmin([fit.bic(data.to_numpy()) for fit in fits]))


SIDES = {"ours": ours, "theirs": theirs}


def _in_a_process(side: str) -> dict[str, float]:
    run = [sys.executable, "-m", "benchmarks.select_clusters", side]
    uncached = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(run, check=True, capture_output=True, text=True, env=uncached)
    return json.loads(done.stdout)


def main() -> list[Measurement]:
    """Time both sides in turns."""
    found = [{side: _in_a_process(side) for side in SIDES} for _ in range(REPEATS)]
    best = {s: min((one[s] for one in found), key=lambda one: one["seconds"]) for s in SIDES}
    said = {side: f"{one['seconds']:.1f} s, takes {one['taken']}" for side, one in best.items()}
    ratio = best["theirs"]["seconds"] / best["ours"]["seconds"]
    what = f"1 to {MOST} clusters, {ROWS:,} rows, {COLUMNS} regressors"
    return [Measurement("select_clusters", what, said["ours"], said["theirs"], ratio)]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    rows = draw_rows()
    start = time.perf_counter()
    taken = SIDES[sys.argv[1]](rows)
    print(json.dumps({"seconds": time.perf_counter() - start, "taken": taken}))
