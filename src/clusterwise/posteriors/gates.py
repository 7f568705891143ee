"""Weights that depend on covariates: coefficients of the gates, and their normal distributions.

Two links. Under the softmax the log weights of a row are its predictors, one for each cluster, up
to a constant; predictors sum to zero over clusters, so that no cluster is a reference, and their
free coefficients are those of an orthonormal contrast. Under logit stick-breaking each cluster
takes a logistic share of what the clusters before it left (Ren et al. 2011, JMLR 12).

The average weights of a fit depend on its rows. They are not known while gates are inferred, and
are put in afterwards.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from clusterwise.core.block import AbstractCoordinates, AbstractParameters, AbstractPosterior
from clusterwise.posteriors.coefficients import Coefficients, NormalCoefficients, NormalCoordinates
from clusterwise.posteriors.dirichlet import contrasts
from clusterwise.posteriors.exchange import exchange


class AbstractGates(AbstractParameters):
    """One value of the gates, with the average weights of the rows where these are known."""

    @abstractmethod
    def reported(self) -> np.ndarray:
        """Coefficients (..., k, p) of the components as they are shown, draws leading."""

    @abstractmethod
    def places(self) -> np.ndarray | None:
        """Place (..., k) of each component in the order of sticks; None where there is none."""


class AbstractGateMoments(eqx.Module):
    """Means of the gates' coefficients, and a root of their covariance."""

    @abstractmethod
    def reported_root(self) -> np.ndarray:
        """Root (k, m, p) of the covariance of each component's coefficients as they are shown."""


class SoftmaxMoments(AbstractGateMoments):
    """Of predictors that sum to zero over the clusters.

    Clusters share the axis m of the root, `cov(values_a, values_b) = spread_a^T spread_b`, so that
    they can be renumbered by their first axis alone. At a point it has no rows.
    """

    values: Float[Array, "k p"]
    spread: Float[Array, "k m p"]

    def reported_root(self) -> np.ndarray:
        spread = np.asarray(self.spread)
        return spread - spread[:1]


class SoftmaxGates(AbstractGates):
    """Coefficients of each cluster's log weight; they sum to zero over clusters."""

    values: Float[Array, "k p"]
    log_weights: Float[Array, " k"]

    def moments(self) -> SoftmaxMoments:
        k, p = self.values.shape
        return SoftmaxMoments(self.values, jnp.zeros((k, 0, p)))

    def mean_of_draws(self) -> SoftmaxGates:
        return SoftmaxGates(self.values.mean(axis=(0, 1)), _log_mean(self.log_weights))

    def reported(self) -> np.ndarray:
        values = np.asarray(self.values)
        return values - values[..., :1, :]

    def places(self) -> None:
        return None


class StickMoments(AbstractGateMoments):
    """Of the sticks' predictors.

    `path` has for each cluster 1 at the stick that it takes, -1 at those that it leaves, 0 at those
    that it does not come to; the last cluster takes none. Clusters are renumbered by its first
    axis, and sticks stay in order.
    """

    path: Float[Array, "k s"]
    values: Float[Array, "s p"]
    spread: Float[Array, "s m p"]

    def reported_root(self) -> np.ndarray:
        taken = np.asarray(self.path).clip(0)
        return np.einsum("ks,smp->kmp", taken, self.spread) + _missing(taken)[..., None]


class StickGates(AbstractGates):
    """Coefficients of the sticks' log odds, and which cluster takes which; see `StickMoments`."""

    path: Float[Array, "k s"]
    values: Float[Array, "s p"]
    log_weights: Float[Array, " k"]

    def moments(self) -> StickMoments:
        s, p = self.values.shape
        return StickMoments(self.path, self.values, jnp.zeros((s, 0, p)))

    def mean_of_draws(self) -> StickGates:
        """Averages over the draws with the order that most of them have.

        Coefficients of a stick mean other things where other clusters come before it.
        """
        k, s = self.path.shape[2:]
        path = self.path.reshape(-1, k, s)
        # One number for each order: digits of the places in base k.
        place = jnp.sum(path < 0, axis=2).astype(float)
        code = place @ float(k) ** -jnp.arange(k)
        ordered = jnp.sort(code)
        ends = [jnp.searchsorted(ordered, code, side=side) for side in ("left", "right")]
        commonest = jnp.argmax(ends[1] - ends[0])
        same = (code == code[commonest]).astype(float)
        values = self.values.reshape(-1, *self.values.shape[2:])
        mean = jnp.tensordot(same / same.sum(), values, axes=1)
        return StickGates(path[commonest], mean, _log_mean(self.log_weights))

    def reported(self) -> np.ndarray:
        taken = np.asarray(self.path).clip(0)
        return taken @ np.asarray(self.values) + _missing(taken)

    def places(self) -> np.ndarray:
        return (np.asarray(self.path) < 0).sum(axis=-1)


def _missing(taken: np.ndarray) -> np.ndarray:
    """NaN (..., k, 1) for the cluster that takes no stick, else zero."""
    return np.where(taken.sum(axis=-1, keepdims=True) > 0, 0.0, np.nan)


def _log_mean(log_weights: Float[Array, "chain draw k"]) -> Float[Array, " k"]:
    return jnp.log(jnp.exp(log_weights).mean(axis=(0, 1)))


