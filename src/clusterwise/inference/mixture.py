"""A fitted mixture as NumPy arrays: one set of parameters or many draws, in standard units."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Any, NamedTuple

import jax
import numpy as np

from clusterwise.core.arrays import constant
from clusterwise.core.groups import sum_groups, whole_pieces
from clusterwise.core.incomplete import study
from clusterwise.core.parts import (
    AbstractLinearBlock,
    AbstractQuadraticBlock,
    AbstractSitedBlock,
    Quadratic,
)
from clusterwise.core.product import Product
from clusterwise.core.runtime import Program, double_precision

_NUMBERS = 500_000
_KEPT_PATTERNS = 256


@Program
def _forms(block: Product, moments: tuple[Any, ...]) -> list[Any]:
    """Each block's quadratic or linear form for every draw; the moments of one with sites."""
    found: list[Any] = []
    for one, moment in zip(block.blocks, moments, strict=True):
        if isinstance(one, AbstractQuadraticBlock):
            found.append(jax.vmap(one.quadratic)(moment))
        elif isinstance(one, AbstractLinearBlock):
            found.append(jax.vmap(one.linear)(moment))
        else:
            found.append(moment)
    return found


@Program
def _sited_scores(block: AbstractSitedBlock, moments: Any, values: Any) -> Any:
    return jax.vmap(lambda own: block.score(own, values))(moments)


@Program
def _moments_of_draws(parameters: Any) -> Any:
    return jax.vmap(lambda p: p.moments())(parameters)


class _QuadraticScores(NamedTuple):
    """Scores of a quadratic block over its columns, arrays with a leading axis of draws."""

    columns: list[int]
    form: Quadratic

    @property
    def width(self) -> int:
        return int(np.prod(self.form.factor.shape[:3]))

    def as_numbers(self) -> dict[str, Any]:
        constant, factor = self.form
        return {
            "kind": "quadratic", "columns": self.columns, "constant": constant, "factor": factor
        }  # fmt: skip

    def subset(self, draws: np.ndarray) -> _QuadraticScores:
        return self._replace(form=jax.tree.map(lambda leaf: leaf[draws], self.form))

    def add_to(self, total: np.ndarray, rows: np.ndarray) -> None:
        factor = self.form.factor
        draws, k, m, columns = factor.shape
        total += self.form.constant
        if m:
            values = rows[:, self.columns] @ factor.reshape(-1, columns).T
            total -= 0.5 * np.square(values).reshape(-1, draws, k, m).sum(axis=3)


class _LinearScores(NamedTuple):
    """Scores of a linear block over its columns, arrays with a leading axis of draws."""

    columns: list[int]
    form: np.ndarray

    @property
    def width(self) -> int:
        return int(np.prod(self.form.shape[:2]))

    def as_numbers(self) -> dict[str, Any]:
        return {"kind": "linear", "columns": self.columns, "form": self.form}

    def subset(self, draws: np.ndarray) -> _LinearScores:
        return self._replace(form=self.form[draws])

    def add_to(self, total: np.ndarray, rows: np.ndarray) -> None:
        draws, k, columns = self.form.shape
        values = rows[:, self.columns] @ self.form.reshape(-1, columns).T
        total += values.reshape(-1, draws, k)


class _SitedScores(NamedTuple):
    """Scores of a block with sites, its moments with a leading axis of draws."""

    block: AbstractSitedBlock
    moments: Any

    @property
    def width(self) -> int:
        return int(np.prod(np.shape(jax.tree.leaves(self.moments)[0])[:2]))

    def as_numbers(self) -> dict[str, Any]:
        return self.block.as_numbers(self.moments)

    def subset(self, draws: np.ndarray) -> _SitedScores:
        return self._replace(moments=jax.tree.map(lambda leaf: leaf[draws], self.moments))

    @double_precision
    def add_to(self, total: np.ndarray, rows: np.ndarray) -> None:
        # Few shapes, to compile few programs.
        n = len(rows)
        padded = np.zeros((max(64, 1 << (n - 1).bit_length()), rows.shape[1]))
        padded[:n] = rows
        scores = np.asarray(_sited_scores(self.block, self.moments, padded.T))
        total += np.moveaxis(scores[:, :, :n], 2, 0)


