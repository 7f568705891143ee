"""Does the model fit: residuals, replicated data, observed against predicted values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clusterwise.core.errors import OptionError
from clusterwise.core.random import RandomState, as_generator
from clusterwise.plots import canvas
from clusterwise.plots.canvas import GREY, plain, style_of
from clusterwise.plots.clusters import scatter
from clusterwise.plots.rows import response_of, shown_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from clusterwise.fit import Fit

_GRID = 256
_MOST_BARS = 40
_INSTEAD = "plot.posterior_predictive(data) compares its columns with simulated ones."


def residuals(
    fit: Fit,
    data: Any,
    *,
    response: str | None = None,
    random_state: RandomState = 0,
    ax: Any = None,
) -> Any:
    """See `FitPlots.residuals`."""
    name, part = response_of(fit, response, _INSTEAD)
    if not fit.reader.is_ordered(part):
        raise OptionError(
            f"Residuals need a response whose values have an order, and {name!r} has none; use "
            f"plot.posterior_predictive(data, response={name!r})."
        )
    rng = as_generator(random_state)
    shown = shown_rows(fit, data, complete=True)
    labels = drawn_labels(fit.responsibilities(shown.frame), rng)
    said = fit.component_predictions(shown.frame, name, observed=True)
    values = said.residuals(labels, rng)
    mean = said.mean()
    if mean.ndim == 3:
        mean = mean @ np.arange(mean.shape[2])
    fitted = mean[np.arange(len(labels)), labels]
    present = np.unique(labels).tolist()
    panels = canvas.panels(ax, 2)
    panels[0].axhline(0, color=GREY, linewidth=1, linestyle=":", zorder=1)
    scatter(panels[0], fitted, values, labels)
    for k in present:
        own = np.sort(values[labels == k])
        style = style_of(k)
        panels[1].plot(
            normal_quantiles(len(own)),
            own,
            color=style.colour,
            marker=style.marker,
            markersize=3 if len(values) > 500 else 4,
            markeredgewidth=0,
            linestyle="",
            alpha=0.7,
            label=f"cluster {k}",
        )
    end = max(3.0, float(np.abs(values).max()))
    panels[1].plot([-end, end], [-end, end], color=GREY, linewidth=1, linestyle=":", zorder=1)
    far = normal_quantiles(len(values))[-1] * 1.08
    panels[1].set_xlim(-far, far)
    panels[1].set_ylim(-1.05 * end, 1.05 * end)
    canvas.finish(
        panels[0],
        f"{plain(name)}, mean in the cluster",
        "quantile residual",
        f"Residuals of {plain(name)}",
        [shown.note, "each row's cluster drawn by its probabilities"],
        width=44,
    )
    canvas.finish(
        panels[1], "quantile of the standard normal", None, "Normal if the model holds", width=44
    )
    canvas.legend(panels[1], present, fit.weights, lines=False)
    return canvas.returned(panels)


def drawn_labels(resp: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A cluster (n,) for each row, drawn by its probabilities (n, k).

    With the most probable one instead, residuals would be cut off where clusters overlap.
    """
    below = np.cumsum(resp, axis=1)[:, :-1] <= rng.random((len(resp), 1))
    return below.sum(axis=1)


def normal_quantiles(n: int) -> np.ndarray:
    """Where n ordered standard normal numbers are expected (Blom 1958)."""
    from scipy.special import ndtri

    return ndtri((np.arange(1, n + 1) - 0.375) / (n + 0.25))


def posterior_predictive(
    fit: Fit,
    data: Any,
    *,
    response: str | None = None,
    n_samples: int = 50,
    level: float = 0.9,
    random_state: RandomState = 0,
    ax: Any = None,
) -> Any:
    """See `FitPlots.posterior_predictive`."""
    shown = shown_rows(fit, data, complete=True)
    ticks: list[str] | None = None
    if fit.reader.layout.responses:
        name, part = response_of(fit, response, _INSTEAD)
        own = fit.reader.layout.parts[part]
        said = fit.component_predictions(shown.frame, name, observed=True)
        observed = said.response()
        replicated = said.replicate(n_samples, as_generator(random_state))
        if own.form.by_level:
            ticks = [plain(column.partition("=")[2], 16) for column in own.names]
        elif own.form.categorical:
            ticks = ["0", "1"]
        whole = bool(np.all(replicated % 1 == 0) and np.all(observed % 1 == 0))
        source = "posterior predictive" if fit.has_posterior else "predictive, at the estimates"
    else:
        name, observed, replicated, ticks = _of_mixture(
            fit, shown.frame, response, n_samples, as_generator(random_state)
        )
        whole, source = ticks is not None, "simulated from the estimates"
    (own_axes,) = canvas.panels(ax, 1, size=(6.4, 4.2))
    title = f"{plain(name)}: observed and replicated rows"
    if whole:
        _bars(own_axes, observed, replicated, level, ticks)
        what = f"{level:.0%} intervals of {n_samples} data sets, {source}"
    else:
        _densities(own_axes, observed, replicated)
        what = f"{n_samples} data sets, {source}"
    canvas.finish(
        own_axes, plain(name), "rows" if whole else "density", title, [what, shown.note], 60
    )
    return own_axes


