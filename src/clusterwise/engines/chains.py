"""Several chains at once, block of draws after block, resumable after each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from clusterwise.core.arrays import constant
from clusterwise.core.block import AbstractBlock
from clusterwise.core.runtime import Program, n_cores, parallel_map
from clusterwise.engines.ascent import Progress
from clusterwise.engines.checkpoint import Checkpoint
from clusterwise.engines.relabelling import relabel_to_pivot
from clusterwise.engines.step import expectation_program
from clusterwise.sources.source import Source


class Draws(NamedTuple):
    """Draws with leading axes (chain, draw), relabelled to the pivot."""

    parameters: PyTree
    log_density: np.ndarray
    """Of the rows, at the parameters of each draw."""
    permutation: np.ndarray
    """`permutation[..., l]` is the sampler's label of component l."""
    stats: dict[str, np.ndarray]
    """What the sampler notes of each draw, by ArviZ's names."""


class Chains(NamedTuple):
    """How many chains, how long, and from which key."""

    num_warmup: int
    num_samples: int
    num_chains: int
    key: PRNGKeyArray
    progress: Progress
    """Called after every block of draws."""
    checkpoint: Checkpoint | None = None
    """Where the state is kept for a run that is cut off."""


class Draw(NamedTuple):
    """One draw of a chain: parameters, log density of the rows at them, what the kernel notes."""

    parameters: Any
    log_density: Float[Array, ""]
    stats: dict[str, Array]


class Sampler(NamedTuple):
    """How a group of chains starts and goes on.

    States are trees of plain arrays; a key is one a chain of the group.
    """

    start: Callable[[PRNGKeyArray], PyTree]
    """From keys (chain,) to the state of the group."""
    advance: Callable[[PyTree, PRNGKeyArray], tuple[PyTree, PyTree]]
    """From a state and keys (chain,) to the next state and a `Draw` (step, chain, ...)."""
    steps: int
    """Draws that one call of `advance` makes."""
    group: int
    """Chains of a group, which advance in one program."""
    side_by_side: bool
    """Whether groups run on a thread each; not where one alone uses all cores."""


def chains_together(num_chains: int) -> int:
    """The most chains of equal groups that still give every core one."""
    most = max(1, num_chains // n_cores())
    return next(size for size in range(most, 0, -1) if num_chains % size == 0)


def run_chains(sampler: Sampler, chains: Chains) -> Draw:
    """Run chains and drop the warm-up; results lead with (chain, draw)."""
    num_warmup, num_samples, num_chains, key, progress, checkpoint = chains
    keys = jax.random.split(key, num_chains)
    rounds = -(-(num_warmup + num_samples) // sampler.steps)
    first = num_warmup // sampler.steps
    n_groups = num_chains // sampler.group
    total, done = n_groups * rounds, 0

    def run(group: int) -> PyTree:
        nonlocal done
        own = keys[group * sampler.group : (group + 1) * sampler.group]
        start_keys, draw_keys = jax.vmap(jax.random.split, out_axes=1)(own)
        state, kept, begin = sampler.start(start_keys), [], 0
        if checkpoint is not None:
            state, kept, begin = checkpoint.restore(group, state)
        structure = None
        for i in range(begin, rounds):
            state, draws = sampler.advance(state, _fold_program(draw_keys, constant(i)))
            leaves, structure = jax.tree.flatten(draws)
            if i >= first:
                kept.append([np.asarray(leaf) for leaf in leaves])
            # The last block is not kept: it tells a resumed run what its draws are.
            if checkpoint is not None and i + 1 < rounds:
                checkpoint.keep(group, i + 1, state, kept[-1] if i >= first else None)
            done += 1
            progress("blocks of draws", done, total)
        assert structure is not None
        keep = slice(num_warmup - first * sampler.steps, None)
        joined = [np.concatenate(parts)[keep][:num_samples] for parts in zip(*kept, strict=True)]
        return jax.tree.unflatten(structure, [np.swapaxes(leaf, 0, 1) for leaf in joined])

    groups = list((parallel_map if sampler.side_by_side else map)(run, range(n_groups)))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *groups)


def draw_relabelled(
    sampler: Sampler, chains: Chains, block: AbstractBlock, prior: Any, source: Source, pivot: Any
) -> Draws:
    """Run chains and relabel their draws to a pivot's moments, as far as the prior lets labels go.

    The rows are visited once more, for what the pivot makes of them.
    """
    drawn = run_chains(sampler, chains)
    totals = source.sum(partial(expectation_program, block, pivot))
    parameters, permutation = relabel_to_pivot(
        block, totals.statistics, drawn.parameters, prior.label_groups
    )
    log_density, stats = jax.tree.map(np.asarray, (drawn.log_density, drawn.stats))
    return Draws(parameters, log_density, permutation, stats)


@Program
def _fold_program(keys: Array, number: Array) -> Array:
    """A key a chain for one block of draws."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
