"""Categorical density of covariates: the probabilities of a column's levels in each cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from clusterwise.core.arrays import constant
from clusterwise.core.parts import AbstractLinearBlock
from clusterwise.covariates.density import AbstractDensity
from clusterwise.posteriors.levels import LevelMoments, LevelPosterior
from clusterwise.posteriors.specification import check_positive
from clusterwise.regression.columns import PartColumns
from clusterwise.regression.prior import LinearFrame
from clusterwise.regression.structure import PLAIN, Structure

_FLAT = 1e-9


class LevelCounts(AbstractLinearBlock):
    """The level of a column, by columns of ones and zeros."""

    columns: tuple[int, ...] = eqx.field(static=True)

    def linear(self, moments: LevelMoments) -> Float[Array, "k columns"]:
        return moments.log_probabilities

    def posterior(
        self, sums: Float[Array, "k columns"], prior: LevelPosterior, moments: LevelMoments
    ) -> LevelPosterior:
        return prior.updated(sums)


def level_prior(concentration: float, frame: LinearFrame, prior: Any) -> LevelPosterior:
    """Dirichlet priors that are alike for all levels and clusters."""
    value = _FLAT if prior == "flat" else concentration
    shape = frame.n_components, frame.response_scale.size
    return LevelPosterior(constant(np.full(shape, value)))


@dataclass(frozen=True)
class CategoricalCovariates(AbstractDensity):
    """Categorical covariates, independent of one another in each cluster (latent class model).

    Parameters
    ----------
    formula
        Columns, as a formula's right side: "g + h". Numbers are levels, too.
    concentration
        Of the Dirichlet prior of the levels' probabilities, the same for each level. With
        prior="flat" it is not used.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.Model("y ~ x", covariates=[cw.CategoricalCovariates("g + h")]).n_components
    2
    """

    formula: str
    concentration: float = 0.5
    by_level: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("CategoricalCovariates", concentration=self.concentration)

    @property
    def prior_hint(self) -> str:
        return "cw.CategoricalCovariates(..., concentration=...)"

    def block(self, columns: PartColumns) -> LevelCounts:
        return LevelCounts(columns.responses)

    def prior(
        self, what: str, frame: LinearFrame, prior: Any, structure: Structure = PLAIN
    ) -> LevelPosterior:
        return level_prior(self.concentration, frame, prior)

    def n_predictors(self, n_responses: int) -> int:
        return 0

    def n_dispersion(self, n_components: int, n_columns: int) -> int:
        return n_components * (n_columns - 1)

    def over(self, terms: tuple[str, ...]) -> list[AbstractDensity]:
        return [self.with_formula(f"0 + C({term})") for term in terms]

    def outcomes(self, names: tuple[str, ...], values: Any) -> dict[str, np.ndarray]:
        return dict(zip(names, np.exp(np.asarray(values.log_probabilities)).T, strict=True))

    def check(self, what: str, columns: np.ndarray, at: np.ndarray) -> None:
        pass
