"""Plots of a fit: rows coloured by cluster, and each cluster's regression."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clusterwise.core.errors import OptionError
from clusterwise.fit import Fit
from clusterwise.frames.table import check_columns, open_table
from clusterwise.inference.simulate import component_means

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["new_axes", "plot_fit", "plot_lines", "plot_pairs", "plot_predictions"]

MAX_ROWS = 5_000
_BATCH = 65_536
_GRID = 200
_FEW = 500
_SEED = 7_105_112_108

# Okabe and Ito (2008): told apart by colour-blind readers; the markers serve in black and white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def new_axes(n: int = 1) -> list[Axes]:
    """Axes side by side in a figure of their own, which no global state refers to.

    Parameters
    ----------
    n : int, default 1
        Number of axes.

    Returns
    -------
    list of Axes
        Save their figure with ``axes[0].figure.savefig(path)``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4 * n, 4.8), dpi=150, layout="constrained")
    return list(figure.subplots(1, n, squeeze=False)[0])


def plot_fit(fit: Fit, data: Any, *, response: str | None = None, ax: Axes | None = None) -> Axes:
    """Plot a fit in the way that suits it.

    One covariate gives lines, several give observed against predicted values, and a plain mixture
    the first two columns.

    Parameters
    ----------
    fit : Fit
        The fit.
    data : frame or path
        Rows with covariates and response; at most 5,000 are shown.
    response : str, optional
        Which response, where there are several; the first by default.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Where it was drawn.
    """
    if fit.model.formula is None:
        names = list(fit.means.columns)
        return plot_pairs(fit, data, names[0], names[min(1, len(names) - 1)], ax=ax)
    draw = plot_lines if _only_covariate(fit, _part(fit, response)) else plot_predictions
    return draw(fit, data, response=response, ax=ax)


def plot_lines(fit: Fit, data: Any, *, response: str | None = None, ax: Axes | None = None) -> Axes:
    """Plot rows against their one covariate, with each cluster's regression and 2 sigma about it.

    Parameters
    ----------
    fit, data, response, ax
        As for `plot_fit`.

    Returns
    -------
    Axes
        Where it was drawn.
    """
    part = _part(fit, response)
    covariate = _only_covariate(fit, part)
    if covariate is None:
        raise OptionError(
            "plot_lines draws regressions on one numeric column; use plot_predictions."
        )
    rows, labels, n_rows = _sample(fit, data)
    y = _response(fit, part, rows)
    ax = ax if ax is not None else new_axes()[0]
    x = rows[covariate].to_numpy(float)
    _scatter(ax, x, y, labels, fit)
    name, coefficients, sigma = _regression(fit, part)
    grid = np.linspace(x.min(), x.max(), _GRID)
    frame = pd.DataFrame({covariate: grid})
    means = component_means(fit.reader.encoder, part, coefficients, frame)
    for k in _present(labels):
        colour = _COLOURS[k % len(_COLOURS)]
        low, high = means[:, k] - 2 * sigma[k], means[:, k] + 2 * sigma[k]
        ax.fill_between(grid, low, high, color=colour, alpha=0.15, linewidth=0)
        if len(rows) > _FEW:
            # A white edge keeps the line apart from points of its own colour.
            ax.plot(grid, means[:, k], color="white", linewidth=4, zorder=3)
        ax.plot(grid, means[:, k], color=colour, linewidth=2, zorder=4 if len(rows) > _FEW else 1.5)
    margin = 0.05 * (y.max() - y.min())
    ax.set_ylim(y.min() - margin, y.max() + margin)
    return _finish(ax, covariate, name, f"{name} on {covariate}, bands of 2 sigma", rows, n_rows)


def plot_predictions(
    fit: Fit, data: Any, *, response: str | None = None, ax: Axes | None = None
) -> Axes:
    """Plot the response against what the regression of each row's cluster predicts.

    Parameters
    ----------
    fit, data, response, ax
        As for `plot_fit`.

    Returns
    -------
    Axes
        Where it was drawn.
    """
    part = _part(fit, response)
    rows, labels, n_rows = _sample(fit, data)
    y = _response(fit, part, rows)
    ax = ax if ax is not None else new_axes()[0]
    name, coefficients, _ = _regression(fit, part)
    means = component_means(fit.reader.encoder, part, coefficients, rows)
    predicted = means[np.arange(len(rows)), labels]
    _scatter(ax, predicted, y, labels, fit)
    ends = [min(predicted.min(), y.min()), max(predicted.max(), y.max())]
    ax.plot(ends, ends, color="0.4", linewidth=1, linestyle="--", zorder=1)
    return _finish(
        ax, f"{name}, predicted by the row's cluster", f"{name}, observed",
        f"Observed against predicted {name}", rows, n_rows,
    )  # fmt: skip


