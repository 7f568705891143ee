"""Counts of one partition against many draws, kept up to date while rows move."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import xlogy

_BLOCK_NUMBERS = 2_000_000


class Loss(NamedTuple):
    """A loss on partitions: the function of counts, and what makes its sum a distance."""

    function: Callable[[np.ndarray], np.ndarray]
    scale: Callable[[int], float]


LOSSES = {
    "vi": Loss(lambda x: xlogy(x, x) / np.log(2), lambda n: 1.0 / n),
    "binder": Loss(lambda x: x * x, lambda n: 1.0 / max(n * (n - 1), 1)),
}


class Contingency:
    """Rows (draws, k, clusters) that each label of each draw shares with each cluster.

    Parameters
    ----------
    labels
        (draws, n) labels of the draws.
    partition
        (n,) the partition, labels from 0; kept and changed.
    loss
        The loss.
    """

    def __init__(self, labels: np.ndarray, partition: np.ndarray, loss: Loss) -> None:
        self.labels = labels
        self.partition = np.array(partition, dtype=np.int64)
        draws, n = labels.shape
        self.scale = loss.scale(n)
        self.values = loss.function(np.arange(n + 2, dtype=float))
        """The loss's function at 0, 1, ..., n + 1."""
        k, clusters = int(labels.max()) + 1, int(self.partition.max()) + 1
        self.counts = np.empty((draws, k, clusters), dtype=np.int64)
        for d in range(draws):
            index = labels[d].astype(np.int64) * clusters + self.partition
            both = np.bincount(index, minlength=k * clusters)
            self.counts[d] = both.reshape(k, clusters)

    @property
    def sizes(self) -> np.ndarray:
        """Rows (clusters,) of the partition's clusters."""
        return self.counts[0].sum(axis=0)

    def distances(self) -> np.ndarray:
        """Loss (draws,) of the partition against each draw."""
        f = self.values
        own, both = f[self.counts.sum(axis=2)].sum(axis=1), f[self.counts].sum(axis=(1, 2))
        return np.maximum((f[self.sizes].sum() + own - 2 * both) * self.scale, 0)

    def expected(self) -> float:
        """Average loss over the draws."""
        return float(self.distances().mean())

    def with_empty(self) -> None:
        """Add a cluster without rows."""
        self.counts = np.concatenate([self.counts, np.zeros_like(self.counts[:, :, :1])], axis=2)

    def drop_empty(self) -> None:
        """Take clusters without rows away."""
        kept = self.sizes > 0
        if not kept.all():
            self.partition = (np.cumsum(kept) - 1)[self.partition]
            self.counts = self.counts[:, :, kept]

    def move(self, row: int, cluster: int) -> None:
        """Put a row into another cluster."""
        draws = np.arange(len(self.labels))
        self.counts[draws, self.labels[:, row], self.partition[row]] -= 1
        self.counts[draws, self.labels[:, row], cluster] += 1
        self.partition[row] = cluster

    def row_gains(self, row: int, sizes: np.ndarray) -> np.ndarray:
        """Change (clusters,) of the average loss if one row moved to each cluster."""
        own, f = self.partition[row], self.values
        shared = self.counts[np.arange(len(self.labels)), self.labels[:, row]]
        up = (f[sizes + 1] - f[sizes]) - 2 * (f[shared + 1] - f[shared]).mean(axis=0)
        at = shared[:, own]
        down = (f[sizes[own]] - f[sizes[own] - 1]) - 2 * (f[at] - f[at - 1]).mean()
        gains = (up - down) * self.scale
        gains[own] = 0
        return gains

    def movable(self, tolerance: float) -> np.ndarray:
        """Rows that gain by a move, were they to move alone, the largest gain first."""
        f, sizes, counts = self.values, self.sizes, self.counts
        up = f[counts + 1] - f[counts]
        down = f[counts] - f[np.maximum(counts - 1, 0)]
        n, clusters = len(self.partition), len(sizes)
        gains = np.empty(n)
        step = max(1, _BLOCK_NUMBERS // clusters)
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            own = self.partition[rows]
            here = np.arange(len(own))
            joined, left = np.zeros((len(own), clusters)), np.zeros(len(own))
            for d, labels in enumerate(self.labels[:, rows]):
                joined += up[d, labels]
                left += down[d, labels, own]
            gain = (f[sizes + 1] - f[sizes]) - 2 * joined / len(self.labels)
            gain -= ((f[sizes] - f[np.maximum(sizes - 1, 0)])[own] - 2 * left / len(self.labels))[
                :, None
            ]
            gain[here, own] = 0
            gains[rows] = gain.min(axis=1) * self.scale
        rows = np.flatnonzero(gains < -tolerance)
        return rows[np.argsort(gains[rows], kind="stable")]


def improve(table: Contingency, max_clusters: int, max_sweeps: int) -> None:
    """Move rows while that lowers the average loss.

    A sweep looks at all rows at once and then, one after the other, at those that would gain;
    each moves if it still gains. A row may also open a cluster of its own.
    """
    tolerance = 1e-12
    for _ in range(max_sweeps):
        changed = False
        if len(table.sizes) < max_clusters:
            table.with_empty()
        sizes = table.sizes
        for row in table.movable(tolerance):
            gains = table.row_gains(row, sizes)
            best = int(gains.argmin())
            if gains[best] < -tolerance:
                sizes[table.partition[row]] -= 1
                sizes[best] += 1
                table.move(row, best)
                changed = True
        table.drop_empty()
        if not changed:
            return
