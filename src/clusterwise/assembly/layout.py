"""Which column of a row is what, and how it is standardised.

Every column is shifted and scaled, so that results do not depend on units. A regression without
intercept is scaled only: shifting would give it one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from clusterwise.core.groups import GroupColumns
from clusterwise.frames.encoder import Encoder
from clusterwise.posteriors.places import component_kinds
from clusterwise.regression.columns import PartColumns
from clusterwise.regression.structure import (
    INDEPENDENT,
    AbstractCoefficients,
    Groups,
    Structure,
)

INTERCEPT = "Intercept"
GATES = "gates"
_ALIAS = 1e-9
_CONSTANT = 1e-12


@dataclass(frozen=True)
class ResponseSpec:
    """A response: its name, its expression in a formula, its regressors, its family.

    `offset` and `trials` are expressions of columns. `shared` has the terms that clusters share,
    each as the set of its factors, () being the intercept, with the group of each cluster; none:
    all have one coefficient. `coefficients` is the prior of the others.
    """

    name: str
    expression: str
    right: str
    family: Any
    offset: str | None = None
    trials: str | None = None
    shared: tuple[tuple[frozenset[str], Groups], ...] = ()
    coefficients: AbstractCoefficients = INDEPENDENT


@dataclass(frozen=True)
class Part:
    """One block: regressors and responses by their column of a row.

    `regressors` are those the data identify, out of `terms`; `responses` those that vary, out of
    `names`. `shared` are the places among all terms of those that clusters share, and
    `shared_groups` the group of each cluster there, none where all have one coefficient. `form` is
    what the user said of the part, a family or a density, and `coefficients` of the prior of what
    is not shared.
    """

    kind: str
    terms: tuple[str, ...]
    names: tuple[str, ...]
    regressors: tuple[int, ...]
    responses: tuple[int, ...]
    kept_terms: tuple[int, ...]
    kept_names: tuple[int, ...]
    shared: tuple[int, ...] = ()
    shared_groups: tuple[Groups, ...] = ()
    offset: int | None = None
    trials: int | None = None
    form: Any = None
    coefficients: AbstractCoefficients = INDEPENDENT

    @property
    def predictors(self) -> tuple[str, ...]:
        """Names of the linear predictors that have coefficients of the regressors."""
        return self.form.predictor_names(self.names)

    @property
    def title(self) -> str:
        """Name of a response, or of the column of a density."""
        return self.form.title(self.names) if self.is_response else self.names[0]

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Parameters of a density of one column that is neither of levels nor Gaussian."""
        return () if self.is_response else self.form.parameter_names

    @property
    def family(self) -> Any:
        """The family of a response, or of a density that is of one; else None."""
        return self.form if self.is_response else self.form.family

    @property
    def level_names(self) -> tuple[str, list[str]]:
        """The column of a categorical density, and its levels."""
        variable = self.names[0].partition("=")[0]
        return variable, [name.removeprefix(f"{variable}=") for name in self.names]

    @property
    def columns(self) -> PartColumns:
        """Columns of a row that the part is about."""
        return PartColumns(self.regressors, self.responses, self.offset, self.trials)

    @property
    def structure(self) -> Structure:
        """How the coefficients of the regressors go together."""
        groups = dict(zip(self.shared, self.shared_groups or ((),) * len(self.shared), strict=True))
        shared = [(i, groups[term]) for i, term in enumerate(self.kept_terms) if term in groups]
        return Structure(
            tuple(shared), self.coefficients, tuple(self.terms[i] for i in self.kept_terms)
        )

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

    The first standardised column is the constant 1. `groups` is the data's column whose rows of
    one value share a cluster; two more columns then come last. `gate` has what mixing weights
    depend on as its regressors, and is None where they are constant; its form are the weights.
    """

    raw_names: tuple[str, ...]
    columns: tuple[Column, ...]
    parts: tuple[Part, ...]
    groups: str | None = None
    gate: Part | None = None

    @property
    def n_columns(self) -> int:
        """Standardised columns, the constant, and those of groups."""
        return len(self.columns) + (1 if self.groups is None else 3)

    @property
    def group_columns(self) -> GroupColumns | None:
        """The columns of groups."""
        if self.groups is None:
            return None
        return GroupColumns(self.n_columns - 2, self.n_columns - 1)

    @property
    def every(self) -> tuple[Part, ...]:
        """The parts, and what weights depend on."""
        return self.parts if self.gate is None else (*self.parts, self.gate)

    @property
    def responses(self) -> list[tuple[str, int]]:
        """Name and part number of each response."""
        return [(part.title, i) for i, part in enumerate(self.parts) if part.is_response]

    @property
    def densities(self) -> list[int]:
        """Part numbers of the covariate densities."""
        return [i for i, part in enumerate(self.parts) if not part.is_response]

    @property
    def gaussian(self) -> list[int]:
        """Part numbers of the Gaussian covariate densities."""
        return [i for i in self.densities if self.parts[i].form.jointly]

    @property
    def discrete(self) -> list[int]:
        """Part numbers of the covariate densities of levels, one a column."""
        return [i for i in self.densities if self.parts[i].form.by_level]

    @property
    def single(self) -> list[int]:
        """Part numbers of the covariate densities with parameters of their own, one a column."""
        return [i for i in self.densities if self.parts[i].parameter_names]

    def standardise(self, raw: np.ndarray) -> np.ndarray:
        """Rows (n, columns) with the constant in front, from raw rows; each a group by itself."""
        rows = np.ones((raw.shape[0], self.n_columns))
        for i, column in enumerate(self.columns, start=1):
            rows[:, i] = (raw[:, column.raw] - column.shift) / column.scale
        return rows

    @property
    def in_standard_units(self) -> Layout:
        """The same parts, with standardised columns as if they were the data's."""
        return replace(self, columns=tuple(Column(c.raw, 0.0, 1.0) for c in self.columns))

    def shift_of(self, index: int) -> float:
        """Shift of a standardised column."""
        return 0.0 if index == 0 else self.columns[index - 1].shift

    def scale_of(self, index: int) -> float:
        """Scale of a standardised column."""
        return 1.0 if index == 0 else self.columns[index - 1].scale

    def response_values(self, rows: np.ndarray, part: int) -> np.ndarray:
        """A response (n,) of standardised rows, in data units; of levels, their numbers."""
        columns = self.parts[part].responses
        own = [rows[:, i] * self.scale_of(i) + self.shift_of(i) for i in columns]
        return self.parts[part].form.value(np.column_stack(own))

    def component_kinds(self, n_components: int) -> np.ndarray | None:
        """Numbers (k,) of components that coefficients they share tell apart; None: all alike."""
        return component_kinds(
            n_components, [own for part in self.parts for own in part.shared_groups]
        )

    def log_scales(self, absent: np.ndarray) -> np.ndarray:
        """What standardising adds to the log densities (n,) of rows that lack columns (n, c)."""
        modelled = [i for part in self.parts for i in part.responses]
        own = np.array([np.log(self.scale_of(i)) for i in modelled])
        return own.sum() - absent[:, modelled] @ own