def plot_pairs(fit: Fit, data: Any, x: str, y: str, *, ax: Axes | None = None) -> Axes:
    """Plot two columns, with 2 sigma of each cluster's density where both are modelled.

    Parameters
    ----------
    fit, data, ax
        As for `plot_fit`.
    x, y : str
        Columns of the data.

    Returns
    -------
    Axes
        Where it was drawn.
    """
    rows, labels, n_rows = _sample(fit, data, (x, y))
    ax = ax if ax is not None else new_axes()[0]
    _scatter(ax, rows[x].to_numpy(float), rows[y].to_numpy(float), labels, fit)
    modelled = fit.means.columns
    if x != y and x in modelled and y in modelled:
        for k in _present(labels):
            centre = fit.means.loc[k, [x, y]].to_numpy(float)
            matrix = fit.covariances[k].loc[[x, y], [x, y]].to_numpy(float)
            curve = centre[:, None] + 2 * np.linalg.cholesky(matrix) @ _circle()
            colour = _COLOURS[k % len(_COLOURS)]
            ax.plot(*curve, color=colour, linewidth=1.5, zorder=1.5)
    return _finish(ax, x, y, "Clusters, ellipses of 2 sigma", rows, n_rows)


def _circle() -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, _GRID)
    return np.stack([np.cos(angle), np.sin(angle)])


def _part(fit: Fit, response: str | None) -> int:
    """Number of a response."""
    names = [name for name, _ in fit.reader.layout.responses]
    if not names:
        raise OptionError("the model has no response to plot; use plot_pairs.")
    if response is None:
        return 0
    if response not in names:
        raise OptionError(f"response={response!r}: name one of {', '.join(map(repr, names))}.")
    return names.index(response)


def _only_covariate(fit: Fit, part: int) -> str | None:
    """The one numeric column that a regression is on, if it is on one."""
    encoder = fit.reader.encoder
    variables = encoder.variables(f"regressors:{part}")
    if len(variables) != 1 or encoder.levels(variables[0]) is not None:
        return None
    return variables[0]


def _regression(fit: Fit, part: int) -> tuple[str, np.ndarray, np.ndarray]:
    """Name, coefficients (k, p) and sigma (k,) of a response."""
    name = fit.reader.layout.responses[part][0]
    coefficients, dispersion = fit.coefficients, fit.dispersion
    if len(fit.reader.layout.responses) > 1:
        coefficients = coefficients.xs(name, axis="columns", level=0)
        dispersion = dispersion.xs(name, axis="columns", level=0)
    return name, coefficients.to_numpy(), dispersion.to_numpy()[:, 0]


def _response(fit: Fit, part: int, rows: pd.DataFrame) -> np.ndarray:
    design = f"response:{part}"
    return fit.reader.encoder.encode(rows, [design])[design][:, 0]


def _sample(fit: Fit, data: Any, also: Sequence[str] = ()) -> tuple[pd.DataFrame, np.ndarray, int]:
    """At most 5,000 rows, their clusters, and how many rows there are."""
    table = open_table(data)
    check_columns(also, table.names)
    encoder = fit.reader.encoder
    designs = [name for name in encoder.designs if name != "weight"]
    needed = [v for design in designs for v in encoder.variables(design)]
    # Data may be made with a small seed; keys equal to a column would pick its smallest values.
    rng = np.random.default_rng(_SEED)
    kept, keys, n_rows = pd.DataFrame(), np.empty(0), 0
    for frame in table.batches(list(dict.fromkeys([*needed, *also])), _BATCH):
        # The rows with the smallest random keys are a sample without replacement.
        joined = pd.concat([kept, frame], ignore_index=True) if n_rows else frame
        keys = np.concatenate([keys, rng.random(len(frame))])
        chosen = np.sort(np.argsort(keys)[:MAX_ROWS])
        kept, keys = joined.iloc[chosen].reset_index(drop=True), keys[chosen]
        n_rows += len(frame)
    return kept, fit.assign(kept), n_rows


def _present(labels: np.ndarray) -> Iterable[int]:
    return [int(k) for k in np.unique(labels)]


def _scatter(ax: Axes, x: np.ndarray, y: np.ndarray, labels: np.ndarray, fit: Fit) -> None:
    many = len(x) > _FEW
    for k in _present(labels):
        inside = labels == k
        ax.scatter(
            x[inside],
            y[inside],
            s=9 if many else 22,
            alpha=0.4 if many else 0.8,
            color=_COLOURS[k % len(_COLOURS)],
            marker=_MARKERS[k % len(_MARKERS)],
            linewidths=0,
            zorder=2,
            label=f"cluster {k} (weight {fit.weights[k]:.2f})",
        )


def _finish(ax: Axes, x: str, y: str, title: str, rows: pd.DataFrame, n_rows: int) -> Axes:
    ax.set_xlabel(_escaped(x))
    ax.set_ylabel(_escaped(y))
    shown = f"\n{len(rows):,} of {n_rows:,} rows shown" if n_rows > len(rows) else ""
    ax.set_title(_escaped(title) + shown, fontsize="medium")
    ax.spines[["top", "right"]].set_visible(False)
    legend = ax.legend(
        # Below the axes, where it covers no row.
        loc="upper center",
        bbox_to_anchor=(0.5, -0.12),
        ncols=2 if len(ax.get_legend_handles_labels()[0]) == 4 else 3,
        frameon=False,
        fontsize="small",
        markerscale=1 if len(rows) <= _FEW else 2,
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    return ax


def _escaped(text: str) -> str:
    """Text that matplotlib takes as it is: two dollar signs would begin mathematics."""
    return text.replace("$", r"\$")
