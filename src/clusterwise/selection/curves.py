"""Criteria against the number of clusters, as curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clusterwise.selection.criteria import Criterion

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito (2008): told apart by colour-blind readers; the markers serve in black and white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LINES = ("-", "--", ":", "-.")


def plot_selection(
    table: pd.DataFrame, criteria: Sequence[Criterion], ax: Axes | None = None
) -> Axes:
    """Draw every criterion's distance from the best against the number of clusters.

    Parameters
    ----------
    table : DataFrame
        As `Selection.table` has it.
    criteria : sequence of Criterion
        What to draw; p-values of tests have no distance and are left out.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Where it was drawn.
    """
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(6.4, 4.8), dpi=150, layout="constrained").subplots()
    criteria = [criterion for criterion in criteria if not criterion.test]
    labels = list(table.columns[: table.columns.get_loc("n_components")])
    chains: list[Any] = [*table.groupby(labels, sort=False)] if labels else [((), table)]
    # Criteria on the scale of the log density count double on that of the deviance.
    scaled = {c.name: -c.gains(table[c.name].to_numpy()) * 2 / c.per_log_density for c in criteria}
    for i, (name, rows) in enumerate(chains):
        for j, criterion in enumerate(criteria):
            distance = scaled[criterion.name] - np.nanmin(scaled[criterion.name])
            spread = None
            if criterion.pointwise:
                spread = 4 * table[f"{criterion.name}_diff_se"].to_numpy()[rows.index]
            title = criterion.title.removeprefix("the ")
            ax.errorbar(
                rows["n_components"],
                distance[rows.index],
                yerr=spread,
                color=_COLOURS[j % len(_COLOURS)],
                marker=_MARKERS[j % len(_MARKERS)],
                linestyle=_LINES[i % len(_LINES)],
                capsize=3,
                label=", ".join([title, *map(str, name)]),
            )
    ax.set_xlabel("Number of clusters")
    ax.set_ylabel("Distance from the best (lower is better)")
    ax.set_xticks(sorted(table["n_components"].unique()))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")
    return ax
