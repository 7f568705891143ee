"""Rows coloured by cluster, with what each cluster says of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from clusterwise.core.errors import OptionError
from clusterwise.plots import canvas
from clusterwise.plots.canvas import plain, style_of
from clusterwise.plots.rows import (
    Shown,
    grid_of,
    jitter,
    levels_of,
    reference_row,
    regressors_of,
    response_of,
    shown_rows,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from clusterwise.fit import Fit
    from clusterwise.inference.components import ComponentPredictions

GRID = 100
_FEW = 500
_JITTER = 0.04
_BINS = 30


class Curves(NamedTuple):
    """A panel's curves over a grid: each cluster's mean (g, k) and band (2, g, k), if any."""

    mean: np.ndarray
    band: np.ndarray | None


def clusters(
    fit: Fit,
    data: Any,
    *,
    x: str | None = None,
    response: str | None = None,
    level: float = 0.9,
    ax: Any = None,
) -> Any:
    """See `FitPlots.clusters`."""
    responses = dict(fit.reader.layout.responses)
    if response is None and not responses:
        names = list(fit.means.columns)
        if not names:
            raise OptionError(
                "The model has no numeric column to draw; plot.profile() shows its levels."
            )
        across = str(names[0] if x is None else x)
        others = [str(name) for name in names if name != across]
        if not others:
            return _spread(fit, data, across, ax)
        return _pairs(fit, data, across, others[0], ax)
    if response is not None and response not in responses:
        others = [str(name) for name in fit.means.columns if name != response]
        if x is None and not others:
            raise OptionError(f"response={response!r} is no response of the model; give x= too.")
        return _pairs(fit, data, others[0] if x is None else x, response, ax)
    name, part = response_of(fit, response, "give x= and response= two columns.")
    variables = regressors_of(fit, name)
    if x is None:
        numeric = [v for v in variables if levels_of(fit, v) is None]
        if not variables:
            return _spread(fit, data, name, ax)
        x = numeric[0] if numeric else variables[0]
    if x not in variables:
        raise OptionError(
            f"x={x!r} is not in the regression of {name!r}, which is on "
            f"{', '.join(map(repr, variables)) or 'nothing'}."
        )
    return _regression(fit, data, x, name, part, level, ax)


def _regression(fit: Fit, data: Any, x: str, name: str, part: int, level: float, ax: Any) -> Any:
    shown = shown_rows(fit, data, complete=True)
    labels = fit.assign(shown.frame)
    grid = grid_of(fit, shown.frame, x, GRID)
    held = reference_row(fit, shown.frame)
    frame = pd.DataFrame({**{c: [v] * len(grid) for c, v in held.items()}, x: grid})
    said = fit.component_predictions(frame, name)
    observed = fit.component_predictions(shown.frame, name, observed=True)
    form = fit.reader.layout.parts[part].form
    y = observed.response()
    curves = curves_of(fit, said, level)
    others = [v for v in regressors_of(fit, name) if v != x]
    notes = [shown.note, _held(others, held)]
    band = band_name(fit, part, level) if curves[0].band is not None else ""
    panels = canvas.panels(ax, len(curves), size=(6.4, 4.6) if len(curves) == 1 else (4.2, 3.4))
    present = np.unique(labels).tolist()
    titles = panel_titles(fit, part, name)
    trials = observed.trials()
    for number, (own, one) in enumerate(zip(panels, curves, strict=True)):
        values = y
        if len(curves) > 1:
            values = (y == number).astype(float)
        elif trials is not None:
            values = y / np.maximum(trials, 1)
        binary = form.categorical
        if binary:
            values = values + _JITTER * jitter(len(values))
        positions = _places(fit, x, shown.frame)
        places = _grid_places(fit, x, grid)
        if levels_of(fit, x) is not None:
            positions = positions + 0.12 * jitter(len(positions))
        scatter(own, positions, values, labels)
        draw_curves(own, places, one, present, by_level=levels_of(fit, x) is not None)
        _limits(own, values, binary or trials is not None)
        _level_ticks(own, fit, x)
        title = f"{titles[number]} on {plain(x)} by cluster"
        canvas.finish(
            own,
            plain(x),
            titles[number],
            title if len(curves) == 1 else titles[number],
            [band, *notes] if number == 0 else (),
            width=56 if len(curves) == 1 else 34,
        )
    canvas.legend(panels[-1], present, fit.weights)
    return canvas.returned(panels)


def curves_of(fit: Fit, said: ComponentPredictions, level: float) -> list[Curves]:
    """Each cluster's mean and band: one panel, or one a level."""
    form = fit.reader.layout.parts[said.part].form
    mean = said.mean()
    trials = said.trials()
    share = 1.0 if trials is None else np.maximum(trials, 1)[:, None]
    if form.categorical:
        # Of zeros and ones no interval says anything; how sure their probability is does.
        band = said.mean_interval(level)
    else:
        whole = said.quantiles(np.array([(1 - level) / 2, (1 + level) / 2]))
        band = np.moveaxis(whole, 2, 0) / share
    if mean.ndim == 2:
        return [Curves(mean / share, band)]
    return [
        Curves(mean[..., j], None if band is None else band[..., j]) for j in range(mean.shape[2])
    ]


