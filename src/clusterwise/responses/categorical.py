"""Categorical response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from clusterwise.regression.likelihood import Expansion, Observed, Predictors
from clusterwise.regression.prior import ResponseSample
from clusterwise.responses.levels import AbstractLevels, LevelDistribution


@dataclass(frozen=True)
class Categorical(AbstractLevels):
    """One of several levels without order, text or numbers, with the multinomial logit link.

    The log odds of every level but the first against the first are linear, with coefficients of
    their own (Agresti 2013, Categorical Data Analysis, section 8.1). Predictions of kind "mean" are
    the probabilities of all levels, those of kind "sample" numbers of levels from 0.

    Examples
    --------
    >>> import numpy as np, clusterwise as cw
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=90)
    >>> choice = np.array(["bus", "car", "train"])[rng.integers(3, size=90)]
    >>> model = cw.Model("choice ~ x", family=cw.Categorical(), n_components=1)
    >>> fit = model.fit({"choice": choice, "x": x}, engine="em", random_state=0)
    >>> fit.predict({"x": [0.0, 1.0]}).shape
    (2, 3)
    """

    name: ClassVar[str] = "categorical"
    bounded: ClassVar[bool] = True
    ordered: ClassVar[bool] = False
    takes_offset: ClassVar[bool] = False

    def n_predictors(self, n_responses: int) -> int:
        return n_responses - 1

    def predictor_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return names[1:]

    @property
    def mean_link(self) -> str:
        return "multinomial"

    def log_prob(self, observed: Observed, predictors: Predictors) -> Float[Array, "k rows"]:
        return _chosen(observed, predictors) - _normaliser(predictors)

    def expansion(self, observed: Observed, predictors: Predictors) -> Expansion:
        normaliser = _normaliser(predictors)
        probability = jnp.exp(predictors - normaliser)
        spread = -probability[:, None] * probability[None, :]
        m = predictors.shape[0]
        curvature = spread + jnp.eye(m)[:, :, None, None] * probability[:, None]
        gradient = observed[1:, None, :] - probability
        return Expansion(_chosen(observed, predictors) - normaliser, gradient, curvature)

    def working(self, response: np.ndarray, trials: np.ndarray | None) -> np.ndarray:
        return np.log((response[:, 1:] + 0.5) / (1.5 - response[:, 1:]))

    def pooled(self, sample: ResponseSample) -> np.ndarray:
        share = sample.total + 0.5
        return np.log(share[1:] / share[0])

    def distribution(self, predictors: np.ndarray, trials: np.ndarray | None) -> LevelDistribution:
        from scipy.special import softmax

        all_levels = np.concatenate([np.zeros_like(predictors[:1]), predictors])
        return LevelDistribution(np.moveaxis(softmax(all_levels, axis=0), 0, -1))


def _chosen(observed: Observed, predictors: Predictors) -> Float[Array, "k rows"]:
    return jnp.sum(observed[1:, None, :] * predictors, axis=0)


def _normaliser(predictors: Predictors) -> Float[Array, "k rows"]:
    """Log of the summed odds, those of the reference level being one."""
    padded = jnp.concatenate([jnp.zeros_like(predictors[:1]), predictors])
    return jax.nn.logsumexp(padded, axis=0)
