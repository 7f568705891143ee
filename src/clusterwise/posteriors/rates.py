"""Rates of counts: one gamma distribution a cluster."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln, polygamma
from jaxtyping import Array, Float, PRNGKeyArray
from scipy import special

from clusterwise.core.block import AbstractCoordinates, AbstractParameters, AbstractPosterior
from clusterwise.posteriors.gamma import sample_log_gamma


class RateMoments(NamedTuple):
    """Expected rate, and expected log rate."""

    rate: Float[Array, " k"]
    log_rate: Float[Array, " k"]


class RatePredictive(NamedTuple):
    """A count of a new row, the rate integrated out: negative binomial."""

    shape: Float[Array, " k"]
    rate: Float[Array, " k"]

    def as_numbers(self) -> dict[str, Any]:
        """Its numbers, leading with an axis of draws, by the name of what is to be computed."""
        return {
            "kind": "negative_binomial",
            "shape": np.asarray(self.shape)[None],
            "rate": np.asarray(self.rate)[None],
        }

    def log_density(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Log probability (n, k) of rows y (n, 2), a count and its log factorial, in NumPy."""
        count, log_factorial = y[:, :1], y[:, 1:]
        rising = special.gammaln(self.shape + count) - special.gammaln(self.shape)
        stopped = -self.shape * np.log1p(1 / self.rate) - count * np.log1p(self.rate)
        return rising - log_factorial + stopped


class Rates(AbstractParameters):
    """Rates, as logarithms."""

    log_rates: Float[Array, " k"]

    def moments(self) -> RateMoments:
        return RateMoments(jnp.exp(self.log_rates), self.log_rates)

    def mean_of_draws(self) -> Rates:
        return Rates(jnp.log(jnp.exp(self.log_rates).mean(axis=(0, 1))))


class RateCoordinates(AbstractCoordinates):
    """Log rates, standardised."""

    middle: Float[Array, " k"]
    scale: Float[Array, " k"]

    @property
    def size(self) -> int:
        return self.middle.shape[0]

    def constrain(self, z: Float[Array, " size"]) -> tuple[Rates, Float[Array, ""]]:
        log_rates = self.middle + self.scale * z
        return Rates(log_rates), jnp.sum(log_rates + jnp.log(self.scale))

    def unconstrain(self, parameters: Rates) -> Float[Array, " size"]:
        return (parameters.log_rates - self.middle) / self.scale


class RatePosterior(AbstractPosterior):
    """Independent gamma distributions, one a cluster."""

    shape: Float[Array, " k"]
    rate: Float[Array, " k"]

    def updated(self, count: Float[Array, " k"], total: Float[Array, " k"]) -> Self:
        """Posterior after this many rows whose counts have these totals."""
        return type(self)(self.shape + total, self.rate + count)

    def moments(self) -> RateMoments:
        return RateMoments(self.shape / self.rate, digamma(self.shape) - jnp.log(self.rate))

    def spread(self) -> Float[Array, " k"]:
        """Variances of the rates."""
        return self.shape / jnp.square(self.rate)

    def predictive(self) -> RatePredictive:
        """Distribution of a new row."""
        return RatePredictive(self.shape, self.rate)

    def mode(self) -> Rates:
        return Rates(jnp.log(self.shape) - jnp.log(self.rate))

    def sample(self, key: PRNGKeyArray) -> Rates:
        return Rates(sample_log_gamma(key, self.shape) - jnp.log(self.rate))

    def log_prob(self, parameters: Rates) -> Float[Array, ""]:
        normaliser = self.shape * jnp.log(self.rate) - gammaln(self.shape)
        return jnp.sum(normaliser) + self.unnormalised_log_prob(parameters)

    def unnormalised_log_prob(self, parameters: Rates) -> Float[Array, ""]:
        return self.log_kernel(parameters) - jnp.sum(parameters.log_rates)

    def coordinates(self) -> RateCoordinates:
        middle = digamma(self.shape) - jnp.log(self.rate)
        return RateCoordinates(middle, jnp.sqrt(polygamma(1, self.shape)))

    def log_kernel(self, parameters: Rates) -> Float[Array, ""]:
        own = self.shape * parameters.log_rates - self.rate * jnp.exp(parameters.log_rates)
        return jnp.sum(own)

    def kl(self, prior: Self) -> Float[Array, ""]:
        return jnp.sum(
            (self.shape - prior.shape) * digamma(self.shape)
            - gammaln(self.shape)
            + gammaln(prior.shape)
            + prior.shape * (jnp.log(self.rate) - jnp.log(prior.rate))
            + self.shape * (prior.rate / self.rate - 1)
        )
