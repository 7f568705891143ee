"""Quadratic forms of rows, and weighted Gram matrices, whose upper triangles are kept by rows."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_FEW_COLUMNS = 16


def quadratic_score(
    constant: Float[Array, " k"],
    factor: Float[Array, "k m columns"],
    values: Float[Array, "columns rows"],
) -> Float[Array, "k rows"]:
    """Score rows; one matrix product for all clusters."""
    k, m, columns = factor.shape
    whitened = (factor.reshape(k * m, columns) @ values).reshape(k, m, values.shape[1])
    return constant[:, None] - 0.5 * jnp.sum(jnp.square(whitened), axis=1)


def packed_gram(
    values: Float[Array, "columns rows"], resp: Float[Array, "k rows"]
) -> Float[Array, "k pairs"]:
    """Upper triangle of the weighted Gram matrix of each cluster, by rows.

    Of few columns the products of pairs are formed once for all clusters; of many they would not
    fit in cache.
    """
    columns, rows = values.shape
    first, second = np.triu_indices(columns)
    if columns <= _FEW_COLUMNS:
        return ((values[first] * values[second]) @ resp.T).T
    k = resp.shape[0]
    weighted = (resp[:, None, :] * values).reshape(k * columns, rows)
    return (weighted @ values.T).reshape(k, columns, columns)[:, first, second]


def unpack_gram(packed: Float[Array, "k pairs"], n_columns: int) -> Float[Array, "k c c"]:
    """Symmetric matrices from their upper triangles."""
    first, second = np.triu_indices(n_columns)
    position = np.zeros((n_columns, n_columns), int)
    position[first, second] = position[second, first] = np.arange(first.size)
    return packed[:, position]
