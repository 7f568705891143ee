"""Blocked Gibbs sampling: all clusters of all rows, then all parameters, in turn.

Ishwaran and James (2001) for stick-breaking weights; Diebolt and Robert (1994) for mixtures.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from clusterwise.core.block import AbstractBlock, Totals
from clusterwise.core.rows import RowBlock
from clusterwise.core.runtime import Effort, Program
from clusterwise.engines.ascent import is_wide
from clusterwise.engines.chains import (
    Chains,
    Draw,
    Draws,
    Sampler,
    chains_together,
    draw_relabelled,
)
from clusterwise.engines.step import sampling_program
from clusterwise.sources.source import Source

_PROGRAM_SWEEPS = 100
_SWEEPS_OVER_BLOCKS = 10


class Proposal(NamedTuple):
    """Parameters drawn given the rows' clusters, and what a test of them needs.

    `now` and `statistics` have the clusters where the weights' posterior put them, `drawn` has the
    proposal where the rows' clusters were drawn; None for an exact draw, which needs no test.
    """

    parameters: Any
    now: Any = None
    statistics: Any = None
    order: Int[Array, " k"] | None = None
    drawn: Any = None


def propose(
    block: AbstractBlock, prior: Any, parameters: Any, totals: Totals, key: PRNGKeyArray
) -> Proposal:
    """Draw parameters given the rows' clusters, these perhaps in another order."""
    order_key, key = jax.random.split(key)
    moments, statistics, now = parameters.moments(), totals.statistics, parameters
    log_weights = block.log_weights(moments, statistics)
    order = prior.draw_order(block.counts(statistics), log_weights, moments, order_key)
    if order is not None:
        statistics = jax.tree.map(lambda leaf: leaf[order], statistics)
    if block.exact:
        return Proposal(block.posterior(statistics, prior, moments).sample(key))
    if order is not None:
        now = prior.reordered(now, order)
    found = block.posterior(statistics, prior, now.moments()).sample(key)
    found = block.proposed(prior, now, found, statistics, key)
    drawn = found if order is None else prior.reordered(found, jnp.argsort(order))
    return Proposal(found, now, statistics, order, drawn)


def tested(
    block: AbstractBlock, prior: Any, proposal: Proposal, recounted: Totals, key: PRNGKeyArray
) -> Any:
    """Parameters after a test of a proposal, the rows having been counted there."""
    again = recounted.statistics
    if proposal.order is not None:
        again = jax.tree.map(lambda leaf: leaf[proposal.order], again)
    statistics = (proposal.statistics, again)
    return block.corrected(prior, proposal.now, proposal.parameters, statistics, key)


def sweep(
    block: AbstractBlock, prior: Any, parameters: Any, rows: RowBlock, key: PRNGKeyArray
) -> tuple[Any, Float[Array, ""]]:
    """All clusters of all rows, then all parameters; and the log density before."""
    row_key, parameter_key = jax.random.split(key)
    moments = parameters.moments()
    totals = block.drawn_totals(moments, rows, row_key)
    proposal = propose(block, prior, parameters, totals, parameter_key)
    if block.exact:
        return proposal.parameters, totals.log_density
    again = block.drawn_totals(moments, rows, row_key, proposal.drawn.moments())
    test_key = jax.random.fold_in(parameter_key, 1)
    return tested(block, prior, proposal, again, test_key), totals.log_density


# Another effort makes no faster sweep.
@partial(Program, effort=Effort.SOME)
def _sweeps_program(
    block: AbstractBlock, prior: Any, rows: RowBlock, parameters: Any, keys: PRNGKeyArray
) -> tuple[Any, Draw]:
    """Some sweeps of some chains over rows that are in memory."""

    def step(now: Any, key: PRNGKeyArray) -> tuple[Any, Draw]:
        after, log_density = sweep(block, prior, now, rows, key)
        return after, Draw(now, log_density, {})

    return lax.scan(
        jax.vmap(step),
        parameters,
        jax.vmap(lambda key: jax.random.split(key, _PROGRAM_SWEEPS), out_axes=1)(keys),
    )


_propose_program = Program(propose)
_tested_program = Program(tested)


@Program
def _start_program(posterior: Any, keys: PRNGKeyArray) -> Any:
    return jax.vmap(posterior.sample)(keys)


@Program
def _moments_program(parameters: Any) -> Any:
    return parameters.moments()


def _sweeps_over_blocks(
    block: AbstractBlock, prior: Any, source: Source, state: Any, keys: PRNGKeyArray
) -> tuple[Any, Draw]:
    """The same for one chain where rows lie in several blocks, or are wide."""
    parameters = jax.tree.map(lambda leaf: leaf[0], state)
    kept = []
    for sweep_key in jax.random.split(keys[0], _SWEEPS_OVER_BLOCKS):
        row_key, parameter_key = jax.random.split(sweep_key)
        draw = partial(_sample_block, block, _moments_program(parameters), row_key)
        totals = source.sum_numbered(draw)
        kept.append(jax.tree.map(np.asarray, Draw(parameters, totals.log_density, {})))
        proposal = _propose_program(block, prior, parameters, totals, parameter_key)
        parameters = proposal.parameters
        if not block.exact:
            again = source.sum_numbered(partial(draw, at=_moments_program(proposal.drawn)))
            test_key = jax.random.fold_in(parameter_key, 1)
            parameters = _tested_program(block, prior, proposal, again, test_key)
    draws = jax.tree.map(lambda *parts: np.stack(parts)[:, None], *kept)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], parameters), draws


def _sample_block(
    block: AbstractBlock, moments: Any, key: PRNGKeyArray, part: int, rows: RowBlock, at: Any = None
) -> Totals:
    return sampling_program(block, moments, rows, jax.random.fold_in(key, part), at)


def _sampler(
    block: AbstractBlock, prior: Any, source: Source, start: Any, num_chains: int
) -> Sampler:
    begin = partial(_start_program, start)
    if source.n_blocks == 1 and not is_wide(source):
        advance = partial(_sweeps_program, block, prior, source.block(0))
        return Sampler(begin, advance, _PROGRAM_SWEEPS, chains_together(num_chains), True)
    # Over several blocks the rows of a sweep already use all cores.
    advance = partial(_sweeps_over_blocks, block, prior, source)
    return Sampler(begin, advance, _SWEEPS_OVER_BLOCKS, 1, False)


def run_gibbs(
    block: AbstractBlock, prior: Any, source: Source, start: Any, pivot: Any, chains: Chains
) -> Draws:
    """Sample from independent draws of a starting posterior, relabelled to a pivot's moments."""
    sampler = _sampler(block, prior, source, start, chains.num_chains)
    return draw_relabelled(sampler, chains, block, prior, source, pivot)
