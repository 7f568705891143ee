"""Dirichlet distribution over mixing weights."""

from __future__ import annotations

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float, PRNGKeyArray

from clusterwise.core.block import AbstractParameters, AbstractPosterior
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


class DirichletPosterior(AbstractPosterior):
    """Dirichlet(alpha)."""

    alpha: Float[Array, " k"]

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
