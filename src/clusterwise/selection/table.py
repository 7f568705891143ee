"""Candidates side by side: criteria, their uncertainty, and what is wrong with a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from clusterwise.fit import Fit
from clusterwise.selection.candidates import Chain
from clusterwise.selection.criteria import Criterion, RowScores

_EMPTY_ROWS = 1.0


class Candidate(NamedTuple):
    """One candidate: what was fitted, its criteria, and scores of rows for those that have them."""

    chain: Chain
    k: int
    fit: Fit
    values: Mapping[str, float]
    rows: Mapping[str, RowScores]
    pareto: float

    @property
    def name(self) -> str:
        """What it is called in sentences."""
        return self.chain.name(self.k)

    @property
    def degenerate(self) -> bool:
        """Whether the optimum that was taken owes its likelihood to a vanishing variance."""
        chosen = self.fit.restarts["chosen"]
        return bool(self.fit.restarts.loc[chosen, "degenerate"].any())

    @property
    def empty(self) -> int:
        """Components with less than a row."""
        return int((self.fit.weights.to_numpy() * self.fit.n_rows < _EMPTY_ROWS).sum())

    def value(self, criterion: Criterion) -> float:
        """A criterion on its own scale."""
        if criterion.pointwise:
            return self.rows[criterion.name].total
        return self.values[criterion.name]


def best_of(candidates: Sequence[Candidate], criterion: Criterion) -> int:
    """Number of the candidate that a criterion prefers."""
    return criterion.best(np.array([one.value(criterion) for one in candidates]))


def make_table(candidates: Sequence[Candidate], criteria: Sequence[Criterion]) -> pd.DataFrame:
    """One row a candidate, the criteria in columns.

    A criterion that is a sum over rows has a standard error, "_se", its difference from the best
    candidate, "_diff", and the standard error of that, "_diff_se", from the differences of rows.
    """
    columns: dict[str, list] = {}
    for label in candidates[0].chain.labels:
        columns[label] = [one.chain.labels[label] for one in candidates]
    columns["n_components"] = [one.k for one in candidates]
    columns["log_likelihood"] = [one.fit.log_likelihood for one in candidates]
    columns["n_parameters"] = [one.fit.n_parameters for one in candidates]
    for criterion in criteria:
        name = criterion.name
        columns[name] = [one.value(criterion) for one in candidates]
        if not criterion.pointwise:
            continue
        top = candidates[best_of(candidates, criterion)].rows[name]
        gaps = [one.rows[name].minus(top) for one in candidates]
        columns[f"{name}_se"] = [one.rows[name].standard_error for one in candidates]
        columns[f"{name}_diff"] = [gap.total for gap in gaps]
        columns[f"{name}_diff_se"] = [gap.standard_error for gap in gaps]
    if any(np.isfinite(one.pareto) for one in candidates):
        columns["pareto_k"] = [one.pareto for one in candidates]
    columns["converged"] = [one.fit.converged for one in candidates]
    columns["degenerate"] = [one.degenerate for one in candidates]
    columns["empty"] = [one.empty for one in candidates]
    columns["seconds"] = [one.fit.seconds for one in candidates]
    return pd.DataFrame(columns)
