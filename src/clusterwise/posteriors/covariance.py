"""Distributions over the residual covariance of a Gaussian part.

Three forms share one interface. Arrays lead with the cluster axis, or with an axis of length one
where all clusters share the covariance; statistics are then summed over clusters.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln, multigammaln
from jaxtyping import Array, Float, PRNGKeyArray

from clusterwise.posteriors.coordinates import (
    AbstractCovarianceCoordinates,
    BartlettCoordinates,
    KnownCoordinates,
    Location,
    LogPrecisionCoordinates,
    log_gamma_location,
)
from clusterwise.posteriors.gamma import sample_log_gamma


class Precision(NamedTuple):
    """Expected precision as `whitening^T whitening`, and its expected log determinant."""

    whitening: Float[Array, "k q q"]
    log_det: Float[Array, " k"]


class StudentScale(NamedTuple):
    """Student t of residuals, their covariance integrated out.

    `whitening` W has W^T W the inverse of the scale matrix. A `dof` (k, r) belongs to a group of
    q / r columns, which is a multivariate t; groups are independent. Infinite for a normal.
    """

    whitening: Float[Array, "k q q"]
    dof: Float[Array, "k r"]


def point_precision(covariance: Float[Array, "k q q"]) -> Precision:
    """Precision of a known covariance."""
    whitening = _inverse_cholesky(covariance)
    return Precision(whitening, 2 * _log_diagonal(whitening))


class AbstractCovariance(eqx.Module):
    """A distribution over covariance matrices."""

    @abstractmethod
    def updated(self, scatter: Float[Array, "k q q"], count: Float[Array, " k"]) -> Self:
        """Add residual cross products and counts."""

    @abstractmethod
    def mode(self) -> Float[Array, "k q q"]:
        """Mode on the log scale, the inverse of the expected precision."""

    @abstractmethod
    def mean(self) -> Float[Array, "k q q"]:
        """Expectation; infinite or undefined without enough degrees of freedom."""

    @abstractmethod
    def precision(self) -> Precision:
        """Expected precision and log determinant."""

    @abstractmethod
    def predictive(self) -> StudentScale:
        """Distribution of a residual under a covariance drawn from this distribution."""

    @abstractmethod
    def sample(self, key: PRNGKeyArray) -> Float[Array, "k q q"]:
        """One draw."""

    @abstractmethod
    def log_prob(self, covariance: Float[Array, "k q q"]) -> Float[Array, ""]:
        """Log density with respect to the free entries of the covariance."""

    @abstractmethod
    def unnormalised_log_prob(self, covariance: Float[Array, "k q q"]) -> Float[Array, ""]:
        """`log_prob` up to a constant."""

    @abstractmethod
    def coordinates(self) -> AbstractCovarianceCoordinates:
        """Coordinates that are close to standard normal under this distribution."""

    @abstractmethod
    def log_kernel(self, covariance: Float[Array, "k q q"]) -> Float[Array, ""]:
        """Log density on the log scale up to a constant."""

    @abstractmethod
    def kl(self, prior: Any) -> Float[Array, ""]:
        """Kullback-Leibler divergence from a prior."""


class InverseWishart(AbstractCovariance):
    """Inverse Wishart; with one dimension the inverse gamma(dof / 2, scale / 2)."""

    dof: Float[Array, " k"]
    scale: Float[Array, "k q q"]

    def updated(self, scatter: Float[Array, "k q q"], count: Float[Array, " k"]) -> Self:
        total, n = _pool_if_shared(self.dof, scatter, count)
        return type(self)(self.dof + n, self.scale + total)

    def mode(self) -> Float[Array, "k q q"]:
        return self.scale / self.dof[:, None, None]

    def mean(self) -> Float[Array, "k q q"]:
        free = self.dof - self.scale.shape[-1] - 1
        return self.scale / jnp.where(free > 0, free, jnp.nan)[:, None, None]

    def precision(self) -> Precision:
        q = self.scale.shape[-1]
        whitening = _inverse_cholesky(self.scale)
        expected_log_det = (
            _multivariate_digamma(self.dof / 2, q) + q * jnp.log(2) + 2 * _log_diagonal(whitening)
        )
        return Precision(jnp.sqrt(self.dof)[:, None, None] * whitening, expected_log_det)

    def predictive(self) -> StudentScale:
        # Gelman et al. (2013), Bayesian Data Analysis, section 3.6.
        dof = self.dof - self.scale.shape[-1] + 1
        whitening = jnp.sqrt(dof)[:, None, None] * _inverse_cholesky(self.scale)
        return StudentScale(whitening, dof[:, None])

    def sample(self, key: PRNGKeyArray) -> Float[Array, "k q q"]:
        # Bartlett (1933): a Wishart precision from independent chi-square and normal draws.
        k, q = self.scale.shape[:2]
        diagonal_key, lower_key = jax.random.split(key)
        shape = (self.dof[:, None] - jnp.arange(q)) / 2
        diagonal = jnp.sqrt(2) * jnp.exp(0.5 * sample_log_gamma(diagonal_key, shape))
        lower = jnp.tril(jax.random.normal(lower_key, (k, q, q)), -1)
        bartlett = lower + diagonal[:, :, None] * jnp.eye(q)
        factor = jax.scipy.linalg.solve_triangular(
            bartlett, jnp.swapaxes(jnp.linalg.cholesky(self.scale), 1, 2), lower=True
        )
        return jnp.swapaxes(factor, 1, 2) @ factor

    def log_prob(self, covariance: Float[Array, "k q q"]) -> Float[Array, ""]:
        q = self.scale.shape[-1]
        scale_log_det = -2 * _log_diagonal(_inverse_cholesky(self.scale))
        normaliser = self.dof / 2 * (scale_log_det - q * jnp.log(2)) - multigammaln_batch(
            self.dof / 2, q
        )
        return jnp.sum(normaliser) + self.unnormalised_log_prob(covariance)

    def unnormalised_log_prob(self, covariance: Float[Array, "k q q"]) -> Float[Array, ""]:
        q = self.scale.shape[-1]
        log_det = -point_precision(covariance).log_det
        trace = _trace_solve(covariance, self.scale)
        return -0.5 * jnp.sum((self.dof + q + 1) * log_det + trace)

    def coordinates(self) -> BartlettCoordinates:
        # Half the logarithms of chi-square numbers.
        shape = (self.dof[:, None] - jnp.arange(self.scale.shape[-1])) / 2
        log_square = log_gamma_location(shape, jnp.full_like(shape, 0.5))
        return BartlettCoordinates(
            jnp.linalg.cholesky(self.scale),
            Location(log_square.middle / 2, log_square.size / 2),
        )

    def log_kernel(self, covariance: Float[Array, "k q q"]) -> Float[Array, ""]:
        log_det = -point_precision(covariance).log_det
        return -0.5 * jnp.sum(self.dof * log_det + _trace_solve(covariance, self.scale))

    def kl(self, prior: Self) -> Float[Array, ""]:
        q = self.scale.shape[-1]
        log_det = -2 * _log_diagonal(_inverse_cholesky(self.scale))
        prior_log_det = -2 * _log_diagonal(_inverse_cholesky(prior.scale))
        return jnp.sum(
            prior.dof / 2 * (log_det - prior_log_det)
            + self.dof / 2 * (_trace_solve(self.scale, prior.scale) - q)
            + multigammaln_batch(prior.dof / 2, q)
            - multigammaln_batch(self.dof / 2, q)
            + (self.dof - prior.dof) / 2 * _multivariate_digamma(self.dof / 2, q)
        )


class InverseGamma(AbstractCovariance):
    """Independent inverse gammas on the diagonal, or one for all of it (`shape` (k, 1))."""

    shape: Float[Array, "k r"]
    rate: Float[Array, "k r"]
    size: int = eqx.field(static=True)

    def updated(self, scatter: Float[Array, "k q q"], count: Float[Array, " k"]) -> Self:
        total, n = _pool_if_shared(self.shape, scatter, count)
        squares = jnp.diagonal(total, axis1=1, axis2=2)
        # One variance for all columns sees every column of a row.
        repeats = self.size // self.shape.shape[1]
        squares = squares.reshape(squares.shape[0], -1, repeats).sum(axis=2)
        return type(self)(self.shape + n[:, None] * repeats / 2, self.rate + squares / 2, self.size)

    def _matrix(self, diagonal: Float[Array, "k r"]) -> Float[Array, "k q q"]:
        return self._wide(diagonal)[:, :, None] * jnp.eye(self.size)

    def _wide(self, diagonal: Float[Array, "k r"]) -> Float[Array, "k q"]:
        return jnp.broadcast_to(diagonal, (diagonal.shape[0], self.size))

    def _variances(self, covariance: Float[Array, "k q q"]) -> Float[Array, "k r"]:
        return jnp.diagonal(covariance, axis1=1, axis2=2)[:, : self.shape.shape[1]]

    def mode(self) -> Float[Array, "k q q"]:
        return self._matrix(self.rate / self.shape)

    def mean(self) -> Float[Array, "k q q"]:
        free = self.shape - 1
        return self._matrix(self.rate / jnp.where(free > 0, free, jnp.nan))

    def precision(self) -> Precision:
        log_precision = digamma(self.shape) - jnp.log(self.rate)
        return Precision(
            self._matrix(jnp.sqrt(self.shape / self.rate)),
            jnp.sum(self._wide(log_precision), axis=1),
        )

    def predictive(self) -> StudentScale:
        return StudentScale(self._matrix(jnp.sqrt(self.shape / self.rate)), 2 * self.shape)

    def sample(self, key: PRNGKeyArray) -> Float[Array, "k q q"]:
        return self._matrix(self.rate * jnp.exp(-sample_log_gamma(key, self.shape)))

    def log_prob(self, covariance: Float[Array, "k q q"]) -> Float[Array, ""]:
        normaliser = self.shape * jnp.log(self.rate) - gammaln(self.shape)
        return jnp.sum(normaliser) + self.unnormalised_log_prob(covariance)

    def unnormalised_log_prob(self, covariance: Float[Array, "k q q"]) -> Float[Array, ""]:
        variance = self._variances(covariance)
        return -jnp.sum((self.shape + 1) * jnp.log(variance) + self.rate / variance)

    def coordinates(self) -> LogPrecisionCoordinates:
        return LogPrecisionCoordinates(log_gamma_location(self.shape, self.rate), self.size)

    def log_kernel(self, covariance: Float[Array, "k q q"]) -> Float[Array, ""]:
        variance = self._variances(covariance)
        return -jnp.sum(self.shape * jnp.log(variance) + self.rate / variance)

    def kl(self, prior: Self) -> Float[Array, ""]:
        return jnp.sum(
            prior.shape * (jnp.log(self.rate) - jnp.log(prior.rate))
            + gammaln(prior.shape)
            - gammaln(self.shape)
            + (self.shape - prior.shape) * digamma(self.shape)
            + self.shape * (prior.rate - self.rate) / self.rate
        )


class KnownCovariance(AbstractCovariance):
    """A covariance that is given, not estimated."""

    value: Float[Array, "k q q"]

    def updated(self, scatter: Float[Array, "k q q"], count: Float[Array, " k"]) -> Self:
        return self

    def mode(self) -> Float[Array, "k q q"]:
        return self.value

    def mean(self) -> Float[Array, "k q q"]:
        return self.value

    def precision(self) -> Precision:
        return point_precision(self.value)

    def predictive(self) -> StudentScale:
        whitening = point_precision(self.value).whitening
        return StudentScale(whitening, jnp.full((self.value.shape[0], 1), jnp.inf))

    def sample(self, key: PRNGKeyArray) -> Float[Array, "k q q"]:
        return self.value

    def log_prob(self, covariance: Float[Array, "k q q"]) -> Float[Array, ""]:
        return jnp.zeros(())

    def unnormalised_log_prob(self, covariance: Float[Array, "k q q"]) -> Float[Array, ""]:
        return jnp.zeros(())

    def coordinates(self) -> KnownCoordinates:
        return KnownCoordinates(self.value, jnp.linalg.cholesky(self.value))

    def log_kernel(self, covariance: Float[Array, "k q q"]) -> Float[Array, ""]:
        return jnp.zeros(())

    def kl(self, prior: Self) -> Float[Array, ""]:
        return jnp.zeros(())


def multigammaln_batch(a: Float[Array, " k"], q: int) -> Float[Array, " k"]:
    """Log of the multivariate gamma function for each entry."""
    return jax.vmap(lambda value: multigammaln(value, q))(a)


def _multivariate_digamma(a: Float[Array, " k"], q: int) -> Float[Array, " k"]:
    return jnp.sum(digamma(a[:, None] - jnp.arange(q) / 2), axis=1)


def _inverse_cholesky(matrix: Float[Array, "k q q"]) -> Float[Array, "k q q"]:
    """Lower triangular W with W^T W the inverse, computed in correlation units."""
    size = jnp.sqrt(jnp.diagonal(matrix, axis1=1, axis2=2))
    correlation = matrix / (size[:, :, None] * size[:, None, :])
    cholesky = jnp.linalg.cholesky(correlation)
    eye = jnp.broadcast_to(jnp.eye(matrix.shape[-1]), matrix.shape)
    return jax.scipy.linalg.solve_triangular(cholesky, eye, lower=True) / size[:, None, :]


def _log_diagonal(matrix: Float[Array, "k q q"]) -> Float[Array, " k"]:
    return jnp.sum(jnp.log(jnp.diagonal(matrix, axis1=1, axis2=2)), axis=1)


def _trace_solve(matrix: Float[Array, "k q q"], other: Float[Array, "k q q"]) -> Float[Array, " k"]:
    """Trace of `matrix^-1 other`."""
    whitening = _inverse_cholesky(matrix)
    return jnp.einsum("kij,kjl,kil->k", whitening, other, whitening)


def _pool_if_shared(
    own: Float[Array, "k ..."], scatter: Float[Array, "k q q"], count: Float[Array, " k"]
) -> tuple[Array, Array]:
    if own.shape[0] == count.shape[0]:
        return scatter, count
    return scatter.sum(axis=0, keepdims=True), count.sum(keepdims=True)
