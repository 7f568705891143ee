"""One partition that stands for a posterior of partitions, and how far the draws lie from it.

Both losses depend on a draw z and a candidate c through counts alone: with n_a, n_z and n_az the
rows of the candidate's clusters, of the draw's and of both,

    sum f(n_a) + sum f(n_z) - 2 sum f(n_az)

is n times the variation of information (Meila 2007) for f(x) = x log2 x, and twice the number of
pairs on which they disagree (Binder 1978) for f(x) = x^2. So nothing here needs an n x n matrix.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.cluster.hierarchy import average, cut_tree

from clusterwise.core.errors import DataError, OptionError
from clusterwise.inference.similarity import label_counts, similarity
from clusterwise.inference.sweep import LOSSES, Contingency, improve

_LINKAGE_ROWS = 1_000
_SCREEN_ROWS = 2_000
_SCREEN_DRAWS = 200


class PointPartition(NamedTuple):
    """A partition of least expected loss.

    Attributes
    ----------
    labels
        (n,) clusters from 0, the largest first.
    expected_loss
        Average loss over the draws: bits of variation of information, or the share of pairs of
        rows that are together in one and apart in the other.
    loss
        "vi" or "binder".
    start
        What the improvement started from: "draw", "linkage" or "candidate".
    """

    labels: np.ndarray
    expected_loss: float
    loss: str
    start: str


class CredibleBall(NamedTuple):
    """The smallest ball around a partition with a given share of the draws, and its edge.

    Attributes
    ----------
    radius
        Distance of the farthest draw inside.
    share
        Share of the draws inside, at least the level asked for.
    horizontal
        (n,) a draw at the radius.
    upper
        (n,) of the draws inside with the fewest clusters, the farthest.
    lower
        (n,) of the draws inside with the most clusters, the farthest.
    distances
        (draws,) distance of every draw from the partition.
    """

    radius: float
    share: float
    horizontal: np.ndarray
    upper: np.ndarray
    lower: np.ndarray
    distances: np.ndarray


def partition_distances(
    labels: np.ndarray, partition: np.ndarray, *, loss: str = "vi"
) -> np.ndarray:
    """Distance (draws,) of each draw's partition from one partition.

    Parameters
    ----------
    labels
        (draws, n) integer labels from 0.
    partition
        (n,) integer labels.
    loss
        "vi": variation of information in bits; "binder": share of pairs of rows that are together
        in one and apart in the other, which is one minus the Rand index.

    Examples
    --------
    >>> import numpy as np
    >>> from clusterwise.inference.partition import partition_distances
    >>> partition_distances(np.array([[0, 0, 1, 1], [0, 0, 0, 0]]), np.array([1, 1, 0, 0]))
    array([0., 1.])
    """
    labels = _checked(labels, loss)
    if partition.shape != labels.shape[1:]:
        raise DataError(
            f"The partition has shape {partition.shape} and the draws {labels.shape[1]} rows."
        )
    return Contingency(labels, _compact(partition), LOSSES[loss]).distances()


def point_partition(
    labels: np.ndarray,
    *,
    loss: str = "vi",
    candidates: np.ndarray | None = None,
    max_clusters: int | None = None,
    n_starts: int = 4,
    max_sweeps: int = 20,
) -> PointPartition:
    """The partition that minimises the expected loss over the draws.

    The variation of information leads to fewer small clusters than Binder's loss (Wade and
    Ghahramani 2018). The best of the draws, of cuts of an average-linkage tree on the similarity
    of some rows, and of the candidates are improved by moving single rows, also into clusters of
    their own, until no such move lowers the expected loss (in the manner of Dahl, Johnson and
    Mueller 2022). It is a search: nothing better was found, not nothing better exists.

    Parameters
    ----------
    labels
        (draws, n) integer labels from 0, of any numbering. Some hundred draws are enough.
    loss
        "vi" (variation of information) or "binder".
    candidates
        (candidates, n) further partitions to start from, such as the point fit's.
    max_clusters
        Most clusters of the partition; by default one more than any draw or candidate has.
    n_starts
        How many of the best starts are improved.
    max_sweeps
        Most sweeps over the rows for each start.

    Raises
    ------
    OptionError
        Where the loss is unknown or a number is below 1.
    DataError
        Where labels are not integers (draws, n) from 0.

    Examples
    --------
    >>> import numpy as np
    >>> from clusterwise.inference.partition import point_partition
    >>> draws = np.array([[0, 0, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 1, 1]])
    >>> point_partition(draws).labels
    array([1, 1, 0, 0, 0])
    """
    labels = _checked(labels, loss)
    for name, value in {"n_starts": n_starts, "max_sweeps": max_sweeps}.items():
        if value < 1:
            raise OptionError(f"{name}={value}: expected at least 1.")
    if max_clusters is not None and max_clusters < 1:
        raise OptionError(f"max_clusters={max_clusters}: expected at least 1.")
    given = np.empty((0, labels.shape[1]), int) if candidates is None else np.atleast_2d(candidates)
    if given.shape[1] != labels.shape[1]:
        raise DataError(
            f"Candidates have shape {given.shape} and the draws {labels.shape[1]} rows."
        )
    given = np.array([_compact(one) for one in given], dtype=np.int64).reshape(-1, labels.shape[1])
    most = max_clusters
    if most is None:
        most = 1 + max(
            [int((label_counts(labels) > 0).sum(axis=1).max()), *(given.max(axis=1) + 1)]
        )
    most = min(most, labels.shape[1])
    pool = [("candidate", one) for one in given]
    pool += [("draw", labels[d]) for d in _best_draws(labels, loss, n_starts)]
    pool += [("linkage", one) for one in _linkage_cuts(labels, loss, most, n_starts)]
    starts = []
    for origin, one in pool:
        compact = _compact(one)
        compact[compact >= most] = most - 1  # the smallest become one
        table = Contingency(labels, compact, LOSSES[loss])
        starts.append((table.expected(), len(starts), origin, table))
    starts.sort(key=lambda start: start[:2])
    best: tuple[float, str, np.ndarray] | None = None
    seen: list[np.ndarray] = []
    for _, _, origin, table in starts:
        if len(seen) >= n_starts:
            break
        if any(np.array_equal(table.partition, other) for other in seen):
            continue
        seen.append(table.partition.copy())
        improve(table, most, max_sweeps)
        value = table.expected()
        if best is None or value < best[0] - 1e-12:
            best = (value, origin, table.partition)
    assert best is not None
    return PointPartition(_compact(best[2]), best[0], loss, best[1])


def credible_ball(
    labels: np.ndarray, partition: np.ndarray, *, level: float = 0.95, loss: str = "vi"
) -> CredibleBall:
    """Smallest ball around a partition with at least `level` of the draws.

    Wade and Ghahramani (2018), section 4.

    Parameters
    ----------
    labels
        (draws, n) integer labels from 0.
    partition
        (n,) integer labels, the ball's centre.
    level
        Share of the draws, above 0 and at most 1.
    loss
        "vi" or "binder".

    Raises
    ------
    OptionError
        Where the level or the loss is not among those.

    Examples
    --------
    >>> import numpy as np
    >>> from clusterwise.inference.partition import credible_ball
    >>> draws = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]])
    >>> ball = credible_ball(draws, np.array([0, 0, 1, 1]), level=0.7)
    >>> (ball.radius, ball.share)
    (0.0, 0.75)
    """
    if not 0 < level <= 1:
        raise OptionError(f"level={level}: expected above 0 and at most 1.")
    labels = _checked(labels, loss)
    distances = partition_distances(labels, partition, loss=loss)
    needed = int(np.ceil(level * len(labels) - 1e-9))
    radius = float(np.sort(distances)[needed - 1])
    inside = distances <= radius + 1e-12
    clusters = (label_counts(labels) > 0).sum(axis=1)

    def farthest(among: np.ndarray) -> np.ndarray:
        return _compact(labels[np.argmax(np.where(among, distances, -1.0))])

    return CredibleBall(
        radius,
        float(inside.mean()),
        farthest(inside),
        farthest(inside & (clusters == clusters[inside].min())),
        farthest(inside & (clusters == clusters[inside].max())),
        distances,
    )


def _checked(labels: np.ndarray, loss: str) -> np.ndarray:
    if loss not in LOSSES:
        raise OptionError(f"loss={loss!r}: expected one of {', '.join(LOSSES)}.")
    if labels.ndim != 2 or not labels.size or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"Labels of shape {labels.shape}: expected integers (draws, n).")
    if labels.min() < 0:
        raise DataError("Labels must not be negative.")
    return labels


def _compact(partition: np.ndarray) -> np.ndarray:
    """The same partition with labels from 0, the largest cluster first."""
    _, first, labels, counts = np.unique(
        partition, return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(counts), dtype=np.int64)
    rank[np.lexsort((first, -counts))] = np.arange(len(counts))
    return rank[labels]


def _rows(n: int, most: int) -> np.ndarray:
    """At most some rows, spread by a fixed random order."""
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(0).permutation(n)[:most])


def _spread(draws: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, draws - 1, min(draws, most)).astype(int))


def _best_draws(labels: np.ndarray, loss: str, number: int) -> np.ndarray:
    """Draws of least expected loss on some rows."""
    some = labels[:, _rows(labels.shape[1], _SCREEN_ROWS)]
    tried = _spread(len(labels), _SCREEN_DRAWS)
    against = some[_spread(len(labels), _SCREEN_DRAWS)]
    values = [Contingency(against, _compact(some[d]), LOSSES[loss]).expected() for d in tried]
    return tried[np.argsort(values, kind="stable")[:number]]


def _linkage_cuts(labels: np.ndarray, loss: str, most: int, number: int) -> list[np.ndarray]:
    """Cuts of an average-linkage tree on the similarity of some rows, the best few, all rows."""
    rows = _rows(labels.shape[1], _LINKAGE_ROWS)
    if len(rows) < 2:
        return []
    some = labels[:, rows]
    near = similarity(some)
    tree = average(1 - near[np.triu_indices(len(rows), 1)])
    numbers = np.arange(1, min(most, len(rows)) + 1)
    cuts = cut_tree(tree, numbers).T
    against = some[_spread(len(labels), _SCREEN_DRAWS)]
    values = [Contingency(against, _compact(cut), LOSSES[loss]).expected() for cut in cuts]
    best = [_compact(cuts[i]) for i in np.argsort(values, kind="stable")[:number]]
    if len(rows) == labels.shape[1]:
        return best
    return [_extended(labels, rows, cut) for cut in best]


def _extended(labels: np.ndarray, rows: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """Give every row the cluster whose rows it shares clusters with most often, on average."""
    k = int(labels.max()) + 1
    near = np.zeros((labels.shape[1], int(cut.max()) + 1))
    sizes = np.bincount(cut)
    for draw in labels:
        shared = np.zeros((k, len(sizes)))
        np.add.at(shared, (draw[rows], cut), 1)
        near += (shared / sizes)[draw]
    return near.argmax(axis=1)
