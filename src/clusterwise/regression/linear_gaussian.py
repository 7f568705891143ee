"""The one Gaussian block: responses on regressors, each cluster with its own coefficients.

Gaussian covariates are the case whose only regressor is the constant; a Gaussian response is the
case with one response column.
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from clusterwise.core.parts import AbstractQuadraticBlock, Quadratic
from clusterwise.posteriors.matrix_normal import LinearMoments, MatrixNormal


class LinearGaussian(AbstractQuadraticBlock):
    """Responses given regressors, both named by their columns of a row."""

    columns: tuple[int, ...] = eqx.field(static=True)
    regressors: tuple[int, ...] = eqx.field(static=True)
    responses: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, regressors: tuple[int, ...], responses: tuple[int, ...]) -> None:
        self.columns = regressors + responses
        self.regressors = regressors
        self.responses = responses

    def quadratic(self, moments: LinearMoments) -> Quadratic:
        k, _, q = moments.coefficients.shape
        transposed = jnp.swapaxes(moments.coefficients, 1, 2)
        eye = jnp.broadcast_to(jnp.eye(q), (k, q, q))
        residual = moments.precision.whitening @ jnp.concatenate([-transposed, eye], axis=2)
        spread = jnp.pad(moments.spread, ((0, 0), (0, 0), (0, q)))
        constant = 0.5 * (moments.precision.log_det - q * jnp.log(2 * jnp.pi))
        return Quadratic(constant, jnp.concatenate([residual, spread], axis=1))

    def posterior(
        self,
        count: Float[Array, " k"],
        gram: Float[Array, "k c c"],
        prior: MatrixNormal,
        moments: LinearMoments,
    ) -> MatrixNormal:
        return prior.updated(count, gram)