class RawPart(NamedTuple):
    """Names of the raw columns of one part, and whether its columns may be shifted."""

    kind: str
    terms: tuple[str, ...]
    names: tuple[str, ...]
    shifted: bool
    offset: str | None = None
    trials: str | None = None
    shared: tuple[int, ...] = ()
    shared_groups: tuple[Groups, ...] = ()

    def designs(self) -> list[tuple[str, tuple[str, ...]]]:
        """Designs that its columns come from, and what their columns are called."""
        if self.kind == GATES:
            return [(self.kind, self.terms)]
        found = [(self.kind, self.names)]
        if not self.kind.startswith("response"):
            return found
        number = self.kind.partition(":")[2]
        found.append((f"regressors:{number}", self.terms))
        if self.offset is not None:
            found.append((f"offset:{number}", (self.offset,)))
        if self.trials is not None:
            found.append((f"trials:{number}", (self.trials,)))
        return found


class RawDesign(NamedTuple):
    """Names and places of the raw columns of each part before standardising."""

    names: tuple[str, ...]
    parts: tuple[RawPart, ...]
    gate: RawPart | None = None

    @property
    def every(self) -> tuple[RawPart, ...]:
        """The parts, and what weights depend on."""
        return self.parts if self.gate is None else (*self.parts, self.gate)


class RawMoments:
    """Weighted mean, variance and mean square of raw columns, one batch after the other.

    Values that are missing, which are NaN, are left out of those of their column.
    """

    def __init__(self, n_columns: int) -> None:
        self.weight = np.zeros(n_columns)
        self.mean = np.zeros(n_columns)
        self.deviation = np.zeros(n_columns)
        self.low = np.full(n_columns, np.inf)
        self.high = np.full(n_columns, -np.inf)

    def add(self, raw: np.ndarray, weight: np.ndarray) -> None:
        """Update by the parallel formula of Chan, Golub and LeVeque (1983)."""
        counted = weight > 0
        raw, weight = raw[counted], weight[counted]
        if not raw.size:
            return
        lost = np.isnan(raw)
        total = weight @ ~lost
        divisor = np.where(total > 0, total, 1.0)
        mean = weight @ np.where(lost, 0.0, raw) / divisor
        deviation = weight @ np.square(np.where(lost, 0.0, raw - mean))
        gap = np.where(total > 0, mean - self.mean, 0.0)
        whole = self.weight + total
        share = total / np.where(whole > 0, whole, 1.0)
        self.deviation += deviation + np.square(gap) * self.weight * share
        self.mean += gap * share
        self.weight = whole
        self.low = np.fmin(self.low, np.where(lost, np.inf, raw).min(axis=0))
        self.high = np.fmax(self.high, np.where(lost, -np.inf, raw).max(axis=0))

    @property
    def constant(self) -> np.ndarray:
        """Columns that do not vary beyond rounding."""
        size = np.maximum(np.abs(self.low), np.abs(self.high))
        return self.high - self.low <= _CONSTANT * size

    def scale(self, column: int, shifted: bool) -> tuple[float, float]:
        """Shift and scale of a column."""
        variance = self.deviation[column] / max(self.weight[column], 1e-300)
        if not shifted:
            size = float(np.sqrt(variance + self.mean[column] ** 2))
            return 0.0, size or 1.0
        if self.constant[column]:
            return float(self.mean[column]), 1.0
        return float(self.mean[column]), float(np.sqrt(variance))


