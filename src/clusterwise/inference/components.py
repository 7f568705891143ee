"""What each component says of a response at some rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clusterwise.core.groups import first_rows, whole_pieces
from clusterwise.inference.predict import AbstractMixture
from clusterwise.inference.predictive import AbstractPredictive, NormalPredictive


@dataclass(frozen=True)
class ComponentPredictions:
    """Each component's own distribution of one response at rows, on the data's scale.

    `mean` and `quantiles` are of the posterior predictive distribution; `mean_interval` says how
    sure the mean itself is, by draws of the parameters.

    Attributes
    ----------
    rows
        (n, columns) in standard units, with the response where it is asked about; those of a
        group are adjacent.
    order
        (n,) the data's numbers of these rows; None where that is their order. All answers are in
        the data's order.
    part
        Which part of the layout the response is.
    n_components
        Number of components, k.
    predictive
        Distribution of new rows.
    at_draws
        The same as an average over draws, or at a point.
    """

    rows: np.ndarray
    order: np.ndarray | None
    part: int
    n_components: int
    predictive: AbstractPredictive
    at_draws: NormalPredictive

    def response(self) -> np.ndarray:
        """The rows' responses (n,); of levels, their numbers."""
        return self._in_order(self.predictive.reader.response_values(self.rows, self.part))

    def trials(self) -> np.ndarray | None:
        """Number of trials (n,) of a binomial response, None of others."""
        column = self.predictive.reader.layout.parts[self.part].trials
        return None if column is None else self._in_order(self.rows[:, column])

    def mean(self) -> np.ndarray:
        """Expectation (n, k); of levels the probability of each, (n, k, levels)."""
        return self._over(self.predictive, lambda mixture: self._by_draw(mixture).mean(axis=1))

    def means_of_draws(self) -> np.ndarray:
        """Expectation (n, draws, k), or (n, draws, k, levels); of a point fit one draw."""
        return self._over(self.at_draws, self._by_draw)

    def mean_interval(self, level: float) -> np.ndarray | None:
        """Central interval (2, n, k), or (2, n, k, levels), of the mean; None of a point fit."""
        means = self.means_of_draws()
        if means.shape[1] == 1:
            return None
        return np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=1)

    def quantiles(self, q: np.ndarray) -> np.ndarray:
        """Quantiles (n, k, q) of the response."""

        def own(mixture: AbstractMixture) -> np.ndarray:
            each = [mixture.component(j, self.n_components) for j in range(self.n_components)]
            return np.stack([one.quantile(q) for one in each], axis=1)

        return self._over(self.predictive, own)

    def density(self, y: np.ndarray) -> np.ndarray:
        """Density, or probability, (n, k, g) of values y (g,)."""

        def own(mixture: AbstractMixture) -> np.ndarray:
            values = np.broadcast_to(y, (len(mixture.component_means()), y.size))
            each = [mixture.component(j, self.n_components) for j in range(self.n_components)]
            return np.exp(np.stack([one.log_density(values) for one in each], axis=1))

        return self._over(self.predictive, own)

    def residuals(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Quantile residuals (n,) of the rows' responses under the component `labels` (n,)."""
        found = np.empty(len(self.rows))
        uniform = rng.random(len(self.rows))
        own = labels if self.order is None else labels[self.order]
        for some in self._pieces(self.predictive):
            rows = self.rows[some]
            y = self.predictive.reader.response_values(rows, self.part)
            mixture = self.predictive.response(rows, self.part)
            for j in np.unique(own[some]).tolist():
                scores = mixture.component(j, self.n_components).normal_scores(y, uniform[some])
                found[some] = np.where(own[some] == j, scores, found[some])
        return self._in_order(found)

    def replicate(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Data sets (size, n) of new responses, each by one draw of the parameters.

        Rows of a group take the same cluster.
        """
        groups = self.predictive.reader.layout.group_columns
        number = np.zeros(len(self.rows), int)
        number[first_rows(groups, self.rows)] = 1
        number = np.cumsum(number) - 1
        places = np.linspace(0, self.at_draws.n_draws - 1, size).round().astype(int)
        found = np.empty((size, len(self.rows)))
        for i, place in enumerate(places.tolist()):
            own, uniform = self.at_draws.draw(place), rng.random(len(self.rows))[number]
            for some in self._pieces(own):
                mixture = own.response(self.rows[some], self.part)
                found[i, some] = mixture.sample_at(uniform[some], rng)
        return self._in_order(found.T).T

    def _by_draw(self, mixture: AbstractMixture) -> np.ndarray:
        """Means (n, draws, k, ...)."""
        means = mixture.component_means()
        n, m = means.shape[:2]
        k = self.n_components
        return means.reshape(n, m // k, k, *means.shape[2:])

    def _over(
        self,
        predictive: AbstractPredictive,
        function: Callable[[AbstractMixture], np.ndarray],
    ) -> np.ndarray:
        pieces = (self.rows[some] for some in self._pieces(predictive))
        found = [function(predictive.response(rows, self.part)) for rows in pieces]
        return self._in_order(np.concatenate(found))

    def _pieces(self, predictive: AbstractPredictive) -> list[slice]:
        groups = self.predictive.reader.layout.group_columns
        return whole_pieces(groups, self.rows, predictive.rows_at_a_time())

    def _in_order(self, values: np.ndarray) -> np.ndarray:
        return values if self.order is None else values[np.argsort(self.order)]
