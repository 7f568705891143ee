"""What every density of covariates is to a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np

from clusterwise.core.parts import AbstractLinearBlock, AbstractQuadraticBlock, AbstractSitedBlock
from clusterwise.regression.columns import PartColumns
from clusterwise.regression.prior import LinearFrame
from clusterwise.regression.structure import (
    INDEPENDENT,
    PLAIN,
    AbstractCoefficients,
    Structure,
)
from clusterwise.responses.generalised import AbstractGeneralised


class AbstractDensity(ABC):
    """p(x | z) of some columns; concrete ones are frozen dataclasses with a `formula`."""

    formula: str
    by_level: ClassVar[bool] = False
    """Whether it is of levels, which are columns of zeros and ones."""
    jointly: ClassVar[bool] = False
    """Whether its columns have a mean and a covariance."""

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Of a density of one column that is neither of levels nor Gaussian."""
        return ()

    @property
    def scaled(self) -> bool:
        """Whether columns are standardised."""
        return False

    @property
    def common_scale(self) -> bool:
        """Whether columns must keep their units relative to each other."""
        return False

    @property
    def pooling(self) -> AbstractCoefficients:
        """How clusters' parameters go together."""
        return INDEPENDENT

    @property
    def family(self) -> AbstractGeneralised | None:
        """The family of responses that it is of, with no regressor but the constant."""
        return None

    @property
    @abstractmethod
    def prior_hint(self) -> str:
        """Where a user says its prior, where prior={"covariates": ...} does not."""

    @abstractmethod
    def block(
        self, columns: PartColumns
    ) -> AbstractQuadraticBlock | AbstractLinearBlock | AbstractSitedBlock:
        """The block over these columns of a row."""

    @abstractmethod
    def prior(self, what: str, frame: LinearFrame, prior: Any, structure: Structure = PLAIN) -> Any:
        """Prior of the density's block, in standard units."""

    @abstractmethod
    def n_predictors(self, n_responses: int) -> int:
        """Means of each cluster."""

    def n_identified(self, n_responses: int) -> int:
        """As for a family of responses."""
        return self.n_predictors(n_responses)

    @abstractmethod
    def n_dispersion(self, n_components: int, n_columns: int) -> int:
        """Number of the other free parameters."""

    def with_formula(self, formula: str) -> AbstractDensity:
        """The same of other columns."""
        return replace(cast(Any, self), formula=formula)

    @abstractmethod
    def over(self, terms: tuple[str, ...]) -> list[AbstractDensity]:
        """Densities like this one, each over what one block takes of these terms, coded."""

    def outcomes(self, names: tuple[str, ...], values: Any) -> dict[str, np.ndarray]:
        """What may never occur in a cluster, and how often it does in a row, (k,).

        From the names of the block's columns and its parameters.
        """
        return {}

    @abstractmethod
    def check(self, what: str, columns: np.ndarray, at: np.ndarray) -> None:
        """Refuse rows (n, columns) that the density cannot have; `at` are their numbers."""


class AbstractColumnDensity(AbstractDensity):
    """A density of one column, with parameters that go by `parameter_names`.

    The column comes first of those that its formula codes; others are what its block needs
    beside it.
    """

    @abstractmethod
    def parameters(self, values: Any, shift: float, scale: float) -> dict[str, np.ndarray]:
        """The block's parameters by name, (..., k), of the column times `scale` plus `shift`."""

    @abstractmethod
    def distribution(self, parameters: Mapping[str, np.ndarray]) -> Any:
        """SciPy's distribution of the column, given parameters by name."""
