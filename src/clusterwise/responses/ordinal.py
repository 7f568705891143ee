"""Ordinal response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from clusterwise.core.errors import OptionError
from clusterwise.regression.likelihood import Observed, Predictors
from clusterwise.regression.prior import ResponseSample
from clusterwise.responses.levels import AbstractLevels, LevelDistribution

_LEAST = -25.0


@dataclass(frozen=True)
class Ordinal(AbstractLevels):
    """One of several levels in their order, with cumulative logits.

    With thresholds t, P(y <= level j) is the logistic function of t_j less the linear predictor
    (McCullagh 1980, Journal of the Royal Statistical Society B 42). An intercept and all thresholds
    are not identified together: as in Albert and Chib (1993, Journal of the American Statistical
    Association 88) the first threshold is 0, and the formula keeps its intercept, which is the
    log odds of any higher level than the first where regressors are 0. Programs without intercept
    report the differences `threshold - intercept`. Numbers are sorted; text is in the order
    of its categories where the column has one, and of the alphabet else.

    Predictions of kind "mean" are the probabilities of all levels, those of kind "sample" and
    "quantile" numbers of levels from 0.

    Parameters
    ----------
    shared_thresholds
        Whether all clusters have the same thresholds.

    Examples
    --------
    >>> import numpy as np, clusterwise as cw
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=90)
    >>> grade = np.digitize(x + rng.logistic(size=90), [-1, 0, 1])
    >>> model = cw.Model("grade ~ x", family=cw.Ordinal(), n_components=1)
    >>> fit = model.fit({"grade": grade, "x": x}, engine="em", random_state=0)
    >>> list(fit.dispersion)
    ['threshold 2', 'threshold 3']
    """

    shared_thresholds: bool = False
    name: ClassVar[str] = "ordinal"
    bounded: ClassVar[bool] = True
    concave: ClassVar[bool] = False
    dispersions: ClassVar[tuple[str, ...]] = ("thresholds",)
    dispersion_sd: ClassVar[tuple[float, ...]] = (1.5,)

    @property
    def shared_dispersion(self) -> bool:
        return self.shared_thresholds

    def n_constants(self, n_responses: int) -> int:
        return n_responses - 2

    def predictor_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return (self.title(names),)

    @property
    def mean_link(self) -> str:
        return "cumulative"

    def log_prob(self, observed: Observed, predictors: Predictors) -> Float[Array, "k rows"]:
        # Thresholds less the predictor; the first threshold is zero.
        gaps = jnp.exp(predictors[1:])
        first = -predictors[:1]
        below = jnp.concatenate([first, first + jnp.cumsum(gaps, axis=0)])
        low = jax.nn.log_sigmoid(below)
        high = jax.nn.log_sigmoid(-below)
        # A difference of logistic functions F is F(b) F(-a) (1 - exp(a - b)), without cancelling.
        between = low[1:] + high[:-1] + _log_gap(predictors[1:])
        levels = jnp.concatenate([low[:1], between, high[-1:]])
        return jnp.sum(observed[:, None, :] * levels, axis=0)

    def working(self, response: np.ndarray, trials: np.ndarray | None) -> np.ndarray:
        return self.value(response)[:, None] - (response.shape[1] - 1) / 2

    def pooled(self, sample: ResponseSample) -> np.ndarray:
        from scipy.special import logit

        share = np.cumsum(sample.total + 0.5)
        thresholds = logit(share[:-1] / share[-1])
        intercept = -thresholds[0] - sample.mean_offset
        return np.array([intercept, *np.log(np.diff(thresholds))])

    def dispersion(self, values: np.ndarray, scale: float = 1.0) -> dict[str, np.ndarray]:
        thresholds = np.cumsum(np.exp(values), axis=-1)
        return {f"threshold {i + 2}": thresholds[..., i] for i in range(values.shape[-1])}

    def distribution(self, predictors: np.ndarray, trials: np.ndarray | None) -> LevelDistribution:
        thresholds = np.cumsum(np.exp(predictors[1:]), axis=0)
        return _between(predictors[0], thresholds)

    def draw(
        self,
        predictors: np.ndarray,
        dispersion: dict[str, np.ndarray],
        trials: np.ndarray | None,
        rng: np.random.Generator,
    ) -> np.ndarray:
        given = [np.reshape(own, (predictors.shape[1], -1)) for own in dispersion.values()]
        thresholds = np.concatenate(given, axis=1).T if given else np.zeros((0, 1))
        if np.any(np.diff(thresholds, axis=0) <= 0) or np.any(thresholds <= 0):
            raise OptionError(
                "params: thresholds are those after the first, which is 0, and must increase."
            )
        return _between(predictors[0], thresholds).rvs(random_state=rng)


def _log_gap(log_gaps: Predictors) -> Predictors:
    """Log of 1 - exp(-gap); of a gap near zero its log."""
    gaps = jnp.exp(jnp.maximum(log_gaps, _LEAST))
    return jnp.where(log_gaps < _LEAST, log_gaps, jnp.log(-jnp.expm1(-gaps)))


def _between(predictor: np.ndarray, thresholds: np.ndarray) -> LevelDistribution:
    """Probabilities of levels between the threshold 0, those given, and the two ends."""
    from scipy.special import expit

    first = np.zeros((1, *np.shape(predictor)))
    below = expit(np.concatenate([first, first + thresholds]) - predictor)
    ends = [first, below, np.ones_like(first)]
    return LevelDistribution(np.moveaxis(np.diff(np.concatenate(ends), axis=0), 0, -1))
