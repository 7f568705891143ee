"""Matrix normal coefficients with a residual covariance: the conjugate linear Gaussian model.

Coefficients (p, q) of q responses on p regressors are, given the covariance, matrix normal with
row precision `precision` and column covariance the residual one (West and Harrison 1997, Bayesian
Forecasting and Dynamic Models, section 16.4). With q = 1 this is normal-inverse-gamma, with the
constant as the only regressor normal-inverse-Wishart.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import betaln, gammaln

from clusterwise.core.block import AbstractCoordinates, AbstractParameters, AbstractPosterior
from clusterwise.posteriors.coordinates import AbstractCovarianceCoordinates
from clusterwise.posteriors.covariance import (
    AbstractCovariance,
    Precision,
    StudentScale,
    point_precision,
)
from clusterwise.posteriors.linalg import log_det, solve, whitening


class LinearMoments(NamedTuple):
    """Expectations that the score of a linear Gaussian block needs."""

    coefficients: Float[Array, "k p q"]
    precision: Precision
    spread: Float[Array, "k m p"]
    """Factor whose square is the expected squared error of the linear predictor, whitened."""


class CoefficientSpread(NamedTuple):
    """Covariance of coefficients: between regressors, times between responses."""

    rows: Float[Array, "k p p"]
    columns: Float[Array, "k q q"]


class LinearPredictive(NamedTuple):
    """Student t of responses y given regressors x, coefficients and covariance integrated out.

    The location is `coefficients^T x`, the scale matrix that of `residual` times `1 + |rows x|^2`.
    """

    coefficients: Float[Array, "k p q"]
    rows: Float[Array, "k p p"]
    residual: StudentScale

    def as_numbers(self) -> dict[str, Any]:
        """Its numbers, leading with an axis of draws, by the name of what is to be computed."""
        return {
            "kind": "student",
            "rows": self.rows[None],
            "coefficients": self.coefficients[None],
            "whitening": self.residual.whitening[None],
            "dof": self.residual.dof[None],
        }

    def inflation(self, x: np.ndarray) -> np.ndarray:
        """Factor (n, k) by which not knowing the coefficients widens the scale matrix."""
        k, p, _ = self.rows.shape
        whitened = (x @ self.rows.reshape(k * p, p).T).reshape(len(x), k, p)
        return 1 + np.square(whitened).sum(axis=2)

    def log_density(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Log density (n, k) of y (n, q) given x (n, p), in NumPy."""
        whitening, dof = self.residual
        k, p, q = self.coefficients.shape
        groups = dof.shape[1]
        size = q // groups
        turned = np.swapaxes(whitening, 1, 2)
        slopes = (self.coefficients @ turned).transpose(1, 0, 2).reshape(p, k * q)
        residual = np.einsum("nq,kqr->nkr", y, turned) - (x @ slopes).reshape(-1, k, q)
        square = np.square(residual).reshape(len(x), k, groups, size).sum(axis=3)
        inflation = self.inflation(x)[:, :, None]
        log_det = np.log(np.diagonal(whitening, axis1=1, axis2=2)).sum(axis=1)
        if np.all(np.isinf(dof)):
            kernel = -0.5 * (square / inflation + size * np.log(2 * np.pi))
        else:
            # A beta function stays accurate where gamma functions of large numbers cancel.
            constant = gammaln(size / 2) - betaln(dof / 2, size / 2)
            constant -= size / 2 * np.log(np.pi * dof)
            kernel = constant - (dof + size) / 2 * np.log1p(square / (dof * inflation))
        return log_det + (kernel - size / 2 * np.log(inflation)).sum(axis=2)


class LinearParameters(AbstractParameters):
    """Coefficients (k, p, q) and residual covariance (k or 1, q, q)."""

    coefficients: Float[Array, "k p q"]
    covariance: Float[Array, "k q q"]

    def moments(self) -> LinearMoments:
        k, p, _ = self.coefficients.shape
        precision = _for_each_cluster(point_precision(self.covariance), k)
        return LinearMoments(self.coefficients, precision, jnp.zeros((k, 0, p)))

    def mean_of_draws(self) -> LinearParameters:
        return LinearParameters(
            self.coefficients.mean(axis=(0, 1)), self.covariance.mean(axis=(0, 1))
        )


class LinearCoordinates(AbstractCoordinates):
    """Coordinates of the covariance, then of the coefficients given it.

    These are deviations from the posterior's mean in units of their covariance given the residual
    covariance. Given the labels they are independent of it, in a cluster of many rows and in an
    empty one, so that the conjugate prior's funnel is gone.
    """

    mean: Float[Array, "k p q"]
    whitening: Float[Array, "k p p"]
    """W with W^T W the covariance between regressors."""
    covariance: AbstractCovarianceCoordinates

    @property
    def size(self) -> int:
        k, p, q = self.mean.shape
        return self.covariance.size + k * p * q

    def constrain(self, z: Float[Array, " size"]) -> tuple[LinearParameters, Float[Array, ""]]:
        k, p, q = self.mean.shape
        point = self.covariance.constrain(z[: self.covariance.size])
        standard = z[self.covariance.size :].reshape(k, p, q)
        deviation = jnp.swapaxes(self.whitening, 1, 2) @ standard @ jnp.swapaxes(point.root, 1, 2)
        log_det = (
            point.log_det
            + p * jnp.sum(jnp.broadcast_to(point.log_det_root, (k,)))
            + q * jnp.sum(jnp.log(jnp.diagonal(self.whitening, axis1=1, axis2=2)))
        )
        return LinearParameters(self.mean + deviation, point.covariance), log_det

    def unconstrain(self, parameters: LinearParameters) -> Float[Array, " size"]:
        deviation = parameters.coefficients - self.mean
        k, _, q = deviation.shape
        root = jnp.broadcast_to(self.covariance.root(parameters.covariance), (k, q, q))
        whitened = jnp.linalg.solve(jnp.swapaxes(self.whitening, 1, 2), deviation)
        standard = jnp.swapaxes(jnp.linalg.solve(root, jnp.swapaxes(whitened, 1, 2)), 1, 2)
        return jnp.concatenate(
            [self.covariance.unconstrain(parameters.covariance), standard.ravel()]
        )


