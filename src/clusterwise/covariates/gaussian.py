"""Gaussian density of covariates as a user writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from clusterwise.core.errors import OptionError
from clusterwise.covariates.density import AbstractDensity
from clusterwise.posteriors.matrix_normal import MatrixNormal
from clusterwise.posteriors.specification import Numbers, check_positive, diagonal_of
from clusterwise.regression.columns import PartColumns
from clusterwise.regression.linear_gaussian import LinearGaussian
from clusterwise.regression.prior import (
    COVARIANCE_TYPES,
    LinearFrame,
    LinearOptions,
    linear_prior,
)
from clusterwise.regression.structure import PLAIN, Structure


@dataclass(frozen=True)
class GaussianCovariates(AbstractDensity):
    """Jointly Gaussian covariates.

    Parameters
    ----------
    formula
        Numeric columns, as a formula's right side: "x1 + x2".
    covariance_type
        "full", "diag" or "spherical" for each cluster, or "tied": one full covariance for all.
    covariance
        The covariance where it is known: a number (times the identity), one variance a column,
        or a matrix.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.GaussianCovariates("x1 + x2", covariance_type="diag").covariance_type
    'diag'
    """

    jointly: ClassVar[bool] = True

    formula: str
    covariance_type: str = "full"
    covariance: Numbers | None = None

    def __post_init__(self) -> None:
        if self.covariance_type not in COVARIANCE_TYPES:
            raise OptionError(
                f"covariance_type={self.covariance_type!r} is not known; use one of "
                f"{', '.join(map(repr, COVARIANCE_TYPES))}."
            )
        if self.covariance is not None:
            check_positive("GaussianCovariates", covariance=diagonal_of(self.covariance))

    @property
    def shared(self) -> bool:
        """Whether all clusters have one covariance."""
        return self.covariance_type == "tied"

    @property
    def form(self) -> str:
        """Form of each covariance."""
        return "full" if self.shared else self.covariance_type

    @property
    def scaled(self) -> bool:
        return True

    @property
    def prior_hint(self) -> str:
        return 'prior={"covariates": ...}'

    @property
    def common_scale(self) -> bool:
        return self.form == "spherical"

    def block(self, columns: PartColumns) -> LinearGaussian:
        return LinearGaussian(columns.regressors, columns.responses)

    def prior(
        self, what: str, frame: LinearFrame, prior: Any, structure: Structure = PLAIN
    ) -> MatrixNormal:
        options = LinearOptions(what, self.form, self.shared, self.covariance)
        return linear_prior(frame, options, prior)

    def n_predictors(self, n_responses: int) -> int:
        return n_responses

    def n_dispersion(self, n_components: int, n_columns: int) -> int:
        if self.covariance is not None:
            return 0
        free = {"full": n_columns * (n_columns + 1) // 2, "diag": n_columns, "spherical": 1}
        return free[self.form] * (1 if self.shared else n_components)

    def over(self, terms: tuple[str, ...]) -> list[AbstractDensity]:
        return [self.with_formula(f"0 + {' + '.join(terms)}")] if terms else []

    def check(self, what: str, columns: np.ndarray, at: np.ndarray) -> None:
        pass
