"""What every draw says of every row, computed block by block where it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from scipy.special import ndtr

from clusterwise.assembly.layout import Layout
from clusterwise.core.groups import first_rows, group_sizes, rows_of_groups, sum_groups
from clusterwise.core.product import Product
from clusterwise.inference.mixture import ScoredMixture, log_sum_exp
from clusterwise.posteriors.coefficients import Coefficients

_NUMBERS = 2_000_000
_SEED = 20_101_986


@dataclass(frozen=True)
class RowDraws:
    """Draws of a mixture's parameters and the rows that they are asked about.

    `parameters` lead with one axis of draws, `rows` are (n, columns), both in standard units;
    answers are in the data's.
    """

    block: Product
    layout: Layout
    parameters: Any
    rows: np.ndarray

    @property
    def n_draws(self) -> int:
        """Number of draws."""
        return np.shape(jax.tree.leaves(self.parameters)[0])[0]

    @cached_property
    def _mixture(self) -> ScoredMixture:
        return ScoredMixture.from_draws(self.block, self.parameters)

    @cached_property
    def _given(self) -> list[int]:
        """Blocks that tell the cluster of a row whose responses are to be drawn.

        Where there are no responses the covariates are drawn, given nothing.
        """
        parts = self.layout.parts
        if not any(part.is_response for part in parts):
            return [0]
        return [0, *(i + 1 for i, part in enumerate(parts) if not part.is_response)]

    def log_density(self, draws: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Log p(x, y), or log p(y | x), with the cluster summed out.

        Parameters
        ----------
        draws
            (d,) numbers of draws.
        rows
            (m,) numbers of rows; of groups, where those share a cluster.

        Returns
        -------
        numpy.ndarray
            (d, m), on the data's scale.
        """
        mixture, groups = self._mixture.subset(draws), self.layout.group_columns
        blocks = range(len(self.layout.parts) + 1)
        found = np.empty((len(draws), len(rows)))
        for at in self._pieces(rows.size, len(draws)):
            chosen, begins = rows_of_groups(groups, self.rows, rows[at])
            own = self.rows[chosen]
            scores = mixture.scores(own, blocks)[begins]
            scales = sum_groups(groups, own, self.layout.log_scales(np.isnan(own)))[begins]
            found[:, at] = log_sum_exp(scores).T - scales
        return found

    def replicate(
        self, draws: np.ndarray, rows: np.ndarray, part: int, column: int = 0
    ) -> np.ndarray:
        """New values of one modelled column, the same in whatever order they are asked for.

        Parameters
        ----------
        draws, rows
            As for `log_density`.
        part
            Which part of the layout.
        column
            Which of the columns that it models.

        Returns
        -------
        numpy.ndarray
            (d, m), on the data's scale.
        """
        mixture = self._mixture.subset(draws)
        own = jax.tree.map(lambda leaf: np.asarray(leaf)[draws], self.parameters.parts[part + 1])
        place = self.layout.parts[part].responses[column]
        found = np.empty((len(draws), len(rows)))
        uniform, noise = self._noise(draws, part, len(self.layout.parts[part].responses))
        d = np.arange(len(draws))[:, None]
        first = first_rows(self.layout.group_columns, self.rows)
        group = np.repeat(np.arange(len(first)), group_sizes(first, len(self.rows)))
        for at in self._pieces(rows.size, len(draws)):
            some = rows[at]
            units, unit = np.unique(group[some], return_inverse=True)
            whole, begins = rows_of_groups(self.layout.group_columns, self.rows, units)
            scores = mixture.scores(self.rows[whole], self._given)[begins][unit]
            probability = np.cumsum(_normalised(scores), axis=2)
            at_first = uniform[:, first[group[some]]].T[..., None]
            chosen = (probability[..., :-1] <= at_first).sum(axis=2).T
            values = self.rows[some]
            found[:, at] = self._values(
                own, part, column, values, (d, chosen), noise[:, some], mixture
            )
        return found * self.layout.scale_of(place) + self.layout.shift_of(place)

    def _values(
        self,
        own: Any,
        part: int,
        column: int,
        rows: np.ndarray,
        at: Any,
        noise: np.ndarray,
        mixture: ScoredMixture,
    ) -> np.ndarray:
        """Values (d, m) of a column at normal noise (d, m, q), each in the cluster `at`."""
        layout = self.layout.parts[part]
        # The quantile at a uniform number; its upper end would be infinite.
        uniform = np.minimum(ndtr(noise[..., column]), 1 - np.finfo(float).epsneg)
        if layout.parameter_names:
            drawn = layout.form.parameters(own, 0.0, 1.0)
            return layout.form.distribution({n: v[at] for n, v in drawn.items()}).ppf(uniform)
        if isinstance(own, Coefficients):
            block = layout.form.block(layout.columns)
            predictors = block.predictors_of(own.values[at], rows)
            trials = None if layout.trials is None else rows[:, layout.trials]
            drawn = layout.form.distribution(predictors, trials).ppf(uniform)
            return np.where(np.isnan(predictors).any(axis=0), np.nan, drawn)
        coefficients = np.asarray(own.coefficients)[..., column]
        # The rest of a cluster's covariance with this column: one row of its Cholesky factor.
        root = np.linalg.cholesky(np.asarray(own.covariance))[..., column, :]
        root = np.broadcast_to(root, (*coefficients.shape[:2], root.shape[-1]))
        residual = np.einsum("dmq,dmq->dm", root[at], noise)
        x = rows[:, list(layout.regressors)]
        if not np.isnan(x).any():
            return np.einsum("mp,dmp->dm", x, coefficients[at]) + residual
        means, uncertain = mixture.regression(rows, self._given, coefficients, layout.regressors)
        places = (np.arange(len(rows)), *at)
        # What is not known of regressors widens the residual: a regression has one response.
        wider = np.sqrt(1 + uncertain[places] / np.square(root[at]).sum(axis=-1))
        return means[places] + residual * wider

    def _noise(self, draws: np.ndarray, part: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Uniform numbers that choose clusters, the same for all parts, and normal ones."""
        n = len(self.rows)
        uniform = [np.random.default_rng((_SEED, d)).random(n) for d in draws.tolist()]
        normal = [
            np.random.default_rng((_SEED, d, part + 1)).normal(size=(n, size))
            for d in draws.tolist()
        ]
        return np.array(uniform).reshape(-1, n), np.array(normal).reshape(-1, n, size)

    def _pieces(self, n_rows: int, n_draws: int) -> list[slice]:
        width = max(1, n_draws) * sum(max(1, len(p.regressors)) for p in self.layout.parts)
        k = np.shape(self.parameters.parts[0].log_weights)[1]
        step = max(1, _NUMBERS // (width * k))
        return [slice(i, min(i + step, n_rows)) for i in range(0, n_rows, step)]

    def draws_at_a_time(self) -> int:
        """Draws whose numbers for all rows stay small."""
        return max(1, _NUMBERS // max(1, len(self.rows)))


def _normalised(scores: np.ndarray) -> np.ndarray:
    return np.exp(scores - log_sum_exp(scores)[..., None])
