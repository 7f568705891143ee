"""How sure the clusters of rows are: probabilities, entropy, similarity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clusterwise.core.errors import OptionError
from clusterwise.plots import canvas
from clusterwise.plots.canvas import GREY, style_of
from clusterwise.plots.clusters import scatter
from clusterwise.plots.rows import shown_rows

if TYPE_CHECKING:
    from clusterwise.fit import Fit

SIMILARITY_ROWS = 500
_DRAWS = 500


def responsibilities(
    fit: Fit, data: Any, *, clusters: tuple[int, int] | None = None, ax: Any = None
) -> Any:
    """See `FitPlots.responsibilities`."""
    shown = shown_rows(fit, data)
    resp = fit.responsibilities(shown.frame)
    labels = resp.argmax(axis=1)
    present = np.unique(labels).tolist()
    if clusters is not None:
        return _of_two(fit, resp, labels, clusters, shown.note, ax)
    panels = canvas.panels(ax, 2)
    entropy = entropy_of(resp)
    for own, values, name in (
        (panels[0], resp.max(axis=1), "largest probability of a row"),
        (panels[1], entropy, "entropy of a row's probabilities, bits"),
    ):
        for k in present:
            ordered = np.sort(values[labels == k])
            style = style_of(k)
            own.step(
                np.concatenate([ordered[:1], ordered]),
                np.arange(len(ordered) + 1) / len(ordered),
                where="post",
                color=style.colour,
                linestyle=style.dashes,
                linewidth=1.8,
                label=f"cluster {k}",
            )
        own.set_ylim(-0.02, 1.02)
        canvas.finish(own, name, None, "", (), width=40)
    panels[0].set_xlim(1 / max(fit.n_components, 2), 1.005)
    panels[1].set_xlim(left=-0.01)
    panels[0].set_ylabel("share of the cluster's rows up to it")
    unsure = float(np.mean(resp.max(axis=1) < 0.9))
    said = f"{unsure:.1%} of rows have no cluster with probability 0.9"
    canvas.finish(panels[0], None, None, "Who is uncertain", [said, shown.note], width=40)
    canvas.legend(panels[1], present, fit.weights, points=False)
    return canvas.returned(panels)


def entropy_of(resp: np.ndarray) -> np.ndarray:
    """Entropy (n,) of probabilities (n, k), in bits."""
    return -(resp * np.log2(np.maximum(resp, np.finfo(float).tiny))).sum(axis=1)


def _of_two(
    fit: Fit,
    resp: np.ndarray,
    labels: np.ndarray,
    clusters: tuple[int, int],
    note: str,
    ax: Any,
) -> Any:
    first, second = clusters
    if first == second or not all(0 <= k < fit.n_components for k in (first, second)):
        raise OptionError(
            f"clusters={clusters!r}: name two different ones of 0 to {fit.n_components - 1}."
        )
    (own,) = canvas.panels(ax, 1, size=(6.0, 4.6))
    own.plot([0, 1], [1, 0], color=GREY, linewidth=1, linestyle=":", zorder=1)
    scatter(own, resp[:, first], resp[:, second], labels)
    own.set_xlim(-0.03, 1.03)
    own.set_ylim(-0.03, 1.03)
    canvas.finish(
        own,
        f"probability of cluster {first}",
        f"probability of cluster {second}",
        f"Rows by their probabilities of clusters {first} and {second}",
        [note, "on the dotted line no third cluster has a part"],
        56,
    )
    canvas.legend(own, np.unique(labels).tolist(), fit.weights, lines=False)
    return own


def similarity(
    fit: Fit, data: Any, *, loss: str = "vi", n_draws: int = _DRAWS, ax: Any = None
) -> Any:
    """See `FitPlots.similarity`."""
    shown = shown_rows(fit, data, most=SIMILARITY_ROWS)
    labels = fit.partition(shown.frame, loss, n_draws=n_draws).labels
    matrix = fit.similarity(shown.frame, n_draws)
    order = similarity_order(matrix, labels)
    matrix = matrix[np.ix_(order, order)]
    (own,) = canvas.panels(ax, 1, size=(5.6, 4.6))
    image = own.imshow(matrix, cmap="cividis", vmin=0, vmax=1, interpolation="none")
    figure = own.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=own, label="probability of one cluster", shrink=0.9)
    sizes = np.bincount(labels)
    for end in np.cumsum(sizes)[:-1]:
        own.axhline(end - 0.5, color="white", linewidth=1)
        own.axvline(end - 0.5, color="white", linewidth=1)
    middle = np.cumsum(sizes) - sizes / 2 - 0.5
    names = [f"{size}" if size >= 0.04 * len(labels) else "" for size in sizes]
    own.set_xticks(middle, names)
    own.set_yticks(middle, names)
    own.tick_params(length=0)
    groups = f"{len(sizes)} groups" if len(sizes) > 1 else "1 group"
    canvas.finish(
        own,
        "rows, ordered by the point partition (size of each group)",
        None,
        "Posterior similarity of rows",
        [f"{groups} by loss={loss!r}", shown.note],
    )
    return own


def similarity_order(matrix: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows (n,) by group, and within each so that similar ones are neighbours."""
    from scipy.cluster.hierarchy import average, leaves_list

    found = []
    for group in np.unique(labels):
        rows = np.flatnonzero(labels == group)
        if len(rows) > 2:
            apart = 1 - matrix[np.ix_(rows, rows)][np.triu_indices(len(rows), 1)]
            rows = rows[leaves_list(average(np.maximum(apart, 0)))]
        found.append(rows)
    return np.concatenate(found)
