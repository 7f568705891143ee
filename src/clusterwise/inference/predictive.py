"""Distributions of new rows: averaged over draws, or a variational posterior's in closed form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any, NamedTuple

import jax
import numpy as np

from clusterwise.core.errors import OptionError
from clusterwise.core.groups import whole_pieces
from clusterwise.core.product import Product
from clusterwise.inference.mixture import ScoredMixture, log_sum_exp
from clusterwise.inference.predict import AbstractMixture, FamilyMixture, StudentMixture
from clusterwise.inference.reading import RowReader
from clusterwise.posteriors.coefficients import Coefficients
from clusterwise.posteriors.matrix_normal import LinearPredictive

KINDS = ("mean", "quantile", "interval", "density", "sample")
_NUMBERS = 500_000


class Question(NamedTuple):
    """What is asked of the distribution of a response."""

    kind: str
    levels: np.ndarray
    rng: np.random.Generator
    shared: np.ndarray
    """For each sample a uniform number that all of its rows have, spread evenly."""

    @classmethod
    def check(
        cls,
        kind: str,
        *,
        q: float | Sequence[float],
        level: float,
        n_samples: int,
        rng: np.random.Generator,
    ) -> Question:
        """Read the arguments of `Fit.predict`."""
        if kind not in KINDS:
            raise OptionError(f"kind={kind!r} is not known; use one of {', '.join(KINDS)}.")
        levels = np.atleast_1d(np.asarray(q, float))
        if kind == "interval":
            levels = np.array([(1 - level) / 2, (1 + level) / 2])
        if np.any((levels <= 0) | (levels >= 1)):
            raise OptionError("q and level must lie strictly between 0 and 1.")
        shared = np.zeros(0)
        if kind == "sample":
            whole = isinstance(n_samples, (int, np.integer)) and not isinstance(n_samples, bool)
            if not whole or n_samples < 1:
                raise OptionError(f"n_samples={n_samples!r} must be a whole number, at least 1.")
            shared = (rng.permutation(n_samples) + rng.random(n_samples)) / n_samples
        return cls(kind, levels, rng, shared)

    def answer(self, mixture: AbstractMixture, n_components: int, y: np.ndarray) -> np.ndarray:
        """The numbers, of rows whose responses are y (n,)."""
        if self.kind == "mean":
            return mixture.mean()
        if self.kind == "density":
            return np.exp(mixture.log_density(y[:, None])[:, 0])
        if self.kind == "sample":
            return mixture.sample(self.shared, n_components, self.rng)
        return mixture.quantile(self.levels)


class AbstractPredictive(ABC):
    """A density of rows in standard units, and the distribution of a response given covariates."""

    reader: RowReader

    @property
    @abstractmethod
    def n_components(self) -> int:
        """Clusters of a draw."""

    def predict(self, blocks: Iterable[np.ndarray], part: int, question: Question) -> np.ndarray:
        """Answer for blocks of rows, of one part's response."""
        if question.kind in ("quantile", "interval") and not self.reader.is_ordered(part):
            raise OptionError(
                f"kind={question.kind!r} needs a response whose values have an order; kind='mean' "
                "gives the probabilities of the levels."
            )
        size, found = self.rows_at_a_time(), []
        for rows in blocks:
            for piece in whole_pieces(self.reader.layout.group_columns, rows, size):
                found.append(self._answer(rows[piece], part, question))
        return np.concatenate(found, axis=1 if question.kind == "sample" else 0)

    def _answer(self, rows: np.ndarray, part: int, question: Question) -> np.ndarray:
        """Answer for some rows, apart for those with missing values."""
        y = self.reader.response_values(rows, part)
        gaps = np.isnan(rows).any(axis=1)
        # Rows of a group tell its cluster together.
        if not gaps.any() or self.reader.layout.groups is not None:
            return question.answer(self.response(rows, part), self.n_components, y)
        axis = 1 if question.kind == "sample" else 0
        order = np.concatenate([np.flatnonzero(~gaps), np.flatnonzero(gaps)])
        answers = [
            question.answer(self.response(rows[own], part), self.n_components, y[own])
            for own in (~gaps, gaps)
            if own.any()
        ]
        return np.take(np.concatenate(answers, axis=axis), np.argsort(order), axis=axis)

    @abstractmethod
    def rows_at_a_time(self) -> int:
        """Rows whose numbers stay in cache."""

    @abstractmethod
    def log_density(self, rows: np.ndarray, parts: Sequence[int]) -> np.ndarray:
        """Log density (n,) of rows (n, columns) over some of the blocks, in standard units."""

    @abstractmethod
    def response(self, rows: np.ndarray, part: int) -> AbstractMixture:
        """One part's response given each row's covariates, in data units."""

    @abstractmethod
    def as_numbers(self) -> list[dict[str, Any]]:
        """What a row's clusters are weighted by without its responses, as plain numbers.

        Arrays lead with (draw, component); for a program that is not Python.
        """

    @abstractmethod
    def coefficients(self, part: int) -> np.ndarray:
        """Coefficients (draw, component, coefficient) of a response's predictors."""