def band_name(fit: Fit, part: int, level: float) -> str:
    """What the bands of a response are."""
    if fit.reader.layout.parts[part].form.categorical:
        return f"bands: {level:.0%} intervals of the probability"
    return f"bands: {level:.0%} of rows in the cluster"


def panel_titles(fit: Fit, part: int, name: str) -> list[str]:
    """What the vertical axis of each panel of a response shows."""
    own = fit.reader.layout.parts[part]
    if own.form.by_level:
        levels = [column.partition("=")[2] for column in own.names]
        return [f"P({plain(name, 24)} = {plain(level, 16)})" for level in levels]
    if own.form.takes_trials:
        return [f"share of {plain(name)}"]
    return [f"P({plain(name)})" if own.form.categorical else plain(name)]


def scatter(ax: Axes, x: np.ndarray, y: np.ndarray, labels: np.ndarray) -> None:
    """Rows in their clusters' colours and markers."""
    many = len(x) > _FEW
    for k in np.unique(labels).tolist():
        inside, style = labels == k, style_of(k)
        ax.scatter(
            x[inside],
            y[inside],
            s=9 if many else 22,
            alpha=0.4 if many else 0.7,
            color=style.colour,
            marker=style.marker,
            linewidths=0,
            zorder=2,
            label=f"cluster {k}",
        )


def draw_curves(
    ax: Axes, grid: np.ndarray, curves: Curves, present: Iterable[int], *, by_level: bool
) -> None:
    """Lines with bands over numbers; over levels points with bars, side by side."""
    present = list(present)
    shifts = np.linspace(-0.25, 0.25, len(present)) if len(present) > 1 else [0.0]
    for shift, k in zip(shifts, present, strict=True):
        style, mean = style_of(k), curves.mean[:, k]
        band = None if curves.band is None else curves.band[:, :, k]
        if by_level:
            length = None if band is None else np.abs(band - mean)
            ax.errorbar(
                grid + shift,
                mean,
                yerr=length,
                color=style.colour,
                marker=style.marker,
                markeredgecolor="white",
                markersize=7,
                linestyle="",
                linewidth=1.5,
                zorder=4,
                label=f"mean of cluster {k}",
            )
            continue
        if band is not None:
            ax.fill_between(
                grid, *band, color=style.colour, alpha=0.15, linewidth=0, label=f"band {k}"
            )
        # A white edge keeps the line apart from points of its own colour.
        ax.plot(grid, mean, color="white", linewidth=3.6, zorder=3, label=f"_edge {k}")
        ax.plot(
            grid,
            mean,
            color=style.colour,
            linestyle=style.dashes,
            linewidth=2,
            zorder=4,
            label=f"mean of cluster {k}",
        )


def _held(others: list[str], held: dict[str, Any]) -> str:
    """Where the other columns are held."""
    if len(others) > 3:
        return "other columns held at their means or first levels"
    said = [
        f"{plain(v, 20)} = {held[v]:.3g}"
        if isinstance(held[v], float)
        else f"{plain(v, 20)} = {plain(held[v], 16)}"
        for v in others
    ]
    return f"at {', '.join(said)}" if said else ""


def _places(fit: Fit, x: str, frame: pd.DataFrame) -> np.ndarray:
    levels = levels_of(fit, x)
    if levels is None:
        return frame[x].to_numpy(float)
    return np.array([levels.index(value) for value in frame[x].tolist()], float)


def _grid_places(fit: Fit, x: str, grid: np.ndarray) -> np.ndarray:
    return np.arange(len(grid), dtype=float) if levels_of(fit, x) is not None else grid


def _level_ticks(ax: Axes, fit: Fit, x: str) -> None:
    levels = levels_of(fit, x)
    if levels is not None:
        names = [plain(level, 16) for level in levels]
        long = sum(map(len, names)) > 40
        ax.set_xticks(
            range(len(levels)), names, rotation=35 if long else 0, ha="right" if long else "center"
        )


def _limits(ax: Axes, y: np.ndarray, share: bool) -> None:
    low, high = (0.0, 1.0) if share else (float(y.min()), float(y.max()))
    margin = 0.08 * (high - low) or 1.0
    ax.set_ylim(low - margin, high + margin)


