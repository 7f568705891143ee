"""Are ranks uniform? Chi-square, and the simultaneous band of their distribution function."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
from scipy import special, stats

BINS = 16
POINTS = 32
_LEVELS = np.concatenate([np.geomspace(1e-14, 0.1, 40), np.linspace(0.12, 1.0, 30)])


def chi_square(ranks: np.ndarray, n_draws: int, bins: int = BINS) -> float:
    """p-value of the counts of `bins` equal groups of ranks."""
    return float(stats.chisquare(histogram(ranks, n_draws, bins)).pvalue)


def histogram(ranks: np.ndarray, n_draws: int, bins: int = BINS) -> np.ndarray:
    """Counts of `bins` equal groups of the ranks 0 to `n_draws`."""
    if (n_draws + 1) % bins:
        raise ValueError(f"{n_draws + 1} ranks do not make {bins} groups of one size.")
    return np.bincount(np.asarray(ranks) * bins // (n_draws + 1), minlength=bins)


def pointwise_limits(n: int, level: float, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest counts below i / points that a two-sided binomial test does not refuse."""
    share = np.arange(1, points) / points
    low = stats.binom.ppf(level / 2, n, share)
    high = stats.binom.isf(level / 2, n, share)
    return low.astype(int), high.astype(int)


def exit_probability(n: int, level: float, points: int = POINTS) -> float:
    """Probability that uniform ranks leave the pointwise limits anywhere.

    Algorithm of Sailynoja, Buerkner and Vehtari (2022, Statistics and Computing 32): the counts
    below successive points are a Markov chain with binomial steps. What leaves is summed, so that
    small probabilities keep their digits.
    """
    low, high = pointwise_limits(n, level, points)
    log_factorial = special.gammaln(np.arange(n + 1) + 1.0)
    count, probability, lost = np.array([0]), np.array([1.0]), 0.0
    for i in range(points - 1):
        step = 1 / (points - i)
        reached = np.arange(n + 1)
        added = reached[None, :] - count[:, None]
        rest = n - count[:, None] - added
        possible = added >= 0
        log_pmf = (
            log_factorial[n - count][:, None]
            - log_factorial[np.where(possible, added, 0)]
            - log_factorial[rest]
            + added * np.log(step)
            + rest * np.log1p(-step)
        )
        after = probability @ np.where(possible, np.exp(log_pmf), 0.0)
        kept = (reached >= low[i]) & (reached <= high[i])
        lost += after[~kept].sum()
        count, probability = reached[kept], after[kept]
    return float(lost)


@cache
def _exits(n: int, points: int) -> np.ndarray:
    """Exit probability on a grid of pointwise levels."""
    return np.array([exit_probability(n, level, points) for level in _LEVELS[:-1]] + [1.0])


def band_level(n: int, family: float = 0.05, points: int = POINTS) -> float:
    """Pointwise level at which uniform ranks leave the band with probability `family`."""
    low, high = 1e-12, 1.0
    for _ in range(18):
        middle = np.sqrt(low * high)
        low, high = (
            (middle, high) if exit_probability(n, middle, points) < family else (low, middle)
        )
    return float(low)


def ecdf_counts(ranks: np.ndarray, n_draws: int, points: int = POINTS) -> np.ndarray:
    """How many ranks are below i / points of all possible ones, i = 1, ..., points - 1."""
    return np.cumsum(histogram(ranks, n_draws, points))[:-1]


def ecdf_test(ranks: np.ndarray, n_draws: int, points: int = POINTS) -> float:
    """p-value of the largest departure from the band, simultaneous over its points."""
    n = len(ranks)
    counts = ecdf_counts(ranks, n_draws, points)
    share = np.arange(1, points) / points
    below = stats.binom.cdf(counts, n, share)
    above = stats.binom.sf(counts - 1, n, share)
    level = min(1.0, 2 * float(np.minimum(below, above).min()))
    exits = _exits(n, points)
    # A level below the grid is as good as impossible.
    log_p = np.interp(np.log(max(level, _LEVELS[0])), np.log(_LEVELS), np.log(exits + 1e-300))
    return float(min(1.0, np.exp(log_p)))


def holm(p_values: Iterable[float]) -> np.ndarray:
    """p-values adjusted for their number (Holm 1979): the family-wise error rate is held."""
    p = np.asarray(list(p_values), float)
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    found = np.empty_like(p)
    found[order] = np.minimum(adjusted, 1.0)
    return found
