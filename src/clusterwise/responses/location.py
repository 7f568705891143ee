"""What numbers about a line share, whose first predictor is where they lie."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from clusterwise.responses.generalised import AbstractGeneralised


class AbstractLocation(AbstractGeneralised):
    """A response in units of its own, any number, about its first predictor."""

    scaled: ClassVar[bool] = True
    concave: ClassVar[bool] = False
    takes_offset: ClassVar[bool] = False

    @property
    def mean_link(self) -> str:
        return "identity"

    def check(
        self, what: str, response: np.ndarray, trials: np.ndarray | None, at: np.ndarray
    ) -> None:
        pass

    def working(self, response: np.ndarray, trials: np.ndarray | None) -> np.ndarray:
        return response
