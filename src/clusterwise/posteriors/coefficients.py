"""Normal coefficients of every cluster, some of which all clusters may share.

Given the shared coefficients those of the clusters are independent, so that the joint precision
is an arrow: a block for each cluster, one for what they share, and the borders between. It is
factorised cluster by cluster, and by its Schur complement for the rest (Golub and Van Loan 2013,
Matrix Computations, section 4.4).
"""

from __future__ import annotations

from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from clusterwise.core.block import AbstractCoordinates, AbstractParameters, AbstractPosterior
from clusterwise.posteriors.linalg import log_det, solve, whitening
from clusterwise.posteriors.matrix_normal import CoefficientSpread


class CoefficientMoments(NamedTuple):
    """Mean of the coefficients, and a factor of their covariance in each cluster."""

    values: Float[Array, "k d"]
    spread: Float[Array, "k m d"]
    """W with W^T W the covariance; without rows at a point."""


class Coefficients(AbstractParameters):
    """Coefficients of each cluster; those that are shared are there once for each."""

    values: Float[Array, "k d"]

    def moments(self) -> CoefficientMoments:
        k, d = self.values.shape
        return CoefficientMoments(self.values, jnp.zeros((k, 0, d)))

    def mean_of_draws(self) -> Coefficients:
        return Coefficients(self.values.mean(axis=(0, 1)))


class _Factors(NamedTuple):
    """Roots of the covariance: of a cluster's own coefficients given the shared, and of these.

    `slope` is by how much a cluster's own coefficients fall with the shared ones.
    """

    own: Float[Array, "k o o"]
    shared: Float[Array, "s s"]
    slope: Float[Array, "k o s"]


