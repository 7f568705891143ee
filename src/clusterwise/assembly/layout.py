"""Which column of a row is what, and how it is standardised.

Every column is shifted and scaled, so that results do not depend on units. A regression without
intercept is scaled only: shifting would give it one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from clusterwise.frames.encoder import Encoder

INTERCEPT = "Intercept"
_ALIAS = 1e-9
_CONSTANT = 1e-12


@dataclass(frozen=True)
class ResponseSpec:
    """A response: its name, its expression in a formula, its regressors, its family."""

    name: str
    expression: str
    right: str
    family: Any


@dataclass(frozen=True)
class Part:
    """One Gaussian block: regressors and responses by their column of a row.

    `regressors` are those the data identify, out of `terms`; `responses` those that vary, out of
    `names`.
    """

    kind: str
    terms: tuple[str, ...]
    names: tuple[str, ...]
    regressors: tuple[int, ...]
    responses: tuple[int, ...]
    kept_terms: tuple[int, ...]
    kept_names: tuple[int, ...]

    @property
    def is_response(self) -> bool:
        """Whether the part is a regression, not a density of covariates."""
        return self.kind.startswith("response")


class Column(NamedTuple):
    """A standardised column: which raw one, and what is taken from and divided out of it."""

    raw: int
    shift: float
    scale: float


@dataclass(frozen=True)
class Layout:
    """Raw columns (named, unique), standardised columns, and the parts made of them.

    The first standardised column is the constant 1.
    """

    raw_names: tuple[str, ...]
    columns: tuple[Column, ...]
    parts: tuple[Part, ...]

    @property
    def n_columns(self) -> int:
        """Standardised columns and the constant."""
        return len(self.columns) + 1

    @property
    def responses(self) -> list[tuple[str, int]]:
        """Name and part number of each response."""
        return [(part.names[0], i) for i, part in enumerate(self.parts) if part.is_response]

    @property
    def densities(self) -> list[int]:
        """Part numbers of the covariate densities."""
        return [i for i, part in enumerate(self.parts) if not part.is_response]

    def standardise(self, raw: np.ndarray) -> np.ndarray:
        """Rows (n, columns) with the constant in front, from raw rows."""
        rows = np.empty((raw.shape[0], self.n_columns))
        rows[:, 0] = 1.0
        for i, column in enumerate(self.columns, start=1):
            rows[:, i] = (raw[:, column.raw] - column.shift) / column.scale
        return rows

    def shift_of(self, index: int) -> float:
        """Shift of a standardised column."""
        return 0.0 if index == 0 else self.columns[index - 1].shift

    def scale_of(self, index: int) -> float:
        """Scale of a standardised column."""
        return 1.0 if index == 0 else self.columns[index - 1].scale

    @property
    def log_scale(self) -> float:
        """What standardising adds to a row's log density."""
        modelled = [i for part in self.parts for i in part.responses]
        return float(sum(np.log(self.scale_of(i)) for i in modelled))


class RawDesign(NamedTuple):
    """Names and places of the raw columns of each part before standardising."""

    names: tuple[str, ...]
    parts: tuple[tuple[str, tuple[str, ...], tuple[str, ...], bool], ...]


class RawMoments:
    """Weighted mean, variance and mean square of raw columns, one batch after the other."""

    def __init__(self, n_columns: int) -> None:
        self.weight = 0.0
        self.mean = np.zeros(n_columns)
        self.deviation = np.zeros(n_columns)
        self.low = np.full(n_columns, np.inf)
        self.high = np.full(n_columns, -np.inf)

    def add(self, raw: np.ndarray, weight: np.ndarray) -> None:
        """Update by the parallel formula of Chan, Golub and LeVeque (1983)."""
        present = weight > 0
        raw, weight = raw[present], weight[present]
        total = float(weight.sum())
        if not total:
            return
        mean = weight @ raw / total
        deviation = weight @ np.square(raw - mean)
        gap = mean - self.mean
        whole = self.weight + total
        self.deviation += deviation + np.square(gap) * self.weight * total / whole
        self.mean += gap * total / whole
        self.weight = whole
        self.low = np.minimum(self.low, raw.min(axis=0))
        self.high = np.maximum(self.high, raw.max(axis=0))

    @property
    def constant(self) -> np.ndarray:
        """Columns that do not vary beyond rounding."""
        size = np.maximum(np.abs(self.low), np.abs(self.high))
        return self.high - self.low <= _CONSTANT * size

    def scale(self, column: int, shifted: bool) -> tuple[float, float]:
        """Shift and scale of a column."""
        variance = self.deviation[column] / self.weight
        if not shifted:
            size = float(np.sqrt(variance + self.mean[column] ** 2))
            return 0.0, size or 1.0
        if self.constant[column]:
            return float(self.mean[column]), 1.0
        return float(self.mean[column]), float(np.sqrt(variance))


