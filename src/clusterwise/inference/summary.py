"""The table of clusters, and what has to be said about it."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    title: str
    facts: tuple[str, ...]
    table: pd.DataFrame
    notes: tuple[str, ...]

    def __str__(self) -> str:
        frame = self.table.T
        frame.columns = [f"component {label}" for label in frame.columns]
        text = frame.to_string(float_format=lambda value: f"{value:.5g}")
        lines = [self.title, *self.facts, "", text]
        if self.notes:
            lines += ["", *(f"Note: {note}" for note in self.notes)]
        return "\n".join(lines)

    __repr__ = __str__
