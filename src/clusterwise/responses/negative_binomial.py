"""Negative binomial response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float

from clusterwise.regression.likelihood import Expansion, Observed, Predictors
from clusterwise.regression.prior import ResponseSample
from clusterwise.regression.special import trigamma
from clusterwise.responses.generalised import AbstractGeneralised, check_counts

_MANY = 1e4
_MOST = 300.0


@dataclass(frozen=True)
class NegativeBinomial(AbstractGeneralised):
    """Counts that vary more than Poisson ones, with a logarithmic link: log E[y] is linear.

    The variance is mu + mu^2 / size, as of a Poisson count whose rate has a gamma distribution
    (NB2 of Cameron and Trivedi 2013, Regression Analysis of Count Data, section 3.3).

    Parameters
    ----------
    shared_size
        Whether all clusters have the same size.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.Model("count ~ x", family=cw.NegativeBinomial(shared_size=True)).n_components
    2
    """

    shared_size: bool = False
    name: ClassVar[str] = "negative_binomial"
    concave: ClassVar[bool] = False
    dispersions: ClassVar[tuple[str, ...]] = ("size",)

    @property
    def shared_dispersion(self) -> bool:
        return self.shared_size

    @property
    def mean_link(self) -> str:
        return "log"

    def log_prob(self, observed: Observed, predictors: Predictors) -> Float[Array, "k rows"]:
        y, (log_mean, log_size) = observed[0], predictors
        size, ratio = jnp.exp(log_size), jnp.exp(jnp.minimum(log_mean - log_size, _MOST))
        # Log gamma functions of large numbers cancel; Stirling's series takes their place there.
        several = jnp.minimum(size, _MANY)
        exact = gammaln(y + several) - gammaln(several) - y * jnp.log(several)
        large = jnp.maximum(size, _MANY)
        series = (large + y - 0.5) * jnp.log1p(y / large) - y - y / (12 * large * (large + y))
        rest = y * log_mean - gammaln(y + 1) - (size + y) * jnp.log1p(ratio)
        return jnp.where(size < _MANY, exact, series) + rest

    def expansion(self, observed: Observed, predictors: Predictors) -> Expansion:
        y, (log_mean, log_size) = observed[0], predictors
        size, share = jnp.exp(log_size), jax.nn.sigmoid(log_mean - log_size)
        rest = jax.nn.sigmoid(log_size - log_mean)
        log_rest = jax.nn.log_sigmoid(log_size - log_mean)
        both = (y + size) * share * rest
        # Of log p by the size, and of that again, times the size.
        once = digamma(y + size) - digamma(size) + log_rest + 1 - (y / size + 1) * rest
        twice = trigamma(y + size) - trigamma(size)
        twice = size * twice + share - share * rest + y / size * rest**2
        gradient = jnp.stack([y - (y + size) * share, size * once])
        cross = size * share - both
        curvature = jnp.stack(
            [jnp.stack([both, cross]), jnp.stack([cross, -size * (once + twice)])]
        )
        return Expansion(self.log_prob(observed, predictors), gradient, curvature)

    def check(
        self, what: str, response: np.ndarray, trials: np.ndarray | None, at: np.ndarray
    ) -> None:
        check_counts(what, response, at)

    def working(self, response: np.ndarray, trials: np.ndarray | None) -> np.ndarray:
        return np.log(response + 0.5)

    def pooled(self, sample: ResponseSample) -> np.ndarray:
        mean = sample.least_mean
        size = mean**2 / max(sample.variance - mean, 1e-2 * mean**2)
        return np.log([mean / sample.exposure, np.clip(size, 0.1, 100.0)])

    def distribution(self, predictors: np.ndarray, trials: np.ndarray | None) -> Any:
        from scipy import stats
        from scipy.special import expit

        log_mean, log_size = predictors
        return stats.nbinom(np.exp(log_size), expit(log_size - log_mean))
