"""Unconstrained coordinates of covariances, close to standard normal under a given posterior.

Sampling in coordinates that a variational posterior standardises gives steps of the right size
from the start; it is the affine part of a transport map (Parno and Marzouk 2018, SIAM/ASA Journal
on Uncertainty Quantification 6).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, polygamma
from jaxtyping import Array, Float


class Location(eqx.Module):
    """`middle + size * z`, entry by entry."""

    middle: Float[Array, "..."]
    size: Float[Array, "..."]

    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Place a standardised value."""
        return self.middle + self.size * z

    def inverse(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        """Standardise a value."""
        return (value - self.middle) / self.size

    @property
    def log_det(self) -> Float[Array, ""]:
        """Log of the volume of a unit cube."""
        return jnp.sum(jnp.log(self.size))


def log_gamma_location(shape: Float[Array, "..."], rate: Float[Array, "..."]) -> Location:
    """Mean and standard deviation of the logarithms of gamma(shape, rate) numbers."""
    return Location(digamma(shape) - jnp.log(rate), jnp.sqrt(polygamma(1, shape)))


class CovariancePoint(NamedTuple):
    """A covariance, a root with `root root^T` the covariance, and logs of determinants.

    `log_det` is that of the map from coordinates to the free entries of the covariance.
    """

    covariance: Float[Array, "k q q"]
    root: Float[Array, "k q q"]
    log_det_root: Float[Array, " k"]
    log_det: Float[Array, ""]


class AbstractCovarianceCoordinates(eqx.Module):
    """Coordinates of a covariance."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of coordinates."""

    @abstractmethod
    def constrain(self, z: Float[Array, " size"]) -> CovariancePoint:
        """Covariance at these coordinates."""

    @abstractmethod
    def unconstrain(self, covariance: Float[Array, "k q q"]) -> Float[Array, " size"]:
        """Coordinates of a covariance."""

    @abstractmethod
    def root(self, covariance: Float[Array, "k q q"]) -> Float[Array, "k q q"]:
        """The root that `constrain` gives at this covariance."""


class BartlettCoordinates(AbstractCovarianceCoordinates):
    """Bartlett's decomposition of an inverse Wishart matrix, its diagonal in logarithms.

    The covariance is `scale_root (A A^T)^-1 scale_root^T`; below its diagonal A is standard
    normal under the distribution (Bartlett 1933).
    """

    scale_root: Float[Array, "k q q"]
    log_diagonal: Location

    @property
    def size(self) -> int:
        k, q = self.log_diagonal.middle.shape
        return k * q * (q + 1) // 2

    def constrain(self, z: Float[Array, " size"]) -> CovariancePoint:
        k, q = self.log_diagonal.middle.shape
        log_diagonal = self.log_diagonal(z[: k * q].reshape(k, q))
        factor = jnp.exp(log_diagonal)[:, :, None] * jnp.eye(q)
        if q > 1:
            row, column = np.tril_indices(q, -1)
            factor = factor.at[:, row, column].set(z[k * q :].reshape(k, -1))
        transposed = jax.scipy.linalg.solve_triangular(
            factor, jnp.swapaxes(self.scale_root, 1, 2), lower=True
        )
        root = jnp.swapaxes(transposed, 1, 2)
        log_scale = jnp.sum(jnp.log(jnp.diagonal(self.scale_root, axis1=1, axis2=2)), axis=1)
        # A to A A^T, to its inverse, between the roots; and the logarithms of the diagonal.
        power = q - np.arange(q) - 2 * (q + 1) + 1
        log_det = (
            k * q * np.log(2)
            + jnp.sum(power * log_diagonal)
            + (q + 1) * jnp.sum(log_scale)
            + self.log_diagonal.log_det
        )
        return CovariancePoint(
            root @ transposed, root, log_scale - jnp.sum(log_diagonal, axis=1), log_det
        )

    def _factor(self, covariance: Float[Array, "k q q"]) -> Float[Array, "k q q"]:
        inner = jnp.linalg.solve(covariance, self.scale_root)
        return jnp.linalg.cholesky(jnp.swapaxes(self.scale_root, 1, 2) @ inner)

    def unconstrain(self, covariance: Float[Array, "k q q"]) -> Float[Array, " size"]:
        factor = self._factor(covariance)
        diagonal = jnp.diagonal(factor, axis1=1, axis2=2)
        row, column = np.tril_indices(factor.shape[-1], -1)
        log_diagonal = self.log_diagonal.inverse(jnp.log(diagonal))
        return jnp.concatenate([log_diagonal.ravel(), factor[:, row, column].ravel()])

    def root(self, covariance: Float[Array, "k q q"]) -> Float[Array, "k q q"]:
        transposed = jax.scipy.linalg.solve_triangular(
            self._factor(covariance), jnp.swapaxes(self.scale_root, 1, 2), lower=True
        )
        return jnp.swapaxes(transposed, 1, 2)


class LogPrecisionCoordinates(AbstractCovarianceCoordinates):
    """Logarithms of the precisions of a diagonal covariance, or of the one for all columns."""

    log_precision: Location
    n_columns: int = eqx.field(static=True)

    @property
    def size(self) -> int:
        k, r = self.log_precision.middle.shape
        return k * r

    def constrain(self, z: Float[Array, " size"]) -> CovariancePoint:
        k, r = self.log_precision.middle.shape
        log_precision = self.log_precision(z.reshape(k, r))
        wide = jnp.broadcast_to(log_precision, (k, self.n_columns))
        eye = jnp.eye(self.n_columns)
        return CovariancePoint(
            jnp.exp(-wide)[:, :, None] * eye,
            jnp.exp(-0.5 * wide)[:, :, None] * eye,
            -0.5 * jnp.sum(wide, axis=1),
            self.log_precision.log_det - jnp.sum(log_precision),
        )

    def unconstrain(self, covariance: Float[Array, "k q q"]) -> Float[Array, " size"]:
        r = self.log_precision.middle.shape[1]
        variance = jnp.diagonal(covariance, axis1=1, axis2=2)[:, :r]
        return self.log_precision.inverse(-jnp.log(variance)).ravel()

    def root(self, covariance: Float[Array, "k q q"]) -> Float[Array, "k q q"]:
        return jnp.sqrt(covariance)


class KnownCoordinates(AbstractCovarianceCoordinates):
    """A covariance that is given has none."""

    covariance: Float[Array, "k q q"]
    known_root: Float[Array, "k q q"]

    @property
    def size(self) -> int:
        return 0

    def constrain(self, z: Float[Array, " size"]) -> CovariancePoint:
        diagonal = jnp.diagonal(self.known_root, axis1=1, axis2=2)
        log_det_root = jnp.sum(jnp.log(diagonal), axis=1)
        return CovariancePoint(self.covariance, self.known_root, log_det_root, jnp.zeros(()))

    def unconstrain(self, covariance: Float[Array, "k q q"]) -> Float[Array, " size"]:
        return jnp.zeros(0)

    def root(self, covariance: Float[Array, "k q q"]) -> Float[Array, "k q q"]:
        return self.known_root
