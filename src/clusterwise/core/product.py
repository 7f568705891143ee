"""A product of blocks is a block, and its quadratic parts are one.

The log density of every Gaussian part of a model is `constant - |factor z|^2 / 2` in the row
vector z (the constant 1, regressors, responses), at a point and in expectation alike, and its
sufficient statistics are a corner of the responsibility-weighted Gram matrix of z. A product
therefore stacks the factors, scores a chunk with one matrix product, and takes one Gram matrix.
Weights and discrete covariates are linear in columns of ones and zeros, whose sums are counts.
Parts whose log density is no quadratic form have sites: they score rows by themselves and count
them by their expansion.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from clusterwise.core.assignment import drawn_totals
from clusterwise.core.block import AbstractBlock, Statistics, Totals
from clusterwise.core.gram import packed_gram, quadratic_score, unpack_gram
from clusterwise.core.groups import GroupColumns
from clusterwise.core.parts import (
    AbstractGatingBlock,
    AbstractLinearBlock,
    AbstractQuadraticBlock,
    AbstractSitedBlock,
    Quadratic,
)
from clusterwise.core.product_posterior import ProductParameters, ProductPosterior
from clusterwise.core.rows import RowBlock, Rows


class Product(AbstractBlock):
    """Product of blocks over rows of `n_columns`, the first of them the constant 1.

    Statistics are a tuple: the packed Gram matrix of the columns of all quadratic blocks, the sums
    of those columns of linear blocks that are not among them, then those of each block with sites.
    The first block is that of the weights. Where rows come in `groups` that share a cluster, the
    score of a row is that of its group.
    """

    blocks: tuple[AbstractLinearBlock | AbstractQuadraticBlock | AbstractSitedBlock, ...]
    n_columns: int = eqx.field(static=True)
    groups: GroupColumns | None = eqx.field(static=True, default=None)

    @property
    def exact(self) -> bool:
        return not self._sited

    @property
    def gated(self) -> bool:
        return isinstance(self.blocks[0], AbstractGatingBlock)

    @property
    def _quadratic(self) -> list[tuple[int, AbstractQuadraticBlock]]:
        blocks = enumerate(self.blocks)
        return [(i, block) for i, block in blocks if isinstance(block, AbstractQuadraticBlock)]

    @property
    def _linear(self) -> list[tuple[int, AbstractLinearBlock]]:
        blocks = enumerate(self.blocks)
        return [(i, block) for i, block in blocks if isinstance(block, AbstractLinearBlock)]

    @property
    def _sited(self) -> list[tuple[int, AbstractSitedBlock]]:
        blocks = enumerate(self.blocks)
        return [(i, block) for i, block in blocks if isinstance(block, AbstractSitedBlock)]

    @property
    def gram_columns(self) -> tuple[int, ...]:
        """Columns of the Gram matrix: those of the quadratic blocks, and the constant."""
        return tuple(sorted({0}.union(*(block.columns for _, block in self._quadratic))))

    @property
    def sum_columns(self) -> tuple[int, ...]:
        """Columns of linear blocks that the Gram matrix does not have."""
        found = set().union(*(block.columns for _, block in self._linear))
        return tuple(sorted(found.difference(self.gram_columns)))

    def _gram_values(self, values: Float[Array, "columns rows"]) -> Float[Array, "c rows"]:
        columns = self.gram_columns
        return values if len(columns) == self.n_columns else values[np.asarray(columns)]

    def quadratic(self, moments: tuple[Any, ...]) -> Quadratic:
        """The quadratic blocks as one form of the Gram matrix's columns."""
        parts = [(block, block.quadratic(moments[i])) for i, block in self._quadratic]
        constant = sum((part.constant for _, part in parts), self.linear(moments)[:, 0])
        columns = self.gram_columns
        widened = [
            jnp.zeros((constant.shape[0], part.factor.shape[1], len(columns)))
            .at[:, :, np.searchsorted(columns, block.columns)]
            .set(part.factor)
            for block, part in parts
            if part.factor.shape[1]
        ]
        if not widened:
            return Quadratic(constant, jnp.zeros((constant.shape[0], 0, len(columns))))
        factor = jnp.concatenate(widened, axis=1)
        if factor.shape[1] > len(columns):
            factor = jnp.linalg.qr(factor, mode="r")
        return Quadratic(constant, factor)

    def linear(self, moments: tuple[Any, ...]) -> Float[Array, "k columns"]:
        """The linear blocks as one form of the whole row."""
        k = jax.tree.leaves(moments)[0].shape[0]
        found = jnp.zeros((k, self.n_columns))
        for i, block in self._linear:
            found = found.at[:, np.asarray(block.columns, int)].add(block.linear(moments[i]))
        return found

    def score(self, moments: tuple[Any, ...], rows: Rows) -> Float[Array, "k rows"]:
        constant, factor = self.quadratic(moments)
        total = quadratic_score(constant, factor, self._gram_values(rows.values))
        if self._beyond_constant:
            columns = np.asarray(self._beyond_constant)
            total += self.linear(moments)[:, columns] @ rows.values[columns]
        for i, block in self._sited:
            total += block.score(moments[i], rows.values)
        return total if self.groups is None else self.groups.totals(rows.values, total)

    def once(self, rows: Rows) -> Float[Array, " rows"]:
        return rows.weight if self.groups is None else self.groups.once(rows)

    def of_unit(self, rows: Rows, given: Float[Array, " rows"]) -> Float[Array, " rows"]:
        return given if self.groups is None else self.groups.of_first(rows.values, given)

    def together(self, rows: RowBlock, order: Int[Array, " slots"]) -> Int[Array, " slots"]:
        return order if self.groups is None else self.groups.together(rows, order)

    def ended(self, rows: Rows) -> Bool[Array, " rows"]:
        if self.groups is None:
            return jnp.ones(rows.weight.shape, bool)
        return self.groups.ended(rows.values)

    def statistics(
        self, moments: tuple[Any, ...], rows: Rows, resp: Float[Array, "k rows"]
    ) -> Statistics:
        gram = packed_gram(self._gram_values(rows.values), resp)
        sums = resp @ rows.values[np.asarray(self.sum_columns, int)].T
        sited = [block.statistics(moments[i], rows.values, resp) for i, block in self._sited]
        return (gram, sums, *sited)

    def drawn_statistics(
        self,
        moments: tuple[Any, ...],
        rows: Rows,
        resp: Float[Array, "k rows"],
        key: PRNGKeyArray,
        at: tuple[Any, ...] | None = None,
    ) -> Statistics:
        return self.statistics(moments if at is None else at, rows, resp)

    def drawn_totals(
        self,
        moments: tuple[Any, ...],
        rows: RowBlock,
        key: PRNGKeyArray,
        at: tuple[Any, ...] | None = None,
    ) -> Totals:
        def native(moments: tuple[Any, ...], rows: RowBlock, key: PRNGKeyArray) -> Totals:
            from clusterwise.core.native import sample_rows

            bits = jax.random.bits(key, (2,), jnp.uint32)
            log_density, gram = sample_rows(*self.quadratic(moments), rows, bits)
            return Totals(log_density, (gram, jnp.zeros((gram.shape[0], 0))))

        def portable(moments: tuple[Any, ...], rows: RowBlock, key: PRNGKeyArray) -> Totals:
            return drawn_totals(self, moments, rows, key, at)

        # The foreign function knows rows all of whose columns are in the Gram matrix.
        known = not self._sited and not self._beyond_constant
        if not known or len(self.gram_columns) < self.n_columns:
            return portable(moments, rows, key)
        return lax.platform_dependent(moments, rows, key, cpu=native, default=portable)

    def cross_score(self, moments: tuple[Any, ...], statistics: Statistics) -> Float[Array, "k l"]:
        constant, factor = self.quadratic(moments)
        gram = unpack_gram(statistics[0], len(self.gram_columns))
        square = jnp.swapaxes(factor, 1, 2) @ factor
        total = gram[:, 0, 0][:, None] * constant - 0.5 * jnp.einsum("kcd,lcd->kl", gram, square)
        if self._beyond_constant:
            columns = self._beyond_constant
            sums = self._sums_of(columns, gram, statistics[1])
            total += sums @ self.linear(moments)[:, np.asarray(columns)].T
        for (i, block), own in zip(self._sited, statistics[2:], strict=True):
            total += block.cross_score(moments[i], own)
        return total

    def posterior(
        self, statistics: Statistics, prior: ProductPosterior, moments: tuple[Any, ...]
    ) -> ProductPosterior:
        columns = self.gram_columns
        gram = unpack_gram(statistics[0], len(columns))
        count = gram[:, 0, 0]
        parts: list[Any] = [None] * len(self.blocks)
        for i, block in self._quadratic:
            index = np.searchsorted(columns, block.columns)
            corner = gram[:, index[:, None], index[None, :]]
            parts[i] = block.posterior(count, corner, prior.parts[i], moments[i])
        for i, block in self._linear:
            sums = self._sums_of(block.columns, gram, statistics[1])
            parts[i] = block.posterior(sums, prior.parts[i], moments[i])
        for (i, block), own in zip(self._sited, statistics[2:], strict=True):
            parts[i] = block.posterior(own, prior.parts[i], moments[i])
        return ProductPosterior(tuple(parts))

    def counts(self, statistics: Statistics) -> Float[Array, " k"]:
        weights = self.blocks[0]
        if isinstance(weights, AbstractGatingBlock):
            return weights.counts(statistics[2])
        gram = unpack_gram(statistics[0], len(self.gram_columns))
        return self._sums_of(weights.columns, gram, statistics[1])[:, 0]

    def log_weights(self, moments: tuple[Any, ...], statistics: Statistics) -> Float[Array, "k l"]:
        weights = self.blocks[0]
        if isinstance(weights, AbstractGatingBlock):
            return weights.log_weights(statistics[2])
        return self.counts(statistics)[:, None] * _constant_weights(weights, moments)

    def weights(self, moments: tuple[Any, ...], rows: Rows) -> Float[Array, "k rows"]:
        weights = self.blocks[0]
        if isinstance(weights, AbstractGatingBlock):
            return jnp.exp(weights.log_weights_of(moments[0], rows.values))
        constant = jnp.exp(_constant_weights(weights, moments))
        return jnp.broadcast_to(constant[:, None], (constant.size, rows.weight.size))

    @property
    def _beyond_constant(self) -> tuple[int, ...]:
        """Columns of linear blocks but the constant, which the quadratic form has."""
        return tuple(sorted(set().union(*(own.columns for _, own in self._linear)) - {0}))

    def _sums_of(
        self, columns: tuple[int, ...], gram: Float[Array, "k c c"], sums: Float[Array, "k s"]
    ) -> Float[Array, "k columns"]:
        """Sums of some columns, from the Gram matrix or beside it."""
        own, beside = self.gram_columns, self.sum_columns
        found = [
            gram[:, 0, own.index(c)] if c in own else sums[:, beside.index(c)] for c in columns
        ]
        return jnp.stack(found, axis=1)

    def sited_statistics(self, statistics: Statistics) -> tuple[Any, ...]:
        """Those of the blocks with sites."""
        return statistics[2:]

    def entering(self, number: int, rows: Rows) -> Float[Array, " rows"]:
        """One for each row that a block enters: all of them."""
        return jnp.ones_like(rows.weight)

    def blend(
        self, old: ProductPosterior, new: ProductPosterior, rate: Float[Array, ""]
    ) -> ProductPosterior:
        parts = list(new.parts)
        for i, block in self._sited:
            parts[i] = block.blend(old.parts[i], new.parts[i], rate)
        return ProductPosterior(tuple(parts))

    def sited_log_prob(self, statistics: Statistics) -> Float[Array, ""]:
        pairs = zip(self._sited, statistics[2:], strict=True)
        return sum((jnp.sum(block.log_prob(own)) for (_, block), own in pairs), jnp.zeros(()))

    def proposed(
        self,
        prior: ProductPosterior,
        now: ProductParameters,
        drawn: ProductParameters,
        statistics: Statistics,
        key: PRNGKeyArray,
    ) -> ProductParameters:
        parts = list(drawn.parts)
        keys = jax.random.split(key, len(self.blocks))
        for (i, block), own in zip(self._sited, statistics[2:], strict=True):
            parts[i] = block.proposed(prior.parts[i], now.parts[i], parts[i], own, keys[i])
        return ProductParameters(tuple(parts))

    def corrected(
        self,
        prior: ProductPosterior,
        now: ProductParameters,
        proposed: ProductParameters,
        statistics: tuple[Statistics, Statistics],
        key: PRNGKeyArray,
    ) -> ProductParameters:
        parts = list(proposed.parts)
        keys = jax.random.split(key, len(self.blocks))
        for (i, block), *own in zip(self._sited, statistics[0][2:], statistics[1][2:], strict=True):
            parts[i] = block.corrected(
                prior.parts[i], now.parts[i], proposed.parts[i], (own[0], own[1]), keys[i]
            )
        return ProductParameters(tuple(parts))


def _constant_weights(weights: Any, moments: tuple[Any, ...]) -> Float[Array, " k"]:
    """Log weights that are the same for all rows."""
    return weights.linear(moments[0])[:, 0]
