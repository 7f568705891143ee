"""Rows with missing values: what is missing is integrated out of the density of each cluster.

All quadratic parts together are one quadratic form of the row, in the missing columns too, so that
given the cluster these are normal: their integral is a constant times the form at their conditional
mean, and their expected products are those of the mean plus their covariance. This holds at a point
and in expectation, where that normal is the best factor of the variational posterior. A part whose
own columns are all missing, and which no other part needs, integrates to one and is left out.

Rows carry the number of their pattern of missing values; what depends on the pattern is computed
once for each and looked up.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from clusterwise.core.arrays import constant
from clusterwise.core.assignment import drawn_totals
from clusterwise.core.block import AbstractBlock, Totals
from clusterwise.core.gram import packed_gram, unpack_gram
from clusterwise.core.parts import AbstractLinearBlock, AbstractQuadraticBlock, AbstractSitedBlock
from clusterwise.core.product import Product
from clusterwise.core.product_posterior import ProductParameters, ProductPosterior
from clusterwise.core.rows import RowBlock, Rows

AnyBlock = AbstractLinearBlock | AbstractQuadraticBlock | AbstractSitedBlock


class Trouble(NamedTuple):
    """A missing value that cannot be integrated out: pattern, block and column of the row."""

    pattern: int
    block: int
    column: int


class Study(NamedTuple):
    """What patterns of missing values mean for a model's blocks."""

    enters: np.ndarray
    """(patterns, blocks), whether a block says anything of such rows."""
    unknown: np.ndarray
    """(patterns, columns), whether a missing column is integrated out."""
    troubles: list[Trouble]


def study(blocks: Sequence[AnyBlock], absent: np.ndarray, needed: Collection[int] = ()) -> Study:
    """Decide which blocks enter and which columns are integrated out.

    Parameters
    ----------
    blocks
        Those of a product, or some of them.
    absent
        (patterns, columns), which columns of a row are missing.
    needed
        Columns that are asked for, although none of the blocks may need them.
    """
    enters = np.ones((len(absent), len(blocks)), bool)
    unknown = np.zeros(absent.shape, bool)
    troubles = []
    quadratic = {i for i, b in enumerate(blocks) if isinstance(b, AbstractQuadraticBlock)}
    own = {i: _modelled(block) for i, block in enumerate(blocks)}
    given = {i: set(block.columns) - own[i] for i, block in enumerate(blocks)}
    for p, missing in enumerate(absent):
        lost = set(np.flatnonzero(missing).tolist())
        out = {i for i in own if own[i] & lost and (own[i] <= lost or i not in quadratic)}
        out -= {i for i in out & quadratic if own[i].intersection(needed)}
        while back := {i for i in out & quadratic for j in own.keys() - out if own[i] & given[j]}:
            out -= back
        enters[p, sorted(out)] = False
        inside = [i for i in quadratic if i not in out]
        known = set().union(*(own[i] for i in inside))
        unknown[p, sorted(lost & known)] = True
        for i in own.keys() - out:
            kept = known if i in quadratic else set()
            troubles += [Trouble(p, i, c) for c in sorted((given[i] & lost) - kept)]
    return Study(enters, unknown, troubles)


def _modelled(block: AnyBlock) -> set[int]:
    """Columns whose density a block is; weights have none."""
    linear = isinstance(block, AbstractLinearBlock)
    return set(block.columns) - {0} if linear else set(block.responses)


class Patterns(eqx.Module):
    """Patterns of missing values by their numbers, which a column of the row has."""

    column: int = eqx.field(static=True)
    filled: tuple[int, ...] = eqx.field(static=True)
    """Columns that are integrated out of some rows."""
    partial: tuple[int, ...] = eqx.field(static=True)
    """Blocks that are left out of some rows."""
    unknown: Float[Array, "p d"]
    """One where a column of `filled` is integrated out."""
    enters: Float[Array, "p blocks"]
    """One where a block enters."""

    @classmethod
    def of(cls, product: Product, absent: np.ndarray) -> Patterns:
        """Patterns (p, columns) of missing values over a product's rows.

        Their number is rounded up, to compile few programs.
        """
        found = study(product.blocks, absent)
        size = 1 << (len(absent) - 1).bit_length()
        enters = np.ones((size, len(product.blocks)))
        enters[: len(absent)] = found.enters
        filled = np.flatnonzero(found.unknown.any(axis=0))
        unknown = np.zeros((size, filled.size))
        unknown[: len(absent)] = found.unknown[:, filled]
        return cls(
            product.n_columns,
            tuple(filled.tolist()),
            tuple(np.flatnonzero(~found.enters.all(axis=0)).tolist()),
            constant(unknown),
            constant(enters),
        )


