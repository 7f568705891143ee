"""Partial dependence: what a regression says of one column, averaged over the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clusterwise.core.errors import OptionError
from clusterwise.plots import canvas
from clusterwise.plots.canvas import plain
from clusterwise.plots.clusters import Curves, _level_ticks, draw_curves, panel_titles
from clusterwise.plots.rows import (
    grid_of,
    levels_of,
    regressors_of,
    response_of,
    shown_rows,
)

if TYPE_CHECKING:
    from clusterwise.fit import Fit

_GRID = 25
_ROWS = 200


def partial_dependence(
    fit: Fit,
    data: Any,
    terms: str | Sequence[str] | None = None,
    *,
    response: str | None = None,
    level: float = 0.9,
    ax: Any = None,
) -> Any:
    """See `FitPlots.partial_dependence`."""
    name, part = response_of(fit, response, "plot.profile() shows its covariates.")
    known = regressors_of(fit, name)
    wanted = list(known) if terms is None else [terms] if isinstance(terms, str) else list(terms)
    wrong = [term for term in wanted if term not in known]
    if wrong or not wanted:
        raise OptionError(
            f"terms={terms!r}: the regression of {name!r} is on the columns "
            f"{', '.join(map(repr, known)) or '(none)'}; name some of them."
        )
    shown = shown_rows(fit, data, most=_ROWS, complete=True)
    labels = np.unique(fit.assign(shown_rows(fit, data).frame)).tolist()
    titles = panel_titles(fit, part, name)
    panels = canvas.panels(ax, len(wanted) * len(titles), columns=min(3, len(wanted)))
    notes = [shown.note and f"averaged over {shown.note}"]
    for j, variable in enumerate(wanted):
        grid = grid_of(fit, shown.frame, variable, _GRID)
        found = _averaged(fit, name, shown.frame, variable, grid, level)
        by_level = levels_of(fit, variable) is not None
        for i, (title, curves) in enumerate(zip(titles, found, strict=True)):
            own = panels[i * len(wanted) + j]
            places = np.arange(len(grid), dtype=float) if by_level else grid.astype(float)
            draw_curves(own, places, curves, labels, by_level=by_level)
            _level_ticks(own, fit, variable)
            band = f"{level:.0%} intervals of the mean" if curves.band is not None else ""
            first = i == j == 0
            canvas.finish(
                own,
                plain(variable),
                title if j == 0 or len(titles) > 1 else None,
                f"Partial dependence of {plain(name)}" if first else "",
                [band, *notes] if first else (),
                width=40,
            )
    for own in panels[1:]:
        if len(titles) == 1:
            own.sharey(panels[0])
    at = min(2, len(wanted) - 1)
    canvas.legend(panels[at], labels, fit.weights, points=False)
    return canvas.returned(panels)


def _averaged(
    fit: Fit, name: str, frame: pd.DataFrame, variable: str, grid: np.ndarray, level: float
) -> list[Curves]:
    """Each cluster's mean response with the column set to each value in turn in all rows."""
    means, draws = [], []
    for value in grid:
        rows = frame.assign(**{variable: value})
        said = fit.component_predictions(rows, name)
        trials = said.trials()
        share = 1.0 if trials is None else np.maximum(trials, 1)[:, None]
        means.append((said.mean() / share).mean(axis=0))
        draws.append((said.means_of_draws() / np.expand_dims(share, -1)).mean(axis=0))
    mean, drawn = np.stack(means), np.stack(draws)  # (g, k, ...), (g, draws, k, ...)
    band = None
    if drawn.shape[1] > 1:
        band = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=1)
    if mean.ndim == 2:
        return [Curves(mean, band)]
    return [
        Curves(mean[..., i], None if band is None else band[..., i]) for i in range(mean.shape[2])
    ]
