"""Assignment of rows to clusters: softly, by shares, or by drawing one cluster for each row."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from clusterwise.core.block import AbstractBlock, Totals
from clusterwise.core.rows import RowBlock, Rows, fold_chunks


def log_sum_exp(score: Float[Array, "k rows"]) -> tuple[Array, Array]:
    """Log of the summed exponentials of each row, and each cluster's share."""
    # Any number does for the derivative; that of the largest divides by how many scores equal it,
    # which are none where the compiler rounds them in two ways.
    largest = lax.stop_gradient(jnp.max(score, axis=0))
    shares = jnp.exp(score - largest)
    total = jnp.sum(shares, axis=0)
    return largest + jnp.log(total), shares / total


def soft_totals(block: AbstractBlock, moments: Any, rows: Rows) -> Totals:
    """Assign the rows of one chunk softly."""
    log_density, resp = log_sum_exp(block.score(moments, rows))
    statistics = block.statistics(moments, rows, resp * rows.weight)
    return Totals(jnp.sum(block.once(rows) * log_density), statistics)


def drawn_totals(
    block: AbstractBlock, moments: Any, rows: RowBlock, key: PRNGKeyArray, at: Any = None
) -> Totals:
    """Draw a cluster for each unit, chunk by chunk; count at `moments`, or at those of `at`."""

    def chunk(i: Array, part: Rows) -> Totals:
        log_density, resp = log_sum_exp(block.score(moments, part))
        uniform = jax.random.uniform(jax.random.fold_in(key, i), part.weight.shape)
        # Inverse distribution function: one uniform number a unit.
        below = (jnp.cumsum(resp, axis=0)[:-1] <= block.of_unit(part, uniform)).sum(axis=0)
        drawn = (below == jnp.arange(resp.shape[0])[:, None]).astype(resp.dtype)
        fill_key = jax.random.fold_in(jax.random.fold_in(key, i), 1)
        statistics = block.drawn_statistics(moments, part, drawn * part.weight, fill_key, at)
        return Totals(jnp.sum(block.once(part) * log_density), statistics)

    return fold_chunks(chunk, rows)
