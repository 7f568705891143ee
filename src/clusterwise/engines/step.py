"""The step that every engine shares: score, assign, statistics, and their sum over chunks."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from clusterwise.core.assignment import soft_totals
from clusterwise.core.block import AbstractBlock, Statistics, Totals
from clusterwise.core.rows import RowBlock, Rows, fold_chunks, map_chunks
from clusterwise.core.runtime import Program


def expectation(block: AbstractBlock, moments: Any, rows: RowBlock) -> Totals:
    """Assign softly and sum."""
    return fold_chunks(lambda _, part: soft_totals(block, moments, part), rows)


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


@partial(Program, hot=True)
def sampling_program(
    block: AbstractBlock, moments: Any, rows: RowBlock, key: PRNGKeyArray
) -> Totals:
    """Draw a cluster for each row and sum."""
    return block.drawn_totals(moments, rows, key)


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
