"""Parts of the models that are calibrated: what a user says of them, and what that means.

A part knows its columns, its prior as the library makes it, and, written apart from the library:
draws of the prior from what its documentation says, rows given parameters, and log densities.
Parameters and rows are arrays with any leading axes, of replications and draws.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import clusterwise as cw
from clusterwise.posteriors.matrix_normal import LinearParameters
from clusterwise.regression.linear_gaussian import LinearGaussian
from clusterwise.regression.prior import LinearFrame


class AbstractPart(ABC):
    """A part of a model; compared as an object, so that it may be an argument of programs."""

    regressors: tuple[int, ...]

    @property
    @abstractmethod
    def what(self) -> str:
        """What its quantities are called."""

    @property
    @abstractmethod
    def block(self) -> Any:
        """The block as the library makes it."""

    @abstractmethod
    def build(self, k: int) -> Any:
        """The prior as the library makes it, in units that are the data's."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, size: int, k: int) -> Any:
        """`size` draws from what the prior's documentation says."""

    @abstractmethod
    def simulate(self, parameters: Any, values: Any, labels: Any, keys: Any) -> Any:
        """Rows (size, n, columns) with columns of the part's own, given clusters and a key each."""

    @abstractmethod
    def log_density(self, parameters: Any, values: Any) -> Any:
        """(..., n, k) log density of rows under each cluster."""

    @abstractmethod
    def mean(self, parameters: Any, point: np.ndarray) -> Any:
        """(..., k) linear predictor of the response at a row; None for a density of covariates."""

    @abstractmethod
    def quantities(self, parameters: Any, prior: Any) -> dict[str, Any]:
        """Functions of the parameters that no permutation of clusters changes."""


def namespace(values: Any) -> Any:
    """NumPy for its arrays, JAX's for others."""
    return np if isinstance(values, np.ndarray) else jnp


@dataclass(frozen=True, eq=False)
class Linear(AbstractPart):
    """A linear Gaussian part: what a user says of it, and its columns."""

    owner: cw.Gaussian | cw.GaussianCovariates
    prior: Any
    regressors: tuple[int, ...]
    responses: tuple[int, ...]

    @property
    def shared(self) -> bool:
        if isinstance(self.owner, cw.Gaussian):
            return self.owner.shared_sigma or self.owner.sigma is not None
        return self.owner.shared or self.owner.covariance is not None

    @property
    def known(self) -> np.ndarray | None:
        if isinstance(self.owner, cw.Gaussian):
            sigma = self.owner.sigma
            return None if sigma is None else np.full((1, 1), sigma**2)
        return None if self.owner.covariance is None else np.asarray(self.owner.covariance)

    @property
    def what(self) -> str:
        return "x" if self.responses == (1, 2) else f"y{self.responses[0] - 2}"

    @property
    def block(self) -> LinearGaussian:
        return LinearGaussian(self.regressors, self.responses)

    def build(self, k: int) -> Any:
        p, q = len(self.regressors), len(self.responses)
        frame = LinearFrame(np.eye(p + q), p, np.eye(p), np.ones(q), np.zeros((p, q)), k)
        return self.owner.prior("the part", frame, self.prior)

    def draw(self, rng: np.random.Generator, size: int, k: int) -> LinearParameters:
        p, q, t = len(self.regressors), len(self.responses), 1 if self.shared else k
        prior, known = self.prior, self.known
        if known is not None:
            covariance = np.broadcast_to(known, (size, 1, q, q))
        elif isinstance(prior, cw.NormalInverseWishart):
            wishart = stats.invwishart(prior.degrees_of_freedom, prior.scale)
            covariance = wishart.rvs(size * t, random_state=rng).reshape(size, t, q, q)
        else:
            spherical = getattr(self.owner, "covariance_type", "diag") == "spherical"
            gamma = rng.gamma(prior.shape, size=(size, t, 1 if spherical else q))
            variances = np.broadcast_to(prior.rate / gamma, (size, t, q))
            covariance = variances[..., None] * np.eye(q)
        mean = np.broadcast_to(prior.mean, (max(p, q),)).reshape(p, q)
        noise = rng.normal(size=(size, k, p, q))
        if isinstance(prior, cw.NormalInverseWishart):
            noise = noise @ np.swapaxes(np.linalg.cholesky(covariance), 2, 3)
            noise /= np.sqrt(prior.mean_precision)
        else:
            spread = np.asarray(prior.covariance)
            factor = np.linalg.cholesky(spread if spread.ndim else spread * np.eye(max(p, q)))
            noise = factor @ noise if p > 1 else noise @ factor.T
            if known is None:
                noise = noise * np.sqrt(np.diagonal(covariance, axis1=2, axis2=3))[:, :, None, :]
        return LinearParameters(mean + noise, np.array(covariance))

    def simulate(self, parameters: Any, values: Any, labels: Any, keys: Any) -> Any:
        return jax.vmap(self.simulate_one)(parameters, values, labels, keys)

    def simulate_one(self, parameters: Any, values: Any, labels: Any, key: Any) -> Any:
        """One data set, in JAX."""
        coefficients = parameters.coefficients[labels]
        mean = jnp.einsum("np,npq->nq", values[:, self.regressors], coefficients)
        root = jnp.linalg.cholesky(parameters.covariance)
        root = root[labels if root.shape[0] > 1 else jnp.zeros_like(labels)]
        noise = jnp.einsum("nij,nj->ni", root, jax.random.normal(key, mean.shape))
        return values.at[:, self.responses].set(mean + noise)

    def log_density(self, parameters: Any, values: Any) -> Any:
        xp = namespace(values)
        *lead, k, _, q = parameters.coefficients.shape
        design, observed = values[..., list(self.regressors)], values[..., list(self.responses)]
        mean = xp.einsum("...np,...kpq->...nkq", design, parameters.coefficients)
        error = observed[..., None, :] - mean
        precision = xp.linalg.inv(parameters.covariance)
        precision = xp.broadcast_to(precision, (*lead, k, q, q))
        log_det = xp.linalg.slogdet(parameters.covariance)[1][..., None, :]
        distance = xp.einsum("...nki,...kij,...nkj->...nk", error, precision, error)
        return -0.5 * (distance + log_det + q * np.log(2 * np.pi))

    def mean(self, parameters: Any, point: np.ndarray) -> Any:
        if self.what == "x":
            return None
        regressors = point[list(self.regressors)]
        return namespace(parameters.coefficients).einsum(
            "...kp,p->...k", parameters.coefficients[..., 0], regressors
        )

    def quantities(self, parameters: Any, prior: Any) -> dict[str, Any]:
        xp = namespace(parameters.coefficients)
        square = xp.square(parameters.coefficients).sum(axis=(-3, -2, -1))
        found = {f"squared coefficients of {self.what}": square}
        if self.known is None:
            log_det = xp.linalg.slogdet(parameters.covariance)[1]
            found[f"dispersion of {self.what}"] = log_det.mean(axis=-1)
        return found