def paths(k: int) -> np.ndarray:
    """`StickMoments.path` of clusters in the order of the sticks."""
    return np.eye(k, k - 1) - np.tri(k, k - 1, -1)


class AbstractGatePosterior(AbstractPosterior):
    """A normal distribution of the gates' free coefficients."""

    normal: eqx.AbstractVar[NormalCoefficients]

    @property
    @abstractmethod
    def n_components(self) -> int:
        """Number of clusters."""

    @abstractmethod
    def gates(self, free: Coefficients) -> Any:
        """Gates of the free coefficients; the average weights are not known."""

    @abstractmethod
    def free(self, parameters: Any) -> Coefficients:
        """Free coefficients of gates."""

    @abstractmethod
    def with_normal(self, normal: NormalCoefficients) -> Self:
        """Another distribution of the same coefficients."""

    @property
    def label_groups(self) -> Int[np.ndarray, " k"]:
        """Components of one group, here all, may change their numbers."""
        return np.zeros(self.n_components, int)

    def blended(self, new: Self, rate: Float[Array, ""]) -> Self:
        """Part of the way to another distribution."""
        return self.with_normal(self.normal.blended(new.normal, rate))

    def spread(self) -> Any:
        """The moments, whose roots say it."""
        return self.moments()

    def mode(self) -> Any:
        return self.gates(self.normal.mode())

    def sample(self, key: PRNGKeyArray) -> Any:
        return self.gates(self.normal.sample(key))

    def log_prob(self, parameters: Any) -> Float[Array, ""]:
        return self.normal.log_prob(self.free(parameters))

    def unnormalised_log_prob(self, parameters: Any) -> Float[Array, ""]:
        return self.normal.unnormalised_log_prob(self.free(parameters))

    def log_kernel(self, parameters: Any) -> Float[Array, ""]:
        return self.normal.log_kernel(self.free(parameters))

    def coordinates(self) -> GateCoordinates:
        return GateCoordinates(self, self.normal.coordinates())

    def kl(self, prior: Self) -> Float[Array, ""]:
        return self.normal.kl(prior.normal)


class GateCoordinates(AbstractCoordinates):
    """Coordinates in which the free coefficients are standard normal."""

    centre: AbstractGatePosterior
    normal: NormalCoordinates

    @property
    def size(self) -> int:
        return self.normal.size

    def constrain(self, z: Float[Array, " size"]) -> tuple[Any, Float[Array, ""]]:
        free, log_det = self.normal.constrain(z)
        return self.centre.gates(free), log_det

    def unconstrain(self, parameters: Any) -> Float[Array, " size"]:
        return self.normal.unconstrain(self.centre.free(parameters))


class SoftmaxPosterior(AbstractGatePosterior):
    """Of all free coefficients of a softmax together: contrast after contrast, columns within."""

    normal: NormalCoefficients
    n_columns: int = eqx.field(static=True)

    @property
    def n_components(self) -> int:
        return self.normal.mean.shape[1] // self.n_columns + 1

    @property
    def has_order(self) -> bool:
        """Whether clusters that trade places have other weights a priori: here none has."""
        return False

    def draw_order(self, count: Array, log_weights: Array, moments: Any, key: PRNGKeyArray) -> None:
        """No order is worth drawing: where clusters stand changes nothing."""

    def gates(self, free: Coefficients) -> SoftmaxGates:
        k = self.n_components
        values = contrasts(k) @ free.values.reshape(k - 1, self.n_columns)
        return SoftmaxGates(values, jnp.full(k, jnp.nan))

    def free(self, parameters: SoftmaxGates) -> Coefficients:
        return Coefficients((contrasts(self.n_components).T @ parameters.values).reshape(1, -1))

    def with_normal(self, normal: NormalCoefficients) -> Self:
        return type(self)(normal, self.n_columns)

    def moments(self) -> SoftmaxMoments:
        k, p = self.n_components, self.n_columns
        root = self.normal.moments().spread[0].reshape((k - 1) * p, k - 1, p)
        spread = jnp.einsum("kj,mjp->kmp", contrasts(k), root)
        return SoftmaxMoments(self.mode().values, spread)


class StickGatePosterior(AbstractGatePosterior):
    """Of the coefficients of each stick, independently."""

    normal: NormalCoefficients

    @property
    def n_components(self) -> int:
        return self.normal.mean.shape[0] + 1

    @property
    def has_order(self) -> bool:
        """Whether clusters that trade places have other weights a priori: sticks do."""
        return True

    def draw_order(
        self, count: Array, log_weights: Array, moments: Any, key: PRNGKeyArray
    ) -> Int[Array, " k"] | None:
        """Two clusters that may have traded sticks, given all sticks (Metropolis)."""
        return exchange(log_weights, key)

    def gates(self, free: Coefficients) -> StickGates:
        k = self.n_components
        return StickGates(jnp.asarray(paths(k)), free.values, jnp.full(k, jnp.nan))

    def free(self, parameters: StickGates) -> Coefficients:
        return Coefficients(parameters.values)

    def with_normal(self, normal: NormalCoefficients) -> Self:
        return type(self)(normal)

    def moments(self) -> StickMoments:
        found = self.normal.moments()
        return StickMoments(jnp.asarray(paths(self.n_components)), found.values, found.spread)
