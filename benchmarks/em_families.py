"""Seconds of one EM iteration with other responses than Gaussian, against the Gaussian one.

The same regressors, rows and clusters for each; as in `em_iteration` the time of an iteration is
the difference between a long and a short fit from the same start.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd

from benchmarks.report import Measurement, interleaved

BAR = 1 / 4
REPEATS = 3
ROWS, COLUMNS, CLUSTERS = 1_000_000, 5, 4
ITERATIONS = (3, 23)


def draw_rows() -> pd.DataFrame:
    """Draw the same predictors and, for each family, a response from them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, COLUMNS))
    slopes = 0.5 * rng.normal(size=(CLUSTERS, COLUMNS))
    predictor = (x * slopes[rng.integers(CLUSTERS, size=ROWS)]).sum(axis=1)
    data = {f"x{j + 1}": x[:, j] for j in range(COLUMNS)}
    data["gaussian"] = predictor + rng.normal(scale=0.5, size=ROWS)
    data["poisson"] = rng.poisson(np.exp(predictor)).astype(float)
    data["bernoulli"] = (rng.random(ROWS) < 1 / (1 + np.exp(-predictor))).astype(float)
    return pd.DataFrame(data)


def fit(data: pd.DataFrame, family: str, iterations: int) -> Callable[[], object]:
    """A call that fits a mixture with a fixed number of iterations."""
    import clusterwise as cw

    right = " + ".join(f"x{j + 1}" for j in range(COLUMNS))
    model = cw.Model(f"{family} ~ {right}", family=family, n_components=CLUSTERS)
    engine = cw.EM(max_iter=iterations, tol=0, n_init=1)

    def run() -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return model.fit(data, engine=engine, random_state=0)

    return run


def main() -> list[Measurement]:
    """Time an iteration of every family."""
    data = draw_rows()
    families = ("gaussian", "poisson", "bernoulli")
    sides = [fit(data, family, m) for family in families for m in ITERATIONS]
    for side in sides:
        side()
    times = [min(t) for t in interleaved(sides, REPEATS)]
    steps = ITERATIONS[1] - ITERATIONS[0]
    seconds = [(long - short) / steps for short, long in zip(times[::2], times[1::2], strict=True)]
    return [
        Measurement(
            "em_families",
            f"{family}, n={ROWS:.0e}, D={COLUMNS}, K={CLUSTERS}",
            f"{own * 1e3:.4g} ms",
            f"{seconds[0] * 1e3:.4g} ms (Gaussian)",
            seconds[0] / own,
            BAR,
        )
        for family, own in zip(families[1:], seconds[1:], strict=True)
    ]
