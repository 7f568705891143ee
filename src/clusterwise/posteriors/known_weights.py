"""Mixing weights that are given, not estimated."""

from __future__ import annotations

from typing import Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from clusterwise.core.block import AbstractCoordinates, AbstractPosterior
from clusterwise.posteriors.dirichlet import WeightMoments, Weights
from clusterwise.posteriors.exchange import exchange


class NoCoordinates(AbstractCoordinates):
    """Nothing of the weights is free."""

    weights: Weights

    @property
    def size(self) -> int:
        return 0

    def constrain(self, z: Float[Array, " size"]) -> tuple[Weights, Float[Array, ""]]:
        return self.weights, jnp.zeros(())

    def unconstrain(self, parameters: Weights) -> Float[Array, " size"]:
        return jnp.zeros(0)


class KnownWeightsPosterior(AbstractPosterior):
    """All mass at the given weights, before and after any rows; densities are relative to it."""

    log_weights: Float[Array, " k"]

    @property
    def label_groups(self) -> Int[np.ndarray, " k"]:
        """Components of one group, those of equal weight, may change their numbers."""
        return np.unique(np.asarray(self.log_weights), return_inverse=True)[1]

    @property
    def has_order(self) -> bool:
        """Whether clusters that trade places have other weights: they may."""
        return True

    def draw_order(
        self,
        count: Float[Array, " k"],
        log_weights: Float[Array, "k l"],
        moments: WeightMoments,
        key: PRNGKeyArray,
    ) -> Int[Array, " k"] | None:
        """Two clusters that may have traded places, given how many rows each has (Metropolis)."""
        return exchange(log_weights, key)

    def updated(self, count: Float[Array, " k"], moments: WeightMoments) -> Self:
        """The same, whatever the counts."""
        return self

    def moments(self) -> WeightMoments:
        return self.mode().moments()

    def spread(self) -> Float[Array, " k"]:
        """Variances of the weights."""
        return jnp.zeros_like(self.log_weights)

    def predictive(self) -> Float[Array, " k"]:
        """Log probability of each cluster for a new row."""
        return self.log_weights

    def mode(self) -> Weights:
        # There is no process behind known weights, hence no concentration.
        return Weights(self.log_weights, jnp.zeros(()))

    def sample(self, key: PRNGKeyArray) -> Weights:
        return self.mode()

    def log_prob(self, parameters: Weights) -> Float[Array, ""]:
        return jnp.zeros(())

    def unnormalised_log_prob(self, parameters: Weights) -> Float[Array, ""]:
        return jnp.zeros(())

    def coordinates(self) -> NoCoordinates:
        return NoCoordinates(self.mode())

    def log_kernel(self, parameters: Weights) -> Float[Array, ""]:
        return jnp.zeros(())

    def kl(self, prior: Self) -> Float[Array, ""]:
        return jnp.zeros(())
