"""A product of quadratic blocks is a quadratic block.

The log density of every Gaussian part of a model is `constant - |factor z|^2 / 2` in the row
vector z (the constant 1, regressors, responses), at a point and in expectation alike, and its
sufficient statistics are a corner of the responsibility-weighted Gram matrix of z. A product
therefore stacks the factors, scores a chunk with one matrix product, and takes one Gram matrix.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from clusterwise.core.assignment import drawn_totals
from clusterwise.core.block import (
    AbstractBlock,
    AbstractCoordinates,
    AbstractParameters,
    AbstractPosterior,
    Statistics,
    Totals,
)
from clusterwise.core.rows import RowBlock, Rows

_FEW_COLUMNS = 16


class Quadratic(NamedTuple):
    """`constant - |factor z|^2 / 2` for each cluster."""

    constant: Float[Array, " k"]
    factor: Float[Array, "k m columns"]


class AbstractQuadraticBlock(eqx.Module):
    """A block whose score is quadratic in some columns of a row."""

    columns: eqx.AbstractVar[tuple[int, ...]]

    @abstractmethod
    def quadratic(self, moments: Any) -> Quadratic:
        """The score as a quadratic form of the block's columns."""

    @abstractmethod
    def posterior(
        self, count: Float[Array, " k"], gram: Float[Array, "k c c"], prior: Any, moments: Any
    ) -> Any:
        """Posterior given weighted counts and the Gram matrix of the block's columns."""


class ProductParameters(AbstractParameters):
    """Parameters of each block of a product."""

    parts: tuple[Any, ...]

    def moments(self) -> tuple[Any, ...]:
        return tuple(part.moments() for part in self.parts)

    def mean_of_draws(self) -> ProductParameters:
        return ProductParameters(tuple(part.mean_of_draws() for part in self.parts))


