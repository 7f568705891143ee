"""Densities of covariates that are families of responses, with no regressor but the constant."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from clusterwise.core.errors import OptionError
from clusterwise.core.parts import AbstractQuadraticBlock, AbstractSitedBlock
from clusterwise.covariates.density import AbstractColumnDensity, AbstractDensity
from clusterwise.regression.columns import PartColumns
from clusterwise.regression.prior import LinearFrame
from clusterwise.regression.structure import (
    PLAIN,
    AbstractCoefficients,
    Hierarchical,
    Independent,
    Structure,
    resolve_coefficients,
)
from clusterwise.responses.family import AbstractFamily
from clusterwise.responses.generalised import AbstractGeneralised
from clusterwise.responses.registry import resolve_family
from clusterwise.responses.student import StudentT


class AbstractFamilyDensity(AbstractColumnDensity):
    """One column with the density of a family: its intercept and dispersions are the parameters."""

    first: ClassVar[str] = "intercept"
    """What the intercept is called."""

    @property
    @abstractmethod
    def family(self) -> AbstractGeneralised: ...

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return (self.first, *self.family.dispersion_names)

    @property
    def scaled(self) -> bool:
        return self.family.scaled

    @property
    def prior_hint(self) -> str:
        return "no argument in this version"

    def block(self, columns: PartColumns) -> AbstractQuadraticBlock | AbstractSitedBlock:
        return self.family.block(columns)

    def prior(self, what: str, frame: LinearFrame, prior: Any, structure: Structure = PLAIN) -> Any:
        return self.family.prior(what, frame, prior, structure)

    def n_predictors(self, n_responses: int) -> int:
        return 1

    def n_dispersion(self, n_components: int, n_columns: int) -> int:
        return self.family.n_dispersion(n_components, n_columns)

    def over(self, terms: tuple[str, ...]) -> list[AbstractDensity]:
        return [self.with_formula(f"0 + {term}") for term in terms]

    def check(self, what: str, columns: np.ndarray, at: np.ndarray) -> None:
        self.family.check(what, columns, None, at)

    def parameters(self, values: Any, shift: float, scale: float) -> dict[str, np.ndarray]:
        whole = np.asarray(values.values)
        # Behind them may stand the means that they are pooled about.
        found = self.family.dispersion(whole[..., 1 : 1 + self.family.n_constants(1)], scale)
        return {self.first: whole[..., 0] * scale + shift, **found}

    def distribution(self, parameters: Mapping[str, np.ndarray]) -> Any:
        names = self.family.dispersion_names
        rest = [self.family.as_predictor(name, parameters[name]) for name in names]
        return self.family.distribution(np.stack([parameters[self.first], *rest]), None)


@dataclass(frozen=True)
class FamilyCovariates(AbstractFamilyDensity):
    """Covariates with the density of a family of responses, independent in each cluster.

    Parameters
    ----------
    formula
        Numeric columns, as a formula's right side: "income + spending".
    of
        A family of one linear predictor and without trials, by name or configured: "gamma",
        "negative_binomial", "zero_inflated_poisson", "student_t". The intercept is on its scale.
        "gaussian", too, where parameters are pooled.
    coefficients
        "independent"; or "hierarchical", where for each column the clusters' intercepts are normal
        about a mean, and both it and the standard deviation are learned, and likewise their
        dispersions, as the logarithm of sigma; or `Hierarchical`, whose `dispersion` says whether
        these are pooled.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.FamilyCovariates("income", cw.GammaResponse()).parameter_names
    ('intercept', 'shape')
    >>> cw.FamilyCovariates("x1 + x2", "gaussian", "hierarchical").parameter_names
    ('intercept', 'sigma')
    """

    formula: str
    of: Any
    coefficients: str | AbstractCoefficients = "independent"

    def __post_init__(self) -> None:
        family = self._resolved()
        odd = not isinstance(family, AbstractGeneralised) or family.takes_trials
        if odd or family.categorical:
            raise OptionError(
                f"FamilyCovariates(of={self.of!r}): use cw.GaussianCovariates, "
                "cw.BernoulliCovariates, cw.PoissonCovariates or cw.CategoricalCovariates, or a "
                "family such as 'gamma' or 'negative_binomial'."
            )
        if not isinstance(self.pooling, (Independent, Hierarchical)):
            raise OptionError(
                f"FamilyCovariates(coefficients={self.coefficients!r}): a density has no slopes to "
                "shrink; use 'independent', 'hierarchical' or cw.Hierarchical(...)."
            )

    def _resolved(self) -> AbstractFamily:
        family = resolve_family(self.of)
        return family if isinstance(self.pooling, Independent) else family.structured()

    @property
    def pooling(self) -> AbstractCoefficients:
        if self.coefficients == Hierarchical.name:
            return Hierarchical(dispersion=True)
        return resolve_coefficients(self.coefficients)

    @property
    def family(self) -> AbstractGeneralised:
        family = self._resolved()
        assert isinstance(family, AbstractGeneralised)
        return family


@dataclass(frozen=True)
class StudentTCovariates(AbstractFamilyDensity):
    """Numeric covariates with heavy tails, each a Student t, independent in each cluster.

    Parameters
    ----------
    formula
        Numeric columns, as a formula's right side: "x1 + x2".
    degrees_of_freedom
        Where they are known; None to estimate them in each cluster, as `StudentT` does.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.StudentTCovariates("x1").parameter_names
    ('location', 'sigma', 'nu')
    """

    formula: str
    degrees_of_freedom: float | None = None
    first: ClassVar[str] = "location"

    def __post_init__(self) -> None:
        StudentT(self.degrees_of_freedom)

    @property
    def family(self) -> AbstractGeneralised:
        return StudentT(self.degrees_of_freedom)