def raw_design(encoder: Encoder, responses: list[ResponseSpec], n_densities: int) -> RawDesign:
    """Collect the raw columns that the parts need, each once."""
    parts = []
    names: list[str] = []
    for i, response in enumerate(responses):
        terms = encoder.columns(f"regressors:{i}")
        parts.append((f"response:{i}", terms, (response.name,), INTERCEPT in terms))
        names += [term for term in terms if term != INTERCEPT]
        names.append(response.name)
    for j in range(n_densities):
        columns = encoder.columns(f"covariates:{j}")
        parts.append((f"covariates:{j}", (INTERCEPT,), columns, True))
        names += columns
    return RawDesign(tuple(dict.fromkeys(names)), tuple(parts))


def raw_rows(
    encoder: Encoder, design: RawDesign, arrays: dict[str, np.ndarray], n_rows: int
) -> np.ndarray:
    """Raw rows (n, columns) from encoded designs."""
    found: dict[str, np.ndarray] = {}
    for kind, terms, names, _ in design.parts:
        if kind in arrays:
            for j, name in enumerate(names):
                found[name] = arrays[kind][:, j]
        regressors = kind.replace("response", "regressors")
        if regressors in arrays and regressors != kind:
            for j, term in enumerate(terms):
                found[term] = arrays[regressors][:, j]
    raw = np.zeros((n_rows, len(design.names)))
    for i, name in enumerate(design.names):
        if name in found:
            raw[:, i] = found[name]
    return raw


def make_layout(design: RawDesign, moments: RawMoments, common_scale: Mapping[str, bool]) -> Layout:
    """Decide on shifts and scales; every column is kept for now."""
    columns: list[Column] = []
    place: dict[Column, int] = {}
    common: dict[str, float] = {}
    for kind, _, names, _ in design.parts:
        if common_scale.get(kind, False):
            own = [moments.scale(design.names.index(name), True)[1] for name in names]
            common |= dict.fromkeys(names, float(np.exp(np.mean(np.log(own)))))

    def standard(name: str, shifted: bool) -> int:
        raw = design.names.index(name)
        shift, scale = moments.scale(raw, shifted)
        # A regression takes the column that a density has, so that rows stay narrow.
        column = Column(raw, shift, common.get(name, scale) if shifted else scale)
        if column not in place:
            columns.append(column)
            place[column] = len(columns)
        return place[column]

    parts = []
    for kind, terms, names, shifted in design.parts:
        regressors = tuple(0 if t == INTERCEPT else standard(t, shifted) for t in terms)
        responses = tuple(standard(name, shifted) for name in names)
        parts.append(
            Part(
                kind,
                terms,
                names,
                regressors,
                responses,
                tuple(range(len(terms))),
                tuple(range(len(names))),
            )
        )
    return Layout(design.names, tuple(columns), tuple(parts))


def independent_columns(gram: np.ndarray) -> list[int]:
    """Columns that are not a linear combination of those before them, from their Gram matrix."""
    remaining = gram.astype(float).copy()
    size = np.diagonal(gram).copy()
    kept = []
    for j in range(gram.shape[0]):
        pivot = remaining[j, j]
        if size[j] <= 0 or pivot <= _ALIAS * size[j]:
            continue
        kept.append(j)
        remaining = remaining - np.outer(remaining[:, j], remaining[j]) / pivot
    return kept


def select(values: tuple[Any, ...], kept: list[int]) -> tuple[Any, ...]:
    """The values at some places."""
    return tuple(values[i] for i in kept)
