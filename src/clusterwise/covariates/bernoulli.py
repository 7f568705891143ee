"""Bernoulli density of covariates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from clusterwise.covariates.categorical import LevelCounts, level_prior
from clusterwise.covariates.density import AbstractColumnDensity, AbstractDensity
from clusterwise.posteriors.levels import LevelPosterior
from clusterwise.posteriors.specification import check_positive
from clusterwise.regression.columns import PartColumns
from clusterwise.regression.prior import LinearFrame
from clusterwise.regression.structure import PLAIN, Structure
from clusterwise.responses.generalised import refuse


@dataclass(frozen=True)
class BernoulliCovariates(AbstractColumnDensity):
    """Covariates of zeros and ones, independent of one another in each cluster.

    The density is the categorical one of two levels, of which the first is 1.

    Parameters
    ----------
    formula
        Columns of zeros and ones, or of booleans, as a formula's right side: "owns + smokes".
    concentration
        Both parameters of the beta prior of the probability of a one. With prior="flat" it is not
        used.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.BernoulliCovariates("owns + smokes").parameter_names
    ('probability',)
    """

    formula: str
    concentration: float = 0.5

    def __post_init__(self) -> None:
        check_positive("BernoulliCovariates", concentration=self.concentration)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return ("probability",)

    @property
    def prior_hint(self) -> str:
        return "cw.BernoulliCovariates(..., concentration=...)"

    def block(self, columns: PartColumns) -> LevelCounts:
        return LevelCounts(columns.responses)

    def prior(
        self, what: str, frame: LinearFrame, prior: Any, structure: Structure = PLAIN
    ) -> LevelPosterior:
        return level_prior(self.concentration, frame, prior)

    def n_predictors(self, n_responses: int) -> int:
        return 1

    def n_dispersion(self, n_components: int, n_columns: int) -> int:
        return 0

    def over(self, terms: tuple[str, ...]) -> list[AbstractDensity]:
        return [self.with_formula(f"0 + {term} + I(1 - {term})") for term in terms]

    def outcomes(self, names: tuple[str, ...], values: Any) -> dict[str, np.ndarray]:
        one, zero = np.exp(np.asarray(values.log_probabilities)).T
        return {f"{names[0]}=1": one, f"{names[0]}=0": zero}

    def check(self, what: str, columns: np.ndarray, at: np.ndarray) -> None:
        wrong = np.flatnonzero(~np.isin(columns[:, 0], (0.0, 1.0)))
        cure = "code it as 0 and 1, or use cw.PoissonCovariates of counts"
        refuse(what, wrong, at, columns[:, :1], "is neither 0 nor 1", cure)

    def parameters(self, values: Any, shift: float, scale: float) -> dict[str, np.ndarray]:
        return {"probability": np.exp(np.asarray(values.log_probabilities)[..., 0])}

    def distribution(self, parameters: Mapping[str, np.ndarray]) -> Any:
        from scipy import stats

        return stats.bernoulli(parameters["probability"])
