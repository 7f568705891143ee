"""Dirichlet distribution over mixing weights."""

from __future__ import annotations

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln, polygamma
from jaxtyping import Array, Float, Int, PRNGKeyArray

from clusterwise.core.arrays import constant
from clusterwise.core.block import AbstractCoordinates, AbstractParameters, AbstractPosterior
from clusterwise.posteriors.gamma import sample_log_gamma


class WeightMoments(NamedTuple):
    """Expected log weights, and the concentration they were drawn with."""

    log_weights: Float[Array, " k"]
    concentration: Float[Array, ""]


class Weights(AbstractParameters):
    """Mixing weights (k,) as logarithms, with the concentration of the process behind them."""

    log_weights: Float[Array, " k"]
    concentration: Float[Array, ""]

    def moments(self) -> WeightMoments:
        return WeightMoments(self.log_weights, self.concentration)

    def mean_of_draws(self) -> Weights:
        weights = jnp.exp(self.log_weights).mean(axis=(0, 1))
        return Weights(jnp.log(weights), self.concentration.mean())


class DirichletCoordinates(AbstractCoordinates):
    """Log ratios of weights in an orthonormal basis, standardised (Egozcue et al. 2003)."""

    middle: Float[Array, " k-1"]
    factor: Float[Array, "k-1 k-1"]
    """Lower triangular."""
    concentration: Float[Array, ""]

    @property
    def size(self) -> int:
        return self.middle.shape[0]

    def constrain(self, z: Float[Array, " size"]) -> tuple[Weights, Float[Array, ""]]:
        k = self.size + 1
        log_weights = jax.nn.log_softmax(contrasts(k) @ (self.middle + self.factor @ z))
        log_det = (
            jnp.sum(log_weights) + 0.5 * np.log(k) + jnp.sum(jnp.log(jnp.diagonal(self.factor)))
        )
        return Weights(log_weights, self.concentration), log_det

    def unconstrain(self, parameters: Weights) -> Float[Array, " size"]:
        ratios = contrasts(self.size + 1).T @ parameters.log_weights
        return jax.scipy.linalg.solve_triangular(self.factor, ratios - self.middle, lower=True)


def contrasts(k: int) -> Array:
    """Orthonormal basis (k, k - 1) of the vectors whose sum is zero (Helmert's)."""
    j = np.arange(1, k)
    basis = np.triu(np.ones((k, k - 1)))
    basis[j, j - 1] = -j
    return constant(basis / np.sqrt(j * (j + 1)))


class DirichletPosterior(AbstractPosterior):
    """Dirichlet(alpha)."""

    alpha: Float[Array, " k"]

    @property
    def label_groups(self) -> Int[np.ndarray, " k"]:
        """Components of one group, here all, may change their numbers."""
        return np.zeros(self.alpha.shape[0], int)

    @property
    def has_order(self) -> bool:
        """Whether clusters that trade places have other weights a priori: here none has."""
        return False

    def draw_order(
        self,
        count: Float[Array, " k"],
        log_weights: Float[Array, "k l"],
        moments: WeightMoments,
        key: PRNGKeyArray,
    ) -> None:
        """No order is worth drawing: where clusters stand changes nothing, or must not change."""

    def updated(self, count: Float[Array, " k"], moments: WeightMoments) -> Self:
        """Posterior after these counts."""
        return type(self)(self.alpha + count)

    def moments(self) -> WeightMoments:
        log_weights = digamma(self.alpha) - digamma(self.alpha.sum())
        return WeightMoments(log_weights, self.alpha.sum())

    def spread(self) -> Float[Array, " k"]:
        """Variances of the weights."""
        mean = self.alpha / self.alpha.sum()
        return mean * (1 - mean) / (self.alpha.sum() + 1)

    def predictive(self) -> Float[Array, " k"]:
        """Log probability of each cluster for a new row."""
        return jnp.log(self.alpha) - jnp.log(self.alpha.sum())

    def mode(self) -> Weights:
        total = self.alpha.sum()
        return Weights(jnp.log(self.alpha) - jnp.log(total), total)

    def sample(self, key: PRNGKeyArray) -> Weights:
        log_gamma = sample_log_gamma(key, self.alpha)
        return Weights(log_gamma - jax.nn.logsumexp(log_gamma), self.alpha.sum())

    def log_prob(self, parameters: Weights) -> Float[Array, ""]:
        return (
            gammaln(self.alpha.sum())
            - gammaln(self.alpha).sum()
            + jnp.sum((self.alpha - 1) * parameters.log_weights)
        )

    def unnormalised_log_prob(self, parameters: Weights) -> Float[Array, ""]:
        return jnp.sum((self.alpha - 1) * parameters.log_weights)

    def coordinates(self) -> DirichletCoordinates:
        basis = contrasts(self.alpha.shape[0])
        covariance = basis.T @ (polygamma(1, self.alpha)[:, None] * basis)
        return DirichletCoordinates(
            basis.T @ digamma(self.alpha), jnp.linalg.cholesky(covariance), self.alpha.sum()
        )

    def log_kernel(self, parameters: Weights) -> Float[Array, ""]:
        return jnp.sum(self.alpha * parameters.log_weights)

    def kl(self, prior: Self) -> Float[Array, ""]:
        expected = digamma(self.alpha) - digamma(self.alpha.sum())
        return (
            gammaln(self.alpha.sum())
            - gammaln(self.alpha).sum()
            - gammaln(prior.alpha.sum())
            + gammaln(prior.alpha).sum()
            + jnp.sum((self.alpha - prior.alpha) * expected)
        )
