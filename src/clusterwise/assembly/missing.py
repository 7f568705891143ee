"""Missing values on their way to a model: where they are, what they allow, what is known without.

Rows with missing values hold NaN until they are packed; then these are zero, as in the rows that
fill up a chunk, and one more column has the number of the row's pattern.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from clusterwise.assembly.layout import Layout, RawDesign
from clusterwise.core.errors import DataError
from clusterwise.core.incomplete import AnyBlock, study
from clusterwise.core.parts import AbstractQuadraticBlock
from clusterwise.frames.encoder import Encoder
from clusterwise.responses.generalised import AbstractGeneralised

_SHOWN = 5
_MOST_NUMBERS = 2**27
_RIDGE = 1e-13
_STEPS = 1000
_CLOSE = 1e-13


class Gaps:
    """Patterns of missing values over batches of rows, the first one being that of none.

    Parameters
    ----------
    n_columns
        Columns of a row.
    """

    def __init__(self, n_columns: int) -> None:
        self._n_columns = n_columns
        self._numbers = {np.packbits(np.zeros(n_columns, bool)).tobytes(): 0}
        self.counts = [0]
        """Rows of each pattern."""
        self.rows: list[list[int]] = [[]]
        """The first few of them."""

    @property
    def absent(self) -> np.ndarray:
        """(patterns, columns), whether a value is missing."""
        packed = [np.frombuffer(key, np.uint8) for key in self._numbers]
        return np.unpackbits(np.stack(packed), axis=1, count=self._n_columns).astype(bool)

    @property
    def any(self) -> bool:
        """Whether there is a pattern with missing values."""
        return len(self._numbers) > 1

    def number(self, rows: np.ndarray, counted: np.ndarray, first: int) -> np.ndarray:
        """Numbers (n,) of the patterns of rows (n, columns), new ones being noted.

        Parameters
        ----------
        rows
            With NaN where a value is missing.
        counted
            (n,), whether a row counts; the others have number 0.
        first
            Number of the first row in its table.
        """
        numbers = np.zeros(len(rows), int)
        gaps = np.isnan(rows)
        with_gaps = np.flatnonzero(gaps.any(axis=1) & counted)
        self.counts[0] += int(counted.sum()) - with_gaps.size
        if not with_gaps.size:
            return numbers
        packed = np.packbits(gaps[with_gaps], axis=1)
        distinct, places = np.unique(packed, axis=0, return_inverse=True)
        places = places.reshape(-1)
        for i, key in enumerate(distinct):
            at = with_gaps[places == i]
            number = self._numbers.setdefault(key.tobytes(), len(self._numbers))
            if number == len(self.counts):
                self.counts.append(0)
                self.rows.append([])
            self.counts[number] += at.size
            self.rows[number] += (at[: _SHOWN - len(self.rows[number])] + first).tolist()
            numbers[at] = number
        if len(self._numbers) * self._n_columns**2 > _MOST_NUMBERS:
            raise DataError(
                f"the rows have {len(self._numbers)} different patterns of missing values over "
                f"{self._n_columns} columns, which is too many; leave out columns of which much is "
                "missing, or drop rows"
            )
        return numbers


def of_layout(layout: Layout, absent: np.ndarray) -> np.ndarray:
    """Patterns (p, columns) of standardised rows from those of raw ones."""
    found = np.zeros((len(absent), layout.n_columns), bool)
    for i, column in enumerate(layout.columns, start=1):
        found[:, i] = absent[:, column.raw]
    return found


class Packing(NamedTuple):
    """How rows with NaN become the numbers that engines pass over."""

    absent: np.ndarray
    """(patterns, columns)"""

    @property
    def table(self) -> np.ndarray | None:
        """The patterns, where packed rows have their numbers."""
        return self.absent if self.numbered else None

    @property
    def numbered(self) -> bool:
        """Whether packed rows have the number of their pattern."""
        return len(self.absent) > 1

    def packed(self, rows: np.ndarray, number: np.ndarray) -> np.ndarray:
        """Rows without NaN, and the numbers of their patterns behind where there are several."""
        filled = np.nan_to_num(rows, nan=0.0)
        return np.column_stack([filled, number]) if self.numbered else filled


def check_gaps(
    layout: Layout,
    blocks: Sequence[AnyBlock],
    encoder: Encoder,
    design: RawDesign,
    gaps: Gaps,
    used: Sequence[int] | None = None,
) -> None:
    """Refuse missing values that the model cannot integrate out, naming column, term and cure.

    Parameters
    ----------
    layout, encoder, design
        What the columns are.
    blocks
        Of the model: that of the weights, then one a part.
    gaps
        Patterns of raw rows.
    used
        Numbers of the blocks that rows are asked about; None for all.
    """
    numbers = range(len(blocks)) if used is None else used
    found = study([blocks[i] for i in numbers], of_layout(layout, gaps.absent))
    troubles = [own._replace(block=numbers[own.block]) for own in found.troubles]
    for trouble in troubles:
        raw = layout.columns[trouble.column - 1].raw
        patterns = [own.pattern for own in troubles if own[1:] == trouble[1:]]
        count = sum(gaps.counts[p] for p in patterns)
        rows = sorted(row for p in patterns for row in gaps.rows[p])[:_SHOWN]
        term = layout.raw_names[raw]
        part = layout.parts[trouble.block - 1]
        variables = _variables(encoder, design, term)
        named = " or ".join(f"column {name!r}" for name in variables)
        shown = ", ".join(map(str, rows)) + (", ..." if count > len(rows) else "")
        plain = term in variables
        raise DataError(
            f"{named} has missing values in {count} {'row' if count == 1 else 'rows'} (from 0: "
            f"{shown}), which the term {term!r} of the regression of {part.title!r} needs; "
            + _cure(layout, blocks, trouble.block, raw, term, plain)
        )


def _cure(
    layout: Layout, blocks: Sequence[AnyBlock], block: int, raw: int, term: str, plain: bool
) -> str:
    rest = "drop these rows, or leave the term out"
    modelled = any(layout.columns[i - 1].raw == raw for i in _gaussian_columns(layout, blocks))
    if not isinstance(blocks[block], AbstractQuadraticBlock):
        form = layout.parts[block - 1].form
        family = form.described if isinstance(form, AbstractGeneralised) else repr(form.name)
        return (
            "only a Gaussian response whose coefficients are each cluster's own can be averaged "
            f"over them exactly, not {family}: {rest}"
        )
    if modelled and layout.parts[block - 1].regressors[:1] != (0,):
        return (
            "a regression without intercept has a column of its own, which covariates do not "
            f"model: write the formula with an intercept, {rest}"
        )
    if any(layout.columns[i - 1].raw == raw for p in layout.parts for i in p.responses):
        return f"a regression can be averaged exactly over Gaussian covariates only: {rest}"
    if plain:
        return (
            "a conditional model has no distribution of them: model the column in covariates, as "
            f"in covariates={term!r}, {rest}"
        )
    return (
        "it can be averaged over exactly only where the Gaussian covariates have the term itself: "
        f"enter the column as it is and model it in covariates, {rest}"
    )


def _gaussian_columns(layout: Layout, blocks: Sequence[AnyBlock]) -> Iterable[int]:
    pairs = zip(layout.parts, blocks[1:], strict=True)
    return (
        i
        for part, block in pairs
        if isinstance(block, AbstractQuadraticBlock)
        for i in part.responses
    )


def _variables(encoder: Encoder, design: RawDesign, term: str) -> list[str]:
    """Columns of the data that a raw column is made of, of which values are missing."""
    found: dict[str, None] = {}
    for part in design.parts:
        for name, columns in part.designs():
            if term in columns and name in encoder.designs:
                found |= dict.fromkeys(encoder.variables_of(name, columns.index(term)))
    return list(found) or [term]


def gap_notes(encoder: Encoder, silent: int) -> list[str]:
    """What a fit says of missing values."""
    counts = {name: count for name, count in encoder.missing.items() if count}
    if not counts:
        return []
    found = [
        f"Missing values: {', '.join(f'{count} of {name!r}' for name, count in counts.items())}. "
        "None was filled in; the density of a row is that of what it has."
    ]
    if silent:
        found.append(
            f"{silent} {'row has' if silent == 1 else 'rows have'} no value of any modelled "
            "column; they can be predicted, but tell the fit nothing and have weight 0."
        )
    return found


# What all rows say together


def grams_by_pattern(
    rows: np.ndarray, weight: np.ndarray, number: np.ndarray, n_patterns: int
) -> np.ndarray:
    """Sums (patterns, c, c) of the products of rows, missing values being zero."""
    known = np.nan_to_num(rows, nan=0.0)
    if n_patterns == 1:
        return ((known * weight[:, None]).T @ known)[None]
    total = np.zeros((n_patterns, rows.shape[1], rows.shape[1]))
    for p in np.unique(number):
        own = known[number == p]
        total[p] = (own * weight[number == p, None]).T @ own
    return total


def pooled_gram(grams: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """Average product of rows, expected under the one normal distribution that fits them best.

    Maximum likelihood by expectation and maximisation (Little and Rubin 2002, Statistical Analysis
    with Missing Data, section 11.2), so that it is positive definite where data are missing in
    whatever pattern, and exact where columns are linear combinations of others.

    Parameters
    ----------
    grams
        (patterns, c, c) sums, as `grams_by_pattern` makes them.
    absent
        (patterns, c), whether a column is missing; never the first, which is constant.
    """
    weight = grams[:, 0, 0].sum()
    total = grams.sum(axis=0)
    kept = grams[:, 0, 0] > 0
    grams, lost = grams[kept], absent[kept].astype(float)
    if not lost.any():
        return total / weight
    present = np.einsum("p,pc->c", grams[:, 0, 0], 1 - lost)
    average = np.where(present > 0, np.diagonal(total) / np.maximum(present, 1e-300), 1.0)
    found = np.diag(np.where(average > 0, average, 1.0))
    for _ in range(_STEPS):
        before, found = found, _expected(grams, lost, found) / weight
        size = np.sqrt(np.outer(np.diagonal(found), np.diagonal(found)))
        if np.all(np.abs(found - before) <= _CLOSE * np.maximum(size, 1e-300)):
            break
    return found


def _expected(grams: np.ndarray, lost: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """Sum of expected products, given the second moments of a normal distribution."""
    known = 1 - lost
    size = np.diagonal(moment)
    block = known[:, :, None] * moment * known[:, None, :]
    diagonal = lost + known * _RIDGE * size
    system = block + diagonal[:, :, None] * np.eye(size.size)
    slope = np.linalg.solve(system, known[:, :, None] * moment * lost[:, None, :])
    rest = lost[:, :, None] * (moment - np.swapaxes(slope, 1, 2) @ moment) * lost[:, None, :]
    whole = np.eye(size.size) + np.swapaxes(slope, 1, 2)
    filled = whole @ grams @ np.swapaxes(whole, 1, 2)
    return (filled + grams[:, :1, :1] * rest).sum(axis=0)


def nearest_filled(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows whose missing values are those of the nearest row that has them.

    For the recipes of starting values alone: means would lie on a line, which a recipe would take
    for a cluster.
    """
    gaps = np.isnan(rows)
    filled = rows.copy()
    lacking = np.flatnonzero(gaps.any(axis=1))
    if not lacking.size:
        return filled
    known = np.where(gaps, 0.0, rows)
    here = (~gaps).astype(float)
    own, seen = known[lacking], here[lacking]
    # Squared distances over the columns that both rows have.
    square = np.square(own) @ here.T - 2 * own @ known.T + seen @ np.square(known).T
    shared = seen @ here.T - 1
    distance = np.where(shared > 0, square / np.maximum(shared, 1), np.inf)
    distance += 1e-9 * rng.random(distance.shape)
    for column in np.flatnonzero(gaps.any(axis=0)):
        donors = np.flatnonzero(~gaps[:, column])
        needy = np.flatnonzero(gaps[lacking, column])
        if donors.size:
            chosen = donors[np.argmin(distance[needy][:, donors], axis=1)]
            filled[lacking[needy], column] = rows[chosen, column]
        else:
            filled[lacking[needy], column] = 0.0
    return filled