class Completion(NamedTuple):
    """Missing columns of each pattern given the others z: `slope z + root e`, e standard normal."""

    slope: Float[Array, "p k d c"]
    root: Float[Array, "p k d d"]
    log_volume: Float[Array, "p k"]
    """What integrating them adds to the score at their mean."""


def completion(factor: Float[Array, "p k m c"], unknown: Float[Array, "p d"], places: Any) -> Any:
    """The normal distribution `exp(-|factor z|^2 / 2)` of the columns at `places`.

    A QR decomposition spares the square of the condition number that their precision would have.
    """
    d = unknown.shape[1]
    own = factor[..., places] * unknown[:, None, None, :]
    known = jnp.broadcast_to(jnp.diag(jnp.ones(d)), (*own.shape[:2], d, d))
    known = known * (1 - unknown)[:, None, :, None]
    q, r = jnp.linalg.qr(jnp.concatenate([own, known], axis=2))
    turned = jnp.swapaxes(q[:, :, : factor.shape[2]], 2, 3) @ factor
    eye = jnp.broadcast_to(jnp.eye(d), r.shape)
    mask = unknown[:, None, :, None]
    inverse = solve_triangular(r, eye) * mask
    log_det = jnp.sum(jnp.log(jnp.abs(jnp.diagonal(r, axis1=2, axis2=3))), axis=2)
    log_volume = 0.5 * jnp.log(2 * jnp.pi) * jnp.sum(unknown, axis=1)[:, None] - log_det
    return Completion(-(inverse @ turned), inverse, log_volume)


class IncompleteStatistics(NamedTuple):
    """Statistics of all blocks together but those that stand apart, and theirs.

    Quadratic and linear blocks that are left out of some rows stand apart, each with its own packed
    Gram matrix or sums.
    """

    whole: Any
    apart: tuple[Float[Array, "k numbers"], ...]


