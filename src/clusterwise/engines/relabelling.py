"""Draws take the labels of a pivot, the point that they were started from."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from clusterwise.core.block import AbstractBlock, Statistics
from clusterwise.core.runtime import Program, parallel_map


@Program
def match_program(
    block: AbstractBlock, statistics: Statistics, parameters: Any
) -> Float[Array, "draw k l"]:
    """How well each draw's component k fits the rows of the pivot's l."""

    def match(point: Any) -> Array:
        return block.cross_score(point.moments(), statistics).T

    return jax.vmap(match)(parameters)


def relabel_to_pivot(
    block: AbstractBlock, statistics: Statistics, parameters: PyTree, groups: np.ndarray
) -> tuple[PyTree, np.ndarray]:
    """Give the components of each draw the places where the pivot's rows fit them best.

    Parameters
    ----------
    block
        The model.
    statistics
        Statistics of the rows under the pivot's memberships.
    parameters
        Draws with leading axes (chain, draw).
    groups
        (k,) group of each component; only components of one group change places, for they alone
        differ by their numbers and nothing else.

    Returns
    -------
    The draws reordered, and (chain, draw, l) the sampler's label of component l.
    """

    def chain(number: int) -> np.ndarray:
        draws = jax.tree.map(lambda leaf: leaf[number], parameters)
        return match_components(np.asarray(match_program(block, statistics, draws)), groups)

    n_chains = jax.tree.leaves(parameters)[0].shape[0]
    permutation = np.stack(parallel_map(chain, range(n_chains)))
    return permute(parameters, permutation), permutation


def match_components(match: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Assign the components of each draw to a pivot's.

    Parameters
    ----------
    match
        (..., k, l): how well the rows of a draw's component k fit the pivot's l.
    groups
        (k,) group of each component, within which it may go to another place; None: all are one.

    Returns
    -------
    (..., l): the draw's component that takes the place of the pivot's component l.
    """
    from scipy.optimize import linear_sum_assignment

    k = match.shape[-1]
    if groups is not None:
        match = np.where(groups[:, None] == groups, match, -np.inf)
    flat = match.reshape(-1, k, k)
    best = flat.argmax(axis=1)
    # Where each pivot component prefers another one, preferences are already the solution.
    for i in np.flatnonzero((np.sort(best, axis=1) != np.arange(k)).any(axis=1)):
        own, pivot = linear_sum_assignment(flat[i], maximize=True)
        best[i, pivot] = own
    return best.reshape(*match.shape[:-2], k)


def by_weight(log_weights: np.ndarray, kinds: np.ndarray | None) -> np.ndarray:
    """Order (k,) of components by weight, the largest first, within those that are alike.

    Parameters
    ----------
    log_weights
        (k,)
    kinds
        (k,) the same number for components that may trade places; None: all are alike.
    """
    order = np.argsort(-np.asarray(log_weights), kind="stable")
    if kinds is None:
        return order
    found = np.empty_like(order)
    for kind in np.unique(kinds):
        places = np.flatnonzero(kinds == kind)
        found[places] = order[np.isin(order, places)]
    return found


def permute(parameters: PyTree, permutation: np.ndarray) -> PyTree:
    """Reorder the component axis, the third one, of draws (chain, draw, component, ...)."""
    chain, draw, k = permutation.shape

    def reorder(leaf: np.ndarray) -> np.ndarray:
        if leaf.ndim == 2 or leaf.shape[2] != k:
            return leaf
        index = permutation.reshape(chain, draw, k, *(1,) * (leaf.ndim - 3))
        return np.take_along_axis(leaf, index, axis=2)

    return jax.tree.map(reorder, parameters)


def reorder(tree: Any, order: np.ndarray, axis: int) -> Any:
    """Reorder the component axis of every array that has one."""

    def take(leaf: Any) -> np.ndarray:
        array = np.asarray(leaf)
        has_components = array.ndim > axis and array.shape[axis] == order.size
        return np.take(array, order, axis=axis) if has_components else array

    return jax.tree.map(take, tree)