def raw_design(
    encoder: Encoder, responses: list[ResponseSpec], by_level: Sequence[bool]
) -> RawDesign:
    """Collect the raw columns that the parts need, each once.

    `by_level` says of each density whether its columns are levels, not numbers.
    """
    parts = []
    for i, response in enumerate(responses):
        terms = encoder.columns(f"regressors:{i}")
        columns = encoder.columns(f"response:{i}")
        of_terms = [_factors(text) for text in encoder.terms(f"regressors:{i}")]
        groups = dict(response.shared)
        shared = [j for j, factors in enumerate(of_terms) if factors in groups]
        parts.append(
            RawPart(
                f"response:{i}",
                terms,
                response.family.response_names(response.name, columns),
                INTERCEPT in terms,
                None if response.offset is None else f"offset {response.offset}",
                None if response.trials is None else f"trials {response.trials}",
                tuple(shared),
                tuple(groups[of_terms[j]] for j in shared),
            )
        )
    for j, levels in enumerate(by_level):
        columns = encoder.columns(f"covariates:{j}")
        if levels:
            (variable,) = encoder.variables(f"covariates:{j}")
            columns = tuple(f"{variable}={level}" for level in encoder.levels(variable) or ())
        parts.append(RawPart(f"covariates:{j}", (INTERCEPT,), columns, True))
    gate = None
    if GATES in encoder.designs:
        terms = encoder.columns(GATES)
        gate = RawPart(GATES, terms, (), INTERCEPT in terms)
    found = RawDesign((), tuple(parts), gate)
    names = [name for part in found.every for _, own in part.designs() for name in own]
    return found._replace(names=tuple(dict.fromkeys(n for n in names if n != INTERCEPT)))


def _factors(term: str) -> frozenset[str]:
    """The factors of a term as the encoder writes it; none for the intercept."""
    return frozenset() if term == "1" else frozenset(term.split(":"))


def raw_rows(
    encoder: Encoder, design: RawDesign, arrays: dict[str, np.ndarray], n_rows: int
) -> np.ndarray:
    """Raw rows (n, columns) from encoded designs."""
    found: dict[str, np.ndarray] = {}
    for part in design.every:
        for name, columns in part.designs():
            if name in arrays:
                # Of a response with two levels the last column may say it all.
                values = arrays[name][:, -len(columns) :]
                found |= {column: values[:, j] for j, column in enumerate(columns)}
    raw = np.zeros((n_rows, len(design.names)))
    for i, name in enumerate(design.names):
        if name in found:
            raw[:, i] = found[name]
    return raw


def make_layout(
    design: RawDesign,
    moments: RawMoments,
    common_scale: Mapping[str, bool],
    forms: Sequence[Any],
    coefficients: Sequence[AbstractCoefficients],
    groups: str | None = None,
    weights: Any = None,
) -> Layout:
    """Decide on shifts and scales; every column is kept for now."""
    columns: list[Column] = []
    place: dict[Column, int] = {}
    common: dict[str, float] = {}
    for part in design.parts:
        if common_scale.get(part.kind, False):
            own = [moments.scale(design.names.index(name), True)[1] for name in part.names]
            common |= dict.fromkeys(part.names, float(np.exp(np.mean(np.log(own)))))

    def placed(column: Column) -> int:
        if column not in place:
            columns.append(column)
            place[column] = len(columns)
        return place[column]

    def as_it_is(name: str) -> int:
        return placed(Column(design.names.index(name), 0.0, 1.0))

    def standard(name: str, shifted: bool) -> int:
        raw = design.names.index(name)
        shift, scale = moments.scale(raw, shifted)
        # A regression takes the column that a density has, so that rows stay narrow.
        return placed(Column(raw, shift, common.get(name, scale) if shifted else scale))

    def made(raw: RawPart, form: Any, own: AbstractCoefficients = INDEPENDENT) -> Part:
        return Part(
            raw.kind,
            raw.terms,
            raw.names,
            tuple(0 if t == INTERCEPT else standard(t, raw.shifted) for t in raw.terms),
            tuple(
                standard(name, raw.shifted) if form.scaled else as_it_is(name) for name in raw.names
            ),
            tuple(range(len(raw.terms))),
            tuple(range(len(raw.names))),
            raw.shared,
            raw.shared_groups,
            None if raw.offset is None else as_it_is(raw.offset),
            None if raw.trials is None else as_it_is(raw.trials),
            form,
            own,
        )

    parts = [made(*one) for one in zip(design.parts, forms, coefficients, strict=True)]
    gate = None if design.gate is None else made(design.gate, weights)
    return Layout(design.names, tuple(columns), tuple(parts), groups, gate)


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
