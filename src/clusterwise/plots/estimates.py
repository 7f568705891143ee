"""Estimates: coefficients as a forest, the covariates' profile as a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from clusterwise.core.errors import OptionError
from clusterwise.plots import canvas
from clusterwise.plots.canvas import GREY, plain, style_of

if TYPE_CHECKING:
    from clusterwise.fit import Fit


def coefficients(
    fit: Fit,
    *,
    response: str | None = None,
    errors: pd.DataFrame | None = None,
    level: float = 0.9,
    ax: Any = None,
) -> Any:
    """See `FitPlots.coefficients`."""
    table = fit.coefficients
    if not len(table.columns):
        raise OptionError("The model has no regression; plot.profile() shows its covariates.")
    columns = list(table.columns)
    if response is not None:
        columns = _of_response(fit, columns, response)
    low, high = _ends(fit, table, errors, level)
    panels = canvas.panels(ax, len(columns), size=(3.2, 0.9 + 0.22 * max(fit.n_components, 4)))
    several = isinstance(columns[0], tuple)
    unknown = set(fit.not_identified)
    responses = [name for name, _ in fit.reader.layout.responses]
    for number, (own, column) in enumerate(zip(panels, columns, strict=True)):
        term = column[1] if several else column
        title = f"{plain(column[0], 24)}: {plain(term)}" if several else plain(term)
        own.axvline(0, color=GREY, linewidth=1, linestyle=":", label="zero")
        for k in range(fit.n_components):
            style, value = style_of(k), float(table[column].iloc[k])
            ends = None
            if low is not None and high is not None and column in low:
                ends = np.abs([[low[column].iloc[k] - value], [high[column].iloc[k] - value]])
            own.errorbar(
                value,
                k,
                xerr=ends,
                color=style.colour,
                marker=style.marker,
                markersize=5,
                linewidth=1.6,
                label=f"cluster {k}",
            )
        own.set_ylim(fit.n_components - 0.5, -0.5)
        own.set_yticks(range(fit.n_components), [str(k) for k in range(fit.n_components)])
        owner = column[0] if several else responses[0]
        what = ["not identified"] if (owner, term) in unknown else []
        if number == 0:
            what += [f"{level:.0%} intervals"] if low is not None else ["points only"]
        first = number % min(3, len(columns)) == 0
        canvas.finish(own, None, "cluster" if first else None, title, what, width=34)
        own.spines["left"].set_visible(False)
        own.tick_params(axis="y", length=0)
    return canvas.returned(panels)


def _of_response(fit: Fit, columns: list[Any], response: str) -> list[Any]:
    names = dict(fit.reader.layout.responses)
    if response not in names:
        raise OptionError(f"response={response!r}: name one of {', '.join(map(repr, names))}.")
    part = fit.reader.layout.parts[names[response]]
    labels = {response, *part.predictors}
    return [c for c in columns if not isinstance(c, tuple) or c[0] in labels]


def _ends(
    fit: Fit, table: pd.DataFrame, errors: pd.DataFrame | None, level: float
) -> tuple[Any, Any]:
    """Lower and upper ends by column: from standard errors, from draws, or none of a point."""
    if errors is not None:
        from scipy.special import ndtri

        if list(errors.columns) != list(table.columns) or len(errors) != len(table):
            raise OptionError(
                "errors= must have the rows and columns of fit.coefficients, such as "
                "fit.standard_errors(data).coefficients."
            )
        half = ndtri((1 + level) / 2) * errors.to_numpy(float)
        ends = (table.to_numpy() - half, table.to_numpy() + half)
        low, high = (pd.DataFrame(e, table.index, table.columns) for e in ends)
        return low, high
    if not fit.has_posterior:
        return None, None
    draws = fit.parameter_draws()
    low, high = {}, {}
    for column in table.columns:
        lead = f"{column[0]}: " if isinstance(column, tuple) else ""
        term = column[1] if isinstance(column, tuple) else column
        own = draws.get(f"{lead}coefficient[{term}]")
        if own is not None:
            ends = np.quantile(own, [(1 - level) / 2, (1 + level) / 2], axis=(0, 1))
            low[column], high[column] = (pd.Series(e, table.index) for e in ends)
    return low, high


class Block(NamedTuple):
    """A heat map of a profile: colours, texts and what they mean; a row a quantity."""

    title: str
    colours: pd.DataFrame
    shown: pd.DataFrame
    names: list[str]
    palette: str
    bar: str
    limits: tuple[float, float]
    digits: str


def profile(fit: Fit, *, ax: Any = None) -> Any:
    """See `FitPlots.profile`."""
    blocks = _blocks(fit)
    if not blocks:
        raise OptionError(
            "The model has no density of covariates to show a profile of; give Model "
            "covariates=..., or look at plot.coefficients()."
        )
    rows = max(len(block.names) for block in blocks)
    width = 2.8 + max(0.55 * fit.n_components, 1.6)
    panels = canvas.panels(ax, len(blocks), columns=3, size=(width, 1.5 + 0.36 * max(rows, 4)))
    clusters = [str(k) for k in range(fit.n_components)]
    for own, block in zip(panels, blocks, strict=True):
        shown = block.shown.to_numpy().T
        texts = [[f"{value:{block.digits}}" for value in row] for row in shown]
        canvas.heat(
            own,
            block.colours.to_numpy().T,
            texts,
            block.names,
            clusters,
            colours=block.palette,
            limits=block.limits,
            bar=block.bar,
        )
        canvas.finish(own, "cluster", None, block.title, width=44)
        own.spines[:].set_visible(False)
    return canvas.returned(panels)


def _blocks(fit: Fit) -> list[Block]:
    means, levels, others = fit.means, fit.levels, fit.profiles
    found = []
    if len(means.columns):
        scores = standardised_means(fit)
        names = [plain(name, 28) for name in means.columns]
        found.append(_diverging("Means of covariates", scores, means, names, "overall mean"))
    if levels:
        whole = pd.concat(levels, axis=1)
        names = [f"{plain(name, 20)} = {plain(level, 16)}" for name, level in whole.columns]
        title = "Probabilities of levels"
        found.append(Block(title, whole, whole, names, "Blues", "probability", (0.0, 1.0), ".2f"))
    if others:
        whole = pd.concat(others, axis=1)
        weights = fit.weights.to_numpy() / fit.weights.sum()
        gap = whole - weights @ whole.to_numpy()
        spread = np.sqrt(weights @ np.square(gap.to_numpy()))
        scores = gap / np.where(spread > 0, spread, 1.0)
        names = [f"{what} of {plain(name, 24)}" for name, what in whole.columns]
        found.append(_diverging("Other covariates", scores, whole, names, "average cluster"))
    return found


def _diverging(
    title: str, scores: pd.DataFrame, shown: pd.DataFrame, names: list[str], middle: str
) -> Block:
    largest = max(1.0, float(np.abs(scores.to_numpy()).max()))
    bar = f"sd from {middle}"
    return Block(title, scores, shown, names, "PuOr_r", bar, (-largest, largest), ".3g")


def standardised_means(fit: Fit) -> pd.DataFrame:
    """Means of covariates less that of all rows, over their standard deviation, by the model."""
    means, weights = fit.means, fit.weights.to_numpy() / fit.weights.sum()
    within = np.stack([np.diag(c.to_numpy()) for c in fit.covariances])
    centre = weights @ means.to_numpy()
    spread = weights @ (within + np.square(means.to_numpy() - centre))
    return (means - centre) / np.sqrt(spread)
