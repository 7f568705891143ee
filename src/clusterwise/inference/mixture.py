"""A fitted mixture as NumPy arrays: one set of parameters or many draws, in standard units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from clusterwise.core.product import Quadratic, QuadraticProduct
from clusterwise.core.runtime import double_precision


@jax.jit
def _quadratics(block: QuadraticProduct, moments: tuple[Any, ...]) -> list[Quadratic]:
    """Each block's quadratic form, for every draw."""
    pairs = zip(block.blocks, moments, strict=True)
    return [jax.vmap(one.quadratic)(moment) for one, moment in pairs]


@jax.jit
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
    def __init__(self, block: QuadraticProduct, moments: tuple[Any, ...]) -> None:
        forms = _quadratics(block, moments)
        self._constants = [np.asarray(form.constant) for form in forms]
        self._factors = [np.asarray(form.factor) for form in forms]
        self._columns = [list(one.columns) for one in block.blocks]

    @classmethod
    @double_precision
    def from_draws(cls, block: QuadraticProduct, parameters: Any) -> ScoredMixture:
        """Scores at points: draws of the parameters along a leading axis."""
        return cls(block, _moments_of_draws(parameters))

    @property
    def n_draws(self) -> int:
        """Number of draws."""
        return self._constants[0].shape[0]

    def scores(self, rows: np.ndarray, draw: int, parts: Sequence[int]) -> np.ndarray:
        """Log densities (n, k) of rows (n, columns) over some of the blocks."""
        total = np.zeros((rows.shape[0], self._constants[0].shape[1]))
        for part in parts:
            total += self._constants[part][draw]
            factor = self._factors[part][draw]
            k, m, columns = factor.shape
            if m:
                values = rows[:, self._columns[part]] @ factor.reshape(k * m, columns).T
                total -= 0.5 * np.square(values).reshape(-1, k, m).sum(axis=2)
        return total

    def responsibilities(self, rows: np.ndarray, parts: Sequence[int]) -> np.ndarray:
        """Probabilities (n, k) of the clusters, averaged over draws."""
        total = 0.0
        for draw in range(self.n_draws):
            scores = self.scores(rows, draw, parts)
            total = total + np.exp(scores - log_sum_exp(scores)[:, None])
        return np.asarray(total) / self.n_draws

    def log_density(self, rows: np.ndarray, parts: Sequence[int]) -> np.ndarray:
        """Log of the density (n,), averaged over draws."""
        each = [log_sum_exp(self.scores(rows, d, parts)) for d in range(self.n_draws)]
        return log_sum_exp(np.stack(each, axis=1)) - np.log(self.n_draws)


def log_sum_exp(scores: np.ndarray) -> np.ndarray:
    """Log of the summed exponentials over the last axis."""
    largest = scores.max(axis=-1)
    return largest + np.log(np.exp(scores - largest[..., None]).sum(axis=-1))
