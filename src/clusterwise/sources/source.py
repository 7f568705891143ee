"""All rows of a fit, as blocks of one shape."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import numpy as np

from clusterwise.core.rows import RowBlock
from clusterwise.core.runtime import parallel_map
from clusterwise.sources.store import AbstractStore


class Source:
    """Rows to fit to.

    Parameters
    ----------
    store
        Packed blocks, as `clusterwise.core.rows.pack_rows` makes them.
    n_rows
        Number of rows.
    total_weight
        Sum of their weights.
    absent
        (patterns, columns) of missing values, whose number rows then have behind their columns.
    largest_group
        Rows of the largest group that shares a cluster.
    """

    def __init__(
        self,
        store: AbstractStore,
        n_rows: int,
        total_weight: float,
        absent: np.ndarray | None = None,
        largest_group: int = 1,
    ) -> None:
        self._store = store
        self._absent = absent
        self.n_rows = n_rows
        self.total_weight = total_weight
        self.largest_group = largest_group

    @property
    def n_blocks(self) -> int:
        return len(self._store)

    def block(self, part: int) -> RowBlock:
        """One block of rows."""
        return RowBlock.from_packed(self._store.read(part))

    def unpacked(self, part: int) -> np.ndarray:
        """Rows of one block with their weights (n, columns + 1), NaN where values are missing."""
        packed = np.asarray(self._store.read(part))
        rows = packed.transpose(0, 2, 1).reshape(-1, packed.shape[1])
        rows = rows[rows[:, 0] != 0]
        if self._absent is None:
            return rows
        lost = self._absent[rows[:, -2].astype(int)]
        return np.column_stack([np.where(lost, np.nan, rows[:, :-2]), rows[:, -1]])

    def digest(self) -> str:
        """A number of all rows that tells whether two sources hold the same."""
        found = hashlib.sha256()
        for part in range(self.n_blocks):
            found.update(np.asarray(self._store.read(part)).tobytes())
        return found.hexdigest()

    def map(self, function: Callable[[RowBlock], Any]) -> list[Any]:
        """Apply a program to every block, on all cores; results in order, as NumPy arrays."""
        return self._map(lambda part, rows: function(rows))

    def sum(self, function: Callable[[RowBlock], Any]) -> Any:
        """Sum a program's results over the blocks, in order, so that the sum is reproducible."""
        return self.sum_numbered(lambda part, rows: function(rows))

    def sum_numbered(self, function: Callable[[int, RowBlock], Any]) -> Any:
        """Sum `function(block number, rows)` over the blocks."""
        return reduce(lambda a, b: jax.tree.map(np.add, a, b), self._map(function))

    def _map(self, function: Callable[[int, RowBlock], Any]) -> list[Any]:
        def settled(part: int) -> Any:
            return jax.tree.map(np.asarray, function(part, self.block(part)))

        if self.n_blocks == 1:
            # A start that runs beside others is on the pool already.
            return [settled(0)]
        return parallel_map(settled, range(self.n_blocks))
