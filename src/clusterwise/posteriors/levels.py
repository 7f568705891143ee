"""Probabilities of a column's levels in each cluster: one Dirichlet distribution a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from clusterwise.core.block import AbstractCoordinates, AbstractParameters, AbstractPosterior
from clusterwise.posteriors.dirichlet import DirichletCoordinates, DirichletPosterior, Weights


class LevelMoments(NamedTuple):
    """Expected log probability of each level."""

    log_probabilities: Float[Array, "k levels"]


class LevelPredictive(NamedTuple):
    """Log probability of each level in a new row, the probabilities integrated out."""

    log_probabilities: Float[Array, "k levels"]

    def as_numbers(self) -> dict[str, Any]:
        """Its numbers, leading with an axis of draws, by the name of what is to be computed."""
        return {"kind": "linear", "form": np.asarray(self.log_probabilities)[None]}

    def log_density(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Log probability (n, k) of rows y (n, levels) of zeros and ones, in NumPy."""
        return y @ self.log_probabilities.T


class Levels(AbstractParameters):
    """Probabilities of the levels, as logarithms."""

    log_probabilities: Float[Array, "k levels"]

    def moments(self) -> LevelMoments:
        return LevelMoments(self.log_probabilities)

    def mean_of_draws(self) -> Levels:
        return Levels(jnp.log(jnp.exp(self.log_probabilities).mean(axis=(0, 1))))


class LevelCoordinates(AbstractCoordinates):
    """Log ratios of each cluster's probabilities, one cluster after the other."""

    each: DirichletCoordinates
    """Its arrays lead with the cluster axis."""

    @property
    def size(self) -> int:
        k, free = self.each.middle.shape
        return k * free

    def constrain(self, z: Float[Array, " size"]) -> tuple[Levels, Float[Array, ""]]:
        apart = z.reshape(self.each.middle.shape)
        weights, log_det = jax.vmap(lambda one, own: one.constrain(own))(self.each, apart)
        return Levels(weights.log_weights), jnp.sum(log_det)

    def unconstrain(self, parameters: Levels) -> Float[Array, " size"]:
        weights = _as_weights(parameters)
        return jax.vmap(lambda one, own: one.unconstrain(own))(self.each, weights).ravel()


class LevelPosterior(AbstractPosterior):
    """Independent Dirichlet distributions, one a cluster."""

    alpha: Float[Array, "k levels"]

    def _each(self, function: Callable[..., Any], *others: Any) -> Any:
        """Apply a function to every cluster's Dirichlet distribution."""
        return jax.vmap(lambda alpha, *own: function(DirichletPosterior(alpha), *own))(
            self.alpha, *others
        )

    def updated(self, count: Float[Array, "k levels"]) -> Self:
        """Posterior after these counts."""
        return type(self)(self.alpha + count)

    def moments(self) -> LevelMoments:
        return LevelMoments(self._each(lambda one: one.moments().log_weights))

    def spread(self) -> Float[Array, "k levels"]:
        """Variances of the probabilities."""
        return self._each(lambda one: one.spread())

    def predictive(self) -> LevelPredictive:
        """Distribution of a new row."""
        return LevelPredictive(self._each(lambda one: one.predictive()))

    def mode(self) -> Levels:
        return Levels(self._each(lambda one: one.mode().log_weights))

    def sample(self, key: PRNGKeyArray) -> Levels:
        keys = jax.random.split(key, self.alpha.shape[0])
        return Levels(self._each(lambda one, own: one.sample(own).log_weights, keys))

    def log_prob(self, parameters: Levels) -> Float[Array, ""]:
        return jnp.sum(self._each(lambda one, own: one.log_prob(own), _as_weights(parameters)))

    def unnormalised_log_prob(self, parameters: Levels) -> Float[Array, ""]:
        return jnp.sum((self.alpha - 1) * parameters.log_probabilities)

    def coordinates(self) -> LevelCoordinates:
        return LevelCoordinates(self._each(lambda one: one.coordinates()))

    def log_kernel(self, parameters: Levels) -> Float[Array, ""]:
        return jnp.sum(self.alpha * parameters.log_probabilities)

    def kl(self, prior: Self) -> Float[Array, ""]:
        return jnp.sum(
            self._each(lambda one, other: one.kl(DirichletPosterior(other)), prior.alpha)
        )


def _as_weights(parameters: Levels) -> Weights:
    k = parameters.log_probabilities.shape[0]
    return Weights(parameters.log_probabilities, jnp.zeros(k))
