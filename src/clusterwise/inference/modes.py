"""Modes of a posterior, told from its draws.

Draws fall into two modes where, along some direction, a valley lies between two peaks of their
density that chance does not explain. Any unimodal posterior, wide, skewed or heavy-tailed, has
no such valley. Directions are the quantities themselves, their principal components and the log
density. Chains that move slowly make valleys by chance, so draws count as many as independent
ones would be worth, given how slowly chains move *within* the peaks; moving rarely between peaks
is what modes do and does not count against them.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from clusterwise.core.errors import DataError

# A valley of this many standard errors: over a few hundred directions and places along them,
# chance gives one in less than a thousandth of unimodal posteriors.
_SIGNIFICANT = 5.0
_DEPTH = 0.5
_GRID = 512
_COMPONENTS = 10
_FEW_VALUES = 50
_MAX_MODES = 20


class Mode(NamedTuple):
    """One mode of the posterior, as far as the sampler visited it.

    Attributes
    ----------
    share
        Share of the draws. Where chains do not move between modes it says how chains started,
        not how probable the mode is.
    chains
        (chains,) share of each chain's draws, in the order of the chains' numbers.
    log_density
        Mean log density of its draws.
    best
        The draw of highest log density in it.
    centre
        Median of the features over its draws, of the features' shape.
    members
        (draws,) which draws are in it.
    """

    share: float
    chains: np.ndarray
    log_density: float
    best: int
    centre: np.ndarray
    members: np.ndarray


def modes(
    features: np.ndarray,
    log_density: np.ndarray,
    chains: np.ndarray,
    *,
    invariants: np.ndarray | None = None,
) -> list[Mode]:
    """Modes that the draws of a posterior fall into, the largest share first.

    Modes that differ by the numbers of their components alone are one mode.

    Parameters
    ----------
    features
        Relabelled parameters (draws, k, f) of the k components, or any quantities (draws, f).
        Where labels are not exchangeable (weights fixed at different values, a prior of its own
        for each component) the labels mean something: give the sampler's own, not relabelled.
        Quantities that take few values, such as counts, are not looked at.
    log_density
        (draws,) log density.
    chains
        (draws,) number of each draw's chain; draws of a chain are in order.
    invariants
        (draws, g) further quantities that no renumbering changes, such as co-clustering.

    Raises
    ------
    DataError
        Where lengths differ or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from clusterwise.inference.modes import modes
    >>> rng = np.random.default_rng(0)
    >>> means = rng.normal([-1.0, 2.0], 0.1, (1000, 2))
    >>> means[500:] = rng.normal([2.3, 0.0], 0.1, (500, 2))
    >>> found = modes(means, rng.normal(size=1000), np.repeat([0, 1], 500))
    >>> [(mode.share, mode.chains.tolist()) for mode in found]
    [(0.5, [1.0, 0.0]), (0.5, [0.0, 1.0])]
    """
    draws = len(log_density)
    others = np.zeros((draws, 0)) if invariants is None else invariants
    if not (len(features) == len(chains) == len(others) == draws):
        raise DataError(
            f"Draws of features, log density, chains and invariants: {len(features)}, {draws}, "
            f"{len(chains)}, {len(others)}; expected the same number."
        )
    own = features.reshape(draws, -1)
    values = np.column_stack([own, others, log_density]).astype(float)
    if not np.isfinite(values).all():
        raise DataError("Features, invariants or log densities have values that are not finite.")
    names, of_chain = np.unique(chains, return_inverse=True)
    groups = _groups(_standardised(values), of_chain)
    if features.ndim == 3:
        groups = _merge_renumbered(features, values[:, own.shape[1] :], groups)
    found = []
    for group in np.unique(groups):
        members = groups == group
        at = np.flatnonzero(members)
        found.append(
            Mode(
                float(members.mean()),
                np.array([members[of_chain == c].mean() for c in range(len(names))]),
                float(log_density[members].mean()),
                int(at[np.argmax(log_density[members])]),
                np.median(features[members], axis=0),
                members,
            )
        )
    return sorted(found, key=lambda mode: (-mode.share, int(np.argmax(mode.members))))


def _standardised(values: np.ndarray) -> np.ndarray:
    """Columns of more than a few values that differ by more than rounding, robustly scaled."""
    several = np.array([len(np.unique(column)) >= _FEW_VALUES for column in values.T], dtype=bool)
    several &= np.ptp(values, axis=0) > 1e-9 * np.abs(values).max(axis=0)
    values = values[:, several]
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95], axis=0)
    scale = np.where(high > low, high - low, values.std(axis=0))
    return (values - middle) / np.where(scale > 0, scale, 1.0)


def _groups(values: np.ndarray, chains: np.ndarray) -> np.ndarray:
    """Number of the mode of each draw: split in two as long as there is a valley."""
    groups = np.zeros(len(values), dtype=int)
    waiting = [np.arange(len(values))]
    found = 0
    while waiting:
        rows = waiting.pop()
        inside = np.zeros(len(values), dtype=bool)
        inside[rows] = True
        above = _split(values, inside, chains) if found + len(waiting) < _MAX_MODES else None
        if above is None:
            groups[rows] = found
            found += 1
        else:
            waiting += [rows[above], rows[~above]]
    return groups


def _split(values: np.ndarray, inside: np.ndarray, chains: np.ndarray) -> np.ndarray | None:
    """Which draws inside lie above the most significant valley, or None where there is none."""
    rows = values[inside]
    if len(rows) < 2 * _FEW_VALUES // 5 or not rows.shape[1]:
        return None
    # Clipped, so that a few wild draws do not choose the directions.
    clipped = np.clip(rows, -5, 5)
    clipped -= clipped.mean(axis=0)
    variances, axes = np.linalg.eigh(clipped.T @ clipped)
    # Weights add up to one: along some directions there is rounding alone.
    kept = np.flatnonzero(variances > 1e-9 * variances[-1])[-_COMPONENTS:]
    lines = np.column_stack([rows, rows @ axes[:, kept]])
    best, best_z = None, _SIGNIFICANT
    for line in lines.T:
        for cut, z in _valleys(line):
            if z <= best_z:
                break
            above = line > cut
            # A valley of z standard errors among independent draws.
            slow = max(_slowness(line, side, inside, chains) for side in (above, ~above))
            z_chain = z / np.sqrt(slow)
            if z_chain > best_z:
                best, best_z = above, z_chain
    return best


def _valleys(line: np.ndarray) -> list[tuple[float, float]]:
    """Deepest valley at each of some bandwidths, (place, standard errors), the deepest first."""
    low, quarter, three_quarters, high = np.quantile(line, [0.001, 0.25, 0.75, 0.999])
    spread = min(float(line.std()), (three_quarters - quarter) / 1.34) or float(line.std())
    if high - low <= 1e-9 * max(abs(low), abs(high)) or spread <= 0:
        return []
    widths = 0.9 * spread * len(line) ** -0.2 * np.array([1.5, 0.75, 0.4])
    from scipy.signal import fftconvolve  # takes most of a second to import

    found = []
    for width in widths:
        size = int(np.clip(np.ceil(3 * (high - low) / width), _GRID, 16 * _GRID))
        grid = np.linspace(low - 3 * width, high + 3 * width, size)
        step = grid[1] - grid[0]
        at = np.clip(((line - grid[0]) / step + 0.5).astype(int), 0, size - 1)
        counts = np.bincount(at, minlength=size).astype(float)
        reach = int(np.ceil(4 * width / step))
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / width) ** 2)
        # Draws in a window as wide as the kernel is: variance equals expectation, as for counts.
        mass = np.maximum(fftconvolve(counts, kernel, mode="same") * np.sqrt(2), 0)
        left, right = np.maximum.accumulate(mass), np.maximum.accumulate(mass[::-1])[::-1]
        lower = np.minimum(left, right)
        z = np.where(mass < _DEPTH * lower, np.sqrt(2) * (np.sqrt(lower) - np.sqrt(mass)), 0)
        # The middle of the valley's floor.
        places = np.flatnonzero(z >= z.max() - 1e-9)
        place = places[len(places) // 2]
        found.append((float(grid[place]), float(z[place])))
    return sorted(found, key=lambda one: -one[1])


def _slowness(line: np.ndarray, side: np.ndarray, inside: np.ndarray, chains: np.ndarray) -> float:
    """How many draws are worth one independent draw, while chains are on one side.

    Autocorrelations use pairs of draws that are both on this side; they are summed as Geyer (1992)
    does, over the initial positive pairs.
    """
    here = np.zeros(len(inside))
    here[np.flatnonzero(inside)[side]] = 1.0
    value = np.zeros(len(inside))
    value[here > 0] = line[side] - line[side].mean()
    longest = np.bincount(chains).max()
    size = 2 ** int(np.ceil(np.log2(2 * longest)))
    pairs, products = np.zeros(longest), np.zeros(longest)
    for chain in np.unique(chains):
        mine = chains == chain
        n = int(mine.sum())
        for source, target in ((here[mine], pairs), (value[mine], products)):
            spectrum = np.abs(np.fft.rfft(source, size)) ** 2
            target[:n] += np.fft.irfft(spectrum, size)[:n]
    if products[0] <= 0:
        return 1.0
    enough = pairs > 0.5
    correlation = np.where(enough, products / np.maximum(pairs, 0.5), 0) / (products[0] / pairs[0])
    # Few pairs: their average is as uncertain as a correlation can be.
    correlation[pairs < min(10, pairs[0] / 2)] = 0
    even = len(correlation) // 2 * 2
    sums = correlation[:even].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(sums <= 0)
    last = negative[0] if len(negative) else len(sums)
    return float(max(1.0, 2 * np.minimum.accumulate(sums[:last]).sum() - 1)) if last else 1.0


def _merge_renumbered(
    features: np.ndarray, invariants: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Make modes one where a renumbering of components takes one to the other."""
    from scipy.optimize import linear_sum_assignment

    k = features.shape[1]
    numbers = list(np.unique(groups))
    for one, other in itertools.combinations(numbers, 2):
        first, second = np.flatnonzero(groups == one), np.flatnonzero(groups == other)
        if not len(first) or not len(second):
            continue
        centres = [np.median(features[rows], axis=0) for rows in (first, second)]
        spread = np.maximum(_half_width(features[first]), _half_width(features[second]))
        spread = np.where(spread > 0, spread, 1e-9 * (1 + np.abs(centres[0])))
        apart = np.abs(centres[0][:, None, :] - centres[1][None, :, :]) / spread[:, None, :]
        a, b = linear_sum_assignment(np.square(np.minimum(apart, 1e6)).sum(axis=2))
        if np.array_equal(b, np.arange(k)):
            continue  # a renumbering is not what sets them apart
        gap = np.abs(np.median(invariants[first], axis=0) - np.median(invariants[second], axis=0))
        width = np.maximum(_half_width(invariants[first]), _half_width(invariants[second]))
        if apart[a, b].max() <= 1 and (gap <= width).all():
            groups = np.where(groups == other, one, groups)
    return groups


def _half_width(values: np.ndarray) -> np.ndarray:
    """Half the width of the central nine tenths."""
    low, high = np.quantile(values, [0.05, 0.95], axis=0)
    return (high - low) / 2
