"""Starting values: a portfolio of memberships from recipes that fail on different data.

No recipe finds the best optimum everywhere, so that each contributes some starts: random labels,
k-means on everything and on the response, regressions through a few rows each where the others
explain least or one after the other, and, for a regression without covariate density, the
memberships of the joint model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Labels = np.ndarray
Regressions = tuple[tuple[np.ndarray, np.ndarray], ...]

_SUBSETS = 60


class StartData(NamedTuple):
    """A sample of rows in standard units.

    `features` are all numeric columns without the constant; `regressions` pairs of regressors,
    the constant among them, and responses; `response` the responses side by side. `groups` are the
    numbers (n,) of the groups that share a cluster, ascending from zero.
    """

    features: np.ndarray
    regressions: Regressions
    groups: np.ndarray

    @property
    def n_rows(self) -> int:
        return self.features.shape[0]

    @property
    def n_groups(self) -> int:
        return int(self.groups[-1]) + 1

    @property
    def response(self) -> np.ndarray:
        return np.concatenate([y for _, y in self.regressions], axis=1)

    def averaged(self, values: np.ndarray) -> np.ndarray:
        """Means (n, ...) of values (n, ...) over each row's group."""
        if self.n_groups == self.n_rows:
            return values
        first = np.searchsorted(self.groups, np.arange(self.n_groups))
        sizes = np.bincount(self.groups).reshape(-1, *(1,) * (values.ndim - 1))
        return (np.add.reduceat(values, first) / sizes)[self.groups]


class Start(NamedTuple):
    """Memberships of the sample's rows to start from, and the recipe they come from.

    Each row's cluster (n,), or the probabilities (n, k) of all clusters.
    `places` (k,) has the cluster that each component is; None: the largest comes first, or where
    components are not alike the first.
    """

    recipe: str
    memberships: np.ndarray
    places: np.ndarray | None = None

    def resp(self, n_components: int) -> np.ndarray:
        """Probabilities (n, k)."""
        given = self.memberships
        return given if given.ndim == 2 else np.eye(n_components)[given]


def portfolio(
    data: StartData, n_components: int, n_starts: int, rng: np.random.Generator
) -> list[Start]:
    """Starts from each recipe in turn, most promising first.

    Rows of one group have one label: k-means sees group means, and regressions are close to groups
    by the average squared residual.

    Parameters
    ----------
    data
        Sample of rows.
    n_components
        Number of clusters.
    n_starts
        Number of starts; one is enough for one cluster.
    rng
        Source of randomness.
    """
    if n_components == 1 or data.n_groups <= n_components:
        return [Start("rows in turn", data.groups % n_components)]
    recipes: list[tuple[str, Callable[[], Labels]]] = [
        ("k-means", lambda: _k_means(data.averaged(data.features), n_components, rng)),
        ("random", lambda: rng.integers(n_components, size=data.n_groups)[data.groups]),
    ]
    if data.regressions:
        seeded = ("residuals", lambda: _residual_seeding(data, n_components, rng))
        peeled = ("peeling", lambda: _peeling(data, n_components, rng))
        response = (
            "response",
            lambda: _k_means(data.averaged(data.response), n_components, rng),
        )
        k_means, random = recipes
        recipes = [seeded, k_means, peeled, random, seeded, response, peeled, random]
    return [
        Start(name, recipe())
        for name, recipe in (recipes[i % len(recipes)] for i in range(n_starts))
    ]


def _k_means(features: np.ndarray, k: int, rng: np.random.Generator) -> Labels:
    from scipy.cluster.vq import kmeans2

    scaled = features / np.where(features.std(axis=0) > 0, features.std(axis=0), 1.0)
    distinct, labels = np.unique(scaled, axis=0, return_inverse=True)
    if len(distinct) <= k:
        return labels.reshape(-1)
    # An empty cluster leaves k-means with fewer centres, which EM can fill again.
    _, labels = kmeans2(scaled, k, iter=15, minit="++", rng=rng, missing="warn")
    return labels


def _residual_seeding(data: StartData, k: int, rng: np.random.Generator) -> Labels:
    """One regression after the other, each through rows that those before explain worst."""
    n = data.n_rows
    errors = np.full((k, n), np.inf)
    for j in range(k):
        nearest = errors.min(axis=0)
        unexplained = np.argsort(-nearest)[: max(_size(data), int(n * (k - j) / k))]
        share = 0.8 / (k - j)
        errors[j], _ = _closest_regression(data, unexplained, share, rng)
    return errors.argmin(axis=0)


def _peeling(data: StartData, k: int, rng: np.random.Generator) -> Labels:
    """One regression after the other, each taking the rows close to it away."""
    n = data.n_rows
    labels = np.full(n, k - 1)
    remaining = np.arange(n)
    for j in range(k - 1):
        if remaining.size < _size(data):
            break
        share = rng.uniform(0.4, 0.9) / (k - j)
        error, reach = _closest_regression(data, remaining, share, rng)
        close = error[remaining] <= 4 * reach
        labels[remaining[close]] = j
        remaining = remaining[~close]
    return labels


def _size(data: StartData) -> int:
    """Rows in an elemental subset."""
    return max(x.shape[1] for x, _ in data.regressions) + 1


def _closest_regression(
    data: StartData, rows: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Squared residuals of the elemental fit (Hawkins 1993) that is closest to a share of rows.

    The second result is the largest squared residual in that share.
    """
    size = min(_size(data), rows.size)
    subsets = np.stack([_subset(data, rows, size, rng) for _ in range(_SUBSETS)])
    error = np.sum([_subset_errors(x, y, subsets) for x, y in data.regressions], axis=0)
    error = data.averaged(error.T).T
    count = min(max(size, int(share * rows.size)), rows.size)
    ranked = np.partition(error[:, rows], count - 1, axis=1)
    best = int(np.argmin(ranked[:, :count].sum(axis=1)))
    return error[best], float(ranked[best, count - 1])


def _subset(data: StartData, rows: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Some of the rows, from one group first: those have one cluster."""
    chosen = rng.choice(rows, size=size, replace=False)
    if data.n_groups == data.n_rows:
        return chosen
    together = rng.permutation(rows[data.groups[rows] == data.groups[chosen[0]]])[:size]
    return np.array(list(dict.fromkeys([*together, *chosen]))[:size])


def _subset_errors(x: np.ndarray, y: np.ndarray, subsets: np.ndarray) -> np.ndarray:
    """Squared residuals (subsets, n) of all rows from least squares on each subset."""
    few_x, few_y = x[subsets], y[subsets]
    gram = np.swapaxes(few_x, 1, 2) @ few_x
    ridge = 1e-9 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(x.shape[1])
    coefficients = np.linalg.solve(gram + ridge, np.swapaxes(few_x, 1, 2) @ few_y)
    residuals = y - np.einsum("np,spq->snq", x, coefficients)
    return np.square(residuals).sum(axis=2)
