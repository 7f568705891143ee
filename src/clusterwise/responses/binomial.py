"""Binomial response, and Bernoulli's with one trial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np
from jax.scipy.special import gammaln
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from clusterwise.core.errors import DataError, OptionError
from clusterwise.regression.likelihood import Expansion, Observed, Predictors
from clusterwise.regression.prior import ResponseSample
from clusterwise.responses.generalised import AbstractGeneralised, check_counts, refuse

LINKS = ("logit", "probit")


@dataclass(frozen=True)
class AbstractBinary(AbstractGeneralised):
    """Successes in some trials.

    Parameters
    ----------
    link
        "logit" or "probit".
    """

    link: str = "logit"
    bounded: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.link not in LINKS:
            raise OptionError(
                f"{type(self).__name__}(link={self.link!r}) is not known; use 'logit' or 'probit'."
            )

    @property
    def mean_link(self) -> str:
        return self.link

    def _successes(self, observed: Observed) -> tuple[Float[Array, " rows"], Any]:
        """Successes, and trials."""
        return observed[0], observed[1] if self.takes_trials else 1.0

    def log_prob(self, observed: Observed, predictors: Predictors) -> Float[Array, "k rows"]:
        y, trials = self._successes(observed)
        eta = predictors[0]
        if self.link == "logit":
            value = y * eta - trials * jax.nn.softplus(eta)
        else:
            value = y * norm.logcdf(eta) + (trials - y) * norm.logcdf(-eta)
        if not self.takes_trials:
            return value
        return value + gammaln(trials + 1) - gammaln(y + 1) - gammaln(trials - y + 1)

    def expansion(self, observed: Observed, predictors: Predictors) -> Expansion:
        if self.link != "logit":
            return super().expansion(observed, predictors)
        y, trials = self._successes(observed)
        probability = jax.nn.sigmoid(predictors[0])
        gradient = y - trials * probability
        curvature = trials * probability * jax.nn.sigmoid(-predictors[0])
        return Expansion(self.log_prob(observed, predictors), gradient[None], curvature[None, None])

    def working(self, response: np.ndarray, trials: np.ndarray | None) -> np.ndarray:
        most = 1.0 if trials is None else trials[:, None]
        return np.log((response + 0.5) / (most - response + 0.5))

    def pooled(self, sample: ResponseSample) -> np.ndarray:
        from scipy.stats import logistic
        from scipy.stats import norm as normal

        most = sample.size if sample.trials is None else sample.weight @ sample.trials
        share = (sample.total[0] + 0.5) / (most + 1)
        quantile = logistic.ppf if self.link == "logit" else normal.ppf
        return np.array([quantile(share) - sample.mean_offset])

    def distribution(self, predictors: np.ndarray, trials: np.ndarray | None) -> Any:
        from scipy import stats
        from scipy.special import expit, ndtr

        probability = (expit if self.link == "logit" else ndtr)(predictors[0])
        return stats.binom(1 if trials is None else trials.astype(int), probability)


@dataclass(frozen=True)
class Bernoulli(AbstractBinary):
    """A response of zeros and ones, or of two levels, of which the second counts as one.

    Parameters
    ----------
    link
        "logit" or "probit".

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.Bernoulli(link="probit").link
    'probit'
    """

    name: ClassVar[str] = "bernoulli"
    categorical: ClassVar[bool] = True

    def response_names(self, name: str, columns: tuple[str, ...]) -> tuple[str, ...]:
        if len(columns) > 2:
            raise DataError(
                f"The response {name!r} has {len(columns)} levels, and family='bernoulli' takes "
                "two; merge some, or leave rows out."
            )
        return super().response_names(name, columns)

    def check(
        self, what: str, response: np.ndarray, trials: np.ndarray | None, at: np.ndarray
    ) -> None:
        wrong = np.flatnonzero(~np.isin(response, (0.0, 1.0)).all(axis=1))
        cure = "family='binomial' with trials= takes counts of successes"
        refuse(what, wrong, at, response, "is neither 0 nor 1", cure)


@dataclass(frozen=True)
class Binomial(AbstractBinary):
    """Counts of successes; `Model(trials=...)` says out of how many.

    Parameters
    ----------
    link
        "logit" or "probit".

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.Model("deaths ~ treated", family=cw.Binomial(), trials="total").trials
    'total'
    """

    name: ClassVar[str] = "binomial"
    takes_trials: ClassVar[bool] = True

    def check(
        self, what: str, response: np.ndarray, trials: np.ndarray | None, at: np.ndarray
    ) -> None:
        check_counts(what, response, at)
        assert trials is not None
        wrong = np.flatnonzero(response[:, 0] > trials)
        refuse(what, wrong, at, response, "is above its number of trials", "correct the counts")
