"""The table of clusters, and what has to be said about it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True)
class Summary:
    """What a fit found, for a person.

    Attributes
    ----------
    title, facts
        What was fitted, and how well.
    table
        One row a component: weight, coefficients, dispersion, covariate profile; with sampling
        engines and variational inference also their standard deviations.
    notes
        What is awkward about the data or the fit.
    population
        Distribution over clusters that pooled coefficients come from; empty where there is none.
    """

    title: str
    facts: tuple[str, ...]
    table: pd.DataFrame
    notes: tuple[str, ...]
    population: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __str__(self) -> str:
        frame = self.table.T
        frame.columns = [f"component {label}" for label in frame.columns]
        text = frame.to_string(float_format=lambda value: f"{value:.5g}")
        lines = [self.title, *self.facts, "", text]
        if len(self.population):
            pooled = self.population.to_string(float_format=lambda value: f"{value:.5g}")
            lines += ["", "Pooled coefficients, over clusters:", pooled]
        if self.notes:
            lines += ["", *(f"Note: {note}" for note in self.notes)]
        return "\n".join(lines)

    __repr__ = __str__
