"""What every density of covariates is to a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, cast

from clusterwise.core.product import AbstractLinearBlock, AbstractQuadraticBlock
from clusterwise.regression.columns import PartColumns
from clusterwise.regression.prior import LinearFrame


class AbstractDensity(ABC):
    """p(x | z) of some columns; concrete ones are frozen dataclasses with a `formula`."""

    scaled: ClassVar[bool]
    """Whether columns are standardised; else they are the levels' columns of ones and zeros."""
    formula: str

    @property
    def common_scale(self) -> bool:
        """Whether columns must keep their units relative to each other."""
        return False

    @abstractmethod
    def block(self, columns: PartColumns) -> AbstractQuadraticBlock | AbstractLinearBlock:
        """The block over these columns of a row."""

    @abstractmethod
    def prior(self, what: str, frame: LinearFrame, prior: Any, shared: tuple[int, ...] = ()) -> Any:
        """Prior of the density's block, in standard units."""

    @abstractmethod
    def n_predictors(self, n_responses: int) -> int:
        """Means of each cluster."""

    @abstractmethod
    def n_dispersion(self, n_components: int, n_columns: int) -> int:
        """Number of the other free parameters."""

    def with_formula(self, formula: str) -> AbstractDensity:
        """The same of other columns."""
        return replace(cast(Any, self), formula=formula)

    @abstractmethod
    def over(self, variables: tuple[str, ...]) -> list[AbstractDensity]:
        """Densities like this one, each over what one block takes of these columns."""