class ProductCoordinates(AbstractCoordinates):
    """Coordinates of each block of a product, one after the other."""

    parts: tuple[AbstractCoordinates, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    def constrain(self, z: Float[Array, " size"]) -> tuple[ProductParameters, Float[Array, ""]]:
        ends = np.cumsum([part.size for part in self.parts])
        pieces = jnp.split(z, ends[:-1])
        found = [part.constrain(own) for part, own in zip(self.parts, pieces, strict=True)]
        log_det = sum((own for _, own in found), jnp.zeros(()))
        return ProductParameters(tuple(value for value, _ in found)), log_det

    def unconstrain(self, parameters: ProductParameters) -> Float[Array, " size"]:
        pairs = zip(self.parts, parameters.parts, strict=True)
        return jnp.concatenate([part.unconstrain(value) for part, value in pairs])


class ProductPosterior(AbstractPosterior):
    """Independent posteriors of the blocks of a product."""

    parts: tuple[Any, ...]

    @property
    def label_groups(self) -> Int[np.ndarray, " k"]:
        """Group of each component: those of one group may change their numbers.

        Weights, which come first, tell components apart; other priors are the same for all.
        """
        return self.parts[0].label_groups

    def moments(self) -> tuple[Any, ...]:
        return tuple(part.moments() for part in self.parts)

    def spread(self) -> tuple[Any, ...]:
        """What each part says of the spread of its parameters."""
        return tuple(part.spread() for part in self.parts)

    def predictive(self) -> tuple[Any, ...]:
        """Distribution of a new row: log probabilities of clusters, and each part's given one."""
        return tuple(part.predictive() for part in self.parts)

    def draw_order(
        self, count: Float[Array, " k"], moments: tuple[Any, ...], key: PRNGKeyArray
    ) -> Int[Array, " k"] | None:
        """A draw of which cluster comes where, given counts; None where that is left alone."""
        return self.parts[0].draw_order(count, moments[0], key)

    def mode(self) -> ProductParameters:
        return ProductParameters(tuple(part.mode() for part in self.parts))

    def sample(self, key: PRNGKeyArray) -> ProductParameters:
        keys = jax.random.split(key, len(self.parts))
        draws = (part.sample(k) for part, k in zip(self.parts, keys, strict=True))
        return ProductParameters(tuple(draws))

    def log_prob(self, parameters: ProductParameters) -> Float[Array, ""]:
        pairs = zip(self.parts, parameters.parts, strict=True)
        return sum((part.log_prob(value) for part, value in pairs), jnp.zeros(()))

    def unnormalised_log_prob(self, parameters: ProductParameters) -> Float[Array, ""]:
        pairs = zip(self.parts, parameters.parts, strict=True)
        return sum((part.unnormalised_log_prob(value) for part, value in pairs), jnp.zeros(()))

    def coordinates(self) -> ProductCoordinates:
        return ProductCoordinates(tuple(part.coordinates() for part in self.parts))

    def log_kernel(self, parameters: ProductParameters) -> Float[Array, ""]:
        pairs = zip(self.parts, parameters.parts, strict=True)
        return sum((part.log_kernel(value) for part, value in pairs), jnp.zeros(()))

    def kl(self, prior: ProductPosterior) -> Float[Array, ""]:
        pairs = zip(self.parts, prior.parts, strict=True)
        return sum((part.kl(other) for part, other in pairs), jnp.zeros(()))


class QuadraticProduct(AbstractBlock):
    """Product of quadratic blocks over rows of `n_columns`, the first of them the constant 1."""

    blocks: tuple[AbstractQuadraticBlock, ...]
    n_columns: int = eqx.field(static=True)

    def quadratic(self, moments: tuple[Any, ...]) -> Quadratic:
        """All blocks as one quadratic form of the whole row."""
        parts = [b.quadratic(m) for b, m in zip(self.blocks, moments, strict=True)]
        constant = sum((part.constant for part in parts), jnp.zeros(()))
        widened = [
            jnp.zeros((constant.shape[0], part.factor.shape[1], self.n_columns))
            .at[:, :, np.asarray(block.columns, int)]
            .set(part.factor)
            for block, part in zip(self.blocks, parts, strict=True)
            if part.factor.shape[1]
        ]
        factor = jnp.concatenate(widened, axis=1)
        if factor.shape[1] > self.n_columns:
            factor = jnp.linalg.qr(factor, mode="r")
        return Quadratic(constant, factor)

    def score(self, moments: tuple[Any, ...], rows: Rows) -> Float[Array, "k rows"]:
        constant, factor = self.quadratic(moments)
        return quadratic_score(constant, factor, rows.values)

    def statistics(
        self, moments: tuple[Any, ...], rows: Rows, resp: Float[Array, "k rows"]
    ) -> Statistics:
        return packed_gram(rows.values, resp)

    def drawn_totals(self, moments: tuple[Any, ...], rows: RowBlock, key: PRNGKeyArray) -> Totals:
        def native(moments: tuple[Any, ...], rows: RowBlock, key: PRNGKeyArray) -> Totals:
            from clusterwise.core.native import sample_rows

            bits = jax.random.bits(key, (2,), jnp.uint32)
            return Totals(*sample_rows(*self.quadratic(moments), rows, bits))

        def portable(moments: tuple[Any, ...], rows: RowBlock, key: PRNGKeyArray) -> Totals:
            return drawn_totals(self, moments, rows, key)

        return lax.platform_dependent(moments, rows, key, cpu=native, default=portable)

    def cross_score(self, moments: tuple[Any, ...], statistics: Statistics) -> Float[Array, "k l"]:
        constant, factor = self.quadratic(moments)
        gram = unpack_gram(statistics, self.n_columns)
        square = jnp.swapaxes(factor, 1, 2) @ factor
        return gram[:, 0, 0][:, None] * constant - 0.5 * jnp.einsum("kcd,lcd->kl", gram, square)

    def posterior(
        self, statistics: Statistics, prior: ProductPosterior, moments: tuple[Any, ...]
    ) -> ProductPosterior:
        gram = unpack_gram(statistics, self.n_columns)
        count = gram[:, 0, 0]
        parts = []
        for block, part, moment in zip(self.blocks, prior.parts, moments, strict=True):
            index = np.asarray(block.columns, int)
            corner = gram[:, index[:, None], index[None, :]]
            parts.append(block.posterior(count, corner, part, moment))
        return ProductPosterior(tuple(parts))


def quadratic_score(
    constant: Float[Array, " k"],
    factor: Float[Array, "k m columns"],
    values: Float[Array, "columns rows"],
) -> Float[Array, "k rows"]:
    """Score rows; one matrix product for all clusters."""
    k, m, columns = factor.shape
    whitened = (factor.reshape(k * m, columns) @ values).reshape(k, m, -1)
    return constant[:, None] - 0.5 * jnp.sum(jnp.square(whitened), axis=1)


def packed_gram(
    values: Float[Array, "columns rows"], resp: Float[Array, "k rows"]
) -> Float[Array, "k pairs"]:
    """Upper triangle of the weighted Gram matrix of each cluster, by rows.

    Of few columns the products of pairs are formed once for all clusters; of many they would not
    fit in cache.
    """
    columns, rows = values.shape
    first, second = np.triu_indices(columns)
    if columns <= _FEW_COLUMNS:
        return ((values[first] * values[second]) @ resp.T).T
    k = resp.shape[0]
    weighted = (resp[:, None, :] * values).reshape(k * columns, rows)
    return (weighted @ values.T).reshape(k, columns, columns)[:, first, second]


def unpack_gram(packed: Float[Array, "k pairs"], n_columns: int) -> Float[Array, "k c c"]:
    """Symmetric matrices from their upper triangles."""
    first, second = np.triu_indices(n_columns)
    position = np.zeros((n_columns, n_columns), int)
    position[first, second] = position[second, first] = np.arange(first.size)
    return packed[:, position]
