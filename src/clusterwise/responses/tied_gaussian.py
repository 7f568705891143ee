"""Gaussian response whose clusters' coefficients go together: shared, pooled or sparse.

Where they do, coefficients of one cluster are not independent of another's sigma, and the
conjugate posterior of `LinearGaussian` is not the posterior any more. The mean and the logarithm of
sigma are then two predictors, as those of other families are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from clusterwise.regression.likelihood import Expansion, Observed, Predictors
from clusterwise.regression.prior import LinearFrame, ResponseSample
from clusterwise.responses.location import AbstractLocation


@dataclass(frozen=True)
class TiedGaussian(AbstractLocation):
    """What `Gaussian` becomes where coefficients are tied; with the same arguments.

    Parameters
    ----------
    sigma, shared_sigma
        As for `Gaussian`.
    """

    sigma: float | None = None
    shared_sigma: bool = False
    name: ClassVar[str] = "gaussian"
    apart: ClassVar[bool] = True
    dispersions: ClassVar[tuple[str, ...]] = ("sigma",)

    @property
    def described(self) -> str:
        return "a gaussian response whose coefficients are shared or pooled"

    @property
    def shared_dispersion(self) -> bool:
        return self.shared_sigma and self.sigma is None

    def known_constants(self, n_responses: int) -> tuple[int, ...]:
        return () if self.sigma is None else (0,)

    def n_dispersion(self, n_components: int, n_responses: int) -> int:
        return 0 if self.sigma is not None else super().n_dispersion(n_components, n_responses)

    def log_prob(self, observed: Observed, predictors: Predictors) -> Float[Array, "k rows"]:
        mean, log_sigma = predictors
        square = jnp.square((observed[0] - mean) * jnp.exp(-log_sigma))
        return -log_sigma - 0.5 * (square + jnp.log(2 * jnp.pi))

    def expansion(self, observed: Observed, predictors: Predictors) -> Expansion:
        mean, log_sigma = predictors
        return _expansion(observed[0] - mean, log_sigma, jnp.exp(-2 * log_sigma), jnp.zeros(()))

    def expected(
        self, observed: Observed, mean: Predictors, covariance: Float[Array, "m m k rows"]
    ) -> Expansion:
        # The expected precision tilts the mean by its covariance with the logarithm of sigma.
        residual = observed[0] - mean[0] + 2 * covariance[0, 1]
        precision = jnp.exp(2 * (covariance[1, 1] - mean[1]))
        return _expansion(residual, mean[1], precision, covariance[0, 0])

    def centre(self, frame: LinearFrame) -> np.ndarray:
        found = super().centre(frame)
        if self.sigma is not None:
            found[1] = np.log(self.sigma / frame.response_scale[0])
        return found

    def pooled(self, sample: ResponseSample) -> np.ndarray:
        # A cluster's sigma is below that of all rows about their mean.
        return np.array([sample.mean, np.log(np.sqrt(sample.variance) / 2)])

    def dispersion(self, values: np.ndarray, scale: float = 1.0) -> dict[str, np.ndarray]:
        return {"sigma": np.exp(values[..., 0]) * scale}

    def variance(self, constants: np.ndarray) -> np.ndarray | None:
        return None if self.sigma is not None else np.exp(2 * constants[:, 0])

    def distribution(self, predictors: np.ndarray, trials: np.ndarray | None) -> Any:
        from scipy import stats

        return stats.norm(predictors[0], np.exp(predictors[1]))


def _expansion(residual: Array, log_sigma: Array, precision: Array, variance: Array) -> Expansion:
    """Expansion with an expected precision, a residual and the variance of the mean under it."""
    square = precision * (jnp.square(residual) + variance)
    slope = precision * residual
    value = -log_sigma - 0.5 * (square + jnp.log(2 * jnp.pi))
    wide = jnp.broadcast_to(precision, square.shape)
    curvature = [[wide, 2 * slope], [2 * slope, 2 * square]]
    return Expansion(
        value, jnp.stack([slope, square - 1]), jnp.stack([jnp.stack(row) for row in curvature])
    )
