"""What every family of responses is to a model, however its regression is fitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from clusterwise.core.parts import AbstractQuadraticBlock, AbstractSitedBlock
from clusterwise.regression.columns import PartColumns
from clusterwise.regression.prior import LinearFrame
from clusterwise.regression.structure import PLAIN, Structure


class AbstractFamily(ABC):
    """A response given its regressors, in each cluster."""

    name: ClassVar[str]
    scaled: ClassVar[bool] = False
    """Whether the response is standardised, which its family must allow."""
    categorical: ClassVar[bool] = False
    """Whether the response may be text, whose levels are columns of zeros and ones then."""
    takes_offset: ClassVar[bool] = True
    takes_trials: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    """Whether a row has finitely many possible responses, as many as its trials allow."""
    spread: ClassVar[str] = "sigma"
    """What its residual deviation is called, where the likelihood is unbounded as one vanishes."""
    ordered: ClassVar[bool] = True
    """Whether its values have an order, hence quantiles."""
    by_level: ClassVar[bool] = False
    """Whether a dispersion has a number for every level of the response but two."""

    @property
    @abstractmethod
    def mean_link(self) -> str:
        """Name of what makes the mean out of predictors; its inverse is in `report/page.js`."""

    def coded(self, expression: str) -> str:
        """The response's expression in the formula of its columns."""
        return expression

    def title(self, names: tuple[str, ...]) -> str:
        """Name of the response, given those of its columns."""
        return names[0]

    def value(self, response: np.ndarray) -> np.ndarray:
        """The response (n,) as predictions have it, from its columns (n, q)."""
        return response[:, 0]

    def response_names(self, name: str, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Names of the columns of a row that hold the response, out of the encoder's."""
        return (name,)

    @abstractmethod
    def block(self, columns: PartColumns) -> AbstractQuadraticBlock | AbstractSitedBlock:
        """The block over these columns of a row."""

    def structured(self) -> AbstractFamily:
        """The family where clusters' coefficients are shared, pooled or sparse."""
        return self

    @abstractmethod
    def prior(self, what: str, frame: LinearFrame, prior: Any, structure: Structure = PLAIN) -> Any:
        """Prior of the block, in standard units."""

    def n_identified(self, n_responses: int) -> int:
        """Number of linear predictors that rows can tell apart."""
        return self.n_predictors(n_responses)

    @abstractmethod
    def n_predictors(self, n_responses: int) -> int:
        """Number of linear predictors with coefficients of the regressors."""

    def predictor_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Names of these predictors, given those of the response's columns."""
        return names[: self.n_predictors(len(names))]

    @abstractmethod
    def n_dispersion(self, n_components: int, n_responses: int) -> int:
        """Number of free dispersion parameters."""

    @property
    @abstractmethod
    def dispersion_names(self) -> tuple[str, ...]:
        """Names of the dispersions, as reports have them."""

    @abstractmethod
    def draw(
        self,
        predictors: np.ndarray,
        dispersion: dict[str, np.ndarray],
        trials: np.ndarray | None,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """A response (n,) for each row, in data units; predictors are (m, n), dispersions (n,)."""

    @abstractmethod
    def check(
        self, what: str, response: np.ndarray, trials: np.ndarray | None, at: np.ndarray
    ) -> None:
        """Refuse rows (n, columns) that the family cannot have; `at` are their numbers."""

    @abstractmethod
    def working(self, response: np.ndarray, trials: np.ndarray | None) -> np.ndarray:
        """Responses (n, q) on about the scale of the predictors, to find starting values by."""