class NormalCoefficients(AbstractPosterior):
    """Joint normal distribution of all clusters' coefficients.

    `mean` holds the shared coefficients once for each cluster. The precision is of a cluster's
    own coefficients, between these and the shared ones, and of the shared ones.
    """

    mean: Float[Array, "k d"]
    own: Float[Array, "k o o"]
    border: Float[Array, "k o s"]
    shared: Float[Array, "s s"]
    shared_places: tuple[int, ...] = eqx.field(static=True)

    @classmethod
    def independent_of(
        cls,
        mean: Float[Array, "k d"],
        precision: Float[Array, "k d d"],
        shared_places: tuple[int, ...] = (),
    ) -> Self:
        """A prior in which clusters are alike and shared coefficients independent of the others.

        Parameters
        ----------
        mean, precision
            Of each cluster's coefficients; for the shared ones those of the first cluster count.
        shared_places
            Places of the shared coefficients.
        """
        others, places = _split(mean.shape[1], shared_places)
        k = mean.shape[0]
        return cls(
            mean,
            precision[:, others[:, None], others[None, :]],
            jnp.zeros((k, others.size, places.size)),
            precision[0][places[:, None], places[None, :]],
            shared_places,
        )

    @property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        return _split(self.mean.shape[1], self.shared_places)

    def _joined(self, own: Float[Array, "k o"], shared: Float[Array, " s"]) -> Float[Array, "k d"]:
        """Coefficients of each cluster from their two kinds."""
        others, places = self._places
        k = own.shape[0]
        found = jnp.zeros((k, self.mean.shape[1])).at[:, others].set(own)
        return found.at[:, places].set(jnp.broadcast_to(shared, (k, places.size)))

    def _parted(self, values: Float[Array, "k d"]) -> tuple[Array, Array]:
        others, places = self._places
        return values[:, others], values[0, places]

    def _factors(self) -> _Factors:
        root = whitening(self.own)
        slope = jnp.swapaxes(root, 1, 2) @ (root @ self.border)
        if not self.shared_places:
            return _Factors(root, jnp.zeros((0, 0)), slope)
        schur = self.shared - jnp.einsum("kos,kot->st", self.border, slope)
        return _Factors(root, whitening(schur[None])[0], slope)

    def updated(self, precision: Float[Array, "k d d"], shift: Float[Array, "k d"]) -> Self:
        """Posterior after a quadratic log likelihood `shift^T b - b^T precision b / 2`."""
        others, places = self._places
        own = self.own + precision[:, others[:, None], others[None, :]]
        border = self.border + precision[:, others[:, None], places[None, :]]
        shared = self.shared + precision[:, places[:, None], places[None, :]].sum(axis=0)
        own_shift, shared_shift = self._natural()
        own_shift = own_shift + shift[:, others]
        shared_shift = shared_shift + shift[:, places].sum(axis=0)
        return self._from_natural((own, border, shared), own_shift, shared_shift)

    def _natural(self) -> tuple[Array, Array]:
        """Precision times mean."""
        own, shared = self._parted(self.mean)
        own_shift = jnp.einsum("kop,kp->ko", self.own, own) + self.border @ shared
        return own_shift, jnp.einsum("kos,ko->s", self.border, own) + self.shared @ shared

    def _from_natural(
        self, precision: tuple[Array, Array, Array], own_shift: Array, shared_shift: Array
    ) -> Self:
        own, border, shared = precision
        right = jnp.concatenate([own_shift[:, :, None], border], axis=2)
        solved = solve(own, right)
        alone, slope = solved[:, :, 0], solved[:, :, 1:]
        if self.shared_places:
            schur = shared - jnp.einsum("kos,kot->st", border, slope)
            rest = shared_shift - jnp.einsum("kos,ko->s", border, alone)
            common = solve(schur[None], rest[None, :, None])[0, :, 0]
        else:
            common = jnp.zeros(0)
        mean = self._joined(alone - slope @ common, common)
        return type(self)(mean, own, border, shared, self.shared_places)

    def blended(self, new: Self, rate: Float[Array, ""]) -> Self:
        """Part of the way to another distribution, in mean and precision."""
        return jax.tree.map(lambda a, b: a + rate * (b - a), self, new)

    def moments(self) -> CoefficientMoments:
        others, places = self._places
        k, d = self.mean.shape
        root, common, slope = self._factors()
        spread = jnp.zeros((k, d, d))
        rows, rest = np.arange(others.size), np.arange(others.size, d)
        spread = spread.at[:, rows[:, None], others[None, :]].set(root)
        spread = spread.at[:, rest[:, None], others[None, :]].set(
            -jnp.einsum("ts,kos->kto", common, slope)
        )
        spread = spread.at[:, rest[:, None], places[None, :]].set(common)
        return CoefficientMoments(self.mean, spread)

    def spread(self) -> CoefficientSpread:
        """Covariance of each cluster's coefficients."""
        root = self.moments().spread
        k = root.shape[0]
        return CoefficientSpread(jnp.swapaxes(root, 1, 2) @ root, jnp.ones((k, 1, 1)))

    def mode(self) -> Coefficients:
        return Coefficients(self.mean)

    def sample(self, key: PRNGKeyArray) -> Coefficients:
        own_key, shared_key = jax.random.split(key)
        k, o, s = self.border.shape
        noise = jax.random.normal(own_key, (k, o)), jax.random.normal(shared_key, (s,))
        return Coefficients(self._placed(self._factors(), *noise))

    def _placed(self, factors: _Factors, own: Array, shared: Array) -> Float[Array, "k d"]:
        """Coefficients at standard normal deviations."""
        common = factors.shared.T @ shared
        given = jnp.einsum("kpo,kp->ko", factors.own, own) - factors.slope @ common
        return self.mean + self._joined(given, common)

    def log_prob(self, parameters: Coefficients) -> Float[Array, ""]:
        k, o, s = self.border.shape
        normaliser = self._log_det() - (k * o + s) * jnp.log(2 * jnp.pi)
        return 0.5 * normaliser + self.log_kernel(parameters)

    def _log_det(self) -> Float[Array, ""]:
        total = jnp.sum(log_det(self.own))
        if self.shared_places:
            total -= 2 * jnp.sum(jnp.log(jnp.diagonal(self._factors().shared)))
        return total

    def log_prob_by_cluster(self, parameters: Coefficients) -> Float[Array, " k"]:
        """Log density of each cluster's coefficients, where none is shared."""
        deviation = parameters.values - self.mean
        square = jnp.einsum("ko,kop,kp->k", deviation, self.own, deviation)
        d = self.mean.shape[1]
        return 0.5 * (log_det(self.own) - d * jnp.log(2 * jnp.pi) - square)

    def unnormalised_log_prob(self, parameters: Coefficients) -> Float[Array, ""]:
        return self.log_kernel(parameters)

    def log_kernel(self, parameters: Coefficients) -> Float[Array, ""]:
        own, shared = self._parted(parameters.values - self.mean)
        return -0.5 * (
            jnp.einsum("ko,kop,kp->", own, self.own, own)
            + 2 * jnp.einsum("ko,kos,s->", own, self.border, shared)
            + shared @ self.shared @ shared
        )

    def coordinates(self) -> NormalCoordinates:
        return NormalCoordinates(self, self._factors())

    def kl(self, prior: Self) -> Float[Array, ""]:
        k, o, s = self.border.shape
        root, common, slope = self._factors()
        # Covariance of the shared coefficients, and what it adds to that of the others.
        covariance = common.T @ common
        trace = jnp.einsum("kpo,koq,kpq->", root, prior.own, root)
        trace += jnp.einsum("kos,st,kpt,kop->", slope, covariance, slope, prior.own)
        trace -= 2 * jnp.einsum("kos,st,kot->", prior.border, covariance, slope)
        trace += jnp.sum(prior.shared * covariance)
        distance = -2 * prior.log_kernel(Coefficients(self.mean))
        return 0.5 * (trace - (k * o + s) + self._log_det() - prior._log_det() + distance)


class NormalCoordinates(AbstractCoordinates):
    """Coordinates in which a normal distribution of coefficients is standard."""

    centre: NormalCoefficients
    factors: _Factors

    @property
    def size(self) -> int:
        k, o, s = self.centre.border.shape
        return k * o + s

    def constrain(self, z: Float[Array, " size"]) -> tuple[Coefficients, Float[Array, ""]]:
        k, o, _ = self.centre.border.shape
        own, shared = z[: k * o].reshape(k, o), z[k * o :]
        scale = jnp.sum(jnp.log(jnp.diagonal(self.factors.own, axis1=1, axis2=2)))
        scale += jnp.sum(jnp.log(jnp.diagonal(self.factors.shared)))
        return Coefficients(self.centre._placed(self.factors, own, shared)), scale

    def unconstrain(self, parameters: Coefficients) -> Float[Array, " size"]:
        own, shared = self.centre._parted(parameters.values - self.centre.mean)
        own = own + self.factors.slope @ shared
        transposed = jnp.swapaxes(self.factors.own, 1, 2)
        standard = jnp.linalg.solve(transposed, own[:, :, None])[:, :, 0]
        if not self.centre.shared_places:
            return standard.ravel()
        common = jnp.linalg.solve(self.factors.shared.T, shared)
        return jnp.concatenate([standard.ravel(), common])


def _split(size: int, shared: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Places of a cluster's own coefficients, and of the shared ones."""
    places = np.asarray(shared, int)
    return np.setdiff1d(np.arange(size), places), places
