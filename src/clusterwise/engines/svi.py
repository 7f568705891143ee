"""Variational inference that updates the posterior many times in one pass over the rows.

Stochastic variational inference mixes the statistics of random batches with a decreasing rate
(Hoffman et al. 2013). The memoized form keeps the statistics of every chunk and replaces them when
the chunk is visited again: exact, without a rate (Hughes and Sudderth 2013).
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from clusterwise.core.arrays import constant
from clusterwise.core.assignment import soft_totals
from clusterwise.core.block import AbstractBlock
from clusterwise.core.rows import RowBlock, Rows
from clusterwise.core.runtime import Effort, Program
from clusterwise.engines.ascent import AscentResult, Progress
from clusterwise.engines.step import expectation_program
from clusterwise.sources.source import Source


class StepSize(NamedTuple):
    """Rate `(delay + step)^-forgetting` of Robbins and Monro."""

    delay: Float[Array, ""]
    forgetting: Float[Array, ""]


class _Stream(NamedTuple):
    posterior: Any
    statistics: Any
    step: Float[Array, ""]


def _stream_block(
    block: AbstractBlock,
    prior: Any,
    rows: RowBlock,
    state: _Stream,
    rate: StepSize,
    total_weight: Float[Array, ""],
    key: PRNGKeyArray,
    batch_size: int,
) -> tuple[_Stream, Float[Array, ""]]:
    """Visit the rows of a block once, in random batches."""
    chunks, _, size = rows.packed.shape
    slots = rows.used * size
    order = jax.random.permutation(key, chunks * size)
    # Slots without rows go last, and batches made of them alone are not visited.
    order = block.together(rows, order[jnp.argsort(order >= slots, stable=True)])
    last = chunks * size - batch_size

    def batch(carry: tuple[_Stream, Array, Array]) -> tuple[_Stream, Array, Array]:
        now, objective, done = carry
        start = jnp.minimum(done, last)
        chosen = lax.dynamic_slice_in_dim(order, start, batch_size)
        part = rows.packed[chosen // size, :, chosen % size].T
        # The last batch reaches back over rows that the one before has had.
        fresh = start + jnp.arange(batch_size) >= done
        # A group that may go on after the batch is left to the next one.
        fresh &= block.ended(Rows(part[:-1], part[-1])) | (start == last)
        weight = part[-1] * fresh
        totals = soft_totals(block, now.posterior.moments(), Rows(part[:-1], weight))
        scale = total_weight / jnp.maximum(weight.sum(), 1e-300)
        rho = jnp.where(weight.sum() > 0, (now.step + rate.delay) ** -rate.forgetting, 0.0)
        statistics = jax.tree.map(
            lambda old, new: (1 - rho) * old + rho * scale * new,
            now.statistics,
            totals.statistics,
        )
        posterior = block.posterior(statistics, prior, now.posterior.moments())
        after = _Stream(posterior, statistics, now.step + 1)
        if not block.exact:
            # A step of Newton's may go far too far; one that its own batch gains by does not.
            again = soft_totals(block, posterior.moments(), Rows(part[:-1], weight))
            gain = scale * (again.log_density - totals.log_density)
            gain -= posterior.kl(prior) - now.posterior.kl(prior)
            kept = _Stream(now.posterior, now.statistics, now.step + 1)
            after = jax.tree.map(lambda new, old: jnp.where(gain > 0, new, old), after, kept)
        return after, objective + totals.log_density, done + fresh.sum()

    begin = (state, jnp.zeros(()), jnp.zeros((), slots.dtype))
    after, objective, _ = lax.while_loop(lambda carry: carry[2] < slots, batch, begin)
    return after, objective


_stream_program = Program(_stream_block, static_argnames=("batch_size",), effort=Effort.MOST)


def run_stochastic(
    block: AbstractBlock,
    prior: Any,
    source: Source,
    posterior: Any,
    *,
    batch_size: int,
    max_epochs: int,
    rate: tuple[float, float],
    tol: float,
    key: PRNGKeyArray,
    progress: Progress,
) -> AscentResult:
    """Stochastic variational inference from a starting posterior.

    An epoch's objective is estimated from its own batches; the run has converged when it changes
    by less than `tol` per row, and the objective that is returned is exact.
    """
    totals = source.sum(partial(expectation_program, block, posterior.moments()))
    state = _Stream(posterior, totals.statistics, constant(0.0))
    step_size = StepSize(constant(float(rate[0])), constant(float(rate[1])))
    weight = constant(float(source.total_weight))
    history: list[float] = []
    converged = False
    for epoch in range(max_epochs):
        epoch_key = jax.random.fold_in(key, epoch)
        order = np.asarray(jax.random.permutation(epoch_key, source.n_blocks))
        objective = 0.0
        for part in order:
            block_key = jax.random.fold_in(epoch_key, int(part))
            rows = source.block(int(part))
            slots = rows.packed.shape[0] * rows.packed.shape[2]
            state, log_density = _stream_program(
                block,
                prior,
                rows,
                state,
                step_size,
                weight,
                block_key,
                # One more than the largest group, to see that it has ended.
                batch_size=min(max(batch_size, source.largest_group + 1), slots),
            )
            objective += float(log_density)
        history.append(objective - float(_kl_program(state.posterior, prior)))
        progress("epochs", epoch + 1, max_epochs)
        if len(history) > 1 and abs(history[-1] - history[-2]) < tol * source.total_weight:
            converged = True
            break
    totals = source.sum(partial(expectation_program, block, state.posterior.moments()))
    exact = float(totals.log_density) - float(_kl_program(state.posterior, prior))
    return AscentResult(state.posterior, exact, np.asarray(history), converged, len(history))


class _Memo(NamedTuple):
    posterior: Any
    statistics: Any
    entropy: Float[Array, ""]


def _visit_chunks(
    block: AbstractBlock,
    prior: Any,
    rows: RowBlock,
    state: _Memo,
    kept: tuple[Any, Float[Array, " chunks"]],
) -> tuple[_Memo, tuple[Any, Float[Array, " chunks"]]]:
    """Replace the statistics of each chunk in turn, updating the posterior after each."""

    def visit(i: Array, carry: tuple[_Memo, Any]) -> tuple[_Memo, Any]:
        now, (memo, entropies) = carry
        moments = now.posterior.moments()
        totals = soft_totals(block, moments, rows.chunk(i))
        entropy = totals.log_density - jnp.trace(block.cross_score(moments, totals.statistics))
        statistics = jax.tree.map(
            lambda whole, old, new: whole - old[i] + new, now.statistics, memo, totals.statistics
        )
        memo = jax.tree.map(lambda old, new: old.at[i].set(new), memo, totals.statistics)
        after = _Memo(
            block.posterior(statistics, prior, moments),
            statistics,
            now.entropy - entropies[i] + entropy,
        )
        return after, (memo, entropies.at[i].set(entropy))

    return lax.fori_loop(0, rows.used, visit, (state, kept))


_visit_program = Program(_visit_chunks, effort=Effort.MOST)


@Program
def _memo_objective(block: AbstractBlock, prior: Any, state: _Memo) -> Float[Array, ""]:
    score = block.cross_score(state.posterior.moments(), state.statistics)
    return jnp.trace(score) + state.entropy - state.posterior.kl(prior)


@Program
def _kl_program(posterior: Any, prior: Any) -> Float[Array, ""]:
    return posterior.kl(prior)


def _remember_block(
    block: AbstractBlock, moments: Any, rows: RowBlock
) -> tuple[Any, Float[Array, " chunks"]]:
    """Statistics and entropy of every chunk."""

    def chunk(packed: Array) -> tuple[Any, Array]:
        totals = soft_totals(block, moments, Rows(packed[:-1], packed[-1]))
        entropy = totals.log_density - jnp.trace(block.cross_score(moments, totals.statistics))
        return totals.statistics, entropy

    return lax.map(chunk, rows.packed)


_remember_program = Program(_remember_block, effort=Effort.MOST)


def run_memoized(
    block: AbstractBlock,
    prior: Any,
    source: Source,
    posterior: Any,
    *,
    max_epochs: int,
    tol: float,
    progress: Progress,
) -> AscentResult:
    """Memoized variational inference from a starting posterior; the objective never decreases."""
    kept = source.map(partial(_remember_program, block, posterior.moments()))
    statistics, entropy = jax.tree.map(
        lambda *parts: sum(part.sum(axis=0) for part in parts), *kept
    )
    moments = posterior.moments()
    state = _Memo(block.posterior(statistics, prior, moments), statistics, constant(float(entropy)))
    history = [float(_memo_objective(block, prior, state))]
    converged = False
    for epoch in range(max_epochs):
        for part in range(source.n_blocks):
            state, after = _visit_program(block, prior, source.block(part), state, kept[part])
            kept[part] = jax.tree.map(np.asarray, after)
        history.append(float(_memo_objective(block, prior, state)))
        progress("epochs", epoch + 1, max_epochs)
        if history[-1] - history[-2] < tol * source.total_weight:
            converged = True
            break
    return AscentResult(
        state.posterior, history[-1], np.asarray(history), converged, len(history) - 1
    )
