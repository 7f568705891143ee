"""The log density of rows, the clusters summed out, with its gradient from the same pass.

For the moments m of a block the derivative of a row's log density is that of its score, averaged
over its memberships (Fisher's identity). Scores are linear in the sufficient statistics, so the
gradient over all rows is that of the score of their expected statistics, which one pass gives
together with the value. Nothing of the size of the rows is kept for the backward pass.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from clusterwise.core.block import AbstractBlock, Statistics
from clusterwise.core.rows import RowBlock
from clusterwise.engines.step import expectation


@jax.custom_vjp
def marginal_log_density(block: AbstractBlock, moments: Any, rows: RowBlock) -> Float[Array, ""]:
    """Weighted sum over rows of the log of the clusters' summed densities.

    Parameters
    ----------
    block
        The model, the mixing weights among its parts.
    moments
        Moments of all parts; gradients flow to these only.
    rows
        Rows in standard units.
    """
    return expectation(block, moments, rows).log_density


def _forward(
    block: AbstractBlock, moments: Any, rows: RowBlock
) -> tuple[Float[Array, ""], tuple[AbstractBlock, Any, Statistics]]:
    totals = expectation(block, moments, rows)
    return totals.log_density, (block, moments, totals.statistics)


def _backward(
    kept: tuple[AbstractBlock, Any, Statistics], upstream: Float[Array, ""]
) -> tuple[None, Any, None]:
    block, moments, statistics = kept

    def score(values: Any) -> Float[Array, ""]:
        return jnp.trace(block.cross_score(values, statistics))

    gradient = jax.grad(score)(moments)
    return None, jax.tree.map(lambda leaf: upstream * leaf, gradient), None


marginal_log_density.defvjp(_forward, _backward)
