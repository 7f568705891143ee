"""Plots as images inside of a page, each with a text for those who do not see it."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clusterwise.core.errors import OptionError

if TYPE_CHECKING:
    from clusterwise.fit import Fit

_MOST_SVG = 150_000
_PIXELS = 96


@dataclass(frozen=True)
class Figure:
    """An image as a data URL, its size in pixels, its text and its caption."""

    source: str
    width: int
    height: int
    alt: str
    caption: str


def figures(fit: Fit, rows: Any, selection: Any = None) -> list[Figure]:
    """The plots that suit a fit.

    Parameters
    ----------
    fit : Fit
        The fit.
    rows : DataFrame or None
        Rows to draw, where there are any.
    selection : Selection, optional
        What the fit was chosen from.
    """
    found = []
    for draw, caption, alt in _wanted(fit, rows, selection):
        try:
            found.append(_image(draw(), alt, caption))
        except OptionError:
            # What a plot needs and this fit has not: one coefficient, say, or a density.
            continue
    return found


def _wanted(fit: Fit, rows: Any, selection: Any) -> Iterator[tuple[Callable[[], Any], str, str]]:
    """How each is drawn, its caption, and what it shows in words."""
    plot = fit.plot
    responses = [name for name, _ in fit.reader.layout.responses]
    if rows is not None:
        text = "Rows by their most probable cluster, and each cluster's regression"
        shares = ", ".join(f"cluster {k} {w:.0%}" for k, w in enumerate(fit.weights))
        yield lambda: plot.clusters(rows), text, f"{text}. Shares: {shares}."
    if responses:
        text = "Coefficients of every cluster"
        yield plot.coefficients, text, f"{text}, as in the table of clusters."
    if fit.reader.layout.densities:
        text = "What the rows of each cluster are like"
        yield plot.profile, text, f"{text}: means or shares, as in the table of clusters."
    if rows is not None and fit.n_components > 1:
        text = "How sure it is which cluster a row belongs to"
        yield lambda: plot.responsibilities(rows), text, f"{text}."
    if rows is not None and responses:
        text = "Residuals of every cluster"
        yield lambda: plot.residuals(rows), text, f"{text}; without structure where the model fits."
    if fit.has_chains:
        text = "Traces of the chains"
        yield plot.trace, text, f"{text}; the verdict in words is below."
    if selection is not None:
        text = "Criteria by number of clusters"
        yield selection.plot, text, f"{text}; the recommendation in words is below."


def _image(drawn: Any, alt: str, caption: str) -> Figure:
    """A figure as SVG, or as PNG where it has many points."""
    import numpy as np
    from matplotlib import rc_context

    figure = np.atleast_1d(np.asarray(drawn, dtype=object)).ravel()[0].get_figure(root=True)
    width, height = (figure.get_size_inches() * _PIXELS).astype(int)
    vector, raster = io.BytesIO(), io.BytesIO()
    with rc_context({"svg.hashsalt": "clusterwise"}), warnings.catch_warnings():
        # A name may have a character that the font has not, such as an emoji.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(vector, format="svg", metadata={"Date": None})
        kind, content = "svg+xml", vector.getvalue()
        if len(content) > _MOST_SVG:
            figure.savefig(raster, format="png", dpi=110, metadata={"Software": None})
            kind, content = "png", raster.getvalue()
    text = base64.b64encode(content).decode("ascii")
    return Figure(f"data:image/{kind};base64,{text}", int(width), int(height), alt, caption)
