"""Starting values for more clusters: those of a fit of fewer, one of which is split."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from clusterwise.engines.problem import Problem
from clusterwise.engines.start import Start, StartData, portfolio
from clusterwise.inference.mixture import ScoredMixture

_SPLIT_CLUSTERS = 3
_WAYS = 2
_PORTFOLIO = 6
_JOINT = 2
_JOINT_ITERATIONS = 50
_RIDGE = 1e-3
_SETTLED = 1e-3


def splits(problem: Problem, smaller: ScoredMixture, rng: np.random.Generator) -> list[Start]:
    """Memberships of a fit of fewer clusters, with clusters split until there are enough.

    The first cluster to be split is each of those in turn whose rows the fit explains worst, by
    the average log density of its rows; each is split in several ways, by the recipes that starts
    are made with. If more clusters are missing, the worst is split again.

    Parameters
    ----------
    problem
        The problem of more clusters.
    smaller
        What was found with fewer clusters on the same rows.
    rng
        For the recipes.

    Returns
    -------
    list of Start
        Up to six.
    """
    n_components = smaller.shape[1]
    labels, density = _explained(problem, smaller)
    found = []
    for cluster in _worst(labels, density)[:_SPLIT_CLUSTERS]:
        for way in range(_WAYS):
            split = _split(problem.start_data, labels, cluster, way, rng)
            for extra in range(n_components + 1, problem.n_components):
                ranked = _worst(split, density)
                if not ranked.size:
                    break
                split = _split(problem.start_data, split, ranked[0], extra, rng)
            found.append(Start(f"split of {n_components}", split))
    return found


def own_starts(problem: Problem, rng: np.random.Generator) -> list[Start]:
    """Some of the portfolio, and memberships of a Gaussian mixture of all columns.

    The latter stands for the joint fit that an engine makes by itself, at the price of a program.
    """
    found = portfolio(problem.start_data, problem.n_components, _PORTFOLIO, rng)
    if problem.joint is None or problem.n_components == 1:
        return found
    features = problem.start_data.features
    for _ in range(_JOINT):
        labels = portfolio(
            problem.start_data._replace(regressions=()), problem.n_components, 1, rng
        )
        found.append(Start("joint density", _gaussian_clusters(features, labels[0].memberships)))
    return found


class Later:
    """Starts that are made when they are read, since they may wait for another fit.

    Parameters
    ----------
    make
        What makes them.
    """

    def __init__(self, make: Callable[[], list[Start]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Start]:
        return iter(self._make())


def _explained(problem: Problem, smaller: ScoredMixture) -> tuple[np.ndarray, np.ndarray]:
    """The cluster (n,) of each row of the sample, and the row's log density there."""
    rows = problem.sample.unpacked(0)[:, :-1]
    scores = smaller.scores(rows, range(smaller.n_parts))[:, 0]
    return scores.argmax(axis=1), scores.max(axis=1)


def _worst(labels: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Clusters with at least two rows, the one whose rows have the lowest density first."""
    clusters, counts = np.unique(labels, return_counts=True)
    clusters = clusters[counts > 1]
    mean = [density[labels == k].mean() for k in clusters]
    return clusters[np.argsort(mean, kind="stable")]


def _split(
    data: StartData, labels: np.ndarray, cluster: int, way: int, rng: np.random.Generator
) -> np.ndarray:
    """Labels with one cluster split in two, the second part being a new cluster."""
    rows = np.flatnonzero(labels == cluster)
    groups = np.unique(data.groups[rows], return_inverse=True)[1]
    regressions = tuple((x[rows], y[rows]) for x, y in data.regressions)
    own = StartData(data.features[rows], regressions, groups)
    halves = portfolio(own, 2, way + 1, rng)[-1].memberships
    found = labels.copy()
    found[rows[halves == 1]] = labels.max() + 1
    return found


def _gaussian_clusters(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels (n,) after some iterations of EM for Gaussian clusters, from those given."""
    n, d = features.shape
    x = (features - features.mean(axis=0)).T
    ridge = _RIDGE * np.diag(x.var(axis=1) + np.finfo(float).tiny)
    resp = np.eye(labels.max() + 1)[labels].T
    for _ in range(_JOINT_ITERATIONS):
        counts = resp.sum(axis=1) + np.finfo(float).eps
        means = resp @ x.T / counts[:, None]
        squares = (resp[:, None] * x).reshape(-1, n) @ x.T
        outer = means[:, :, None] * means[:, None]
        root = np.linalg.cholesky(squares.reshape(-1, d, d) / counts[:, None, None] - outer + ridge)
        inverse = np.linalg.inv(root)
        gap = (inverse.reshape(-1, d) @ x).reshape(-1, d, n) - inverse @ means[:, :, None]
        log_det = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
        scores = (np.log(counts) - log_det)[:, None] - 0.5 * np.square(gap).sum(axis=1)
        density = np.exp(scores - scores.max(axis=0))
        before, resp = resp, density / density.sum(axis=0)
        if np.abs(resp - before).sum() < _SETTLED * n:
            break
    return resp.argmax(axis=0)
