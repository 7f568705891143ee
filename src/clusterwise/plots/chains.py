"""Draws of a sampled fit: traces, ranks, and labels before and after relabelling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clusterwise.core.errors import OptionError
from clusterwise.plots import canvas
from clusterwise.plots.canvas import GREY, plain, style_of

if TYPE_CHECKING:
    from clusterwise.fit import Fit

_BINS = 20
_CHAINS: tuple[Any, ...] = ("solid", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (4, 1.2, 1, 1.2)))


def _chosen(fit: Fit, names: str | Sequence[str] | None) -> dict[str, np.ndarray]:
    """Draws (chain, draw, component) by name; a name may be that of all its terms."""
    _ = fit.permutation  # refuses engines without chains
    draws = fit.parameter_draws()
    if names is None:
        return draws
    wanted = [names] if isinstance(names, str) else list(names)
    found: dict[str, np.ndarray] = {}
    for name in wanted:
        own = {key: v for key, v in draws.items() if key == name or key.startswith(f"{name}[")}
        if not own:
            raise OptionError(
                f"names={name!r} is no parameter; there are {', '.join(map(repr, draws))}."
            )
        found |= own
    return found


def trace(fit: Fit, names: str | Sequence[str] | None = None, *, ax: Any = None) -> Any:
    """See `FitPlots.trace`."""
    draws = _chosen(fit, names)
    shown, note = canvas.some_panels(list(draws))
    panels = canvas.panels(ax, len(shown), columns=2, size=(4.8, 2.2))
    for number, (own, name) in enumerate(zip(panels, shown, strict=True)):
        _lines(own, draws[name])
        last = number >= len(shown) - min(2, len(shown))
        canvas.finish(
            own, "draw" if last else None, None, plain(name, 60), [note] if number == 0 else ()
        )
    clusters = range(fit.n_components)
    canvas.legend(panels[min(1, len(shown) - 1)], clusters, fit.weights, points=False, dashed=False)
    return canvas.returned(panels)


def _lines(ax: Any, values: np.ndarray) -> None:
    """Draws (chain, draw, k), one chain after the other."""
    chains, size, k = values.shape
    for chain in range(chains):
        at = np.arange(size) + chain * size
        for j in range(k):
            style = style_of(j)
            ax.plot(
                at,
                values[chain, :, j],
                color=style.colour,
                linewidth=0.5,
                alpha=0.85,
                label=f"cluster {j}, chain {chain}",
            )
        if chain:
            ax.axvline(chain * size - 0.5, color=GREY, linewidth=0.8, linestyle=":")
    # Chains have numbers above their draws, which are counted through all of them.
    for chain in range(chains if chains > 1 else 0):
        ax.annotate(
            f"chain {chain}",
            ((chain + 0.5) / chains, 1.0),
            xycoords="axes fraction",
            ha="center",
            va="top",
            fontsize="x-small",
            color=GREY,
        )


def ranks(fit: Fit, names: str | Sequence[str] | None = None, *, ax: Any = None) -> Any:
    """See `FitPlots.ranks`."""
    draws = _chosen(fit, names)
    keys = [(name, k) for name in draws for k in range(fit.n_components)]
    keys = [(name, k) for name, k in keys if np.ptp(draws[name][..., k]) > 0]
    labels = [f"{name}, cluster {k}" for name, k in keys]
    if not labels:
        raise OptionError("There is nothing to rank: these parameters are known and never change.")
    shown, note = canvas.some_panels(labels)
    panels = canvas.panels(ax, len(shown), columns=3, size=(3.2, 2.0))
    for number, (own, (name, k)) in enumerate(zip(panels, keys, strict=False)):
        counts = rank_counts(draws[name][..., k])
        style = style_of(k)
        chains, bins = counts.shape
        total = draws[name].shape[0] * draws[name].shape[1]
        edges = np.linspace(0, total, bins + 1)
        own.axhline(total / chains / bins, color=GREY, linewidth=1, linestyle=":", label="expected")
        for chain in range(chains):
            own.stairs(
                counts[chain],
                edges,
                baseline=None,
                color=style.colour,
                linestyle=_CHAINS[chain % len(_CHAINS)],
                linewidth=1.3,
                alpha=1.0 - 0.5 * (chain // len(_CHAINS) % 2),
                label=f"chain {chain}",
            )
        own.set_ylim(bottom=0)
        own.set_yticks([])
        last = number >= len(shown) - min(3, len(shown))
        canvas.finish(
            own,
            "rank among all draws" if last else None,
            None,
            plain(shown[number], 44),
            [note] if number == 0 else (),
            width=46,
        )
    handles = [h for h in panels[min(2, len(shown) - 1)].patches]
    canvas.listed(
        panels[min(2, len(shown) - 1)], handles, [f"chain {i}" for i in range(len(handles))]
    )
    return canvas.returned(panels)


def rank_counts(values: np.ndarray, bins: int = _BINS) -> np.ndarray:
    """How many of each chain's draws (chain, draw) have ranks among all in each bin."""
    from scipy.stats import rankdata

    ranked = rankdata(values.ravel(), method="average").reshape(values.shape) - 0.5
    edges = np.linspace(0, values.size, bins + 1)
    return np.stack([np.histogram(own, edges)[0] for own in ranked])


def switching(fit: Fit, name: str | None = None, *, ax: Any = None) -> Any:
    """See `FitPlots.switching`."""
    permutation = fit.permutation
    draws = _chosen(fit, name)
    key = next(iter(draws)) if name is not None else _telling(draws)
    after = draws[key]
    before = as_sampled(after, permutation)
    moved = float((permutation != _usual(permutation)).any(axis=-1).mean())
    panels = canvas.panels(ax, 2, size=(4.8, 3.0))
    for own, values in zip(panels, (before, after), strict=True):
        _lines(own, values)
    panels[1].sharey(panels[0])
    canvas.finish(
        panels[0],
        "draw",
        plain(key),
        "As sampled, by the sampler's labels",
        [f"{moved:.1%} of draws are numbered otherwise than most"],
    )
    canvas.finish(panels[1], "draw", None, "Relabelled, by cluster")
    canvas.legend(panels[1], range(fit.n_components), fit.weights, points=False, dashed=False)
    return canvas.returned(panels)


def as_sampled(values: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    """Relabelled draws (chain, draw, k) by the sampler's own numbers."""
    found = np.empty_like(values)
    np.put_along_axis(found, permutation, values, axis=2)
    return found


def _usual(permutation: np.ndarray) -> np.ndarray:
    """The permutation that most draws have."""
    rows, counts = np.unique(
        permutation.reshape(-1, permutation.shape[2]), axis=0, return_counts=True
    )
    return rows[counts.argmax()]


def _telling(draws: dict[str, np.ndarray]) -> str:
    """The parameter whose clusters lie farthest apart for their spread."""

    def apart(name: str) -> float:
        own = draws[name].reshape(-1, draws[name].shape[2])
        within = np.sqrt(own.var(axis=0).mean())
        return float(own.mean(axis=0).std() / within) if within > 0 else -1.0

    return max(draws, key=apart)
