"""The log density of each row, the clusters summed out, with a gradient in one more pass.

Plain reverse mode keeps every intermediate array of all rows. Here chunks of rows pass through
the cache one after the other, and what is kept for the gradient are the memberships.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from clusterwise.core.gram import packed_gram, quadratic_score, unpack_gram
from clusterwise.core.rows import CHUNK_ROWS


def row_log_density(
    constant: Float[Array, " k"],
    factor: Float[Array, "k m columns"],
    values: Float[Array, "columns rows"],
) -> Float[Array, " rows"]:
    """Log of the summed exponentials of `constant - |factor z|^2 / 2`, for each row z.

    Parameters
    ----------
    constant, factor
        The clusters' quadratic forms.
    values
        Rows, one column after the other.
    """
    if values.shape[1] <= CHUNK_ROWS:
        return jax.nn.logsumexp(quadratic_score(constant, factor, values), axis=0)
    return _in_chunks(constant, factor, values)


def _chunked(values: Array, wide: int) -> Array:
    """Split the last axis, padded with zeros, and put its chunks first."""
    rows = values.shape[-1]
    padded = jnp.pad(values, ((0, 0), (0, -rows % wide)))
    return jnp.moveaxis(padded.reshape(values.shape[0], -1, wide), 1, 0)


def _joined(chunks: Array, rows: int) -> Array:
    return jnp.moveaxis(chunks, 0, 1).reshape(chunks.shape[1], -1)[:, :rows]


def _forward(
    constant: Array, factor: Array, values: Array
) -> tuple[Array, tuple[Array, Array, Array, Array]]:
    def chunk(part: Array) -> tuple[Array, Array]:
        score = quadratic_score(constant, factor, part)
        largest = jnp.max(score, axis=0)
        shares = jnp.exp(score - largest)
        total = jnp.sum(shares, axis=0)
        return (largest + jnp.log(total))[None], shares / total

    density, resp = lax.map(chunk, _chunked(values, CHUNK_ROWS))
    rows = values.shape[1]
    return _joined(density, rows)[0], (constant, factor, values, _joined(resp, rows))


def _backward(
    kept: tuple[Array, Array, Array, Array], upstream: Float[Array, " rows"]
) -> tuple[Array, Array, Array]:
    _, factor, values, resp = kept
    weighted = _chunked(resp * upstream, CHUNK_ROWS)
    chunks = _chunked(values, CHUNK_ROWS)
    square = jnp.swapaxes(factor, 1, 2) @ factor

    def gram(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        return total + packed_gram(*part), None

    columns = values.shape[0]
    zero = jnp.zeros((factor.shape[0], columns * (columns + 1) // 2), values.dtype)
    packed, _ = lax.scan(gram, zero, (chunks, weighted))
    gram_matrix = unpack_gram(packed, columns)

    def slope(part: tuple[Array, Array]) -> Array:
        return -jnp.einsum("kcd,kn,dn->cn", square, part[1], part[0])

    # Dropped by the compiler where rows are data.
    rows = _joined(lax.map(slope, (chunks, weighted)), values.shape[1])
    return jnp.sum(resp * upstream, axis=1), -factor @ gram_matrix, rows


_in_chunks: Callable[[Array, Array, Array], Array] = jax.custom_vjp(
    lambda constant, factor, values: _forward(constant, factor, values)[0]
)
_in_chunks.defvjp(_forward, _backward)  # pyright: ignore[reportFunctionMemberAccess]
