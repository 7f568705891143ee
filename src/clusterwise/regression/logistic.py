"""Expected logarithms of softmax and logistic probabilities under normal predictors.

Log probabilities are predictors less a normaliser, so that only the normaliser's expectation is
needed, with its derivatives in the predictors' mean m and covariance V.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from clusterwise.regression.likelihood import quadrature

TILTS = 8


class Tilted(NamedTuple):
    """A normaliser's expectation, and the probabilities that its derivatives are made of.

    With w the probabilities, the derivative in the mean is w, that in the covariance half of
    `diag(w) - w w^T`: those of a point, whose probabilities are the softmax.
    """

    normaliser: Float[Array, " rows"]
    probability: Float[Array, "k rows"]


def expected_softmax(mean: Float[Array, "k rows"], deviations: Float[Array, "k m rows"]) -> Tilted:
    """Bound the expected log-sum-exp of normal predictors from above; exact at a point.

    By Jensen's inequality, for any weights a that sum to one,

        E log sum_j exp(x_j) <= a^T m + log sum_j E exp(x_j - a^T x),

    which is agreeable to adding the same number to all predictors and to renumbering them. It is
    least where a are the terms' shares, and then equals the expectation up to second order in the
    predictors' spread (Knowles and Minka 2011, NIPS, for independent predictors). The shares come
    from a relaxed fixed-point iteration; the bound holds wherever that is stopped.

    Parameters
    ----------
    mean
        Of the predictors.
    deviations
        Rows of a root of their covariance: `V_ij = sum_m deviations_im deviations_jm`.
    """
    if not deviations.shape[1]:
        normaliser = jax.nn.logsumexp(mean, axis=0)
        return Tilted(normaliser, jnp.exp(mean - normaliser))

    def raised(tilt: Array) -> tuple[Array, Array]:
        centred = deviations - jnp.einsum("kr,kmr->mr", tilt, deviations)
        variance = jnp.sum(jnp.square(centred), axis=1)
        return mean + 0.5 * variance, variance

    def step(_: Array | int, tilt: Array) -> Array:
        exponent, variance = raised(tilt)
        share = jax.nn.softmax(exponent, axis=0)
        # Newton's step where there are two predictors, shorter than it where there are more.
        return tilt + (share - tilt) / (1 + jnp.sum(share * variance, axis=0))

    tilt = lax.fori_loop(0, TILTS, step, jax.nn.softmax(mean, axis=0))
    exponent, _ = raised(tilt)
    normaliser = jax.nn.logsumexp(exponent, axis=0)
    return Tilted(normaliser, jnp.exp(exponent - normaliser))


class Stick(NamedTuple):
    """Expectations of a logistic probability s: of log s, of log(1 - s), of s, of s (1 - s)."""

    log_taken: Float[Array, "k rows"]
    log_left: Float[Array, "k rows"]
    probability: Float[Array, "k rows"]
    curvature: Float[Array, "k rows"]


def expected_logistic(mean: Float[Array, "k rows"], deviations: Float[Array, "k m rows"]) -> Stick:
    """Expectations under normal predictors by Gauss and Hermite's rule; exact at a point."""
    if not deviations.shape[1]:
        return _logistic(mean)
    size = jnp.sqrt(jnp.sum(jnp.square(deviations), axis=1))
    nodes, weights = quadrature(1)

    def node(total: Stick, at: tuple[Array, Array]) -> tuple[Stick, None]:
        point, weight = at
        here = _logistic(mean + size * point)
        return jax.tree.map(lambda a, b: a + weight * b, total, here), None

    zero = jax.tree.map(jnp.zeros_like, _logistic(mean))
    return lax.scan(node, zero, (jnp.asarray(np.ravel(nodes)), jnp.asarray(weights)))[0]


def _logistic(eta: Float[Array, "k rows"]) -> Stick:
    probability, rest = jax.nn.sigmoid(eta), jax.nn.sigmoid(-eta)
    return Stick(jax.nn.log_sigmoid(eta), jax.nn.log_sigmoid(-eta), probability, probability * rest)
