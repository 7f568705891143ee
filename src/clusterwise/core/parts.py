"""What parts of a product are: quadratic in the row, linear in it, or with sites.

The first two are scored and counted together by `Product`; a part with sites scores rows by itself
and counts them by the expansion of its log likelihood.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from clusterwise.core.errors import OptionError


class Quadratic(NamedTuple):
    """`constant - |factor z|^2 / 2` for each cluster."""

    constant: Float[Array, " k"]
    factor: Float[Array, "k m columns"]


class AbstractQuadraticBlock(eqx.Module):
    """A block whose score is quadratic in some columns of a row.

    `responses` are those whose density it is, given the others.
    """

    columns: eqx.AbstractVar[tuple[int, ...]]
    responses: eqx.AbstractVar[tuple[int, ...]]

    @abstractmethod
    def quadratic(self, moments: Any) -> Quadratic:
        """The score as a quadratic form of the block's columns."""

    @abstractmethod
    def posterior(
        self, count: Float[Array, " k"], gram: Float[Array, "k c c"], prior: Any, moments: Any
    ) -> Any:
        """Posterior given weighted counts and the Gram matrix of the block's columns."""


class AbstractLinearBlock(eqx.Module):
    """A block whose score is linear in some columns of a row."""

    columns: eqx.AbstractVar[tuple[int, ...]]

    @abstractmethod
    def linear(self, moments: Any) -> Float[Array, "k columns"]:
        """The score as a linear form of the block's columns."""

    @abstractmethod
    def posterior(self, sums: Float[Array, "k columns"], prior: Any, moments: Any) -> Any:
        """Posterior given weighted sums of the block's columns."""


class AbstractSitedBlock(eqx.Module):
    """A block that counts rows by the second-order expansion of its log density.

    Its parameters and posterior are like those of other blocks; the posterior that it gives is
    that of the expansion, which a step may have to be shortened or tested for.
    """

    @property
    @abstractmethod
    def columns(self) -> tuple[int, ...]:
        """Columns of a row that it is about."""

    @property
    @abstractmethod
    def responses(self) -> tuple[int, ...]:
        """Those whose density it is, given the others."""

    @abstractmethod
    def score(self, moments: Any, values: Float[Array, "columns rows"]) -> Float[Array, "k rows"]:
        """Expected log density of each row under each cluster."""

    def as_numbers(self, moments: Any) -> dict[str, Any]:
        """The score for a program that is not Python; moments lead with draws."""
        raise OptionError("A part of this model has no formula that a page could compute.")

    @abstractmethod
    def statistics(
        self, moments: Any, values: Float[Array, "columns rows"], resp: Float[Array, "k rows"]
    ) -> Any:
        """Sums of the expansion about `moments`; leaves lead with the cluster axis."""

    @abstractmethod
    def cross_score(self, moments: Any, statistics: Any) -> Float[Array, "k l"]:
        """The expansion of the rows counted under cluster k, at l, up to a constant for each k."""

    @abstractmethod
    def posterior(self, statistics: Any, prior: Any, moments: Any) -> Any:
        """Posterior of the expansion about `moments`."""

    @abstractmethod
    def blend(self, old: Any, new: Any, rate: Float[Array, ""]) -> Any:
        """Part of the way from an old posterior to a new one."""

    @abstractmethod
    def proposed(self, prior: Any, now: Any, drawn: Any, statistics: Any, key: PRNGKeyArray) -> Any:
        """What is to be tested, as `AbstractBlock.proposed`."""

    @abstractmethod
    def log_prob(self, statistics: Any) -> Float[Array, " k"]:
        """Summed log density of the rows of each cluster, at the point they were counted at."""

    @abstractmethod
    def corrected(
        self, prior: Any, now: Any, proposed: Any, statistics: tuple[Any, Any], key: PRNGKeyArray
    ) -> Any:
        """Parameters after a Metropolis-Hastings test, as `AbstractBlock.corrected`."""


class AbstractGatingBlock(AbstractSitedBlock):
    """Weights that differ from row to row, as a block with sites.

    The leading axis of its statistics is that of the clusters that rows are in; what else they
    tell clusters apart by are the places that the weights have for them. So statistics and
    parameters of all blocks may be renumbered by their leading axes, the weights staying as they
    are. Log weights depend on the columns `gating`, and count where the column `unit` does.
    """

    gating: eqx.AbstractVar[tuple[int, ...]]
    unit: eqx.AbstractVar[int]

    @property
    def columns(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys((*self.gating, self.unit)))

    @property
    def responses(self) -> tuple[int, ...]:
        return ()

    def score(self, moments: Any, values: Float[Array, "columns rows"]) -> Float[Array, "k rows"]:
        return self.log_weights_of(moments, values) * values[self.unit]

    def proposed(self, prior: Any, now: Any, drawn: Any, statistics: Any, key: PRNGKeyArray) -> Any:
        """The draw."""
        return drawn

    @abstractmethod
    def log_weights_of(
        self, moments: Any, values: Float[Array, "columns rows"]
    ) -> Float[Array, "k rows"]:
        """Expected log weights of each row, whether or not it counts in its group."""

    @abstractmethod
    def counts(self, statistics: Any) -> Float[Array, " k"]:
        """Weight of the rows of each cluster, or how many groups there are."""

    @abstractmethod
    def log_weights(self, statistics: Any) -> Float[Array, "k l"]:
        """Summed log weight of the rows of cluster k, were they in l, where they were counted."""
