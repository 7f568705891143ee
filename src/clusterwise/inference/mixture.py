"""A fitted mixture as NumPy arrays: one set of parameters or many draws, in standard units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import jax
import numpy as np

from clusterwise.core.product import Product, Quadratic
from clusterwise.core.runtime import Program, double_precision

_NUMBERS = 500_000


@Program
def _quadratics(block: Product, moments: tuple[Any, ...]) -> list[Quadratic]:
    """Each block's quadratic form, for every draw."""
    pairs = zip(block.blocks, moments, strict=True)
    return [jax.vmap(one.quadratic)(moment) for one, moment in pairs]


@Program
def _moments_of_draws(parameters: Any) -> Any:
    return jax.vmap(lambda p: p.moments())(parameters)


class ScoredMixture:
    """Scores of rows under each cluster, for one or more draws of the parameters.

    Parameters
    ----------
    block
        The model's block.
    moments
        Its moments, every array with a leading axis of draws.
    """

    @double_precision
    def __init__(self, block: Product, moments: tuple[Any, ...]) -> None:
        forms = _quadratics(block, moments)
        self._constants = [np.asarray(form.constant) for form in forms]
        self._factors = [np.asarray(form.factor) for form in forms]
        self._columns = [list(one.columns) for one in block.blocks]

    @classmethod
    @double_precision
    def from_draws(cls, block: Product, parameters: Any) -> ScoredMixture:
        """Scores at points: draws of the parameters along a leading axis."""
        return cls(block, _moments_of_draws(parameters))

    def subset(self, draws: np.ndarray) -> ScoredMixture:
        """Scores under some of the draws, by their numbers."""
        found = copy(self)
        found._constants = [constant[draws] for constant in self._constants]
        found._factors = [factor[draws] for factor in self._factors]
        return found

    @property
    def n_draws(self) -> int:
        """Number of draws."""
        return self._constants[0].shape[0]

    def rows_at_a_time(self) -> int:
        """Rows whose scores under all draws stay in cache."""
        width = sum(factor.shape[0] * factor.shape[1] * factor.shape[2] for factor in self._factors)
        return max(64, _NUMBERS // max(width, 1))

    def scores(self, rows: np.ndarray, parts: Sequence[int]) -> np.ndarray:
        """Log densities (n, draws, k) of rows (n, columns) over some of the blocks."""
        draws, k = self._constants[0].shape
        total = np.zeros((rows.shape[0], draws, k))
        for part in parts:
            total += self._constants[part]
            factor = self._factors[part]
            _, _, m, columns = factor.shape
            if m:
                values = rows[:, self._columns[part]] @ factor.reshape(-1, columns).T
                total -= 0.5 * np.square(values).reshape(-1, draws, k, m).sum(axis=3)
        return total

    def responsibilities(self, rows: np.ndarray, parts: Sequence[int]) -> np.ndarray:
        """Probabilities (n, k) of the clusters, averaged over draws."""

        def chunk(part: np.ndarray) -> np.ndarray:
            scores = self.scores(part, parts)
            return np.exp(scores - log_sum_exp(scores)[..., None]).mean(axis=1)

        return self._in_chunks(chunk, rows)

    def log_density(self, rows: np.ndarray, parts: Sequence[int]) -> np.ndarray:
        """Log of the density (n,), averaged over draws."""

        def chunk(part: np.ndarray) -> np.ndarray:
            return log_sum_exp(log_sum_exp(self.scores(part, parts))) - np.log(self.n_draws)

        return self._in_chunks(chunk, rows)

    def _in_chunks(
        self, function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray
    ) -> np.ndarray:
        size = self.rows_at_a_time()
        parts = [rows[i : i + size] for i in range(0, len(rows), size)]
        return np.concatenate([function(part) for part in parts])


def log_sum_exp(scores: np.ndarray) -> np.ndarray:
    """Log of the summed exponentials over the last axis."""
    largest = scores.max(axis=-1)
    return largest + np.log(np.exp(scores - largest[..., None]).sum(axis=-1))