class Completed(NamedTuple):
    """Missing columns of a row z given the others, under each draw and cluster.

    They are normal with mean `slope z`, missing values being zero, and covariance `root root^T`.
    """

    columns: np.ndarray
    slope: np.ndarray
    root: np.ndarray
    scores: _QuadraticScores
    """Of the quadratic blocks together, these columns integrated out."""


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
    def __init__(self, block: Product, moments: tuple[Any, ...]) -> None:
        forms = jax.tree.map(np.asarray, _forms(block, moments))
        self._blocks = block.blocks
        self._completed: dict[tuple[Any, ...], tuple[list[int], Completed | None]] = {}
        self._scored: list[_QuadraticScores | _LinearScores | _SitedScores] = []
        for one, form in zip(block.blocks, forms, strict=True):
            if isinstance(one, AbstractSitedBlock):
                self._scored.append(_SitedScores(one, form))
            elif isinstance(one, AbstractLinearBlock):
                self._scored.append(_LinearScores(list(one.columns), form))
            else:
                self._scored.append(_QuadraticScores(list(one.columns), form))
        self.groups = block.groups
        """Columns that tell which rows share a cluster, where some do."""
        self.shape: tuple[int, int] = jax.tree.leaves(forms[0])[0].shape[:2]
        """Draws and clusters; the weights' block, which comes first, leads with them."""

    @classmethod
    @double_precision
    def from_draws(cls, block: Product, parameters: Any) -> ScoredMixture:
        """Scores at points: draws of the parameters along a leading axis."""
        return cls(block, _moments_of_draws(parameters))

    @classmethod
    def at(cls, block: Product, moments: tuple[Any, ...]) -> ScoredMixture:
        """Scores under one set of moments: a point, or an engine's expectations."""
        return cls(block, jax.tree.map(lambda leaf: np.asarray(leaf)[None], moments))

    def subset(self, draws: np.ndarray) -> ScoredMixture:
        """Scores under some of the draws, by their numbers."""
        found = copy(self)
        found._scored = [one.subset(draws) for one in self._scored]
        found._completed = {}
        found.shape = (len(draws), self.shape[1])
        return found

    @property
    def n_parts(self) -> int:
        """Number of blocks."""
        return len(self._scored)

    @property
    def n_draws(self) -> int:
        """Number of draws."""
        return self.shape[0]

    def rows_at_a_time(self) -> int:
        """Rows whose scores under all draws stay in cache."""
        return max(64, _NUMBERS // max(sum(one.width for one in self._scored), 1))

    def as_numbers(self, parts: Sequence[int]) -> list[dict[str, Any]]:
        """Forms of some of the blocks, for a program that is not Python.

        Raises
        ------
        OptionError
            Where a block has no closed form in the columns of a row.
        """
        return [self._scored[part].as_numbers() for part in parts]

    def scores(self, rows: np.ndarray, parts: Sequence[int]) -> np.ndarray:
        """Log densities (n, draws, k) of rows (n, columns) over some of the blocks.

        Missing values, which are NaN, are integrated out; parts of which nothing is there are left
        out. Of rows that share a cluster, that of all of them.
        """
        return sum_groups(self.groups, rows, self._scores(rows, parts))

    def _scores(self, rows: np.ndarray, parts: Sequence[int]) -> np.ndarray:
        total = np.zeros((rows.shape[0], *self.shape))
        gaps = np.isnan(rows)
        if not gaps.any():
            for part in parts:
                self._scored[part].add_to(total, rows)
            return total
        known = np.nan_to_num(rows, nan=0.0)
        for at, absent in by_pattern(gaps):
            own = np.zeros((at.size, *self.shape))
            entering, completed = self.completed(absent, parts)
            scored = [self._scored[part] for part in entering]
            for one in scored if completed is None else [*scored, completed.scores]:
                one.add_to(own, known[at])
            total[at] = own
        return total

    def completed(
        self, absent: np.ndarray, parts: Sequence[int], needed: tuple[int, ...] = ()
    ) -> tuple[list[int], Completed | None]:
        """What is known of rows that lack some columns, from some of the blocks.

        Parameters
        ----------
        absent
            (columns,), whether a column is missing.
        parts
            Numbers of blocks.
        needed
            Columns that are asked for, whatever the blocks need.

        Returns
        -------
        The blocks that enter, but for quadratic ones where columns are integrated out, and what
        these say together; None where no column is.
        """
        key = (tuple(parts), absent.tobytes(), needed)
        if key not in self._completed:
            if len(self._completed) >= _KEPT_PATTERNS:
                self._completed.clear()
            self._completed[key] = self._complete(absent, list(parts), needed)
        return self._completed[key]

    def _complete(
        self, absent: np.ndarray, parts: list[int], needed: tuple[int, ...]
    ) -> tuple[list[int], Completed | None]:
        found = study([self._blocks[part] for part in parts], absent[None], needed)
        entering = [part for part, own in zip(parts, found.enters[0], strict=True) if own]
        lost = np.flatnonzero(found.unknown[0])
        if not lost.size:
            return entering, None
        forms = [
            one for part in entering if isinstance(one := self._scored[part], _QuadraticScores)
        ]
        columns = sorted(set().union(*(one.columns for one in forms)))
        draws, k = self.shape
        factors = []
        for one in forms:
            wide = np.zeros((draws, k, one.form.factor.shape[2], len(columns)))
            wide[..., np.searchsorted(columns, one.columns)] = one.form.factor
            factors.append(wide)
        factor = np.concatenate(factors, axis=2)
        places = np.searchsorted(columns, lost)
        q, r = np.linalg.qr(factor[..., places])
        root = np.linalg.inv(r)
        slope = -root @ np.swapaxes(q, 2, 3) @ factor
        rest = factor + factor[..., places] @ slope
        rest[..., places] = 0.0
        log_det = np.log(np.abs(np.diagonal(r, axis1=2, axis2=3))).sum(axis=2)
        own = sum(np.asarray(one.form.constant) for one in forms)
        total = own + 0.5 * lost.size * np.log(2 * np.pi) - log_det
        whole = np.zeros((draws, k, lost.size, absent.size))
        whole[..., columns] = slope
        whole[..., lost] = 0.0
        scores = _QuadraticScores(columns, Quadratic(constant(total), constant(rest)))
        others = [p for p in entering if not isinstance(self._scored[p], _QuadraticScores)]
        return others, Completed(lost, whole, root, scores)

    def regression(
        self,
        rows: np.ndarray,
        parts: Sequence[int],
        coefficients: np.ndarray,
        regressors: Sequence[int],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean (n, draws, k) of a linear predictor, and its variance where regressors are missing.

        Parameters
        ----------
        rows
            (n, columns), with NaN where values are missing.
        parts
            Blocks that tell of missing regressors.
        coefficients
            (draws, k, p)
        regressors
            Their columns.
        """
        own = rows[:, list(regressors)]
        draws, k, p = coefficients.shape
        known = np.nan_to_num(own, nan=0.0)
        mean = (known @ coefficients.reshape(-1, p).T).reshape(-1, draws, k)
        variance = np.zeros((1, draws, k))
        if not np.isnan(own).any():
            return mean, variance
        variance = np.zeros_like(mean)
        values = np.nan_to_num(rows, nan=0.0)
        for at, absent in by_pattern(np.isnan(rows)):
            needed = [j for j, column in enumerate(regressors) if absent[column]]
            if not needed:
                continue
            _, completed = self.completed(absent, parts, tuple(regressors))
            assert completed is not None
            places = np.searchsorted(completed.columns, np.asarray(regressors)[needed])
            slopes = coefficients[..., needed]
            whole = np.einsum("dkm,dkmc->dkc", slopes, completed.slope[:, :, places])
            columns = whole.shape[2]
            mean[at] += (values[at] @ whole.reshape(-1, columns).T).reshape(-1, draws, k)
            spread = np.einsum("dkm,dkme->dke", slopes, completed.root[:, :, places])
            variance[at] = np.square(spread).sum(axis=2)
        return mean, variance

    def responsibilities(self, rows: np.ndarray, parts: Sequence[int]) -> np.ndarray:
        """Probabilities (n, k) of the clusters, averaged over draws."""

        def chunk(part: np.ndarray) -> np.ndarray:
            scores = self.scores(part, parts)
            return np.exp(scores - log_sum_exp(scores)[..., None]).mean(axis=1)

        return self._in_chunks(chunk, rows)

    def log_density(self, rows: np.ndarray, parts: Sequence[int]) -> np.ndarray:
        """Log of the density (n,), averaged over draws; of a group at each of its rows."""

        def chunk(part: np.ndarray) -> np.ndarray:
            return log_sum_exp(log_sum_exp(self.scores(part, parts))) - np.log(self.n_draws)

        return self._in_chunks(chunk, rows)

    def _in_chunks(
        self, function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray
    ) -> np.ndarray:
        pieces = whole_pieces(self.groups, rows, self.rows_at_a_time())
        return np.concatenate([function(rows[piece]) for piece in pieces])


def by_pattern(gaps: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers of the rows of each pattern of gaps (n, columns), and the pattern (columns,)."""
    distinct, places = np.unique(np.packbits(gaps, axis=1), axis=0, return_inverse=True)
    places = places.reshape(-1)
    for i in range(len(distinct)):
        at = np.flatnonzero(places == i)
        yield at, gaps[at[0]]


def log_sum_exp(scores: np.ndarray) -> np.ndarray:
    """Log of the summed exponentials over the last axis."""
    largest = scores.max(axis=-1)
    return largest + np.log(np.exp(scores - largest[..., None]).sum(axis=-1))
