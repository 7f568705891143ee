"""Categorical density of covariates: the probabilities of a column's levels in each cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from clusterwise.core.arrays import constant
from clusterwise.core.product import AbstractLinearBlock
from clusterwise.covariates.density import AbstractDensity
from clusterwise.frames.expression import quote_inside
from clusterwise.posteriors.levels import LevelMoments, LevelPosterior
from clusterwise.posteriors.specification import check_positive
from clusterwise.regression.columns import PartColumns
from clusterwise.regression.prior import LinearFrame

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
    scaled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive("CategoricalCovariates", concentration=self.concentration)

    def block(self, columns: PartColumns) -> LevelCounts:
        return LevelCounts(columns.responses)

    def prior(
        self, what: str, frame: LinearFrame, prior: Any, shared: tuple[int, ...] = ()
    ) -> LevelPosterior:
        value = _FLAT if prior == "flat" else self.concentration
        shape = frame.n_components, frame.response_scale.size
        return LevelPosterior(constant(np.full(shape, value)))

    def n_predictors(self, n_responses: int) -> int:
        return 0

    def n_dispersion(self, n_components: int, n_columns: int) -> int:
        return n_components * (n_columns - 1)

    def over(self, variables: tuple[str, ...]) -> list[AbstractDensity]:
        return [self.with_formula(f"0 + C({quote_inside(name)})") for name in variables]
