"""Label switching: which component of a draw is which cluster, and how sure that is.

A mixture's density does not change when its components are renumbered, so a sampler may number
them differently in every draw. All methods here maximise, draw by draw, the sum over clusters l
of `match[permutation[l], l]`, where `match[k, l]` adds over rows; they differ in the reference
that a draw is matched to. They look at the memberships of rows and never at the order of a
parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from clusterwise.core.errors import DataError, OptionError
from clusterwise.engines.relabelling import match_components

RowBlocks = np.ndarray | Callable[[], Iterable[np.ndarray]]
"""Membership probabilities (draws, rows, k) whole, or a function giving them in blocks of rows."""

METHODS = ("pivot", "ecr", "stephens")

# Probabilities below this count as this: one row that a cluster cannot have made must not decide.
_FLOOR = 1e-6
_BLOCK_NUMBERS = 4_000_000


class Relabelling(NamedTuple):
    """Draws matched to clusters.

    Attributes
    ----------
    permutation
        (draws, k): `permutation[d, l]` is the sampler's label of cluster l in draw d.
    match
        (draws, k, l): expected log probability, by `average`, that the rows which the relabelled
        draw gives cluster k belong to cluster l. `confidence` reads it.
    average
        (rows, k): probabilities of clusters, averaged over the relabelled draws.
    n_iter
        Passes over the draws.
    converged
        Whether the last pass changed nothing; True for a pivot.
    """

    permutation: np.ndarray
    match: np.ndarray
    average: np.ndarray
    n_iter: int
    converged: bool


def relabel(
    memberships: RowBlocks,
    reference: np.ndarray | None = None,
    *,
    method: str = "ecr",
    max_iter: int = 100,
    groups: np.ndarray | None = None,
) -> Relabelling:
    """Match the components of every draw to clusters.

    - "pivot": to the reference, once (Marin, Mengersen and Robert 2005).
    - "ecr": to the partition that puts each row where the relabelled draws put it most often,
      in turn until nothing changes: iterative equivalence-classes representatives
      (Papastamoulis and Iliopoulos 2010; Rodriguez and Walker 2014).
    - "stephens": to the average of the relabelled draws' probabilities, by Kullback-Leibler
      divergence, in turn until nothing changes (Stephens 2000).

    Parameters
    ----------
    memberships
        (draws, rows, k) probabilities that a row belongs to each component, or integer labels
        (draws, rows). Or a function that gives such arrays over successive rows; it is called
        once an iteration, so memory holds one block.
    reference
        (rows, k) probabilities, or labels (rows,), of the point fit. The clusters get its
        numbers, and iterations start from it. By default the first draw; a pivot needs one.
    method
        "pivot", "ecr" or "stephens".
    max_iter
        Most passes over the draws.
    groups
        (k,) group of each component; only components of one group change places. None: all are
        one, since nothing but their numbers tells components apart.

    Returns
    -------
    Relabelling
        Renumbering the components of draws beforehand changes its `permutation` and nothing
        else, but for exact ties, such as between components without rows.

    Raises
    ------
    OptionError
        Where the method is unknown, or a pivot has no reference.
    DataError
        Where shapes do not agree or probabilities are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from clusterwise.inference.relabel import relabel
    >>> labels = np.array([[0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1]])
    >>> relabel(labels, np.array([0, 0, 1, 1])).permutation
    array([[0, 1],
           [1, 0],
           [0, 1]])
    """
    if method not in METHODS:
        raise OptionError(f"method={method!r}: expected one of {', '.join(METHODS)}.")
    if max_iter < 1:
        raise OptionError(f"max_iter={max_iter}: expected at least 1.")
    if method == "pivot" and reference is None:
        raise OptionError("method='pivot' needs the reference that draws are matched to.")
    k = _components(memberships, reference)
    given = None if reference is None else _as_probabilities(np.asarray(reference), k)
    start = 0
    parts = []
    match: np.ndarray | None = None
    for block in _blocks(memberships, k):
        rows = block.shape[1]
        if given is not None and start + rows > len(given):
            raise DataError(f"The reference has {len(given)} rows and the draws have more.")
        target = block[0] if given is None else given[start : start + rows]
        start += rows
        parts.append(target)
        match = _add(match, _scores(block, target))
    if match is None:
        raise DataError("There are no rows to match draws by.")
    if given is not None and start != len(given):
        raise DataError(f"The reference has {len(given)} rows and the draws have {start}.")
    first = np.concatenate(parts)
    permutation = match_components(match, groups)
    n_iter, converged = 1, method == "pivot"
    while not converged and n_iter < max_iter:
        match, _ = _match(memberships, permutation, hard=method == "ecr")
        before, permutation = permutation, match_components(match, groups)
        n_iter += 1
        # Within a tie the old permutation is as good, and changes would go on for ever.
        tied = _value(match, permutation) <= _value(match, before) + 1e-9 * len(first)
        permutation = np.where(tied[:, None], before, permutation)
        converged = bool(tied.all())
    match, average = _match(memberships, permutation, hard=False)
    # Clusters take the numbers of the point fit, from which the average may have drifted.
    order = np.arange(k) if method == "pivot" else match_components(average.T @ _log(first), groups)
    permutation = permutation[:, order]
    match = np.take_along_axis(match[:, :, order], permutation[:, :, None], axis=1)
    return Relabelling(permutation, match, average[:, order], n_iter, converged)


def apply_permutation(values: np.ndarray, permutation: np.ndarray, axis: int = 1) -> np.ndarray:
    """Reorder the component axis of values whose first axis is the draw.

    Parameters
    ----------
    values
        (draws, ...) with components along `axis`.
    permutation
        (draws, k).
    axis
        Axis of components.

    Examples
    --------
    >>> import numpy as np
    >>> from clusterwise.inference.relabel import apply_permutation
    >>> apply_permutation(np.array([[5.0, 7.0], [7.0, 5.0]]), np.array([[0, 1], [1, 0]]))
    array([[5., 7.],
           [5., 7.]])
    """
    shape = [1] * values.ndim
    shape[0], shape[axis] = permutation.shape
    return np.take_along_axis(values, permutation.reshape(shape), axis=axis)


def relabel_labels(labels: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    """Labels (draws, rows) of the sampler as cluster numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from clusterwise.inference.relabel import relabel_labels
    >>> relabel_labels(np.array([[0, 2, 1]]), np.array([[2, 0, 1]]))
    array([[1, 0, 2]])
    """
    return np.take_along_axis(np.argsort(permutation, axis=1), labels, axis=1)


def _components(memberships: RowBlocks, reference: np.ndarray | None) -> int:
    if reference is not None and np.ndim(reference) == 2:
        return np.shape(reference)[1]
    highest = -1 if reference is None else int(np.max(reference))
    for block in [memberships] if isinstance(memberships, np.ndarray) else memberships():
        if block.ndim == 3:
            return block.shape[2]
        highest = max(highest, int(block.max()))
    return highest + 1


def _blocks(memberships: RowBlocks, k: int) -> Iterator[np.ndarray]:
    for whole in [memberships] if isinstance(memberships, np.ndarray) else memberships():
        if whole.ndim not in (2, 3) or (whole.ndim == 3 and whole.shape[2] != k):
            raise DataError(
                f"Memberships of shape {whole.shape}: expected probabilities (draws, rows, {k}) "
                "or labels (draws, rows)."
            )
        step = max(1, _BLOCK_NUMBERS // max(whole.shape[0] * k, 1))
        for i in range(0, whole.shape[1], step):
            yield _as_probabilities(whole[:, i : i + step], k, labels=whole.ndim == 2)


def _as_probabilities(values: np.ndarray, k: int, labels: bool | None = None) -> np.ndarray:
    if values.ndim == 1 or labels:
        if not np.issubdtype(values.dtype, np.integer):
            raise DataError("Labels must be integers; probabilities need an axis of components.")
        if values.size and (values.min() < 0 or values.max() >= k):
            raise DataError(f"Labels lie outside 0 to {k - 1}.")
        return np.eye(k)[values]
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all():
        raise DataError("Membership probabilities have values that are not finite.")
    return values


def _log(target: np.ndarray) -> np.ndarray:
    return np.log((target + _FLOOR) / (1 + target.shape[1] * _FLOOR))


def _match(
    memberships: RowBlocks, permutation: np.ndarray, *, hard: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Match (draws, k, l) to the average of the relabelled draws, and that average (rows, l).

    Hard: to the partition that the average makes most probable, row by row.
    """
    k = permutation.shape[1]
    match: np.ndarray | None = None
    parts = []
    for block in _blocks(memberships, k):
        average = _average(block, permutation)
        parts.append(average)
        match = _add(match, _scores(block, np.eye(k)[average.argmax(axis=1)] if hard else average))
    assert match is not None
    return match, np.concatenate(parts)


def _scores(block: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(draws, k, l): expected log probability, under the target's l, of rows of component k."""
    return np.matmul(block.transpose(0, 2, 1), _log(target))


def _average(block: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    draws, rows, k = block.shape
    total = np.empty((rows, k))
    for label in range(k):
        total[:, label] = block[np.arange(draws), :, permutation[:, label]].mean(axis=0)
    return total


def _add(total: np.ndarray | None, part: np.ndarray) -> np.ndarray:
    return part if total is None else total + part


def _value(match: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    return np.take_along_axis(match, permutation[:, None, :], axis=1)[:, 0, :].sum(axis=1)