class NormalPredictive(AbstractPredictive):
    """An average over points or draws of the parameters, which lead with an axis of them."""

    def __init__(self, reader: RowReader, block: Product, parameters: Any) -> None:
        self.mixture = ScoredMixture.from_draws(block, parameters)
        self.reader, self._parameters = reader, parameters

    @property
    def n_draws(self) -> int:
        """Number of draws, or one point."""
        return self.mixture.n_draws

    @property
    def n_components(self) -> int:
        """Clusters of a draw."""
        return self.mixture.shape[1]

    def draw(self, number: int) -> NormalPredictive:
        """What one of the draws says."""
        found = copy(self)
        found.mixture = self.mixture.subset(np.array([number]))
        found._parameters = jax.tree.map(lambda leaf: leaf[number : number + 1], self._parameters)
        return found

    def rows_at_a_time(self) -> int:
        """As for the mixture."""
        return self.mixture.rows_at_a_time()

    def log_density(self, rows: np.ndarray, parts: Sequence[int]) -> np.ndarray:
        """Log of the averaged density."""
        return self.mixture.log_density(rows, parts)

    def response(self, rows: np.ndarray, part: int) -> AbstractMixture:
        """A mixture of normals over the clusters of all draws."""
        scores = self.mixture.scores(rows, self.reader.blocks(response=False))
        # Averaged are the densities with and without the response, so that draws under which the
        # covariates are likelier count for more.
        flat = scores.reshape(len(rows), -1)
        log_weights = flat - log_sum_exp(flat)[:, None]
        linear = self._parameters.parts[part + 1]
        if isinstance(linear, Coefficients):
            return self._of_family(rows, part, linear, log_weights)
        means, uncertain = self.mixture.regression(
            rows,
            self.reader.blocks(response=False),
            np.asarray(linear.coefficients)[..., 0],
            self.reader.layout.parts[part].regressors,
        )
        variance = np.broadcast_to(linear.covariance[:, :, 0, 0], scores.shape[1:]) + uncertain
        m = means[0].size
        return _in_data_units(
            self.reader,
            part,
            log_weights,
            means.reshape(len(rows), -1),
            np.sqrt(variance).reshape(-1, m),
            np.full(m, np.inf),
        )

    def as_numbers(self) -> list[dict[str, Any]]:
        """The forms of the blocks."""
        return self.mixture.as_numbers(self.reader.blocks(response=False))

    def coefficients(self, part: int) -> np.ndarray:
        """Of all draws."""
        linear = self._parameters.parts[part + 1]
        if isinstance(linear, Coefficients):
            return np.asarray(linear.values)
        return np.asarray(linear.coefficients)[..., 0]

    def _of_family(
        self, rows: np.ndarray, part: int, linear: Coefficients, log_weights: np.ndarray
    ) -> FamilyMixture:
        layout = self.reader.layout.parts[part]
        block = layout.form.block(layout.columns)
        whole = np.asarray(linear.values)
        flat = whole.reshape(-1, 1, whole.shape[-1])
        predictors = np.swapaxes(block.predictors_of(flat, rows), 1, 2)
        trials = None if layout.trials is None else rows[:, layout.trials, None]
        column = layout.responses[0]
        return FamilyMixture(
            log_weights,
            layout.form.distribution(predictors, trials),
            self.reader.layout.shift_of(column),
            self.reader.layout.scale_of(column),
        )


