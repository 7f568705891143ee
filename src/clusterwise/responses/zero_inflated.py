"""Zero-inflated Poisson response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln as log_gamma
from jaxtyping import Array, Float
from scipy.special import expit, gammaln, logit, pdtr, xlogy

from clusterwise.core.errors import OptionError
from clusterwise.regression.likelihood import Expansion, Observed, Predictors
from clusterwise.regression.prior import ResponseSample
from clusterwise.responses.generalised import AbstractGeneralised, check_counts

_MOST = 300.0


@dataclass(frozen=True)
class ZeroInflatedPoisson(AbstractGeneralised):
    """Counts of which some are zero by another reason, with a logarithmic link.

    A count is zero with probability `zero`, and else Poisson, of which the log mean is linear
    (Lambert 1992, Technometrics 34).

    Parameters
    ----------
    shared_zero
        Whether all clusters have the same probability of such a zero.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.Model("count ~ x", family=cw.ZeroInflatedPoisson()).n_components
    2
    """

    shared_zero: bool = False
    name: ClassVar[str] = "zero_inflated_poisson"
    concave: ClassVar[bool] = False
    dispersions: ClassVar[tuple[str, ...]] = ("zero",)

    @property
    def shared_dispersion(self) -> bool:
        return self.shared_zero

    @property
    def mean_link(self) -> str:
        return "zero_inflated"

    def log_prob(self, observed: Observed, predictors: Predictors) -> Float[Array, "k rows"]:
        y, (log_mean, log_odds) = observed[0], predictors
        rate = jnp.exp(jnp.minimum(log_mean, _MOST))
        nothing = jnp.logaddexp(log_odds, -rate)
        something = y * log_mean - rate - log_gamma(y + 1)
        return jnp.where(y == 0, nothing, something) - jax.nn.softplus(log_odds)

    def expansion(self, observed: Observed, predictors: Predictors) -> Expansion:
        y, (log_mean, log_odds) = observed[0], predictors
        rate, zero = jnp.exp(jnp.minimum(log_mean, _MOST)), jax.nn.sigmoid(log_odds)
        # Probability that the count is a zero by another reason, given the count.
        own = jnp.where(y == 0, jax.nn.sigmoid(log_odds + rate), 0.0)
        other = jnp.where(y == 0, jax.nn.sigmoid(-log_odds - rate), 1.0)
        unsure = own * other
        cross = -unsure * rate
        gradient = jnp.stack([other * (y - rate), own - zero])
        curvature = [
            [other * rate + cross * rate, cross],
            [cross, zero * jax.nn.sigmoid(-log_odds) - unsure],
        ]
        value = self.log_prob(observed, predictors)
        return Expansion(value, gradient, jnp.stack([jnp.stack(row) for row in curvature]))

    def check(
        self, what: str, response: np.ndarray, trials: np.ndarray | None, at: np.ndarray
    ) -> None:
        check_counts(what, response, at)

    def working(self, response: np.ndarray, trials: np.ndarray | None) -> np.ndarray:
        return np.log(response + 0.5)

    def pooled(self, sample: ResponseSample) -> np.ndarray:
        # The variance is above the mean by zero / (1 - zero) times its square.
        mean = sample.least_mean
        odds = np.clip((sample.variance - mean) / mean**2, 0.05, 4.0)
        return np.log([mean * (1 + odds) / sample.exposure, odds])

    def as_predictor(self, name: str, value: np.ndarray) -> np.ndarray:
        if np.any(value > 1):
            raise OptionError("params: zero is a probability and must lie between 0 and 1.")
        return logit(value)

    def dispersion(self, values: np.ndarray, scale: float = 1.0) -> dict[str, np.ndarray]:
        return {"zero": expit(values[..., 0])}

    def distribution(self, predictors: np.ndarray, trials: np.ndarray | None) -> Any:
        return _ZeroInflated(np.exp(predictors[0]), expit(predictors[1]))


@dataclass(frozen=True)
class _ZeroInflated:
    """What predictions ask of SciPy's distributions."""

    rate: np.ndarray
    zero: np.ndarray

    def mean(self) -> np.ndarray:
        return (1 - self.zero) * self.rate

    def pmf(self, y: np.ndarray) -> np.ndarray:
        return np.exp(self.logpmf(y))

    def logpmf(self, y: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            counted = np.log1p(-self.zero) + xlogy(y, self.rate) - self.rate - gammaln(y + 1)
            return np.logaddexp(counted, np.where(y == 0, np.log(self.zero), -np.inf))

    def cdf(self, y: np.ndarray) -> np.ndarray:
        below = pdtr(np.maximum(np.floor(y), 0), self.rate)
        return np.where(y < 0, 0.0, self.zero + (1 - self.zero) * below)

    def ppf(self, q: np.ndarray) -> np.ndarray:
        from scipy import stats

        rest = (q - self.zero) / (1 - self.zero)
        # Of a probability of zero SciPy's quantile is -1.
        return np.maximum(stats.poisson.ppf(np.clip(rest, 0.0, 1.0), self.rate), 0.0)

    def rvs(self, size: Any = None, random_state: np.random.Generator | None = None) -> np.ndarray:
        rng = np.random.default_rng(random_state)
        shape = np.shape(self.rate + self.zero) if size is None else size
        return rng.poisson(self.rate, shape) * (rng.random(shape) >= self.zero)
