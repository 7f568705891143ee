"""Poisson response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import Array, Float

from clusterwise.regression.likelihood import Expansion, Observed, Predictors
from clusterwise.regression.prior import ResponseSample
from clusterwise.responses.generalised import AbstractGeneralised, check_counts

_MOST = 300.0


@dataclass(frozen=True)
class Poisson(AbstractGeneralised):
    """Counts with a logarithmic link: log E[y] is linear.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.Model("count ~ x", family=cw.Poisson()).n_components
    2
    """

    name: ClassVar[str] = "poisson"

    @property
    def mean_link(self) -> str:
        return "log"

    def log_prob(self, observed: Observed, predictors: Predictors) -> Float[Array, "k rows"]:
        return self.expansion(observed, predictors).value

    def expansion(self, observed: Observed, predictors: Predictors) -> Expansion:
        zero = jnp.zeros((1, 1, *predictors.shape[1:]))
        return self.expected(observed, predictors, zero)

    def expected(
        self, observed: Observed, mean: Predictors, covariance: Float[Array, "m m k rows"]
    ) -> Expansion:
        y, log_mean = observed[0], mean[0]
        # Beyond the bound only rows without a share in the cluster are left.
        rate = jnp.exp(jnp.minimum(log_mean + covariance[0, 0] / 2, _MOST))
        value = y * log_mean - rate - gammaln(y + 1)
        return Expansion(value, (y - rate)[None], rate[None, None])

    def check(
        self, what: str, response: np.ndarray, trials: np.ndarray | None, at: np.ndarray
    ) -> None:
        check_counts(what, response, at)

    def working(self, response: np.ndarray, trials: np.ndarray | None) -> np.ndarray:
        return np.log(response + 0.5)

    def pooled(self, sample: ResponseSample) -> np.ndarray:
        return np.log([sample.least_mean / sample.exposure])

    def distribution(self, predictors: np.ndarray, trials: np.ndarray | None) -> Any:
        from scipy import stats

        return stats.poisson(np.exp(predictors[0]))
