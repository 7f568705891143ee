"""How a fit was found: optima, and the objective on its way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from clusterwise.plots import canvas
from clusterwise.plots.canvas import COLOURS

if TYPE_CHECKING:
    from clusterwise.fit import Fit

_MOST = 25
_KINDS = (
    ("chosen", COLOURS[0], ""),
    ("another optimum", COLOURS[5], ""),
    ("not run to the end", "0.85", ""),
    ("degenerate", COLOURS[1], "////"),
)


def kind_of(optimum: Mapping[str, Any]) -> str:
    """What a row of `Fit.restarts` is: degenerate before all, for it may be chosen too."""
    if optimum["degenerate"]:
        return "degenerate"
    if optimum["chosen"]:
        return "chosen"
    return "another optimum" if optimum["finished"] else "not run to the end"


def restarts(fit: Fit, *, ax: Any = None) -> Any:
    """See `FitPlots.restarts`."""
    whole = fit.restarts.sort_values("objective", ascending=False, kind="stable")
    table = whole.iloc[:_MOST]
    n = len(table)
    (own,) = canvas.panels(ax, 1, size=(6.4, 1.5 + 0.24 * max(n, 4)))
    kinds = [kind_of(row) for row in table.to_dict(orient="records")]
    for name, colour, hatch in _KINDS:
        at = [i for i, kind in enumerate(kinds) if kind == name]
        if at:
            own.barh(
                at,
                table["reached"].to_numpy()[at],
                color=colour,
                hatch=hatch,
                edgecolor="white",
                label=name,
            )
    chosen = np.flatnonzero(table["chosen"].to_numpy())
    names = [f"{value:.6g}" for value in table["log_likelihood"]]
    own.set_yticks(range(n), [f"▸ {t}" if i in chosen else t for i, t in enumerate(names)])
    own.set_ylim(n - 0.4, -0.6)
    canvas.whole_numbers(own)
    starts = int(whole["starts"].iloc[0])
    rest = len(whole) - n
    notes = [
        f"{starts} starts, {len(whole)} distinct optima, highest objective first",
        f"{rest} lower ones, reached {int(whole['reached'].iloc[n:].sum())} times, left out"
        if rest
        else "",
    ]
    title = "Optima that starts ended in"
    canvas.finish(own, "starts that reached it", "log likelihood", title, notes, 60)
    canvas.listed(own, *own.get_legend_handles_labels())
    return own


_OBJECTIVES = {
    "em": "log likelihood and log prior",
    "vi": "evidence lower bound",
    "svi": "evidence lower bound (estimate)",
    "memoized": "evidence lower bound",
}


def history(fit: Fit, *, ax: Any = None) -> Any:
    """See `FitPlots.history`."""
    values = np.asarray(fit.history, float)
    (own,) = canvas.panels(ax, 1, size=(6.0, 4.0))
    sampled = fit.has_chains
    own.plot(
        np.arange(1, len(values) + 1),
        values,
        color=COLOURS[0],
        linewidth=0.8 if sampled else 1.6,
        marker="o" if len(values) <= 50 and not sampled else "",
        markersize=3,
        label="objective",
    )
    what = (
        "log likelihood, average of chains" if sampled else _OBJECTIVES.get(fit.engine, "objective")
    )
    said = "converged" if fit.converged else "NOT converged"
    notes = [] if sampled else [f"{said} after {fit.n_iter} iterations, at {fit.objective:.6g}"]
    title = "Log likelihood of draws" if sampled else f"Objective of engine {fit.engine!r}"
    canvas.finish(own, "draw" if sampled else "iteration", what, title, notes, 60)
    return own
