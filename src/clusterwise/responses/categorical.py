"""Categorical response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from clusterwise.core.errors import OptionError
from clusterwise.regression.likelihood import Expansion, Observed, Predictors
from clusterwise.regression.prior import LinearFrame, ResponseSample
from clusterwise.regression.structure import PLAIN, Structure
from clusterwise.responses.levels import AbstractLevels, LevelDistribution


@dataclass(frozen=True)
class Categorical(AbstractLevels):
    """One of several levels without order, text or numbers, with the multinomial logit link.

    The log odds of every level but the first against the first are linear, with coefficients of
    their own (Agresti 2013, Categorical Data Analysis, section 8.1). Predictions of kind "mean" are
    the probabilities of all levels, those of kind "sample" numbers of levels from 0.

    Parameters
    ----------
    symmetric
        Whether the first level has coefficients, too, so that a prior treats all levels alike
        (Neal 1996, Bayesian Learning for Neural Networks). The rows tell differences between
        levels only, and the prior the rest: not with prior="flat".

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

    symmetric: bool = False
    name: ClassVar[str] = "categorical"
    bounded: ClassVar[bool] = True
    ordered: ClassVar[bool] = False
    takes_offset: ClassVar[bool] = False

    @property
    def _first(self) -> int:
        """The first level that has a predictor."""
        return 0 if self.symmetric else 1

    def n_predictors(self, n_responses: int) -> int:
        return n_responses - self._first

    def n_identified(self, n_responses: int) -> int:
        return n_responses - 1

    def predictor_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return names[self._first :]

    @property
    def mean_link(self) -> str:
        return "softmax" if self.symmetric else "multinomial"

    def prior(self, what: str, frame: LinearFrame, prior: Any, structure: Structure = PLAIN) -> Any:
        if self.symmetric and prior == "flat":
            raise OptionError(
                f"prior='flat' leaves the coefficients of {what} undetermined with "
                "cw.Categorical(symmetric=True); use cw.Categorical(), or prior='default'."
            )
        return super().prior(what, frame, prior, structure)

    def log_prob(self, observed: Observed, predictors: Predictors) -> Float[Array, "k rows"]:
        return self._chosen(observed, predictors) - self._normaliser(predictors)

    def expansion(self, observed: Observed, predictors: Predictors) -> Expansion:
        normaliser = self._normaliser(predictors)
        probability = jnp.exp(predictors - normaliser)
        spread = -probability[:, None] * probability[None, :]
        m = predictors.shape[0]
        curvature = spread + jnp.eye(m)[:, :, None, None] * probability[:, None]
        gradient = observed[self._first :, None, :] - probability
        return Expansion(self._chosen(observed, predictors) - normaliser, gradient, curvature)

    def _chosen(self, observed: Observed, predictors: Predictors) -> Float[Array, "k rows"]:
        return jnp.sum(observed[self._first :, None, :] * predictors, axis=0)

    def _normaliser(self, predictors: Predictors) -> Float[Array, "k rows"]:
        """Log of the summed odds, those of a reference level being one."""
        reference = jnp.zeros((self._first, *predictors.shape[1:]))
        return jax.nn.logsumexp(jnp.concatenate([reference, predictors]), axis=0)

    def working(self, response: np.ndarray, trials: np.ndarray | None) -> np.ndarray:
        own = response[:, self._first :]
        return np.log((own + 0.5) / (1.5 - own))

    def pooled(self, sample: ResponseSample) -> np.ndarray:
        log_share = np.log(sample.total + 0.5)
        return (log_share - (log_share.mean() if self.symmetric else log_share[0]))[self._first :]

    def distribution(self, predictors: np.ndarray, trials: np.ndarray | None) -> LevelDistribution:
        from scipy.special import softmax

        reference = np.zeros((self._first, *predictors.shape[1:]))
        all_levels = np.concatenate([reference, predictors])
        return LevelDistribution(np.moveaxis(softmax(all_levels, axis=0), 0, -1))