class StudentPredictive(AbstractPredictive):
    """Under independent posteriors of weights and parts, a mixture of Student t's.

    Averaging a mixture's density over such a posterior averages each factor on its own (Bishop
    2006, Pattern Recognition and Machine Learning, section 10.2.3).

    Parameters
    ----------
    reader
        Names and units.
    parts
        Log probabilities (k,) of the clusters, then what each part's posterior predicts: a
        `log_density` (n, k) of its columns, and of a response a `LinearPredictive`.
    at_draws
        Answers for rows with missing values, whose density has no closed form.
    """

    def __init__(
        self,
        reader: RowReader,
        parts: tuple[Any, ...],
        at_draws: Callable[[], NormalPredictive],
    ) -> None:
        self.reader, self._log_weights, self._at_draws = reader, parts[0], at_draws
        self._parts: tuple[Any, ...] = parts[1:]

    @property
    def n_components(self) -> int:
        """Clusters."""
        return self._log_weights.size

    def rows_at_a_time(self) -> int:
        """Rows whose numbers stay in cache."""
        width = sum(np.size(leaf) for leaf in jax.tree.leaves(self._parts))
        return max(64, _NUMBERS // max(width, 1))

    def log_density(self, rows: np.ndarray, parts: Sequence[int]) -> np.ndarray:
        """Log of the density."""
        size, found = self.rows_at_a_time(), np.empty(len(rows))
        gaps = np.isnan(rows).any(axis=1)
        if gaps.any():
            found[gaps] = self._at_draws().log_density(rows[gaps], parts)
        complete = np.flatnonzero(~gaps)
        for start in range(0, complete.size, size):
            at = complete[start : start + size]
            found[at] = log_sum_exp(self._scores(rows[at], parts))
        return found

    def response(self, rows: np.ndarray, part: int) -> AbstractMixture:
        """A mixture over the clusters; of rows of which all have missing values or none."""
        if np.isnan(rows).any():
            return self._at_draws().response(rows, part)
        scores = self._scores(rows, self.reader.blocks(response=False))
        own: LinearPredictive = self._parts[part]
        x = rows[:, list(self.reader.layout.parts[part].regressors)]
        sds = np.sqrt(own.inflation(x)) / own.residual.whitening[:, 0, 0]
        return _in_data_units(
            self.reader,
            part,
            scores - log_sum_exp(scores)[:, None],
            x @ own.coefficients[..., 0].T,
            sds,
            np.broadcast_to(own.residual.dof[:, 0], scores.shape[1:]),
        )

    def as_numbers(self) -> list[dict[str, Any]]:
        """Log probabilities of the clusters, and what each density predicts."""
        found = []
        for number in self.reader.blocks(response=False):
            if number == 0:
                form = self._log_weights[None, :, None]
                found.append({"kind": "linear", "columns": [0], "form": form})
                continue
            part = self.reader.layout.parts[number - 1]
            numbers = self._parts[number - 1].as_numbers()
            columns = {"regressors": list(part.regressors), "columns": list(part.responses)}
            found.append({**columns, **numbers})
        return found

    def coefficients(self, part: int) -> np.ndarray:
        """Expected ones."""
        return self._parts[part].coefficients[None, :, :, 0]

    def _scores(self, rows: np.ndarray, parts: Sequence[int]) -> np.ndarray:
        """Log densities (n, k) of the clusters with some of the blocks."""
        total = np.zeros((len(rows), self._log_weights.size))
        for number in parts:
            if number == 0:
                total += self._log_weights
                continue
            part = self.reader.layout.parts[number - 1]
            x, y = rows[:, list(part.regressors)], rows[:, list(part.responses)]
            total += self._parts[number - 1].log_density(x, y)
        return total


def _in_data_units(
    reader: RowReader,
    part: int,
    log_weights: np.ndarray,
    means: np.ndarray,
    sds: np.ndarray,
    dof: np.ndarray,
) -> StudentMixture:
    column = reader.layout.parts[part].responses[0]
    scale, shift = reader.layout.scale_of(column), reader.layout.shift_of(column)
    return StudentMixture(log_weights, means * scale + shift, sds * scale, dof)