def _pairs(fit: Fit, data: Any, x: str, y: str, ax: Any) -> Axes:
    shown = shown_rows(fit, data, (x, y))
    labels = fit.assign(shown.frame)
    for name in (x, y):
        if not pd.api.types.is_numeric_dtype(shown.frame[name]):
            raise OptionError(f"{name!r} is not numeric; x and response= take numeric columns.")
    (own,) = canvas.panels(ax, 1, size=(6.4, 4.6))
    # Rows without one of the two values are not drawn.
    scatter(own, shown.frame[x].to_numpy(float), shown.frame[y].to_numpy(float), labels)
    modelled = fit.means.columns
    ellipses = x != y and x in modelled and y in modelled
    present = np.unique(labels).tolist()
    if ellipses:
        angle = np.linspace(0, 2 * np.pi, 2 * GRID)
        circle = np.stack([np.cos(angle), np.sin(angle)])
        covariances = fit.covariances
        for k in present:
            centre = fit.means.loc[k, [x, y]].to_numpy(float)
            matrix = covariances[k].loc[[x, y], [x, y]].to_numpy(float)
            curve = centre[:, None] + 2 * np.linalg.cholesky(matrix) @ circle
            style = style_of(k)
            own.plot(
                *curve,
                color=style.colour,
                linestyle=style.dashes,
                linewidth=1.5,
                label=f"ellipse of cluster {k}",
            )
    note = "ellipses of 2 standard deviations" if ellipses else ""
    title = f"{plain(y)} and {plain(x)} by cluster"
    canvas.finish(own, plain(x), plain(y), title, [note, shown.note], 56)
    canvas.legend(own, present, fit.weights, lines=ellipses)
    return own


def _spread(fit: Fit, data: Any, name: str, ax: Any) -> Any:
    """One column by cluster, and each cluster's density of it, weighted."""
    shown = shown_rows(fit, data, complete=True)
    labels = fit.assign(shown.frame)
    responses = dict(fit.reader.layout.responses)
    weights = fit.weights.to_numpy()
    ticks = None
    if name in responses:
        part = responses[name]
        own = fit.reader.layout.parts[part]
        said = fit.component_predictions(shown.frame, name, observed=True)
        values = said.response()
        first = fit.component_predictions(shown.frame.iloc[:1], name)
        if own.form.by_level:
            ticks = [column.partition("=")[2] for column in own.names]
        whole = own.form.categorical or bool(not own.form.scaled and np.all(values % 1 == 0))
        edges = _edges(values, whole)
        grid = (edges[:-1] + edges[1:]) / 2 if whole else np.linspace(edges[0], edges[-1], 300)
        density = first.density(grid)[0]
    else:
        values = shown.frame[name].to_numpy(float)
        whole, edges = False, _edges(values, False)
        grid = np.linspace(edges[0], edges[-1], 300)
        means = fit.means[name].to_numpy()[:, None]
        sds = np.array([np.sqrt(c.loc[name, name]) for c in fit.covariances])[:, None]
        density = np.exp(-0.5 * ((grid - means) / sds) ** 2) / sds / np.sqrt(2 * np.pi)
    (axes,) = canvas.panels(ax, 1, size=(6.4, 4.6))
    bottom = np.zeros(len(edges) - 1)
    step = edges[1] - edges[0]
    present = np.unique(labels).tolist()
    for k in present:
        share = np.histogram(values[labels == k], edges)[0] / len(values) / (1 if whole else step)
        style = style_of(k)
        axes.bar(
            (edges[:-1] + edges[1:]) / 2,
            share,
            width=0.9 * step if whole else step,
            bottom=bottom,
            color=style.colour,
            alpha=0.45,
            label=f"rows of cluster {k}",
        )
        bottom += share
        axes.plot(
            grid,
            weights[k] * density[k],
            color=style.colour,
            linestyle=style.dashes,
            marker=style.marker if whole else "",
            linewidth=2,
            label=f"mean of cluster {k}",
        )
    if ticks is not None:
        axes.set_xticks(range(len(ticks)), [plain(level, 16) for level in ticks])
    title = f"{plain(name)} by cluster"
    y = "share of rows" if whole else "density"
    canvas.finish(axes, plain(name), y, title, [shown.note, "lines: weighted densities"], 56)
    canvas.legend(axes, present, fit.weights)
    return axes


def _edges(values: np.ndarray, whole: bool) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    if whole and high - low < 200:
        return np.arange(low - 0.5, high + 1)
    return np.linspace(low, high if high > low else low + 1, _BINS + 1)


__all__ = ["Curves", "Shown", "clusters", "curves_of", "draw_curves", "scatter"]
