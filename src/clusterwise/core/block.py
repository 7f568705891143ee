"""The protocols: a block scores rows, counts them and is updated; a posterior says what it knows.

A *block* is one part of a model over K clusters. Its *parameters* are one value of what it does
not know, its *posterior* a distribution over them (a prior is one too), and its *moments* what a
score needs of either: a point is a posterior of zero variance.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple, Self

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from clusterwise.core.rows import RowBlock, Rows

Statistics = PyTree


class Totals(NamedTuple):
    """Sums over rows: log density and sufficient statistics."""

    log_density: Float[Array, ""]
    statistics: Statistics


class AbstractParameters(eqx.Module):
    """One value of a block's parameters; every array leads with the cluster axis."""

    @abstractmethod
    def moments(self) -> Any:
        """What `score` needs, at this point."""

    @abstractmethod
    def mean_of_draws(self) -> Self:
        """Average over the two leading axes, (chain, draw), that every array has here."""


class AbstractCoordinates(eqx.Module):
    """Unconstrained coordinates of a block's parameters, as one vector."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of coordinates."""

    @abstractmethod
    def constrain(self, z: Float[Array, " size"]) -> tuple[Any, Float[Array, ""]]:
        """Parameters at these coordinates, and the log determinant of the map to them.

        A density of the parameters on their constrained scale, in log, plus this is the log
        density of the coordinates.
        """

    @abstractmethod
    def unconstrain(self, parameters: Any) -> Float[Array, " size"]:
        """Coordinates of these parameters."""


class AbstractPosterior(eqx.Module):
    """A distribution over a block's parameters."""

    @property
    def component_kinds(self) -> np.ndarray | None:
        """Numbers (k,) that are the same for clusters it does not tell apart; None: all alike."""
        return None

    def as_posterior(self) -> Any:
        """A prior in the form that posteriors have, which for most is its own."""
        return self

    @abstractmethod
    def moments(self) -> Any:
        """Expectations that `score` needs, under this distribution."""

    @abstractmethod
    def mode(self) -> AbstractParameters:
        """The mode in unconstrained coordinates (log scales, log odds).

        There a prior's pseudo-observations add to the data's without the shift by the number of
        dimensions that a mode on the constrained scale has, so that an empty prior gives
        maximum likelihood.
        """

    @abstractmethod
    def sample(self, key: PRNGKeyArray) -> AbstractParameters:
        """One draw."""

    @abstractmethod
    def log_prob(self, parameters: Any) -> Float[Array, ""]:
        """Log density of parameters, on their constrained scale."""

    @abstractmethod
    def unnormalised_log_prob(self, parameters: Any) -> Float[Array, ""]:
        """`log_prob` up to a constant, without the cost of its normaliser."""

    @abstractmethod
    def coordinates(self) -> AbstractCoordinates:
        """Coordinates that are close to standard normal under this distribution."""

    @abstractmethod
    def log_kernel(self, parameters: Any) -> Float[Array, ""]:
        """Log density in unconstrained coordinates up to a constant; what EM adds as a prior."""

    @abstractmethod
    def kl(self, prior: Any) -> Float[Array, ""]:
        """Kullback-Leibler divergence of this distribution from a prior."""


