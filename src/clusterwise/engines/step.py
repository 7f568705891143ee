"""The step that every engine shares: score, assign, statistics, and their sum over chunks."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from clusterwise.core.block import AbstractBlock, Statistics
from clusterwise.core.rows import RowBlock, Rows, fold_chunks, map_chunks
from clusterwise.core.runtime import Program


class Totals(NamedTuple):
    """Sums over rows: log density and sufficient statistics."""

    log_density: Float[Array, ""]
    statistics: Statistics


def _log_sum_exp(score: Float[Array, "k rows"]) -> tuple[Array, Array]:
    """Log of the summed exponentials of each row, and each cluster's share."""
    largest = jnp.max(score, axis=0)
    shares = jnp.exp(score - largest)
    total = jnp.sum(shares, axis=0)
    return largest + jnp.log(total), shares / total


def score_chunk(block: AbstractBlock, moments: Any, rows: Rows) -> Totals:
    """Assign the rows of one chunk softly."""
    log_density, resp = _log_sum_exp(block.score(moments, rows))
    statistics = block.statistics(moments, rows, resp * rows.weight)
    return Totals(jnp.sum(rows.weight * log_density), statistics)


def expectation(block: AbstractBlock, moments: Any, rows: RowBlock) -> Totals:
    """Assign softly and sum."""
    return fold_chunks(lambda _, part: score_chunk(block, moments, part), rows)


def sampling(block: AbstractBlock, moments: Any, rows: RowBlock, key: PRNGKeyArray) -> Totals:
    """Draw a cluster for each row and sum."""

    def chunk(i: Array, part: Rows) -> Totals:
        log_density, resp = _log_sum_exp(block.score(moments, part))
        uniform = jax.random.uniform(jax.random.fold_in(key, i), part.weight.shape)
        # Inverse distribution function: one uniform number a row.
        below = (jnp.cumsum(resp, axis=0)[:-1] <= uniform).sum(axis=0)
        drawn = (below == jnp.arange(resp.shape[0])[:, None]).astype(resp.dtype)
        statistics = block.statistics(moments, part, drawn * part.weight)
        return Totals(jnp.sum(part.weight * log_density), statistics)

    return fold_chunks(chunk, rows)


def labelled(block: AbstractBlock, moments: Any, rows: RowBlock, labels: Int[Array, " n"]) -> Any:
    """Statistics of rows whose clusters are given, chunk after chunk."""
    chunks, _, size = rows.packed.shape
    chunked = labels.reshape(chunks, size)
    k = jax.tree.leaves(moments)[0].shape[0]

    def chunk(i: Array, part: Rows) -> Statistics:
        member = (chunked[i] == jnp.arange(k)[:, None]).astype(part.values.dtype)
        return block.statistics(moments, part, member * part.weight)

    return fold_chunks(chunk, rows)


expectation_program = Program(expectation, hot=True)
sampling_program = Program(sampling, hot=True)


@Program
def start_program(
    block: AbstractBlock, prior: Any, rows: RowBlock, labels: Int[Array, " n"]
) -> Any:
    """Posterior given labels, the largest cluster first, as stick-breaking weights have it."""
    moments = prior.moments()
    statistics = labelled(block, moments, rows, labels)
    order = jnp.argsort(-jax.tree.leaves(statistics)[0][:, 0], stable=True)
    return block.posterior(jax.tree.map(lambda leaf: leaf[order], statistics), prior, moments)


@Program
def score_program(block: AbstractBlock, moments: Any, rows: RowBlock) -> Float[Array, "c k rows"]:
    """Score of each row under each cluster, chunk after chunk."""
    return map_chunks(partial(block.score, moments), rows)
