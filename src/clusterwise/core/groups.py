"""Rows that share one cluster: two columns of a row say where a group begins and how it counts.

The rows of a group are adjacent. Column `unit` is one over the weight of a group's first row, and
zero in its other rows: mixing weights that are linear in it count once a group, in scores and in
sums alike. Column `copies` is the weight with which a row's score enters its group's. A row without
copies, which padding is, counts for nothing and is a group of its own. A group whose rows have some
multiple of these weights counts as often, each time with a cluster of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from clusterwise.core.rows import BLOCK_ROWS, CHUNK_ROWS, RowBlock, Rows, pack_rows


class GroupColumns(NamedTuple):
    """Numbers of the two columns."""

    unit: int
    copies: int

    def begins(self, values: Any) -> Any:
        """Whether a group begins at each row of values (columns, rows)."""
        return (values[self.unit] > 0) | (values[self.copies] == 0)

    def once(self, rows: Rows) -> Any:
        """Weight of rows where a group counts once: at its first row, one for each copy of it.

        Where rows have the weights that they were marked with, there is one copy, up to rounding.
        """
        return rows.weight * rows.values[self.unit]

    def totals(
        self, values: Float[Array, "columns rows"], score: Float[Array, "k rows"]
    ) -> Float[Array, "k rows"]:
        """For every row the summed score of the rows of its group."""
        number = jnp.cumsum(self._begins_here(values)) - 1
        weighted = (score * values[self.copies]).T
        summed = jax.ops.segment_sum(weighted, number, len(number), indices_are_sorted=True)
        return summed[number].T

    def of_first(
        self, values: Float[Array, "columns rows"], given: Float[Array, " rows"]
    ) -> Float[Array, " rows"]:
        """For every row what is given for the first row of its group."""
        places = jnp.arange(given.shape[0])
        return given[lax.cummax(jnp.where(self._begins_here(values), places, 0))]

    def together(self, rows: RowBlock, order: Int[Array, " slots"]) -> Int[Array, " slots"]:
        """An order of slots in which groups are whole, padding last."""
        values = jnp.moveaxis(rows.packed, 1, 0).reshape(rows.packed.shape[1], -1)
        place = self.of_first(values, jnp.argsort(order))
        return jnp.argsort(place + order.shape[0] * (values[0] == 0), stable=True)

    def ended(self, values: Float[Array, "columns rows"]) -> Any:
        """Whether the group of each row has surely ended: all but the last one have."""
        places = jnp.arange(values.shape[1])
        return places < jnp.max(jnp.where(self.begins(values), places, 0))

    def _begins_here(self, values: Float[Array, "columns rows"]) -> Array:
        # Rows may be cut out of their chunk within a group that does not count.
        return self.begins(values).at[0].set(True)

    def mark(self, rows: np.ndarray, weight: np.ndarray, numbers: np.ndarray) -> None:
        """Fill in the two columns of rows (n, columns) of groups with these numbers (n,).

        Rows without weight come after all others.
        """
        first = np.ones(len(rows), bool)
        first[1:] = numbers[1:] != numbers[:-1]
        rows[:, self.copies] = weight
        rows[:, self.unit] = np.divide(1, weight, out=np.zeros(len(rows)), where=first * weight > 0)


def first_rows(groups: GroupColumns | None, rows: np.ndarray) -> np.ndarray:
    """Numbers of the first rows of the groups of rows (n, columns); of all rows without groups."""
    if groups is None:
        return np.arange(len(rows))
    begins = groups.begins(rows.T)
    begins[:1] = True
    return np.flatnonzero(begins)


def group_sizes(first: np.ndarray, n_rows: int) -> np.ndarray:
    """Rows of each group, from the numbers of first rows."""
    return np.diff(np.append(first, n_rows))


def sum_groups(groups: GroupColumns | None, rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Scores (n, ...) of rows (n, columns) summed over the rows of each one's group."""
    if groups is None:
        return scores
    first = first_rows(groups, rows)
    copies = rows[:, groups.copies].reshape(-1, *(1,) * (scores.ndim - 1))
    summed = np.add.reduceat(scores * copies, first, axis=0)
    return np.repeat(summed, group_sizes(first, len(rows)), axis=0)


def rows_of_groups(
    groups: GroupColumns | None, rows: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows of some groups, one after the other, and where each begins there."""
    if groups is None:
        return numbers, np.arange(len(numbers))
    first = first_rows(groups, rows)
    sizes = group_sizes(first, len(rows))[numbers]
    begins = np.cumsum(sizes) - sizes
    within = np.arange(sizes.sum()) - np.repeat(begins, sizes)
    return np.repeat(first[numbers], sizes) + within, begins


def some_groups(groups: GroupColumns | None, rows: np.ndarray, most: int) -> np.ndarray:
    """Rows of groups that are spread evenly, about `most` of them."""
    n = len(first_rows(groups, rows))
    wanted = max(1, min(n, most * n // max(len(rows), 1)))
    numbers = np.linspace(0, n - 1, wanted).round().astype(int)
    return rows[rows_of_groups(groups, rows, numbers)[0]]


def whole_pieces(groups: GroupColumns | None, rows: np.ndarray, size: int) -> list[slice]:
    """Successive rows, about `size` at a time and more only where one group has more."""
    if groups is None:
        return [slice(i, i + size) for i in range(0, len(rows), size)]
    return _pieces(first_rows(groups, rows), len(rows), size)


def _pieces(first: np.ndarray, n_rows: int, size: int) -> list[slice]:
    ends = np.append(first[1:], n_rows)
    found, begin = [], 0
    while begin < n_rows:
        last = np.searchsorted(ends, begin + size, side="right") - 1
        stop = int(ends[max(last, np.searchsorted(ends, begin, side="right"))])
        found.append(slice(begin, stop))
        begin = stop
    return found


def pack_groups(
    values: np.ndarray, weight: np.ndarray, groups: GroupColumns, chunk_rows: int = CHUNK_ROWS
) -> list[np.ndarray]:
    """Pack rows (n, columns) of any number into blocks whose chunks end where groups do.

    Chunks have room for the largest group.
    """
    first = first_rows(groups, values)
    largest = int(group_sizes(first, len(values)).max())
    if len(values) <= chunk_rows:
        return [pack_rows(values, weight)]
    size = max(chunk_rows, 1 << (largest - 1).bit_length())
    pieces = _pieces(first, len(values), size)
    at_a_time = max(1, BLOCK_ROWS // size)
    found = []
    for i in range(0, len(pieces), at_a_time):
        some = pieces[i : i + at_a_time]
        chunks = min(at_a_time, 1 << (max(len(pieces), 1) - 1).bit_length())
        packed = np.zeros((chunks, values.shape[1] + 1, size))
        for chunk, piece in zip(packed, some, strict=False):
            chunk[:-1, : piece.stop - piece.start] = values[piece].T
            chunk[-1, : piece.stop - piece.start] = weight[piece]
        found.append(packed)
    return found
