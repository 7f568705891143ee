"""Gaussian response as a user writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from clusterwise.posteriors.matrix_normal import MatrixNormal
from clusterwise.posteriors.specification import check_positive
from clusterwise.regression.columns import PartColumns
from clusterwise.regression.linear_gaussian import LinearGaussian
from clusterwise.regression.prior import LinearFrame, LinearOptions, linear_prior
from clusterwise.regression.structure import PLAIN, Structure
from clusterwise.responses.family import AbstractFamily
from clusterwise.responses.tied_gaussian import TiedGaussian


@dataclass(frozen=True)
class Gaussian(AbstractFamily):
    """Gaussian response.

    Parameters
    ----------
    sigma
        Residual standard deviation where it is known; None to estimate it.
    shared_sigma
        Whether all clusters have the same residual standard deviation.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.Gaussian(shared_sigma=True).sigma is None
    True
    """

    sigma: float | None = None
    shared_sigma: bool = False
    name: ClassVar[str] = "gaussian"
    scaled: ClassVar[bool] = True
    takes_offset: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.sigma is not None:
            check_positive("Gaussian", sigma=self.sigma)

    @property
    def mean_link(self) -> str:
        return "identity"

    def block(self, columns: PartColumns) -> LinearGaussian:
        return LinearGaussian(columns.regressors, columns.responses)

    def structured(self) -> TiedGaussian:
        return TiedGaussian(self.sigma, self.shared_sigma)

    def prior(
        self, what: str, frame: LinearFrame, prior: Any, structure: Structure = PLAIN
    ) -> MatrixNormal:
        known = None if self.sigma is None else self.sigma**2
        return linear_prior(frame, LinearOptions(what, "full", self.shared_sigma, known), prior)

    def n_predictors(self, n_responses: int) -> int:
        return n_responses

    @property
    def dispersion_names(self) -> tuple[str, ...]:
        return ("sigma",)

    def draw(
        self,
        predictors: np.ndarray,
        dispersion: dict[str, np.ndarray],
        trials: np.ndarray | None,
        rng: np.random.Generator,
    ) -> np.ndarray:
        return predictors[0] + dispersion["sigma"] * rng.normal(size=predictors.shape[1])

    def check(
        self, what: str, response: np.ndarray, trials: np.ndarray | None, at: np.ndarray
    ) -> None:
        pass

    def working(self, response: np.ndarray, trials: np.ndarray | None) -> np.ndarray:
        return response

    def n_dispersion(self, n_components: int, n_responses: int) -> int:
        if self.sigma is not None:
            return 0
        return 1 if self.shared_sigma else n_components
