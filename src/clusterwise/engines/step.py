"""The step that every engine shares: score, assign, statistics, and their sum over chunks."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from clusterwise.core.assignment import log_sum_exp, soft_totals
from clusterwise.core.block import AbstractBlock, Statistics, Totals
from clusterwise.core.rows import RowBlock, Rows, fold_chunks, map_chunks
from clusterwise.core.runtime import Effort, Program

_START_STEPS = 16


def expectation(block: AbstractBlock, moments: Any, rows: RowBlock) -> Totals:
    """Assign softly and sum."""
    return fold_chunks(lambda _, part: soft_totals(block, moments, part), rows)


def assignment(block: AbstractBlock, moments: Any, rows: RowBlock) -> tuple[Totals, Array]:
    """Assign softly and sum, with the entropy of the memberships."""

    def chunk(_: Array, part: Rows) -> tuple[Totals, Array]:
        resp, (log_density, entropy) = _explained(block, moments, part)
        statistics = block.statistics(moments, part, resp * part.weight)
        return Totals(log_density, statistics), entropy

    return fold_chunks(chunk, rows)


def evaluation(block: AbstractBlock, moments: Any, rows: RowBlock) -> tuple[Array, Array]:
    """Log density, and the entropy of the memberships."""
    return fold_chunks(lambda _, part: _explained(block, moments, part)[1], rows)


def _explained(block: AbstractBlock, moments: Any, part: Rows) -> tuple[Array, tuple[Array, Array]]:
    """Memberships (k, rows), and the sums over rows of log density and entropy."""
    score = block.score(moments, part)
    log_density, resp = log_sum_exp(score)
    once = block.once(part)
    entropy = once * (log_density - jnp.sum(resp * score, axis=0))
    return resp, (jnp.sum(once * log_density), jnp.sum(entropy))


def counted(block: AbstractBlock, moments: Any, rows: RowBlock, resp: Float[Array, "k n"]) -> Any:
    """Statistics of rows whose memberships are given, chunk after chunk."""
    chunks, _, size = rows.packed.shape
    chunked = resp.reshape(-1, chunks, size)

    def chunk(i: Array, part: Rows) -> Statistics:
        return block.statistics(moments, part, chunked[:, i] * part.weight)

    return fold_chunks(chunk, rows)


expectation_program = Program(expectation, effort=Effort.MOST)
assignment_program = Program(assignment)
evaluation_program = Program(evaluation)


@partial(Program, effort=Effort.MOST)
def sampling_program(
    block: AbstractBlock, moments: Any, rows: RowBlock, key: PRNGKeyArray, at: Any = None
) -> Totals:
    """Draw a cluster for each row and sum, as `AbstractBlock.drawn_totals`."""
    return block.drawn_totals(moments, rows, key, at)


@Program
def start_program(
    block: AbstractBlock,
    prior: Any,
    rows: RowBlock,
    given: Int[Array, " n"] | Float[Array, "k n"],
    places: Int[Array, " k"] | None = None,
) -> Any:
    """Posterior given labels or memberships of all slots of the rows.

    The largest cluster comes first, as stick-breaking weights have it, or in the place of each
    component the cluster that `places` names.
    """
    mode = prior.mode()
    moments = mode.moments() if not block.exact else prior.moments()
    k = jax.tree.leaves(moments)[0].shape[0]
    resp = jax.nn.one_hot(given, k, axis=0) if given.ndim == 1 else given
    statistics = counted(block, moments, rows, resp)
    order = jnp.argsort(-block.counts(statistics), stable=True)
    order = order if places is None else places
    statistics = jax.tree.map(lambda leaf: leaf[order], statistics)
    first = block.posterior(statistics, prior, moments)
    return first if block.exact else _climbed(block, prior, rows, resp[order], first)


class _Climb(NamedTuple):
    """The best posterior so far, where it is headed, and how far it goes there."""

    best: Any
    value: Float[Array, ""]
    target: Any
    rate: Float[Array, ""]


def _climbed(
    block: AbstractBlock, prior: Any, rows: RowBlock, resp: Float[Array, "k n"], first: Any
) -> Any:
    """Some steps towards the mode given memberships, each halved while it goes too far."""

    def step(_: Any, now: _Climb) -> _Climb:
        candidate = block.blend(now.best, now.target, now.rate)
        mode = candidate.mode()
        statistics = counted(block, mode.moments(), rows, resp)
        value = block.sited_log_prob(statistics) + prior.log_kernel(mode)
        good = value >= now.value
        onward = block.posterior(statistics, prior, mode.moments())
        return _Climb(
            _where(good, candidate, now.best),
            jnp.where(good, value, now.value),
            _where(good, onward, now.target),
            jnp.where(good, 1.0, now.rate / 4),
        )

    zero = jnp.zeros(())
    start = _Climb(block.blend(prior, first, zero), zero - jnp.inf, first, zero)
    return lax.fori_loop(0, _START_STEPS, step, start).best


def _where(condition: Array, a: Any, b: Any) -> Any:
    return jax.tree.map(lambda one, other: jnp.where(condition, one, other), a, b)


@Program
def score_program(block: AbstractBlock, moments: Any, rows: RowBlock) -> Float[Array, "c k rows"]:
    """Score of each row under each cluster, chunk after chunk."""
    return map_chunks(partial(block.score, moments), rows)
