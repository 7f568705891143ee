"""Where plots are drawn, and how clusters and names look in all of them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from clusterwise.core.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008): told apart by colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A900")
# As many markers and dashes as have no factor in common with 8: a pair comes back after 72 and 40.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<")
_DASHES: tuple[Any, ...] = (
    "solid",
    (0, (5, 1.5)),
    (0, (5, 1.5, 1, 1.5)),
    (0, (1.2, 1.2)),
    (0, (3, 1.2, 1, 1.2, 1, 1.2)),
)
GREY = "0.4"
_NAME = 40
_MOST_PANELS = 24


class Style(NamedTuple):
    """How a cluster looks, the same in all plots."""

    colour: str
    marker: str
    dashes: Any


def style_of(number: int) -> Style:
    """Colour, marker and dashes of a cluster."""
    return Style(
        COLOURS[number % len(COLOURS)],
        _MARKERS[number % len(_MARKERS)],
        _DASHES[number % len(_DASHES)],
    )


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
    return panels(None, n, columns=n, size=(6.4, 4.6))


def panels(
    ax: Any, n: int, *, columns: int = 3, size: tuple[float, float] = (4.2, 3.4)
) -> list[Axes]:
    """Axes to draw n panels in.

    Parameters
    ----------
    ax : Axes, array of Axes, Figure, SubFigure or None
        Where to draw. An Axes of a grid is divided where there are several panels; None makes a
        figure that no global state refers to.
    n : int
        Number of panels.
    columns : int
        Panels in a row, at most.
    size : tuple of float
        Of a panel in a new figure, in inches.

    Returns
    -------
    list of Axes
        n of them.

    Raises
    ------
    OptionError
        Where ``ax`` is none of these, or has another number of axes.
    """
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

    columns = min(n, columns)
    rows = math.ceil(n / columns)
    if ax is None:
        # Panels in a row share its height, so that a legend beside one fits.
        width = size[0] * columns + (0.8 if n > 1 else 0.0)
        ax = Figure(figsize=(width, size[1] * rows), dpi=150, layout="constrained")
    if isinstance(ax, FigureBase):
        grid = ax.add_gridspec(rows, columns)
        return [ax.add_subplot(grid[i // columns, i % columns]) for i in range(n)]
    if isinstance(ax, Axes) and n > 1:
        place = ax.get_subplotspec()
        if place is None:
            raise OptionError(
                f"This plot has {n} panels; ax= takes a Figure, an Axes of a grid of subplots, or "
                f"an array of {n} Axes."
            )
        ax.set_axis_off()
        grid, figure = place.subgridspec(rows, columns), ax.figure
        return [figure.add_subplot(grid[i // columns, i % columns]) for i in range(n)]
    given = list(np.atleast_1d(np.asarray(ax, dtype=object)).ravel())
    if not all(isinstance(one, Axes) for one in given) or len(given) != n:
        raise OptionError(
            f"ax= must be a Figure, or {n} Axes for the {n} panels of this plot, not "
            f"{len(given)} of {type(given[0]).__name__ if given else 'nothing'}."
        )
    return given


def returned(axes: Sequence[Axes]) -> Any:
    """One Axes as it is, several as an array."""
    if len(axes) == 1:
        return axes[0]
    found = np.empty(len(axes), dtype=object)
    found[:] = axes
    return found


def figure_of(axes: Any) -> Figure:
    """The figure that axes are in."""
    figure = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()[0].get_figure(root=True)
    assert figure is not None
    return figure


def some_panels(names: Sequence[str]) -> tuple[list[str], str]:
    """As many as one picture holds, and a note where that is not all."""
    if len(names) <= _MOST_PANELS:
        return list(names), ""
    note = f"{_MOST_PANELS} of {len(names)} shown; choose with names="
    return list(names[:_MOST_PANELS]), note


def plain(name: object, most: int = _NAME) -> str:
    """A name of the data as matplotlib shows it: no mathematics, on one line, not too long.

    Long names lose their middle, since they often begin or end alike.
    """
    text = " ".join(str(name).split())
    if len(text) > most:
        tail = (most - 1) // 3
        text = f"{text[: most - 1 - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"
    return text.replace("$", r"\$")


def finish(
    ax: Axes,
    x: str | None = None,
    y: str | None = None,
    title: str = "",
    notes: Iterable[str] = (),
    width: int = 52,
) -> None:
    """Label axes; names in the texts are already `plain`."""
    if x is not None:
        ax.set_xlabel(x)
    if y is not None:
        ax.set_ylabel(y)
    lines = textwrap.wrap(title, width, break_long_words=False)
    said = "; ".join(note for note in notes if note)
    lines += textwrap.wrap(said, width, break_long_words=False)
    ax.set_title("\n".join(lines), fontsize="medium", loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    as_text(ax)


def as_text(ax: Axes) -> None:
    """Keep a user's setting from sending the data's names through TeX."""
    from matplotlib.text import Text

    for text in ax.findobj(Text):
        text.set_usetex(False)  # pyright: ignore[reportAttributeAccessIssue]


def whole_numbers(ax: Axes) -> None:
    """Ticks across at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def cluster_label(number: int, weights: Any = None) -> str:
    """What a legend calls a cluster."""
    return f"{number}" if weights is None else f"{number} ({weights[number]:.2f})"


def legend(
    ax: Axes,
    clusters: Iterable[int],
    weights: Any = None,
    *,
    points: bool = True,
    lines: bool = True,
    dashed: bool = True,
) -> None:
    """List the clusters beside the axes, where they cover nothing."""
    from matplotlib.lines import Line2D

    handles = []
    for k in clusters:
        style = style_of(k)
        handles.append(
            Line2D(
                [],
                [],
                color=style.colour,
                marker=style.marker if points else "",
                linestyle=(style.dashes if dashed else "-") if lines else "",
                markersize=5,
                label=cluster_label(k, weights),
            )
        )
    shown = ax.legend(
        handles=handles,
        title="cluster" if weights is None else "cluster (weight)",
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        fontsize="small",
        title_fontsize="small",
        handlelength=3.2 if lines else 1.2,
        borderaxespad=0.2,
    )
    shown.set_in_layout(True)
    as_text(ax)


def listed(ax: Axes, handles: Any, labels: Sequence[str], title: str | None = None) -> None:
    """A legend of other things beside the axes."""
    ax.legend(
        handles,
        labels,
        title=title,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        fontsize="small",
        title_fontsize="small",
        borderaxespad=0.2,
    )
    as_text(ax)


def readable(shade: tuple[float, ...]) -> str:
    """Black or white, whichever is read better on a colour."""
    red, green, blue = shade[:3]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def heat(
    ax: Axes,
    matrix: np.ndarray,
    texts: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    colours: str,
    limits: tuple[float, float],
    bar: str,
) -> None:
    """A matrix as colours with a text in every cell, and a bar that says what colours mean."""
    image = ax.imshow(
        matrix, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto", interpolation="none"
    )
    ax.set_yticks(range(len(rows)), rows)
    ax.set_xticks(range(len(columns)), columns)
    ax.tick_params(length=0)
    size = "small" if matrix.shape[1] <= 8 else "x-small" if matrix.shape[1] <= 12 else 5
    for i, j in np.ndindex(*matrix.shape):
        shade = tuple(np.asarray(image.cmap(image.norm(matrix[i, j]))).tolist())
        ax.text(
            j, i, str(texts[i][j]), ha="center", va="center", fontsize=size, color=readable(shade)
        )
    figure = ax.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=ax, label=bar, shrink=0.9)
    ax.spines[:].set_visible(False)
