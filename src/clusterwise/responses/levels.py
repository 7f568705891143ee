"""Responses that are one of several levels, each level a column of zeros and ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from clusterwise.core.errors import DataError
from clusterwise.responses.generalised import AbstractGeneralised


class AbstractLevels(AbstractGeneralised):
    """What responses that are one of several levels share."""

    categorical: ClassVar[bool] = True
    by_level: ClassVar[bool] = True

    def coded(self, expression: str) -> str:
        return expression if expression.startswith("C(") else f"C({expression})"

    def response_names(self, name: str, columns: tuple[str, ...]) -> tuple[str, ...]:
        if len(columns) < 2:
            raise DataError(
                f"The response {name!r} has {len(columns)} level; family={self.name!r} takes two "
                "or more."
            )
        title = name[2:-1] if name.startswith("C(") else name
        # The encoder writes C(name)[level].
        levels = [column[len(self.coded(name)) + 1 : -1] for column in columns]
        return tuple(f"{title}={level}" for level in levels)

    def title(self, names: tuple[str, ...]) -> str:
        return names[0].partition("=")[0]

    def value(self, response: np.ndarray) -> np.ndarray:
        return response.argmax(axis=1).astype(float)

    def check(
        self, what: str, response: np.ndarray, trials: np.ndarray | None, at: np.ndarray
    ) -> None:
        pass


@dataclass(frozen=True)
class LevelDistribution:
    """Probabilities (..., levels) as predictions ask SciPy's distributions, levels from 0."""

    probabilities: np.ndarray

    def mean(self) -> np.ndarray:
        return self.probabilities

    def pmf(self, y: np.ndarray) -> np.ndarray:
        levels = np.broadcast_to(y, self.probabilities.shape[:-1]).astype(int)
        return np.take_along_axis(self.probabilities, levels[..., None], axis=-1)[..., 0]

    def logpmf(self, y: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(self.pmf(y))

    def cdf(self, y: np.ndarray) -> np.ndarray:
        below = np.arange(self.probabilities.shape[-1]) <= np.asarray(y)[..., None]
        return (self.probabilities * below).sum(axis=-1)

    def ppf(self, q: Any) -> np.ndarray:
        below = np.cumsum(self.probabilities, axis=-1)[..., :-1] < np.asarray(q)[..., None]
        return below.sum(axis=-1).astype(float)

    def rvs(self, size: Any = None, random_state: Any = None) -> np.ndarray:
        rng = np.random.default_rng(random_state)
        return self.ppf(rng.random(self.probabilities.shape[:-1] if size is None else size))
