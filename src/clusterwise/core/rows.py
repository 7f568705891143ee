"""Rows as the engines see them: chunks of a fixed shape, the last one padded with zero weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from clusterwise.core.arrays import constant

T = TypeVar("T")

CHUNK_ROWS = 2048
BLOCK_CHUNKS = 32
BLOCK_ROWS = CHUNK_ROWS * BLOCK_CHUNKS


class Rows(NamedTuple):
    """Some rows, one column after the other, so that arithmetic over rows is contiguous."""

    values: Float[Array, "columns rows"]
    weight: Float[Array, " rows"]


class RowBlock(NamedTuple):
    """Chunks of rows of one shape, of which the first `used` hold data."""

    packed: Float[Array, "chunks columns+1 rows"]
    """Columns, then the weight."""
    used: Int[Array, ""]

    @classmethod
    def from_packed(cls, packed: Any) -> RowBlock:
        """Count the chunks in use, which come first."""
        used = np.count_nonzero(np.asarray(packed)[:, 0, 0])
        return cls(packed, constant(used))

    @property
    def n_columns(self) -> int:
        """Columns of a row."""
        return self.packed.shape[1] - 1

    def taken(self) -> np.ndarray:
        """(slots,) whether each slot holds a row, which has the constant 1, or padding."""
        return np.asarray(self.packed)[:, 0].ravel() != 0

    def chunk(self, i: Int[Array, ""] | int) -> Rows:
        """The rows of one chunk."""
        part = self.packed[i]
        return Rows(part[:-1], part[-1])


def block_shape(n_rows: int) -> tuple[int, int]:
    """Chunks and rows per chunk that hold `n_rows`, from few shapes, to compile few programs."""
    if n_rows <= CHUNK_ROWS:
        return 1, max(32, 1 << (n_rows - 1).bit_length())
    chunks = -(-n_rows // CHUNK_ROWS)
    return min(BLOCK_CHUNKS, 1 << (chunks - 1).bit_length()), CHUNK_ROWS


def pack_rows(
    values: np.ndarray, weight: np.ndarray, shape: tuple[int, int] | None = None
) -> np.ndarray:
    """Pack rows (n, columns), at most `BLOCK_ROWS` of them, into the layout of a `RowBlock`.

    The first column is the constant 1, so that chunks without rows are recognised by its zero.
    `shape` is that of a block, as `block_shape` gives it, for more rows than there are.
    """
    n_rows, n_columns = values.shape
    chunks, rows = shape or block_shape(n_rows)
    padded = np.zeros((chunks * rows, n_columns + 1))
    padded[:n_rows, :-1] = values
    padded[:n_rows, -1] = weight
    return np.ascontiguousarray(padded.reshape(chunks, rows, -1).transpose(0, 2, 1))


def fold_chunks(function: Callable[[Any, Rows], T], block: RowBlock) -> T:
    """Sum `function(chunk number, rows)` over the used chunks; traced once for any number."""

    def chunk(i: Array | int) -> T:
        return function(i, block.chunk(i))

    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(chunk, 0))
    return lax.fori_loop(
        0, block.used, lambda i, total: jax.tree.map(jnp.add, total, chunk(i)), zero
    )


def map_chunks(function: Callable[[Rows], PyTree], block: RowBlock) -> PyTree:
    """Stack `function(rows)` over all chunks, the padded ones too."""
    return lax.map(lambda packed: function(Rows(packed[:-1], packed[-1])), block.packed)
