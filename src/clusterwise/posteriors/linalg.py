"""Precision matrices of many clusters at once, in correlation units: scales do not matter."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_RIDGE = 1e-13


def scaled_cholesky(matrix: Float[Array, "k p p"]) -> tuple[Array, Array]:
    """Cholesky factor in correlation units, and the units.

    A cluster whose rows do not span the regressors has a matrix that is singular up to its prior,
    which rounding hides in large data; the small ridge is its floor.
    """
    size = jnp.sqrt(jnp.diagonal(matrix, axis1=1, axis2=2))
    correlation = matrix / (size[:, :, None] * size[:, None, :])
    return jnp.linalg.cholesky(correlation + _RIDGE * jnp.eye(matrix.shape[-1])), size


def solve(matrix: Float[Array, "k p p"], right: Float[Array, "k p q"]) -> Float[Array, "k p q"]:
    """Solve a positive definite system for each cluster."""
    cholesky, size = scaled_cholesky(matrix)
    solved = jax.vmap(lambda c, r: jax.scipy.linalg.cho_solve((c, True), r))(
        cholesky, right / size[:, :, None]
    )
    return solved / size[:, :, None]


def whitening(matrix: Float[Array, "k p p"]) -> Float[Array, "k p p"]:
    """W with W^T W the inverse of the matrix."""
    cholesky, size = scaled_cholesky(matrix)
    eye = jnp.broadcast_to(jnp.eye(matrix.shape[-1]), matrix.shape)
    return jax.scipy.linalg.solve_triangular(cholesky, eye, lower=True) / size[:, None, :]


def log_det(matrix: Float[Array, "k p p"]) -> Float[Array, " k"]:
    """Log determinant of each matrix."""
    cholesky, size = scaled_cholesky(matrix)
    return 2 * jnp.sum(jnp.log(jnp.diagonal(cholesky, axis1=1, axis2=2) * size), axis=1)


def definite(matrix: Float[Array, "k p p"]) -> Float[Array, "k p p"]:
    """The matrix with its eigenvalues' absolute values, in units of its diagonal."""
    size = jnp.sqrt(jnp.abs(jnp.diagonal(matrix, axis1=1, axis2=2)))
    size = jnp.where(size > 0, size, 1.0)
    scaled = matrix / (size[:, :, None] * size[:, None, :])
    values, vectors = jnp.linalg.eigh(scaled)
    mended = (vectors * jnp.abs(values)[:, None, :]) @ jnp.swapaxes(vectors, 1, 2)
    return mended * size[:, :, None] * size[:, None, :]