def _of_mixture(
    fit: Fit, frame: Any, column: str | None, n_samples: int, rng: np.random.Generator
) -> tuple[str, np.ndarray, np.ndarray, list[str] | None]:
    """A modelled covariate, as observed and as the point estimates simulate it."""
    names = [*fit.means.columns, *fit.levels]
    name = names[0] if column is None else column
    if name not in names:
        raise OptionError(f"response={column!r}: name one of {', '.join(map(repr, names))}.")
    replicated = [fit.simulate(len(frame), rng)[name].to_numpy() for _ in range(n_samples)]
    if name in fit.levels:
        levels = list(fit.reader.encoder.levels(name) or ())
        place = {level: i for i, level in enumerate(levels)}
        observed = np.array([place[v] for v in frame[name].tolist()], float)
        coded = [np.array([place[v] for v in own.tolist()], float) for own in replicated]
        return name, observed, np.stack(coded), [plain(level, 16) for level in levels]
    if name not in frame:
        raise OptionError(f"response={name!r} is an expression; name a column of the data.")
    return name, frame[name].to_numpy(float), np.stack(replicated), None


def _bars(
    ax: Axes,
    observed: np.ndarray,
    replicated: np.ndarray,
    level: float,
    ticks: list[str] | None,
) -> None:
    low, high = observed.min(), observed.max()
    if ticks is not None:
        low, high = 0, len(ticks) - 1
    step = max(1.0, np.ceil((high - low + 1) / _MOST_BARS))
    edges = np.arange(low - 0.5, high + step, step)
    # What lies outside the observed counts is counted at the ends.
    inside = np.clip(replicated, edges[0], edges[-1])
    counts = np.stack([np.histogram(own, edges)[0] for own in inside])
    middle = (edges[:-1] + edges[1:]) / 2
    ax.bar(
        middle,
        np.histogram(observed, edges)[0],
        width=0.8 * step,
        color="0.75",
        label="observed",
    )
    mean = counts.mean(axis=0)
    ends = np.quantile(counts, [(1 - level) / 2, (1 + level) / 2], axis=0)
    ax.errorbar(
        middle,
        mean,
        yerr=np.abs(ends - mean),
        color=canvas.COLOURS[0],
        marker="o",
        markersize=4,
        linestyle="",
        linewidth=1.5,
        label="replicated",
    )
    if ticks is not None:
        long = sum(map(len, ticks)) > 50
        ax.set_xticks(
            range(len(ticks)), ticks, rotation=35 if long else 0, ha="right" if long else "center"
        )
    canvas.listed(ax, *ax.get_legend_handles_labels())


def _densities(ax: Axes, observed: np.ndarray, replicated: np.ndarray) -> None:
    spread = float(np.ptp(observed)) or 1.0
    grid = np.linspace(observed.min() - 0.1 * spread, observed.max() + 0.1 * spread, _GRID)
    width = bandwidth(observed)
    for i, own in enumerate(replicated):
        label = "replicated" if i == 0 else f"_replicated {i}"
        density = smooth_density(own, grid, width)
        ax.plot(grid, density, color=canvas.COLOURS[5], linewidth=0.6, alpha=0.5, label=label)
    ax.plot(
        grid,
        smooth_density(observed, grid, width),
        color="black",
        linewidth=2,
        label="observed",
    )
    ax.set_ylim(bottom=0)
    handles, labels = ax.get_legend_handles_labels()
    canvas.listed(ax, handles, labels)
    shown = ax.get_legend()
    assert shown is not None
    for line in shown.get_lines():
        line.set_alpha(1)
        line.set_linewidth(max(1.2, line.get_linewidth()))


def bandwidth(values: np.ndarray) -> float:
    """Silverman's (1986) rule of thumb, by the smaller of two measures of spread."""
    q25, q75 = np.quantile(values, [0.25, 0.75])
    spread = min(s for s in (float(values.std()), (q75 - q25) / 1.349, np.inf) if s > 0)
    return 0.9 * (spread if np.isfinite(spread) else 1.0) * len(values) ** -0.2


def smooth_density(values: np.ndarray, grid: np.ndarray, width: float) -> np.ndarray:
    """Gaussian kernel density of values at a grid."""
    z = (grid[:, None] - values) / width
    return np.exp(-0.5 * np.square(z)).mean(axis=1) / (width * np.sqrt(2 * np.pi))


def predictions(fit: Fit, data: Any, *, response: str | None = None, ax: Any = None) -> Any:
    """See `FitPlots.predictions`."""
    name, part = response_of(fit, response, "plot.clusters(data) shows its columns.")
    if fit.reader.layout.parts[part].form.categorical:
        raise OptionError(
            f"{name!r} has levels, which no line predicts; use plot.clusters or "
            "plot.posterior_predictive."
        )
    shown = shown_rows(fit, data, complete=True)
    labels = fit.assign(shown.frame)
    said = fit.component_predictions(shown.frame, name, observed=True)
    y = said.response()
    predicted = said.mean()[np.arange(len(y)), labels]
    (own,) = canvas.panels(ax, 1, size=(6.4, 4.6))
    scatter(own, predicted, y, labels)
    ends = [min(predicted.min(), y.min()), max(predicted.max(), y.max())]
    own.plot(ends, ends, color=GREY, linewidth=1, linestyle="--", zorder=1)
    canvas.finish(
        own,
        f"{plain(name)}, predicted by the row's cluster",
        f"{plain(name)}, observed",
        f"Observed against predicted {plain(name)}",
        [shown.note],
        56,
    )
    canvas.legend(own, np.unique(labels).tolist(), fit.weights, lines=False)
    return own
