"""Starting values: a portfolio of memberships from recipes that fail on different data.

No recipe finds the best optimum everywhere, so that each contributes some starts: random labels,
k-means on everything and on the response, elemental subsets taken where residuals are large, and
for a regression without covariate density the memberships of the joint model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.cluster.vq import kmeans2

Labels = np.ndarray

_SUBSETS = 60


class StartData(NamedTuple):
    """A sample of rows in standard units.

    `features` are all numeric columns without the constant; `regressions` pairs of regressors,
    the constant among them, and responses; `response` the responses side by side.
    """

    features: np.ndarray
    regressions: tuple[tuple[np.ndarray, np.ndarray], ...]

    @property
    def n_rows(self) -> int:
        return self.features.shape[0]

    @property
    def response(self) -> np.ndarray:
        return np.concatenate([y for _, y in self.regressions], axis=1)


class Start(NamedTuple):
    """Memberships to start from and the recipe they come from."""

    recipe: str
    labels: Labels


def portfolio(
    data: StartData, n_components: int, n_starts: int, rng: np.random.Generator
) -> list[Start]:
    """Starts from each recipe in turn, most promising first.

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
    if n_components == 1 or data.n_rows <= n_components:
        return [Start("rows in turn", np.arange(data.n_rows) % n_components)]
    recipes: list[tuple[str, Callable[[], Labels]]] = [
        ("k-means", lambda: _k_means(data.features, n_components, rng)),
        ("random", lambda: rng.integers(n_components, size=data.n_rows)),
    ]
    if data.regressions:
        seeded = ("residuals", lambda: _residual_seeding(data.regressions, n_components, rng))
        response = ("response", lambda: _k_means(data.response, n_components, rng))
        k_means, random = recipes
        recipes = [seeded, k_means, seeded, random, seeded, response, seeded, random]
    return [
        Start(name, recipe())
        for name, recipe in (recipes[i % len(recipes)] for i in range(n_starts))
    ]


def _k_means(features: np.ndarray, k: int, rng: np.random.Generator) -> Labels:
    scaled = features / np.where(features.std(axis=0) > 0, features.std(axis=0), 1.0)
    # An empty cluster leaves k-means with fewer centres, which EM can fill again.
    _, labels = kmeans2(scaled, k, iter=15, minit="++", rng=rng, missing="warn")
    return labels


def _residual_seeding(
    regressions: tuple[tuple[np.ndarray, np.ndarray], ...], k: int, rng: np.random.Generator
) -> Labels:
    """One regression after the other, each fitted exactly to a few rows nobody explains yet.

    Of many elemental subsets (Hawkins 1993) the one wins that fits its share of the unexplained
    rows most closely.
    """
    n = regressions[0][0].shape[0]
    size = max(x.shape[1] for x, _ in regressions) + 1
    errors = np.full((k, n), np.inf)
    for j in range(k):
        nearest = errors.min(axis=0)
        if j == 0:
            unexplained = np.arange(n)
        else:
            unexplained = np.argsort(-nearest)[: max(size, int(n * (k - j) / k))]
        subsets = np.stack(
            [
                rng.choice(unexplained, size=min(size, unexplained.size), replace=False)
                for _ in range(_SUBSETS)
            ]
        )
        error = sum(_subset_errors(x, y, subsets) for x, y in regressions)
        share = max(size, int(0.8 * unexplained.size / (k - j)))
        ranked = np.partition(error[:, unexplained], min(share, unexplained.size) - 1, axis=1)
        errors[j] = error[np.argmin(ranked[:, : min(share, unexplained.size)].sum(axis=1))]
    return errors.argmin(axis=0)


def _subset_errors(x: np.ndarray, y: np.ndarray, subsets: np.ndarray) -> np.ndarray:
    """Squared residuals (subsets, n) of all rows from least squares on each subset."""
    few_x, few_y = x[subsets], y[subsets]
    gram = np.swapaxes(few_x, 1, 2) @ few_x
    ridge = 1e-9 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(x.shape[1])
    coefficients = np.linalg.solve(gram + ridge, np.swapaxes(few_x, 1, 2) @ few_y)
    residuals = y - np.einsum("np,spq->snq", x, coefficients)
    return np.square(residuals).sum(axis=2)
