"""Have the chains converged, and how many draws are theirs worth: numbers for every quantity.

For a mixture R-hat means something on relabelled parameters, and on quantities that no
renumbering of components changes; the table keeps them apart. `verdict` says it in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from clusterwise.core.errors import DataError

COLUMNS = (
    "quantity",
    "kind",
    "component",
    "mean",
    "sd",
    "mcse",
    "rhat",
    "ess_bulk",
    "ess_tail",
)
MIN_DRAWS = 4
"""Draws a chain below which R-hat and effective sample sizes are not defined."""


def diagnose(
    components: Mapping[str, np.ndarray] | None = None,
    invariants: Mapping[str, np.ndarray] | None = None,
    *,
    coords: Mapping[str, Sequence[Sequence[object]]] | None = None,
) -> pd.DataFrame:
    """Convergence and precision of every quantity.

    Rank-normalised split R-hat, bulk and tail effective sample size and the Monte Carlo standard
    error of the mean (Vehtari, Gelman, Simpson, Carpenter and Buerkner 2021), by arviz-stats. A
    quantity that never changes, such as a known sigma, has a standard error of 0 and no R-hat or
    effective sample size (NaN); nor has one of fewer than `MIN_DRAWS` draws a chain. R-hat needs
    two chains.

    Parameters
    ----------
    components
        Relabelled parameters by name, (chain, draw, component, ...).
    invariants
        Quantities that no renumbering changes, by name, (chain, draw, ...): log density,
        co-clustering of rows, predictions.
    coords
        Names along each axis after (chain, draw), by name of the quantity; numbers by default.

    Returns
    -------
    pandas.DataFrame
        One row a number: quantity, kind ("component" or "invariant"), component (missing for
        invariants), mean, sd, mcse, rhat, ess_bulk, ess_tail. `attrs` has "chains" and "draws",
        draws being those of one chain.

    Raises
    ------
    DataError
        Where there is nothing to look at, or shapes do not agree.

    Examples
    --------
    >>> import numpy as np
    >>> from clusterwise.inference.diagnostics import diagnose
    >>> rng = np.random.default_rng(0)
    >>> table = diagnose({"mean": rng.normal(size=(4, 500, 2))}, {"density": np.ones((4, 500))})
    >>> table[["quantity", "kind", "component"]]
      quantity       kind  component
    0  mean[0]  component          0
    1  mean[1]  component          1
    2  density  invariant       <NA>
    >>> bool((table["rhat"][:2] < 1.01).all())
    True
    """
    rows = [*_columns(components or {}, "component", coords or {})]
    rows += _columns(invariants or {}, "invariant", coords or {})
    if not rows:
        raise DataError("There is no quantity to diagnose.")
    shapes = {values.shape[:2] for _, _, _, values in rows}
    if len(shapes) > 1:
        raise DataError(f"Quantities have different (chain, draw): {sorted(shapes)}.")
    values = np.concatenate([values for _, _, _, values in rows], axis=2)
    numbers = _numbers(values)
    table = pd.DataFrame(
        {
            "quantity": [name for _, names, _, _ in rows for name in names],
            "kind": [kind for kind, names, _, _ in rows for _ in names],
            "component": pd.array([c for _, _, own, _ in rows for c in own], dtype="Int64"),
            **numbers,
        },
        columns=list(COLUMNS),
    )
    table.attrs["chains"], table.attrs["draws"] = values.shape[:2]
    return table


def energy_fractions(energy: np.ndarray) -> np.ndarray:
    """E-BFMI of each chain, by arviz-stats: how much of the energy's spread one step makes up.

    Parameters
    ----------
    energy
        (chain, draw) potential and kinetic energy of the draws of a Hamiltonian sampler.

    Returns
    -------
    numpy.ndarray
        One number a chain; NaN for a chain of fewer than `MIN_DRAWS` draws, or one whose energy is
        not finite or never changes.

    References
    ----------
    Betancourt (2016), arXiv:1604.00695.

    Examples
    --------
    >>> import numpy as np
    >>> from clusterwise.inference.diagnostics import energy_fractions
    >>> steps = np.random.default_rng(0).normal(size=(2, 1000))
    >>> energy_fractions(np.cumsum(steps, axis=1)).max() < 0.1
    np.True_
    """
    from arviz_stats.base.array import BaseArray

    found = np.full(len(energy), np.nan)
    usable = np.isfinite(energy).all(axis=1) & (np.ptp(energy, axis=1) > 0)
    if energy.shape[1] >= MIN_DRAWS and usable.any():
        found[usable] = BaseArray().bfmi(energy[usable])
    return found


def _columns(
    quantities: Mapping[str, np.ndarray],
    kind: str,
    coords: Mapping[str, Sequence[Sequence[object]]],
) -> Iterator[tuple[str, list[str], list[int | None], np.ndarray]]:
    """(kind, names, components, values (chain, draw, numbers)) of each quantity."""
    for name, values in quantities.items():
        least = 3 if kind == "component" else 2
        if values.ndim < least:
            axes = "(chain, draw, component, ...)" if least == 3 else "(chain, draw, ...)"
            raise DataError(f"{name!r} has shape {values.shape}: expected {axes}.")
        inner = values.shape[2:]
        labels = coords.get(name, [range(size) for size in inner])
        if tuple(len(axis) for axis in labels) != inner:
            raise DataError(f"coords of {name!r} do not fit its shape {values.shape}.")
        places = list(np.ndindex(*inner))
        names = [
            name + (f"[{', '.join(str(labels[a][i]) for a, i in enumerate(p))}]" if p else "")
            for p in places
        ]
        own = [p[0] if kind == "component" else None for p in places]
        yield kind, names, own, np.asarray(values, dtype=float).reshape(*values.shape[:2], -1)


def _numbers(values: np.ndarray) -> dict[str, np.ndarray]:
    from arviz_stats.base.array import BaseArray

    chains, draws, size = values.shape
    low, high = values.min(axis=(0, 1)), values.max(axis=(0, 1))
    finite = np.isfinite(low) & np.isfinite(high)
    moving = finite & (high - low > 1e-13 * np.maximum(np.abs(low), np.abs(high)))
    found = {name: np.full(size, np.nan) for name in COLUMNS[3:]}
    found["mean"][finite] = values[:, :, finite].mean(axis=(0, 1))
    found["sd"][finite & ~moving] = found["mcse"][finite & ~moving] = 0.0
    if chains * draws > 1:
        found["sd"][moving] = values[:, :, moving].std(axis=(0, 1), ddof=1)
    if draws < MIN_DRAWS or not moving.any():
        return found
    # Centred and scaled, since a small spread about a large value loses digits.
    whole = (values[:, :, moving] - found["mean"][moving]) / found["sd"][moving]
    whole, stats = np.moveaxis(whole, 2, 0), BaseArray()
    # A chain that never moves makes R-hat infinite.
    with np.errstate(divide="ignore", invalid="ignore"):
        if chains > 1:
            found["rhat"][moving] = stats.rhat(whole)
        found["ess_bulk"][moving] = stats.ess(whole)
        found["ess_tail"][moving] = stats.ess(whole, method="tail", prob=(0.05, 0.95))
        error = stats.mcse(whole)
    found["mcse"][moving] = error * found["sd"][moving]
    return found
