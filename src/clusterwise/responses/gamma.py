"""Gamma response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float

from clusterwise.regression.likelihood import Expansion, Observed, Predictors, quadrature
from clusterwise.regression.prior import ResponseSample
from clusterwise.regression.special import trigamma
from clusterwise.responses.generalised import AbstractGeneralised, refuse

_LARGE = 1e6
"""Shapes above which what Stirling's formula leaves is that of its next term."""
_MOST = 300.0


@dataclass(frozen=True)
class GammaResponse(AbstractGeneralised):
    """A positive response with a logarithmic link: log E[y] is linear.

    Its variance is mu^2 / shape, the coefficient of variation the same everywhere (McCullagh and
    Nelder 1989, Generalized Linear Models, chapter 8). `cw.Gamma` is the distribution, for priors.

    Parameters
    ----------
    shared_shape
        Whether all clusters have the same shape.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.Model("cost ~ x", family=cw.GammaResponse(shared_shape=True)).n_components
    2
    """

    shared_shape: bool = False
    name: ClassVar[str] = "gamma"
    concave: ClassVar[bool] = False
    dispersions: ClassVar[tuple[str, ...]] = ("shape",)
    spread: ClassVar[str] = "coefficient of variation"

    @property
    def shared_dispersion(self) -> bool:
        return self.shared_shape

    @property
    def mean_link(self) -> str:
        return "log"

    def log_prob(self, observed: Observed, predictors: Predictors) -> Float[Array, "k rows"]:
        log_y, (log_mean, log_shape) = _log(observed[0]), predictors
        excess, shape = log_y - log_mean + log_shape, jnp.exp(log_shape)
        scaled = jnp.exp(jnp.minimum(excess, _MOST))
        return shape * excess - scaled - log_y - gammaln(shape)

    def expansion(self, observed: Observed, predictors: Predictors) -> Expansion:
        return self.expected(observed, predictors, jnp.zeros((2, *predictors.shape)))

    def expected(
        self, observed: Observed, mean: Predictors, covariance: Float[Array, "m m k rows"]
    ) -> Expansion:
        log_y, (log_mean, log_shape) = _log(observed[0]), mean
        own, across, constant = covariance[0, 0], covariance[0, 1], covariance[1, 1]
        # Expected shape, and shape times y over its mean. Stirling's formula for the log gamma
        # function is subtracted at once, since what it leaves is small where these are huge.
        shape = jnp.exp(jnp.minimum(log_shape + constant / 2, _MOST))
        gap = log_y - log_mean - across
        scaled = shape * jnp.exp(jnp.minimum(gap + own / 2, _MOST))
        value, first, second = _beyond_stirling(log_shape[:, :1], constant[:, :1])
        slope = shape * gap + shape - scaled - first
        cross = shape - scaled
        return Expansion(
            shape * gap + shape - scaled - log_y - value,
            jnp.stack([scaled - shape, slope]),
            jnp.stack([jnp.stack([scaled, cross]), jnp.stack([cross, second - slope])]),
        )

    def variance(self, constants: np.ndarray) -> np.ndarray:
        return np.exp(-constants[:, 0])

    def check(
        self, what: str, response: np.ndarray, trials: np.ndarray | None, at: np.ndarray
    ) -> None:
        wrong = np.flatnonzero((response <= 0).any(axis=1))
        refuse(what, wrong, at, response, "is not positive")

    def working(self, response: np.ndarray, trials: np.ndarray | None) -> np.ndarray:
        return np.log(response)

    def pooled(self, sample: ResponseSample) -> np.ndarray:
        mean = sample.mean
        shape = np.clip(mean**2 / max(sample.variance, 1e-2 * mean**2), 0.5, 100.0)
        return np.log([mean / sample.exposure, shape])

    def distribution(self, predictors: np.ndarray, trials: np.ndarray | None) -> Any:
        from scipy import stats

        log_mean, log_shape = predictors
        return stats.gamma(np.exp(log_shape), scale=np.exp(log_mean - log_shape))


def _log(y: Float[Array, " rows"]) -> Float[Array, " rows"]:
    """Log of the response; rows that only fill up a chunk are zero."""
    return jnp.log(jnp.where(y > 0, y, 1.0))


def _beyond_stirling(
    mean: Float[Array, "k 1"], variance: Float[Array, "k 1"]
) -> tuple[Array, Array, Array]:
    """Expectations, under a normal log a, of log gamma(a) - a log a + a and its derivatives.

    Of the function itself, a (digamma(a) - log a), and a^2 trigamma(a) - a. The shape is the same
    in all rows, so that these are few.
    """
    nodes, weights = quadrature(1)
    log_shape = mean[..., None] + jnp.sqrt(variance)[..., None] * nodes[:, 0]
    shape = jnp.exp(jnp.minimum(log_shape, _MOST))
    share = jnp.asarray(weights)
    near = jnp.minimum(shape, _LARGE)
    value = gammaln(near) - near * jnp.log(near) + near - jnp.log(shape / near) / 2
    once, twice = near * (digamma(near) - jnp.log(near)), near**2 * trigamma(near) - near
    return value @ share, once @ share, twice @ share
