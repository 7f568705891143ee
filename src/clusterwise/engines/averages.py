"""Average mixing weights of the rows, where weights depend on the row."""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from clusterwise.core.block import AbstractBlock
from clusterwise.core.product_posterior import ProductParameters
from clusterwise.core.rows import RowBlock, Rows, fold_chunks
from clusterwise.core.runtime import Program, double_precision
from clusterwise.sources.source import Source

_TOGETHER = 32


@Program
def _sum_program(
    block: AbstractBlock, parameters: Any, rows: RowBlock
) -> tuple[Float[Array, "draw k"], Float[Array, ""]]:
    """Sums over rows, or groups, of the weights at some parameters, and how many they are.

    Parameters lead with their number.
    """

    def chunk(_: Array, part: Rows) -> tuple[Array, Array]:
        once = block.once(part)
        sums = jax.vmap(lambda own: block.weights(own.moments(), part) @ once)(parameters)
        return sums, jnp.sum(once)

    return fold_chunks(chunk, rows)


@double_precision
def average_weights(block: AbstractBlock, source: Source, parameters: Any) -> np.ndarray:
    """Average weights of rows, or of groups, at one value of the parameters or many.

    Parameters
    ----------
    block
        The model.
    source
        The rows.
    parameters
        Of all parts; arrays may lead with further axes, such as those of draws.

    Returns
    -------
    numpy.ndarray
        (..., k)
    """
    log_weights = np.asarray(parameters.parts[0].log_weights)
    if not block.gated:
        return np.exp(log_weights)
    lead, k = log_weights.shape[:-1], log_weights.shape[-1]
    total = int(np.prod(lead))
    flat = jax.tree.map(
        lambda leaf: np.reshape(leaf, (total, *leaf.shape[len(lead) :])), parameters
    )
    found = []
    for first in range(0, total, _TOGETHER):
        # Few shapes, to compile few programs.
        wanted = np.arange(first, min(first + _TOGETHER, total))
        places = wanted if total == 1 else np.resize(wanted, _TOGETHER)
        some = jax.tree.map(lambda leaf, at=places: leaf[at], flat)
        sums, count = source.sum(partial(_sum_program, block, some))
        found.append(np.asarray(sums)[: wanted.size] / float(count))
    return np.concatenate(found).reshape(*lead, k)


def with_average_weights(
    block: AbstractBlock, source: Source, parameters: ProductParameters
) -> ProductParameters:
    """Parameters as `average_weights` takes them, with the weights that it gives."""
    if not block.gated:
        return parameters
    with np.errstate(divide="ignore"):
        log_weights = np.log(average_weights(block, source, parameters))
    return eqx.tree_at(lambda own: own.parts[0].log_weights, parameters, log_weights)