class AbstractBlock(eqx.Module):
    """One part of a model over K clusters.

    The unit that has a cluster is a row, or a group of adjacent rows.
    """

    @abstractmethod
    def score(self, moments: Any, rows: Rows) -> Float[Array, "k rows"]:
        """Expected log density of each row's unit under each cluster; exact at a point."""

    @abstractmethod
    def once(self, rows: Rows) -> Float[Array, " rows"]:
        """Weights with which the log densities of rows add up: one for each group."""

    @abstractmethod
    def of_unit(self, rows: Rows, given: Float[Array, " rows"]) -> Float[Array, " rows"]:
        """One of the numbers that are given for rows for each unit, at all of its rows."""

    @abstractmethod
    def together(self, rows: RowBlock, order: Int[Array, " slots"]) -> Int[Array, " slots"]:
        """The order of a block's slots changed so that units are whole."""

    @abstractmethod
    def ended(self, rows: Rows) -> Bool[Array, " rows"]:
        """Whether the unit of each of successive rows has surely ended with them."""

    @abstractmethod
    def statistics(self, moments: Any, rows: Rows, resp: Float[Array, "k rows"]) -> Statistics:
        """Sufficient statistics, additive over rows; leaves lead with the cluster axis."""

    @abstractmethod
    def drawn_statistics(
        self,
        moments: Any,
        rows: Rows,
        resp: Float[Array, "k rows"],
        key: PRNGKeyArray,
        at: Any = None,
    ) -> Statistics:
        """Statistics of rows whose clusters were drawn, what is missing in them being drawn too.

        It is drawn under `moments`; rows are counted at those of `at`, where it is given.
        """

    @abstractmethod
    def drawn_totals(
        self, moments: Any, rows: RowBlock, key: PRNGKeyArray, at: Any = None
    ) -> Totals:
        """Sums over rows of weight one, a cluster being drawn for each.

        Clusters are drawn under `moments` and counted at those of `at`, where it is given: one
        key draws the same clusters again.
        """

    @abstractmethod
    def counts(self, statistics: Statistics) -> Float[Array, " k"]:
        """Weight of the rows counted under each cluster, as the mixing weights see it."""

    @abstractmethod
    def log_weights(self, moments: Any, statistics: Statistics) -> Float[Array, "k l"]:
        """Summed log weight of the rows counted under cluster k, had they been in l."""

    @property
    @abstractmethod
    def gated(self) -> bool:
        """Whether mixing weights differ from row to row."""

    @abstractmethod
    def weights(self, moments: Any, rows: Rows) -> Float[Array, "k rows"]:
        """Mixing weights of each row, at a point."""

    @abstractmethod
    def cross_score(self, moments: Any, statistics: Statistics) -> Float[Array, "k l"]:
        """Summed score of the rows counted under cluster k, had they been scored under l.

        For a block that is not exact, its second-order expansion about the point that the rows
        were counted at, up to a constant for each k.
        """

    @abstractmethod
    def posterior(self, statistics: Statistics, prior: Any, moments: Any) -> Any:
        """Posterior given the statistics; `moments` hold the parts that are updated in turn.

        For a block that is not exact, that of the model's expansion about `moments`.
        """

    @property
    @abstractmethod
    def exact(self) -> bool:
        """Whether `posterior` is exact given the clusters, so that a step never goes too far."""

    @abstractmethod
    def blend(self, old: Any, new: Any, rate: Float[Array, ""]) -> Any:
        """Part of the way from an old posterior to a new one, for the parts that are not exact."""

    @abstractmethod
    def sited_log_prob(self, statistics: Statistics) -> Float[Array, ""]:
        """Log density of the rows, where they were counted, under parts that are not exact."""

    @abstractmethod
    def proposed(
        self, prior: Any, now: Any, drawn: Any, statistics: Statistics, key: PRNGKeyArray
    ) -> Any:
        """Parameters for `corrected` to test: draws, some of them perhaps left as they are.

        Parameters
        ----------
        prior
            Prior of the parameters.
        now, drawn
            Parameters before, and a draw of `posterior`, which stands for the parts that are exact.
        statistics
            Of the rows, counted at `now`.
        key
            Random key, that of the draw.
        """

    @abstractmethod
    def corrected(
        self,
        prior: Any,
        now: Any,
        proposed: Any,
        statistics: tuple[Statistics, Statistics],
        key: PRNGKeyArray,
    ) -> Any:
        """Parameters after a Metropolis-Hastings test of those `proposed`.

        Parameters
        ----------
        prior
            Prior of the parameters.
        now, proposed
            Parameters before the draw, and the draw.
        statistics
            Of the same clusters of rows, counted at `now` and at `proposed`.
        key
            Random key.
        """
