"""Seconds of one EM iteration: the joint model against scikit-learn's GaussianMixture.

Both fit a mixture of full Gaussians to the same rows (x, y); clusterwise writes each as a Gaussian
of x and a regression of y on x. The time of an iteration is the difference between a long and a
short fit from the same start, so that starting values, compilation and the result cancel.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from benchmarks.report import Measurement, interleaved

BAR = 8.0
REPEATS = 3
SIZES = ((100_000, 1, 2), (1_000_000, 2, 4), (1_000_000, 10, 5))
OURS = (3, 23)
OTHER = (2, 8)


def draw_rows(n: int, d: int, k: int) -> pd.DataFrame:
    """Draw rows from k overlapping clusters, each with its own regression of y on d columns."""
    rng = np.random.default_rng(0)
    z = rng.integers(k, size=n)
    x = rng.normal(size=(n, d)) + rng.normal(scale=1.5, size=(k, d))[z]
    y = (x * rng.normal(size=(k, d))[z]).sum(axis=1) + rng.normal(scale=0.5, size=n)
    return pd.DataFrame({**{f"x{j + 1}": x[:, j] for j in range(d)}, "y": y})


def clusterwise_fit(data: pd.DataFrame, k: int, iterations: int) -> Callable[[], object]:
    """A call that fits the joint model with a fixed number of iterations."""
    import clusterwise as cw

    columns = " + ".join(data.columns[:-1])
    model = cw.Model(
        f"y ~ {columns}",
        n_components=k,
        covariates=[cw.GaussianCovariates(columns, covariance_type="full")],
        prior="flat",
    )
    engine = cw.EM(max_iter=iterations, tol=0, n_init=1)

    def fit() -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return model.fit(data, engine=engine, random_state=0)

    return fit


def sklearn_fit(rows: np.ndarray, k: int, iterations: int) -> Callable[[], object]:
    """A call that fits scikit-learn's mixture with a fixed number of iterations."""
    mixture = GaussianMixture(
        k,
        covariance_type="full",
        tol=0,
        max_iter=iterations,
        init_params="random_from_data",
        random_state=0,
    )

    def fit() -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return mixture.fit(rows)

    return fit


def main() -> list[Measurement]:
    """Time an iteration of both at every size."""
    measurements = []
    for n, d, k in SIZES:
        data = draw_rows(n, d, k)
        rows = data.to_numpy()
        sides = [clusterwise_fit(data, k, m) for m in OURS]
        for side in sides:
            side()
        sides += [sklearn_fit(rows, k, m) for m in OTHER]
        short, long, other_short, other_long = (min(t) for t in interleaved(sides, REPEATS))
        ours = (long - short) / (OURS[1] - OURS[0])
        other = (other_long - other_short) / (OTHER[1] - OTHER[0])
        print(f"n={n}, D={d}, K={k}: {ours / n * 1e9:.1f} and {other / n * 1e9:.1f} ns a row")
        measurements.append(
            Measurement(
                "em_iteration",
                f"n={n:.0e}, D={d}, K={k}",
                f"{ours * 1e3:.4g} ms",
                f"{other * 1e3:.4g} ms",
                other / ours,
                BAR,
            )
        )
    return measurements
