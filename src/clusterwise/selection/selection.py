"""What `select` gives back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from textwrap import fill
from typing import TYPE_CHECKING

import pandas as pd

from clusterwise.fit import Fit
from clusterwise.selection.advice import recommend
from clusterwise.selection.criteria import Criterion
from clusterwise.selection.table import Candidate, best_of, make_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 88
_SHOWN = ("converged", "seconds", "empty", "degenerate")


class Selection:
    """Candidates that were fitted, their criteria, and which one to take; made by `select`.

    Attributes
    ----------
    criteria : tuple of str
        Names of the criteria, the deciding one first.
    fits : list of Fit
        The fit of each candidate, in the order of the table's rows.
    best : Fit
        That of the candidate that the deciding criterion prefers.
    table : pandas.DataFrame
        One row a candidate: what was varied, the number of clusters, every criterion; of those
        that are sums over rows also the standard error ("_se"), the difference from the best
        ("_diff") and its standard error ("_diff_se"); and whether the fit converged, is
        degenerate, or has empty components.
    recommendation : str
        Which candidate to take, how clear that is, and what speaks against it.
    """

    def __init__(self, candidates: Sequence[Candidate], criteria: Sequence[Criterion]) -> None:
        self._candidates = list(candidates)
        self._criteria = list(criteria)
        self.criteria = tuple(one.name for one in criteria)
        self.fits = [one.fit for one in candidates]
        self.best: Fit = self.fits[best_of(candidates, criteria[0])]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a candidate."""
        return make_table(self._candidates, self._criteria)

    @cached_property
    def recommendation(self) -> str:
        """What to take, in words."""
        return recommend(self._candidates, self._criteria)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw every criterion against the number of clusters.

        Each is drawn as its distance from the best candidate on the scale of -2 log density, so
        that lower is better and all have one scale; bars are two standard errors of that distance.

        Parameters
        ----------
        ax
            Where to draw; a figure of its own by default.

        Returns
        -------
        Axes
            Save its figure with ``axes.figure.savefig(path)``.
        """
        from clusterwise.selection.curves import plot_selection

        return plot_selection(self.table, self._criteria, ax)

    def __str__(self) -> str:
        shown = self.table
        plain = {"converged": True, "degenerate": False, "empty": 0}
        usual = [name for name, value in plain.items() if (shown[name] == value).all()]
        text = shown.drop(columns=[*usual, "seconds"]).to_string(
            index=False, float_format=lambda value: f"{value:.2f}"
        )
        return f"{text}\n\n{fill(self.recommendation, _WIDTH)}"

    __repr__ = __str__
