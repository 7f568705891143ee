"""How often two rows share a cluster, and how many clusters have rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from clusterwise.core.errors import DataError, OptionError

MATRIX_ROWS = 10_000
"""Rows up to which `similarity` returns the whole matrix (0.8 GB)."""

_BLOCK_NUMBERS = 8_000_000


class SimilarityBlock(NamedTuple):
    """Some rows of a similarity matrix: `values` (b, n) are rows `start` to `start + b`."""

    start: int
    values: np.ndarray


def similarity(memberships: np.ndarray) -> np.ndarray:
    """Posterior similarity matrix (n, n): the probability that two rows share a cluster.

    No renumbering of components changes it.

    Parameters
    ----------
    memberships
        Probabilities (draws, n, k) of the components given the parameters of each draw: a pair's
        probability is then the average of the sum over k of r_ik r_jk, which varies less than a
        count of drawn labels (Rao-Blackwell). Or labels (draws, n).

    Raises
    ------
    OptionError
        Where n is above `MATRIX_ROWS`; `similarity_blocks` has no such limit.

    Examples
    --------
    >>> import numpy as np
    >>> from clusterwise.inference.similarity import similarity
    >>> similarity(np.array([[0, 0, 1], [0, 1, 1]]))
    array([[1. , 0.5, 0. ],
           [0.5, 1. , 0.5],
           [0. , 0.5, 1. ]])
    """
    n = _checked(memberships).shape[1]
    if n > MATRIX_ROWS:
        raise OptionError(
            f"A similarity matrix of {n} rows has {8e-9 * n * n:.1f} GB; take it block by block "
            "with similarity_blocks, or choose rows."
        )
    whole = np.empty((n, n))
    for start, values in similarity_blocks(memberships):
        whole[start : start + len(values)] = values
    return whole


def similarity_blocks(memberships: np.ndarray, rows: int = 512) -> Iterator[SimilarityBlock]:
    """The posterior similarity matrix, some rows at a time.

    Memory holds one block (rows, n) and little else. A block of 512 of 50,000 rows takes some
    seconds for 500 draws of 4 components; thin the draws where all blocks are wanted.

    Parameters
    ----------
    memberships
        As for `similarity`.
    rows
        Rows of a block.

    Yields
    ------
    SimilarityBlock
        First row and values (b, n).
    """
    _checked(memberships)
    if rows < 1:
        raise OptionError(f"rows={rows}: expected at least 1.")
    n = memberships.shape[1]
    k = _n_components(memberships)
    step = max(1, _BLOCK_NUMBERS // (memberships.shape[0] * k))
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        values = np.zeros((stop - start, n))
        for first in range(start, stop, step):
            mine = slice(first, min(first + step, stop))
            left = _flat(memberships[:, mine], k)
            for other in range(0, n, step):
                right = _flat(memberships[:, other : other + step], k)
                values[mine.start - start : mine.stop - start, other : other + step] = (
                    left @ right.T
                )
        values /= memberships.shape[0]
        values[np.arange(stop - start), np.arange(start, stop)] = 1.0
        yield SimilarityBlock(start, values)


def label_counts(labels: np.ndarray, k: int | None = None) -> np.ndarray:
    """Rows (draws, k) of each label in each draw of labels (draws, n)."""
    draws = labels.shape[0]
    k = int(labels.max()) + 1 if k is None else k
    index = labels.astype(np.int64) + k * np.arange(draws)[:, None]
    return np.bincount(index.ravel(), minlength=draws * k).reshape(draws, k)


def occupied_clusters(counts: np.ndarray) -> pd.Series:
    """Posterior of the number of clusters that have rows.

    Parameters
    ----------
    counts
        (draws, k) rows, or their total weight, that each draw puts into each cluster.

    Returns
    -------
    pandas.Series
        Probability of each number of occupied clusters that occurred, by number.

    Examples
    --------
    >>> import numpy as np
    >>> from clusterwise.inference.similarity import occupied_clusters
    >>> occupied_clusters(np.array([[3, 2, 0], [5, 0, 0], [4, 1, 0], [1, 4, 0]]))
    occupied
    1    0.25
    2    0.75
    Name: probability, dtype: float64
    """
    if counts.ndim != 2 or not counts.size:
        raise DataError(f"Counts of shape {counts.shape}: expected (draws, k).")
    numbers, times = np.unique((counts > 0).sum(axis=1), return_counts=True)
    index = pd.Index(numbers, name="occupied")
    return pd.Series(times / len(counts), index=index, name="probability")


def _checked(memberships: np.ndarray) -> np.ndarray:
    if memberships.ndim not in (2, 3) or not memberships.size:
        raise DataError(
            f"Memberships of shape {memberships.shape}: expected probabilities (draws, rows, k) "
            "or labels (draws, rows)."
        )
    if memberships.ndim == 2 and not np.issubdtype(memberships.dtype, np.integer):
        raise DataError("Labels must be integers; probabilities need an axis of components.")
    return memberships


def _n_components(memberships: np.ndarray) -> int:
    return memberships.shape[2] if memberships.ndim == 3 else int(memberships.max()) + 1


def _flat(memberships: np.ndarray, k: int) -> np.ndarray:
    """Rows (rows, draws * k), whose inner products add up shared membership."""
    if memberships.ndim == 2:
        draws, rows = memberships.shape
        flat = np.zeros((rows, draws, k), dtype=np.float32)  # exact: the products are counts
        np.put_along_axis(flat, memberships.T[:, :, None].astype(np.intp), 1, axis=2)
        return flat.reshape(rows, -1)
    return np.ascontiguousarray(memberships.transpose(1, 0, 2)).reshape(memberships.shape[1], -1)
