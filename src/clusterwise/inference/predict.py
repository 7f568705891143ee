"""Prediction of one response: a mixture of normals for every row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from clusterwise.inference.mixture import log_sum_exp

_STEPS = 100


@dataclass(frozen=True)
class NormalMixture:
    """For each row a mixture of normals in data units.

    `log_weights` and `means` are (n, m), `sds` (m,), with m the clusters of all draws.
    """

    log_weights: np.ndarray
    means: np.ndarray
    sds: np.ndarray

    def mean(self) -> np.ndarray:
        """Expectation (n,)."""
        return (np.exp(self.log_weights) * self.means).sum(axis=1)

    def log_density(self, y: np.ndarray) -> np.ndarray:
        """Log density (n, g) at values y (n, g)."""
        z = (y[:, :, None] - self.means[:, None, :]) / self.sds
        normal = -0.5 * np.square(z) - np.log(self.sds) - 0.5 * np.log(2 * np.pi)
        return log_sum_exp(self.log_weights[:, None, :] + normal)

    def quantile(self, q: np.ndarray) -> np.ndarray:
        """Quantiles (n, q) by bisection with Newton steps."""
        weights = np.exp(self.log_weights)
        found = [self._quantile(weights, float(level)) for level in q]
        return np.stack(found, axis=1)

    def _quantile(self, weights: np.ndarray, level: float) -> np.ndarray:
        low = (self.means - 40 * self.sds).min(axis=1)
        high = (self.means + 40 * self.sds).max(axis=1)
        y = (weights * self.means).sum(axis=1)
        for _ in range(_STEPS):
            z = (y[:, None] - self.means) / self.sds
            excess = (weights * ndtr(z)).sum(axis=1) - level
            slope = (weights * np.exp(-0.5 * np.square(z)) / self.sds).sum(axis=1)
            low, high = np.where(excess < 0, y, low), np.where(excess < 0, high, y)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                newton = y - excess * np.sqrt(2 * np.pi) / slope
            inside = (newton > low) & (newton < high)
            new = np.where(inside, newton, (low + high) / 2)
            if np.all(np.abs(new - y) <= 1e-12 * (1e-300 + np.abs(high - low) + np.abs(y))):
                return new
            y = new
        return y

    def sample(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Draws (size, n)."""
        cumulative = np.cumsum(np.exp(self.log_weights), axis=1)
        cumulative /= cumulative[:, -1:]
        n = self.means.shape[0]
        drawn = np.empty((size, n))
        for i in range(size):
            chosen = (cumulative < rng.random((n, 1))).sum(axis=1)
            drawn[i] = self.means[np.arange(n), chosen] + self.sds[chosen] * rng.normal(size=n)
        return drawn
