"""Blocked Gibbs sampling: all clusters of all rows, then all parameters, in turn.

Ishwaran and James (2001) for stick-breaking weights; Diebolt and Robert (1994) for mixtures.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from clusterwise.core.block import AbstractBlock
from clusterwise.core.rows import RowBlock
from clusterwise.core.runtime import Program, parallel_map
from clusterwise.engines.ascent import Progress, is_wide
from clusterwise.engines.step import Totals, sampling, sampling_program
from clusterwise.sources.source import Source

_PROGRAM_SWEEPS = 50


class _Sweep(NamedTuple):
    parameters: Any
    log_density: Float[Array, ""]
    match: Float[Array, "k l"]
    """Score of the rows drawn into cluster k under cluster l of the pivot."""


class Draws(NamedTuple):
    """Draws with leading axes (chain, draw), relabelled to the pivot."""

    parameters: PyTree
    log_density: np.ndarray
    permutation: np.ndarray
    """`permutation[..., l]` is the sampler's label of component l."""
    stats: dict[str, np.ndarray] | None = None
    """What the sampler notes of each draw, by ArviZ's names."""


def _update(
    block: AbstractBlock,
    prior: Any,
    pivot: Any,
    parameters: Any,
    totals: Totals,
    key: PRNGKeyArray,
) -> _Sweep:
    posterior = block.posterior(totals.statistics, prior, parameters.moments())
    match = block.cross_score(pivot, totals.statistics)
    return _Sweep(posterior.sample(key), totals.log_density, match)


@partial(Program, hot=True)
def _sweeps_program(
    block: AbstractBlock, prior: Any, pivot: Any, rows: RowBlock, parameters: Any, key: PRNGKeyArray
) -> _Sweep:
    """Some sweeps over rows that are in memory; arrays lead with the sweep."""

    def sweep(now: Any, sweep_key: PRNGKeyArray) -> tuple[Any, _Sweep]:
        row_key, parameter_key = jax.random.split(sweep_key)
        totals = sampling(block, now.moments(), rows, row_key)
        after = _update(block, prior, pivot, now, totals, parameter_key)
        return after.parameters, after

    return lax.scan(sweep, parameters, jax.random.split(key, _PROGRAM_SWEEPS))[1]


_update_program = Program(_update)


@Program
def _sample_program(posterior: Any, key: PRNGKeyArray) -> Any:
    return posterior.sample(key)


@Program
def _moments_program(parameters: Any) -> Any:
    return parameters.moments()


def _sweeps_over_blocks(
    block: AbstractBlock,
    prior: Any,
    pivot: Any,
    source: Source,
    parameters: Any,
    key: PRNGKeyArray,
) -> _Sweep:
    """The same where rows lie in several blocks."""
    kept = []
    for sweep_key in jax.random.split(key, _PROGRAM_SWEEPS):
        row_key, parameter_key = jax.random.split(sweep_key)
        program = partial(_sample_block, block, _moments_program(parameters), row_key)
        totals = source.sum_numbered(program)
        after = _update_program(block, prior, pivot, parameters, totals, parameter_key)
        parameters = after.parameters
        kept.append(jax.tree.map(np.asarray, after))
    return jax.tree.map(lambda *parts: np.stack(parts), *kept)


def _sample_block(
    block: AbstractBlock, moments: Any, key: PRNGKeyArray, part: int, rows: RowBlock
) -> Totals:
    return sampling_program(block, moments, rows, jax.random.fold_in(key, part))


def run_gibbs(
    block: AbstractBlock,
    prior: Any,
    source: Source,
    start: Any,
    pivot: Any,
    *,
    num_warmup: int,
    num_samples: int,
    num_chains: int,
    key: PRNGKeyArray,
    progress: Progress,
) -> Draws:
    """Sample from a starting posterior and relabel against a pivot's moments.

    Chains start from independent draws of `start` and run side by side.
    """
    keys = jax.random.split(key, num_chains)
    in_one_program = source.n_blocks == 1 and not is_wide(source)
    rounds = -(-(num_warmup + num_samples) // _PROGRAM_SWEEPS)
    total = num_chains * rounds
    done = 0

    def sweeps(parameters: Any, sweep_key: PRNGKeyArray) -> _Sweep:
        if in_one_program:
            return _sweeps_program(block, prior, pivot, source.block(0), parameters, sweep_key)
        return _sweeps_over_blocks(block, prior, pivot, source, parameters, sweep_key)

    def chain(chain_key: PRNGKeyArray) -> _Sweep:
        nonlocal done
        start_key, chain_key = jax.random.split(chain_key)
        parameters = _sample_program(start, start_key)
        kept = []
        for i in range(rounds):
            part = sweeps(parameters, jax.random.fold_in(chain_key, i))
            part = jax.tree.map(np.asarray, part)
            parameters = jax.tree.map(lambda leaf: leaf[-1], part.parameters)
            kept.append(part)
            done += 1
            progress("blocks of sweeps", done, total)
        joined = jax.tree.map(lambda *parts: np.concatenate(parts), *kept)
        return jax.tree.map(lambda leaf: leaf[num_warmup : num_warmup + num_samples], joined)

    # Over several blocks the rows of a sweep already use all cores.
    run = parallel_map if in_one_program else map
    chains = list(run(chain, list(keys)))
    drawn = jax.tree.map(lambda *parts: np.stack(parts), *chains)
    permutation = match_components(drawn.match)
    return Draws(permute(drawn.parameters, permutation), drawn.log_density, permutation)


def match_components(match: np.ndarray) -> np.ndarray:
    """Assign the components of each draw to a pivot's.

    Parameters
    ----------
    match
        (..., k, l): how well the rows of a draw's component k fit the pivot's l.

    Returns
    -------
    (..., l): the draw's component that takes the place of the pivot's component l.
    """
    from scipy.optimize import linear_sum_assignment

    k = match.shape[-1]
    flat = match.reshape(-1, k, k)
    best = flat.argmax(axis=1)
    # Where each pivot component prefers another one, preferences are already the solution.
    for i in np.flatnonzero((np.sort(best, axis=1) != np.arange(k)).any(axis=1)):
        own, pivot = linear_sum_assignment(flat[i], maximize=True)
        best[i, pivot] = own
    return best.reshape(*match.shape[:-2], k)


def permute(parameters: PyTree, permutation: np.ndarray) -> PyTree:
    """Reorder the component axis, the third one, of draws (chain, draw, component, ...)."""
    chain, draw, k = permutation.shape

    def reorder(leaf: np.ndarray) -> np.ndarray:
        if leaf.ndim == 2 or leaf.shape[2] != k:
            return leaf
        index = permutation.reshape(chain, draw, k, *(1,) * (leaf.ndim - 3))
        return np.take_along_axis(leaf, index, axis=2)

    return jax.tree.map(reorder, parameters)