class Incomplete(AbstractBlock):
    """A product over rows with missing values, which are zero there."""

    product: Product
    patterns: Patterns

    @property
    def exact(self) -> bool:
        return self.product.exact

    @property
    def blocks(self) -> tuple[AnyBlock, ...]:
        """Those of the product."""
        return self.product.blocks

    @property
    def _columns(self) -> tuple[int, ...]:
        return self.product.gram_columns

    def _numbered(self, kind: type) -> list[tuple[int, Any]]:
        return [(i, b) for i, b in enumerate(self.product.blocks) if isinstance(b, kind)]

    @property
    def _apart(self) -> list[tuple[int, Any]]:
        """Quadratic and linear blocks that are left out of some rows."""
        found = self._numbered(AbstractQuadraticBlock) + self._numbered(AbstractLinearBlock)
        return sorted((i, block) for i, block in found if i in self.patterns.partial)

    @property
    def _rest(self) -> tuple[Product, list[int]]:
        """All other blocks, and their numbers."""
        apart = {i for i, _ in self._apart}
        kept = [i for i in range(len(self.product.blocks)) if i not in apart]
        blocks = tuple(self.product.blocks[i] for i in kept)
        return Product(blocks, self.product.n_columns), kept

    def _forms(self, moments: tuple[Any, ...]) -> list[tuple[Any, Array, Array]]:
        """Numbers of quadratic blocks, their constants, and factors of all columns."""
        columns = self._columns
        found = []
        for i, block in self._numbered(AbstractQuadraticBlock):
            form = block.quadratic(moments[i])
            wide = jnp.zeros((*form.factor.shape[:2], len(columns)))
            places = np.searchsorted(columns, block.columns)
            found.append((i, form.constant, wide.at[:, :, places].set(form.factor)))
        return found

    def _completion(self, moments: tuple[Any, ...]) -> Completion:
        patterns = self.patterns
        p, d = patterns.unknown.shape
        if not d:
            k, c = jax.tree.leaves(moments)[0].shape[0], len(self._columns)
            zero = jnp.zeros((p, k, 0, 0))
            return Completion(jnp.zeros((p, k, 0, c)), zero, jnp.zeros((p, k)))
        parts = [
            factor[None] * patterns.enters[:, i, None, None, None]
            for i, _, factor in self._forms(moments)
        ]
        return completion(jnp.concatenate(parts, axis=2), patterns.unknown, self._places)

    @property
    def _places(self) -> np.ndarray:
        """Where the columns that are integrated out lie among those of the Gram matrix."""
        return np.searchsorted(self._columns, self.patterns.filled)

    def _number(self, rows: Rows) -> Int[Array, " rows"]:
        return rows.values[self.patterns.column].astype(int)

    def _values(self, rows: Rows) -> Float[Array, "c rows"]:
        return rows.values[np.asarray(self._columns)]

    def _filled(self, found: Completion, rows: Rows) -> Float[Array, "k c rows"]:
        """Rows with what is missing at its mean under each cluster."""
        values = self._values(rows)
        mean = jnp.einsum("nkdc,cn->kdn", found.slope[self._number(rows)], values)
        wide = jnp.broadcast_to(values, (mean.shape[0], *values.shape))
        return wide.at[:, self._places].add(mean)

    def score(self, moments: tuple[Any, ...], rows: Rows) -> Float[Array, "k rows"]:
        found, number = self._completion(moments), self._number(rows)
        filled = self._filled(found, rows)
        enters = self.patterns.enters[number].T > 0
        total = found.log_volume[number].T
        for i, block in self._numbered(AbstractLinearBlock):
            own = block.linear(moments[i]) @ rows.values[np.asarray(block.columns)]
            total += jnp.where(enters[i], own, 0.0)
        for i, block in self._numbered(AbstractSitedBlock):
            total += jnp.where(enters[i], block.score(moments[i], rows.values), 0.0)
        for i, own, factor in self._forms(moments):
            square = jnp.sum(jnp.square(factor @ filled), axis=1)
            total += jnp.where(enters[i], own[:, None] - 0.5 * square, 0.0)
        groups = self.product.groups
        return total if groups is None else groups.totals(rows.values, total)

    def once(self, rows: Rows) -> Float[Array, " rows"]:
        return self.product.once(rows)

    def of_unit(self, rows: Rows, given: Float[Array, " rows"]) -> Float[Array, " rows"]:
        return self.product.of_unit(rows, given)

    def together(self, rows: RowBlock, order: Int[Array, " slots"]) -> Int[Array, " slots"]:
        return self.product.together(rows, order)

    def ended(self, rows: Rows) -> Bool[Array, " rows"]:
        return self.product.ended(rows)

    def statistics(
        self, moments: tuple[Any, ...], rows: Rows, resp: Float[Array, "k rows"]
    ) -> IncompleteStatistics:
        found = self._completion(moments)
        size = self.patterns.unknown.shape[0]
        by_pattern = jax.ops.segment_sum(resp.T, self._number(rows), size)
        covariance = found.root @ jnp.swapaxes(found.root, 2, 3)
        filled = self._filled(found, rows)

        def gram(columns: tuple[int, ...], enters: Array, entered: Array) -> Array:
            values = filled[:, np.searchsorted(self._columns, columns)]
            total = (values * (resp * enters)[:, None, :]) @ jnp.swapaxes(values, 1, 2)
            spread = jnp.einsum("pk,pkde->kde", by_pattern * entered[:, None], covariance)
            inside = [j for j, c in enumerate(self.patterns.filled) if c in columns]
            own = np.searchsorted(columns, np.asarray(self.patterns.filled, int)[inside])
            corner = spread[:, np.asarray(inside, int)[:, None], np.asarray(inside, int)]
            total = total.at[:, own[:, None], own].add(corner)
            first, second = np.triu_indices(len(columns))
            return total[:, first, second]

        return self._counted(moments, rows, resp, gram)

    def drawn_statistics(
        self,
        moments: tuple[Any, ...],
        rows: Rows,
        resp: Float[Array, "k rows"],
        key: PRNGKeyArray,
        at: tuple[Any, ...] | None = None,
    ) -> IncompleteStatistics:
        found, number, label = self._completion(moments), self._number(rows), resp.argmax(axis=0)
        values = self._values(rows)
        noise = jax.random.normal(key, (len(self.patterns.filled), values.shape[1]))
        missing = jnp.einsum("ndc,cn->dn", found.slope[number, label], values)
        missing += jnp.einsum("nde,en->dn", found.root[number, label], noise)
        filled = values.at[self._places].add(missing)

        def gram(columns: tuple[int, ...], enters: Array, entered: Array) -> Array:
            return packed_gram(filled[np.searchsorted(self._columns, columns)], resp * enters)

        return self._counted(moments if at is None else at, rows, resp, gram)

    def _counted(
        self, moments: tuple[Any, ...], rows: Rows, resp: Float[Array, "k rows"], gram: Any
    ) -> IncompleteStatistics:
        """Sums over rows; `gram` makes packed Gram matrices of columns, of the rows that enter."""
        patterns, values = self.patterns, rows.values
        enters = patterns.enters[self._number(rows)].T
        rest, _ = self._rest
        every = jnp.ones_like(enters[0])
        whole = gram(rest.gram_columns, every, jnp.ones_like(patterns.enters[:, 0]))
        sums = resp @ values[np.asarray(rest.sum_columns, int)].T
        sited = [
            block.statistics(moments[i], values, resp * enters[i])
            for i, block in self._numbered(AbstractSitedBlock)
        ]
        apart = [
            (resp * enters[i]) @ values[np.asarray(block.columns)].T
            if isinstance(block, AbstractLinearBlock)
            else gram(tuple(sorted({0, *block.columns})), enters[i], patterns.enters[:, i])
            for i, block in self._apart
        ]
        return IncompleteStatistics((whole, sums, *sited), tuple(apart))

    def drawn_totals(
        self,
        moments: tuple[Any, ...],
        rows: RowBlock,
        key: PRNGKeyArray,
        at: tuple[Any, ...] | None = None,
    ) -> Totals:
        return drawn_totals(self, moments, rows, key, at)

    def counts(self, statistics: IncompleteStatistics) -> Float[Array, " k"]:
        return self._rest[0].counts(statistics.whole)

    def log_weights(
        self, moments: tuple[Any, ...], statistics: IncompleteStatistics
    ) -> Float[Array, "k l"]:
        rest, kept = self._rest
        return rest.log_weights(tuple(moments[i] for i in kept), statistics.whole)

    @property
    def gated(self) -> bool:
        return self.product.gated

    def weights(self, moments: tuple[Any, ...], rows: Rows) -> Float[Array, "k rows"]:
        return self.product.weights(moments, rows)

    def _own(
        self, statistics: IncompleteStatistics
    ) -> list[tuple[int, Any, tuple[Float[Array, "k ..."], ...]]]:
        """What the posterior of each block that stands apart takes of the rows."""
        found: list[tuple[int, Any, tuple[Array, ...]]] = []
        for (i, block), own in zip(self._apart, statistics.apart, strict=True):
            if isinstance(block, AbstractLinearBlock):
                found.append((i, block, (own,)))
                continue
            columns = tuple(sorted({0, *block.columns}))
            gram = unpack_gram(own, len(columns))
            index = np.searchsorted(columns, block.columns)
            found.append((i, block, (gram[:, 0, 0], gram[:, index[:, None], index[None, :]])))
        return found

    def cross_score(
        self, moments: tuple[Any, ...], statistics: IncompleteStatistics
    ) -> Float[Array, "k l"]:
        rest, kept = self._rest
        total = rest.cross_score(tuple(moments[i] for i in kept), statistics.whole)
        for i, block, own in self._own(statistics):
            if isinstance(block, AbstractLinearBlock):
                total += own[0] @ block.linear(moments[i]).T
                continue
            level, factor = block.quadratic(moments[i])
            square = jnp.swapaxes(factor, 1, 2) @ factor
            total += own[0][:, None] * level - 0.5 * jnp.einsum("kcd,lcd->kl", own[1], square)
        return total

    def posterior(
        self,
        statistics: IncompleteStatistics,
        prior: ProductPosterior,
        moments: tuple[Any, ...],
    ) -> ProductPosterior:
        rest, kept = self._rest
        own = ProductPosterior(tuple(prior.parts[i] for i in kept))
        found = rest.posterior(statistics.whole, own, tuple(moments[i] for i in kept))
        parts = dict(zip(kept, found.parts, strict=True))
        for i, block, own in self._own(statistics):
            parts[i] = block.posterior(*own, prior.parts[i], moments[i])
        return ProductPosterior(tuple(parts[i] for i in range(len(self.product.blocks))))

    def sited_statistics(self, statistics: IncompleteStatistics) -> tuple[Any, ...]:
        """Those of the blocks with sites."""
        return self.product.sited_statistics(statistics.whole)

    def entering(self, number: int, rows: Rows) -> Float[Array, " rows"]:
        """One for each row that a block enters, zero for the others."""
        return self.patterns.enters[self._number(rows), number]

    def blend(
        self, old: ProductPosterior, new: ProductPosterior, rate: Float[Array, ""]
    ) -> ProductPosterior:
        return self.product.blend(old, new, rate)

    def sited_log_prob(self, statistics: IncompleteStatistics) -> Float[Array, ""]:
        return self.product.sited_log_prob(statistics.whole)

    def proposed(
        self,
        prior: ProductPosterior,
        now: ProductParameters,
        drawn: ProductParameters,
        statistics: IncompleteStatistics,
        key: PRNGKeyArray,
    ) -> ProductParameters:
        return self.product.proposed(prior, now, drawn, statistics.whole, key)

    def corrected(
        self,
        prior: ProductPosterior,
        now: ProductParameters,
        proposed: ProductParameters,
        statistics: tuple[IncompleteStatistics, IncompleteStatistics],
        key: PRNGKeyArray,
    ) -> ProductParameters:
        whole = (statistics[0].whole, statistics[1].whole)
        return self.product.corrected(prior, now, proposed, whole, key)
