"""The first thread's clusters, and what is asked of posterior draws of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from arviz_stats.base import array_stats
from scipy.optimize import linear_sum_assignment

MEANS = np.array([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
SLOPES = np.array([[1.0, 4.0], [3.0, 2.0], [4.0, 1.0], [-3.0, -2.0]])
COEFFICIENTS = np.column_stack([np.zeros(4), SLOPES])
COVARIANCE = 0.1
SIGMA = 0.5


@dataclass(frozen=True)
class Draws:
    """Posterior draws, arrays of shape (chain, draw, component, ...)."""

    means: np.ndarray
    coefficients: np.ndarray

    @property
    def least_ess(self) -> float:
        """Least bulk effective sample size over the means and the coefficients."""
        return min(_least_ess(self.means), _least_ess(self.coefficients))

    def covered(self, probability: float = 0.99) -> tuple[int, int]:
        """How many true values lie in their central interval, and how many there are."""
        distance = ((self.means.mean(axis=(0, 1))[:, None] - MEANS) ** 2).sum(axis=-1)
        component, truth = linear_sum_assignment(distance)
        draws = np.concatenate([self.means, self.coefficients], axis=-1)[:, :, component]
        true = np.concatenate([MEANS, COEFFICIENTS], axis=-1)[truth]
        tail = (1 - probability) / 2
        low, high = np.quantile(draws, [tail, 1 - tail], axis=(0, 1))
        return int(((low <= true) & (true <= high)).sum()), true.size


def draw_rows(n: int, seed: int) -> pd.DataFrame:
    """Draw n rows, clusters having equal weights; each row has random numbers of its own."""
    rng = np.random.default_rng(seed)
    z = rng.integers(len(MEANS), size=n)
    x = rng.normal(MEANS[z], np.sqrt(COVARIANCE))
    y = rng.normal((x * SLOPES[z]).sum(axis=1), SIGMA)
    return pd.DataFrame({"x1": x[:, 0], "x2": x[:, 1], "y": y})


def _least_ess(draws: np.ndarray) -> float:
    return float(np.min(array_stats.ess(draws, chain_axis=0, draw_axis=1, method="bulk")))