class MatrixNormal(AbstractPosterior):
    """Joint distribution of coefficients and residual covariance."""

    mean: Float[Array, "k p q"]
    precision: Float[Array, "k p p"]
    covariance: AbstractCovariance

    def updated(self, count: Float[Array, " k"], gram: Float[Array, "k c c"]) -> Self:
        """Posterior after rows with this Gram matrix of (regressors, responses)."""
        p = self.mean.shape[1]
        xx, xy, yy = gram[:, :p, :p], gram[:, :p, p:], gram[:, p:, p:]
        precision = self.precision + xx
        mean = solve(precision, self.precision @ self.mean + xy)
        transposed = jnp.swapaxes(mean, 1, 2)
        shift = mean - self.mean
        cross = transposed @ xy
        scatter = (
            yy
            - cross
            - jnp.swapaxes(cross, 1, 2)
            + transposed @ xx @ mean
            + jnp.swapaxes(shift, 1, 2) @ self.precision @ shift
        )
        return type(self)(mean, precision, self.covariance.updated(scatter, count))

    def moments(self) -> LinearMoments:
        k, _, q = self.mean.shape
        precision = _for_each_cluster(self.covariance.precision(), k)
        spread = jnp.sqrt(q) * whitening(self.precision)
        return LinearMoments(self.mean, precision, spread)

    def spread(self) -> CoefficientSpread:
        """Covariance of the coefficients, a matrix Student t, as rows by columns."""
        root = whitening(self.precision)
        rows = jnp.swapaxes(root, 1, 2) @ root
        return CoefficientSpread(rows, self.covariance.mean())

    def predictive(self) -> LinearPredictive:
        """Distribution of a new response given its regressors."""
        return LinearPredictive(self.mean, whitening(self.precision), self.covariance.predictive())

    def mode(self) -> LinearParameters:
        return LinearParameters(self.mean, self.covariance.mode())

    def sample(self, key: PRNGKeyArray) -> LinearParameters:
        covariance_key, coefficient_key = jax.random.split(key)
        covariance = self.covariance.sample(covariance_key)
        noise = jax.random.normal(coefficient_key, self.mean.shape)
        rows = jnp.swapaxes(whitening(self.precision), 1, 2) @ noise
        columns = jnp.swapaxes(jnp.linalg.cholesky(covariance), 1, 2)
        return LinearParameters(self.mean + rows @ columns, covariance)

    def log_prob(self, parameters: LinearParameters) -> Float[Array, ""]:
        return self.coefficients_log_prob(parameters) + self.covariance.log_prob(
            parameters.covariance
        )

    def coefficients_log_prob(self, parameters: LinearParameters) -> Float[Array, ""]:
        """Log density of the coefficients given the residual covariance."""
        _, p, q = self.mean.shape
        normaliser = q * log_det(self.precision) - p * q * jnp.log(2 * jnp.pi)
        return 0.5 * jnp.sum(normaliser) + self.unnormalised_coefficients_log_prob(parameters)

    def unnormalised_coefficients_log_prob(self, parameters: LinearParameters) -> Float[Array, ""]:
        """The same up to a constant."""
        k, p, _ = self.mean.shape
        precision = _for_each_cluster(point_precision(parameters.covariance), k)
        distance = self._distance(parameters.coefficients, precision)
        return 0.5 * (p * jnp.sum(precision.log_det) - distance)

    def unnormalised_log_prob(self, parameters: LinearParameters) -> Float[Array, ""]:
        covariance = self.covariance.unnormalised_log_prob(parameters.covariance)
        return self.unnormalised_coefficients_log_prob(parameters) + covariance

    def coordinates(self) -> LinearCoordinates:
        return LinearCoordinates(
            self.mean, whitening(self.precision), self.covariance.coordinates()
        )

    def log_kernel(self, parameters: LinearParameters) -> Float[Array, ""]:
        precision = _for_each_cluster(point_precision(parameters.covariance), self.mean.shape[0])
        distance = self._distance(parameters.coefficients, precision)
        return self.covariance.log_kernel(parameters.covariance) - 0.5 * distance

    def _distance(
        self, coefficients: Float[Array, "k p q"], precision: Precision
    ) -> Float[Array, ""]:
        deviation = coefficients - self.mean
        whitened = jnp.einsum("kij,kpj->kpi", precision.whitening, deviation)
        return jnp.einsum("kpi,kpr,kri->", whitened, self.precision, whitened)

    def kl(self, prior: Self) -> Float[Array, ""]:
        k, p, q = self.mean.shape
        precision = _for_each_cluster(self.covariance.precision(), k)
        root = whitening(self.precision)
        trace = jnp.einsum("kip,kpr,kir->", root, prior.precision, root)
        log_ratio = jnp.sum(log_det(self.precision) - log_det(prior.precision))
        return 0.5 * (
            q * (log_ratio - k * p + trace) + prior._distance(self.mean, precision)
        ) + self.covariance.kl(prior.covariance)


def _for_each_cluster(precision: Precision, k: int) -> Precision:
    q = precision.whitening.shape[-1]
    return Precision(
        jnp.broadcast_to(precision.whitening, (k, q, q)), jnp.broadcast_to(precision.log_det, (k,))
    )
